//! Finding what a program under test started, however it started it: every descendant inherits a mark in its
//! environment, also one in another process group and one whose parent was killed.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const VARIABLE: &str = "TEST_PROCESS_MARK";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// What the environments of one process and its descendants have in common.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    entry: String,
}

/// Marks what the command will start.
pub(super) fn mark(command: &mut Command) -> Mark {
    let value = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    command.env(VARIABLE, &value);
    Mark { entry: format!("{VARIABLE}={value}") }
}

impl Mark {
    /// Kills every process with the mark. Where there is no `/proc`, does nothing: the process group must do there.
    pub(super) fn kill_all(&self) {
        // Twice: a process may have forked while we read.
        for _ in 0..2 {
            for pid in self.living() {
                // Fails only if it ended meanwhile.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    pub(super) fn living(&self) -> Vec<Pid> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| self.is_on(*pid)).map(Pid::from_raw).collect()
    }

    fn is_on(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == self.entry.as_bytes())
    }
}
