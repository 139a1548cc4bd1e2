//! A process that outlives an agent killed from outside by an instant: it ends the groups that the agent leaves behind.
//!
//! The system kills a child together with its parent, but not what the child has started itself. So the agent starts
//! itself once more, as a guard, and tells it over a pipe which groups there are. When the pipe closes the agent is gone.

use std::collections::BTreeSet;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::Pid;

use super::child::known;

/// The sub-command that makes a process a guard.
pub const COMMAND: &str = "guard";

/// The signals that a guard outlives: they are meant for the agent.
const IGNORED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The agent's end of the pipe.
#[derive(Debug)]
pub struct Guard {
    pipe: Mutex<ChildStdin>,
}

impl Guard {
    /// Starts a guard: this program, once more.
    ///
    /// # Errors
    /// The system refuses; then nothing but the children themselves ends with a killed agent.
    pub fn start() -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // In a group of its own, so that what is typed at a terminal does not reach it; and deaf to everything else.
        command.arg(COMMAND).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = known(|| command.spawn())?;
        let pipe = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(Self { pipe: Mutex::new(pipe) })
    }

    /// A group began.
    pub fn watch(&self, group: u32) {
        self.tell(&format!("+{group}\n"));
    }

    /// Nobody of a group is left: its number may become somebody else's.
    pub fn forget(&self, group: u32) {
        self.tell(&format!("-{group}\n"));
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = pipe.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the guard is gone: a killed agent would leave behind what the service has started");
        }
    }
}

/// Is the guard, until standard input closes.
pub fn run() {
    for number in IGNORED {
        // SAFETY: ignoring a signal installs no handler that could run at a bad moment.
        #[allow(unsafe_code)] // nix marks every change of a disposition as unsafe.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
    for group in left_behind(std::io::stdin().lock()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// The groups that were begun and not forgotten when the pipe closed.
fn left_behind(pipe: impl Read) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    for line in std::io::BufReader::new(pipe).lines().map_while(Result::ok) {
        // Not 0 and not 1: those would be the guard's own group, and everybody.
        let parsed = |text: &str| text.parse::<i32>().ok().filter(|group| *group > 1);
        match (line.strip_prefix('+').and_then(parsed), line.strip_prefix('-').and_then(parsed)) {
            (Some(group), _) => drop(groups.insert(group)),
            (_, Some(group)) => drop(groups.remove(&group)),
            (None, None) => {}
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_and_not_forgotten_is_left_behind_and_nonsense_is_not() {
        let told = "+12\n+13\n-12\n+0\n+1\n+-5\n+x\n\n*9\n+14";
        assert_eq!(left_behind(told.as_bytes()).into_iter().collect::<Vec<_>>(), [13, 14]);
    }
}
