//! The exit codes of all Muster programs, and how an error becomes one.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

/// Why a process ended. The numbers follow `sysexits.h` and are part of the programs' contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Everything asked for was done.
    Success,
    /// What was asked for failed, for a reason that has no code of its own.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No broker answers, or it is too old, or it lacks JetStream.
    BrokerUnavailable,
    /// Another, larger session of the same agent took over.
    Superseded,
    /// The broker refused the credentials, or a subject that is needed.
    PermissionDenied,
    /// The configuration file, the environment or the stream's configuration is wrong.
    Configuration,
}

impl Exit {
    /// Every code, in ascending order.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::BrokerUnavailable,
        Self::Superseded,
        Self::PermissionDenied,
        Self::Configuration,
    ];

    /// The number the operating system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::BrokerUnavailable => 69,
            Self::Superseded => 75,
            Self::PermissionDenied => 77,
            Self::Configuration => 78,
        }
    }

    /// One line for the documents.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Failed => "what was asked for failed",
            Self::Usage => "the command line is wrong",
            Self::BrokerUnavailable => "no broker answers, or it is older than 2.11, or it has no JetStream",
            Self::Superseded => "a newer session of the same agent took over",
            Self::PermissionDenied => "the broker refused the credentials, or a subject that is needed",
            Self::Configuration => "the configuration file, the environment or the stream's configuration is wrong",
        }
    }

    /// Prints `program: message` to standard error; the code is for `main` to return.
    pub fn report(self, program: &str, message: impl Display) -> ExitCode {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{program}: {message}");
        self.into()
    }

    /// The same where there is no `main` to return to: ends the process at once.
    pub fn end(self, program: &str, message: impl Display) -> ! {
        let _ = self.report(program, message);
        end_process(self.code().into())
    }
}

/// Ends the process where there is no `main` to return to: before it did anything, or at somebody's insistence.
pub(crate) fn end_process(code: i32) -> ! {
    std::process::exit(code)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows the exit code it stands for.
pub trait ExitReason: Display {
    /// The code a process that fails with this error returns.
    fn exit(&self) -> Exit;
}

/// One row of the table of exit codes, for the documents.
#[derive(Clone, Debug, Serialize)]
pub struct ExitCodeDoc {
    /// The number.
    pub code: u8,
    /// What it means.
    pub meaning: &'static str,
}

/// The table of exit codes, in ascending order.
#[must_use]
pub fn exit_codes() -> Vec<ExitCodeDoc> {
    Exit::ALL.iter().map(|exit| ExitCodeDoc { code: exit.code(), meaning: exit.meaning() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones_in_ascending_order() {
        let codes: Vec<u8> = exit_codes().iter().map(|doc| doc.code).collect();
        assert_eq!(codes, [0, 1, 64, 69, 75, 77, 78]);
    }
}
