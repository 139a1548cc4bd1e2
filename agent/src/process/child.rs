//! A child in its own process group: started, signalled, waited for to the last of its group.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::core::supervision::{CODE_AGENT_FAILED, ChildEnd};
#[cfg(not(target_os = "linux"))]
use super::elsewhere as system;
use super::guard::Announcement;
#[cfg(target_os = "linux")]
use super::linux as system;

/// The shell's code for a command that is there but cannot be run.
const CODE_NOT_EXECUTABLE: u8 = 126;
/// The shell's code for a command that is not there.
const CODE_NOT_FOUND: u8 = 127;
/// Between two looks at what a child left behind.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program, and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Where; none = where the agent runs.
    pub directory: Option<PathBuf>,
}

/// Why there is no child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct StartError {
    /// 125, 126 or 127, as a shell would say it.
    pub code: u8,
    /// Why, and the way out.
    pub problem: String,
}

/// What becomes of a child, in this order.
#[derive(Debug, Clone)]
pub enum ChildEvent {
    /// It runs.
    Started(Group),
    /// There is none; nothing follows.
    NotStarted(StartError),
    /// It ended, and whether others of its group live on.
    Exited(ChildEnd, bool),
    /// Nobody of its group is left; follows at once if there were no others.
    GroupGone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alive {
    Leader,
    Leftovers,
    Nobody,
}

/// A child's process group. The number stays ours as long as anybody in it lives, and is not used afterwards.
#[derive(Debug, Clone)]
pub struct Group {
    leader: Pid,
    alive: Arc<Mutex<Alive>>,
}

/// Children that a thread waits for; see [`reap_orphans`].
static WAITED_FOR: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

fn waited_for() -> MutexGuard<'static, HashSet<u32>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over the duty of a process with id 1, if this is one.
///
/// # Errors
/// The system gives no thread.
pub fn reap_orphans() -> std::io::Result<()> {
    system::reap_orphans_if_first(|pid| waited_for().contains(&pid))
}

/// Starts a process that somebody waits for. The lock is held meanwhile: the process may end before it is known.
pub(super) fn known<E>(spawn: impl FnOnce() -> Result<Child, E>) -> Result<Child, E> {
    let mut waited_for = waited_for();
    let child = spawn()?;
    waited_for.insert(child.id());
    Ok(child)
}

impl Group {
    /// The leader's process id, which is the group's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.leader.as_raw().unsigned_abs()
    }

    /// Sends a signal to everybody in the group; nobody left is no error.
    pub fn signal_all(&self, signal: Signal) {
        let alive = self.alive();
        if *alive != Alive::Nobody {
            log_refused(killpg(self.leader, signal), signal);
        }
    }

    /// Sends a signal to the leader alone, if it lives.
    pub fn signal_leader(&self, signal: Signal) {
        let alive = self.alive();
        if *alive == Alive::Leader {
            log_refused(kill(self.leader, signal), signal);
        }
    }

    fn alive(&self) -> MutexGuard<'_, Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Anybody there? Somebody who may not be signalled is there as well.
    fn is_populated(&self) -> bool {
        // Orphans become children of a process with id 1, and a dead child counts as there until it is reaped.
        let group = Pid::from_raw(-self.leader.as_raw());
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitpid(group, Some(WaitPidFlag::WNOHANG)) {}
        killpg(self.leader, None) != Err(Errno::ESRCH)
    }
}

fn log_refused(result: nix::Result<()>, signal: Signal) {
    match result {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%signal, %error, "the system refused to send a signal to the service"),
    }
}

/// Starts a child, in a thread of its own that tells what becomes of it. The child goes on before `tell` returns, but is
/// not reaped before. With an announcement it makes that first of all.
pub fn start(launch: Launch, announcement: Option<Announcement>, tell: impl Fn(ChildEvent) + Send + Sync + 'static) {
    // One thread per child: the system kills the child when the thread that started it ends, and this one stays.
    let tell = Arc::new(tell);
    let told = Arc::clone(&tell);
    let thread = std::thread::Builder::new().name("child".to_owned());
    if let Err(error) = thread.spawn(move || live(&launch, announcement, told.as_ref())) {
        tell(ChildEvent::NotStarted(StartError {
            code: CODE_AGENT_FAILED,
            problem: format!("cannot start the service: {error}"),
        }));
    }
}

