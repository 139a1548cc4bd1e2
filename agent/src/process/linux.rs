//! What only Linux has: children that die with their parent, waiting without reaping, orphans of a process with id 1.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getppid};

/// Between two looks at a child that another thread is about to reap.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two looks while there is no child at all.
const NO_CHILD: Duration = Duration::from_millis(500);

/// Lets the system kill the command's process when the *thread* that starts it ends, which must therefore live as long
/// as the process does.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let arm = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: `arm` makes two system calls, and neither
    // allocates nor locks.
    #[allow(unsafe_code)] // There is no safe way to run anything between fork and exec.
    unsafe {
        command.pre_exec(arm);
    }
}

/// Blocks until the child has ended, and leaves it to be reaped.
pub(super) fn wait_until_ended(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(Pid::from_raw(pid)), flags) == Err(Errno::EINTR) {}
}

/// Reaps what nobody else will, for ever, if this process has id 1, as in a container: orphans become its children.
/// `is_known` are the children that somebody waits for.
pub(super) fn reap_orphans_if_first(is_known: impl Fn(u32) -> bool + Send + 'static) -> std::io::Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let reap = move || loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))
                if !is_known(pid.as_raw().unsigned_abs()) =>
            {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            Err(Errno::ECHILD) => std::thread::sleep(NO_CHILD),
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    };
    std::thread::Builder::new().name("orphans".to_owned()).spawn(reap)?;
    Ok(())
}
