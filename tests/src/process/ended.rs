//! How a program ended, and what it had printed.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use super::{Process, Stream};

/// What an end that is due may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// How a program ended, and what it had printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// The lines of its standard output.
    pub stdout: String,
    /// The lines of its standard error.
    pub stderr: String,
}

impl Ended {
    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn of(process: &mut Process) -> Self {
        let status = process.wait_exit(SOON).await;
        let text = |wanted| {
            let lines = process.lines().into_iter().filter(|line| line.stream == wanted);
            lines.map(|line| line.text).collect::<Vec<_>>().join("\n")
        };
        Self { status, stdout: text(Stream::Stdout), stderr: text(Stream::Stderr) }
    }

    /// # Panics
    /// If it ended with another code, or by a signal.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self
    }

    /// The words of each line of the standard output: columns may be as wide as they like.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<&str>> {
        self.stdout
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect()
    }

    /// The standard output as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