fn live(launch: &Launch, announcement: Option<Announcement>, tell: &impl Fn(ChildEvent)) {
    let mut child = match known(|| spawn(launch, announcement)) {
        Ok(child) => child,
        Err(error) => return tell(ChildEvent::NotStarted(error)),
    };
    let pid = child.id();
    let group = Group { leader: Pid::from_raw(pid.cast_signed()), alive: Arc::new(Mutex::new(Alive::Leader)) };
    tell(ChildEvent::Started(group.clone()));
    let (end, leftovers) = reap(&mut child, &group);
    waited_for().remove(&pid);
    tell(ChildEvent::Exited(end, leftovers));
    while !settle(&group) {
        std::thread::sleep(LOOK_AGAIN);
    }
    tell(ChildEvent::GroupGone);
}

fn spawn(launch: &Launch, announcement: Option<Announcement>) -> Result<Child, StartError> {
    let (program, arguments) = launch.command.split_first().ok_or_else(|| StartError {
        code: CODE_AGENT_FAILED,
        problem: "the command is empty: write it behind --".to_owned(),
    })?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    if let Some(directory) = &launch.directory {
        command.current_dir(directory);
    }
    // Its group is not the terminal's foreground group: reading from the terminal would freeze it.
    if std::io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    if let Some(announcement) = announcement {
        let announce = move || {
            announcement.make();
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are allowed: it makes system calls, and neither
        // allocates nor locks.
        #[allow(unsafe_code)] // There is no safe way to run anything between fork and exec.
        unsafe {
            command.pre_exec(announce);
        }
    }
    system::die_with_parent(&mut command);
    command.spawn().map_err(|error| not_started(program, launch, &error))
}

fn not_started(program: &OsStr, launch: &Launch, error: &std::io::Error) -> StartError {
    let program = program.to_string_lossy();
    if let Some(directory) = launch.directory.as_ref().filter(|directory| !directory.is_dir()) {
        return StartError {
            code: CODE_AGENT_FAILED,
            problem: format!("--directory {} is not a directory", directory.display()),
        };
    }
    let (code, way_out) = match error.kind() {
        ErrorKind::NotFound => {
            (CODE_NOT_FOUND, "; give its path, or add its directory to PATH (a script's interpreter must exist, too)")
        }
        ErrorKind::PermissionDenied => (CODE_NOT_EXECUTABLE, "; make it executable (chmod +x)"),
        _ if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOEXEC | Errno::EISDIR)) => {
            (CODE_NOT_EXECUTABLE, "; it is no program of this system, or a script without a first line #!")
        }
        _ => (CODE_AGENT_FAILED, ""),
    };
    StartError { code, problem: format!("cannot run {program:?}: {error}{way_out}") }
}

/// Waits for the leader's end, and for nothing else.
fn reap(child: &mut Child, group: &Group) -> (ChildEnd, bool) {
    loop {
        system::wait_until_ended(child.id());
        // The lock keeps everybody from signalling a number that may have become somebody else's.
        let mut alive = group.alive();
        match child.try_wait() {
            Ok(None) => {}
            ended => {
                let leftovers = group.is_populated();
                *alive = if leftovers { Alive::Leftovers } else { Alive::Nobody };
                return (ended.ok().flatten().map_or(ChildEnd::Code(CODE_AGENT_FAILED), end_of), leftovers);
            }
        }
        drop(alive);
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// True once nobody is left.
fn settle(group: &Group) -> bool {
    let mut alive = group.alive();
    if *alive == Alive::Leftovers && !group.is_populated() {
        *alive = Alive::Nobody;
    }
    *alive == Alive::Nobody
}

fn end_of(status: ExitStatus) -> ChildEnd {
    let byte = |number: i32| u8::try_from(number).unwrap_or(CODE_AGENT_FAILED);
    match (status.code(), status.signal()) {
        (Some(code), _) => ChildEnd::Code(byte(code)),
        (None, Some(signal)) => ChildEnd::Signal(byte(signal)),
        (None, None) => ChildEnd::Code(CODE_AGENT_FAILED),
    }
}

#[cfg(test)]
mod tests;
