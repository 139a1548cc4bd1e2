//! Kills what a test started when the test itself is killed and cannot clean up.
//!
//! A shell reads process groups from a pipe of which the test holds the other end. The system closes that end however
//! the test dies; the shell then kills the groups that were not taken back.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use nix::unistd::Pid;

const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=' '
while read -r verb group; do
    case "$verb" in
        watch) groups="$groups$group " ;;
        forget) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

struct Watchdog {
    orders: ChildStdin,
    /// Not waited for: it outlives us by design.
    _shell: Child,
}

impl Watchdog {
    fn start() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("`sh` starts");
        let orders = shell.stdin.take().expect("stdin is piped");
        Self { orders, _shell: shell }
    }

    fn tell(&mut self, verb: &str, group: Pid) {
        writeln!(self.orders, "{verb} {group}").expect("the watchdog lives");
    }
}

fn tell(verb: &str, group: Pid) {
    static WATCHDOG: OnceLock<Mutex<Watchdog>> = OnceLock::new();
    let watchdog = WATCHDOG.get_or_init(|| Mutex::new(Watchdog::start()));
    watchdog.lock().expect("nothing panics while it holds the watchdog").tell(verb, group);
}

/// From now on, the group dies with this process.
pub(crate) fn watch(group: Pid) {
    tell("watch", group);
}

/// The group is gone; its number may be somebody else's soon. Only for a group that is watched.
pub(crate) fn forget(group: Pid) {
    tell("forget", group);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::eventually;

    fn long_running() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    fn group_of(child: &Child) -> Pid {
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    #[tokio::test]
    async fn when_its_pipe_closes_watched_groups_die_and_forgotten_ones_live() {
        let (mut first, mut forgotten, mut last) = (long_running(), long_running(), long_running());
        let mut watchdog = Watchdog::start();
        for child in [&first, &forgotten, &last] {
            watchdog.tell("watch", group_of(child));
        }
        watchdog.tell("forget", group_of(&forgotten));
        drop(watchdog.orders);
        for child in [&mut first, &mut last] {
            eventually("a watched process dies", Duration::from_secs(5), async || {
                child.try_wait().unwrap().ok_or("it lives")
            })
            .await;
        }
        assert!(forgotten.try_wait().unwrap().is_none(), "a forgotten process died");
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
