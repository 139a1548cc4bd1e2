//! A process that outlives an agent killed from outside by an instant: it ends the groups that the agent leaves behind.
//!
//! The system kills a child together with its parent, but not what the child has started itself. So the agent starts
//! itself once more, as a guard, and tells it over a pipe which groups there are. When the pipe closes the agent is gone.
//!
//! A group's first process tells the guard itself, before it runs its program, for by the time that the agent knows its
//! number the program may have started others, and the agent may have been killed.

use std::collections::BTreeSet;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::{Pid, getpid, write};

use super::child::known;

/// The sub-command that makes a process a guard.
pub const COMMAND: &str = "guard";

/// The signals that a guard outlives: they are meant for the agent.
const IGNORED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The agent's end of the pipe.
#[derive(Debug)]
pub struct Guard {
    pipe: Mutex<ChildStdin>,
    announcement: Announcement,
}

/// What a group's first process says, before it runs a program.
#[derive(Debug, Clone)]
pub struct Announcement(Arc<OwnedFd>);

/// The number of a process, a sign before it and the end of the line.
const ANNOUNCEMENT_BYTES_MAX: usize = 16;

impl Announcement {
    /// Through this pipe.
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self(Arc::new(pipe))
    }

    /// The calling process will lead a group. Meant for between fork and exec: it makes system calls, and neither allocates
    /// nor locks. Where the guard is gone nothing comes of it; the agent says so.
    pub(super) fn make(&self) {
        let mut buffer = [0; ANNOUNCEMENT_BYTES_MAX];
        let mut rest = &mut buffer[..];
        let _ = writeln!(rest, "~{}", getpid());
        let length = ANNOUNCEMENT_BYTES_MAX - rest.len();
        // SAFETY: ignoring a signal, and no longer, installs no handler that could run at a bad moment.
        #[allow(unsafe_code)] // nix marks every change of a disposition as unsafe.
        let set = |disposition| unsafe { signal(Signal::SIGPIPE, disposition) };
        let before = set(SigHandler::SigIgn);
        let _ = write(&*self.0, &buffer[..length]);
        let _ = before.map(set);
    }
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
        let announcement = Announcement::new(pipe.as_fd().try_clone_to_owned()?);
        Ok(Self { pipe: Mutex::new(pipe), announcement })
    }

    /// For a group's first process.
    #[must_use]
    pub fn announcement(&self) -> Announcement {
        self.announcement.clone()
    }

    /// What was announced came to nothing: whoever is not watched by now ran no program, or will be watched in an instant.
    pub fn forget_announced(&self) {
        self.tell("!\n");
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

/// The groups that were announced or begun, and not forgotten, when the pipe closed.
fn left_behind(pipe: impl Read) -> BTreeSet<i32> {
    let (mut announced, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for line in std::io::BufReader::new(pipe).lines().map_while(Result::ok) {
        // Not 0 and not 1: those would be the guard's own group, and everybody.
        let group = line.get(1..).and_then(|text| text.parse::<i32>().ok()).filter(|group| *group > 1);
        match (line.as_bytes().first(), group) {
            (Some(b'~'), Some(group)) => drop(announced.insert(group)),
            (Some(b'+'), Some(group)) => {
                announced.remove(&group);
                groups.insert(group);
            }
            (Some(b'-'), Some(group)) => drop(groups.remove(&group)),
            (Some(b'!'), None) => announced.clear(),
            _ => {}
        }
    }
    groups.append(&mut announced);
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

    #[test]
    fn what_was_announced_counts_until_it_is_begun_and_forgotten_or_came_to_nothing() {
        let left = |told: &str| left_behind(told.as_bytes()).into_iter().collect::<Vec<_>>();
        assert_eq!(left("~12\n"), [12]);
        assert!(left("~12\n+12\n-12\n").is_empty());
        assert_eq!(left("~12\n!\n~13\n"), [13]);
        assert_eq!(left("~12\n+12\n~13\n!\n"), [12], "what is watched stays");
        assert!(left("~0\n~1\n~-5\n~\n").is_empty());
    }

    #[test]
    fn an_announcement_names_the_process() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let announcement = Announcement::new(writer);
        announcement.make();
        let mut line = String::new();
        std::io::BufReader::new(std::fs::File::from(reader)).read_line(&mut line).unwrap();
        assert_eq!(line, format!("~{}\n", std::process::id()));
    }
}
