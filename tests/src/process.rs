//! A program under test: started, listened to, signalled, and killed with all it started when it goes out of scope.

mod descendants;
mod ended;
mod output;

use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub use ended::Ended;
pub use nix::sys::signal::Signal;
pub use output::{Line, Stream};

use crate::{eventually, watchdog};
use output::Output;

const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// How a program will be started.
#[derive(Debug)]
pub struct ProcessBuilder {
    name: String,
    command: Command,
}

impl ProcessBuilder {
    /// Nothing that the surroundings say about Muster, NATS or logging reaches the program.
    #[must_use]
    pub fn new(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("MUSTER_") || text.starts_with("NATS_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Self { name, command }
    }

    /// What the process is called in messages; the program's file name by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Starts the program in a process group of its own.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Process {
        let mark = descendants::mark(&mut self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number fits"));
        watchdog::watch(pid);
        let output = Output::capture(&mut child);
        Process { name: self.name, pid, child, exit: Mutex::new(None), output, mark }
    }
}

/// A running or ended program. Dropping it kills it, its process group and whatever it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Child,
    exit: Mutex<Option<ExitStatus>>,
    output: Arc<Output>,
    mark: descendants::Mark,
}

impl Process {
    /// The process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far on both streams, oldest first; of very much, the newest 10,000 lines.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.output.since(0)
    }

    /// The lines with this number or a larger one, of those that are kept.
    #[must_use]
    pub fn lines_since(&self, index: u64) -> Vec<Line> {
        self.output.since(index)
    }

    /// Waits for a line with this text among all lines so far and to come.
    ///
    /// # Panics
    /// At the deadline, with the newest lines.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str, deadline: Duration) -> impl Future<Output = Line> {
        self.wait_for_line_from(0, text, deadline)
    }

    /// Waits for a line with this text that came after `line`.
    ///
    /// # Panics
    /// At the deadline, with the newest lines.
    #[track_caller]
    pub fn wait_for_line_after(&self, line: &Line, text: &str, deadline: Duration) -> impl Future<Output = Line> {
        self.wait_for_line_from(line.index + 1, text, deadline)
    }

    #[track_caller]
    fn wait_for_line_from(&self, mut from: u64, text: &str, deadline: Duration) -> impl Future<Output = Line> {
        let what = format!("{} (process {}) prints a line with {text:?}", self.name, self.pid);
        let text = text.to_owned();
        eventually(what, deadline, async move || {
            let new = self.output.since(from);
            from = new.last().map_or(from, |line| line.index + 1);
            new.into_iter().find(|line| line.text.contains(&text)).ok_or_else(|| self.output.tail())
        })
    }

    /// Sends a signal to the process alone, not to its group.
    ///
    /// # Panics
    /// If it has ended and been waited for.
    pub fn signal(&self, signal: Signal) {
        assert!(self.known_exit().is_none(), "{} has ended ({:?}) and gets no {signal}", self.name, self.known_exit());
        kill(self.pid, signal).unwrap_or_else(|error| panic!("{} cannot be sent {signal}: {error}", self.name));
    }

    /// Stops it in its tracks (SIGSTOP), connections and all, until [`Self::thaw`]. On return all its threads stand
    /// still.
    ///
    /// # Panics
    /// If it has ended, or ends instead.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // The signal itself stops one thread after the other; the parent is told when the last one has stopped.
        let status = waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)).expect("a child can be waited for");
        let raw = match status {
            WaitStatus::Exited(_, code) => code << 8,
            WaitStatus::Signaled(_, signal, _) => signal as i32,
            _ => return,
        };
        self.ended(ExitStatus::from_raw(raw));
        panic!("{} ended instead of freezing: {}", self.name, self.output.tail());
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills the process alone (SIGKILL), as a crash would: what it started is left to itself.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.reap()
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn stop(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(deadline).await
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system cannot tell.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        if self.known_exit().is_none() && self.child.try_wait().expect("a child can be waited for").is_some() {
            self.reap();
        }
        self.known_exit()
    }

    /// Waits until it ends by itself and its output was read; for the output half a second at most, since what it
    /// started may live on and keep the streams open.
    ///
    /// # Panics
    /// At the deadline, with the newest lines.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> impl Future<Output = ExitStatus> {
        let what = format!("{} (process {}) ends", self.name, self.pid);
        let mut ended_at = None;
        eventually(what, deadline, async move || {
            let status = self.exit().ok_or_else(|| format!("it runs; {}", self.output.tail()))?;
            let since_end = ended_at.get_or_insert_with(Instant::now).elapsed();
            if self.output.is_complete() || since_end > OUTPUT_PATIENCE {
                Ok(status)
            } else {
                Err("it ended; its output is still being read".to_owned())
            }
        })
    }

    fn reap(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("a child can be waited for");
        self.ended(status);
        status
    }

    fn ended(&self, status: ExitStatus) {
        if self.lock_exit().replace(status).is_none() {
            watchdog::forget(self.pid);
        }
    }

    fn known_exit(&self) -> Option<ExitStatus> {
        *self.lock_exit()
    }

    fn lock_exit(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.exit.lock().expect("nothing panics while it holds the status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Until it was waited for, its number is its own, and so is its group's.
        if self.known_exit().is_none() {
            // Fails only if the whole group is gone, which is what is wanted.
            let _ = killpg(self.pid, Signal::SIGKILL);
            self.reap();
        }
        self.mark.kill_all();
        if std::thread::panicking() {
            eprintln!("--- {} (process {}) had printed: {}", self.name, self.pid, self.output.tail());
        }
    }
}

#[cfg(test)]
mod tests;
