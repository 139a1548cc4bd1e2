//! Real children: what they are started as, how they end, and what is left of them.

use std::io::BufRead;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::*;

/// Longer than anything here should take.
const DEADLINE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Launch {
    Launch { command: ["sh", "-c", script].map(OsString::from).to_vec(), directory: None }
}

struct Running {
    group: Group,
    events: Receiver<ChildEvent>,
}

fn run(launch: Launch) -> Running {
    running(told(launch, None))
}

fn running(events: Receiver<ChildEvent>) -> Running {
    match next(&events) {
        ChildEvent::Started(group) => Running { group, events },
        other => panic!("not started: {other:?}"),
    }
}

fn told(launch: Launch, announcement: Option<Announcement>) -> Receiver<ChildEvent> {
    let (sender, receiver) = sync_channel(8);
    start(launch, announcement, move |event| sender.send(event).unwrap_or_default());
    receiver
}

fn next(events: &Receiver<ChildEvent>) -> ChildEvent {
    events.recv_timeout(DEADLINE).expect("nothing was told of the child")
}

impl Running {
    fn exit(&self) -> (ChildEnd, bool) {
        match next(&self.events) {
            ChildEvent::Exited(end, leftovers) => (end, leftovers),
            other => panic!("not ended: {other:?}"),
        }
    }

    fn is_gone(&self) {
        let event = next(&self.events);
        assert!(matches!(event, ChildEvent::GroupGone), "{event:?}");
        assert_eq!(killpg(self.group.leader, None), Err(Errno::ESRCH));
    }
}

#[test]
fn a_group_is_announced_before_its_program_runs() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let child = running(told(shell("exit 7"), Some(Announcement::new(writer))));
    // What is there by now, and nothing that comes later.
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let mut line = String::new();
    std::io::BufReader::new(std::fs::File::from(reader)).read_line(&mut line).expect("it was announced");
    assert_eq!(line, format!("~{}\n", child.group.id()));
}

#[test]
fn a_child_runs_although_nobody_hears_its_announcement() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let child = running(told(shell("exit 7"), Some(Announcement::new(writer))));
    assert_eq!(child.exit(), (ChildEnd::Code(7), false));
}

#[test]
fn a_child_that_exits_at_once_is_told_with_its_code() {
    let child = run(shell("exit 7"));
    assert_eq!(child.exit(), (ChildEnd::Code(7), false));
    child.is_gone();
}

#[test]
fn a_child_ended_by_a_signal_is_told_with_its_number() {
    let child = run(shell("kill -USR1 $$"));
    assert_eq!(child.exit(), (ChildEnd::Signal(10), false));
    assert_eq!(ChildEnd::Signal(10).exit_code(), 138);
}

#[test]
fn a_child_leads_its_own_group_and_the_group_is_signalled_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("(trap '' TERM; : > {0}.1; while :; do sleep 1; done) & : > {0}; wait", ready.display());
    let child = run(shell(&script));
    let first = format!("{}.1", ready.display());
    wait_until("the grandchild ignores SIGTERM", || std::fs::exists(&first).unwrap());
    child.group.signal_all(Signal::SIGTERM);
    assert_eq!(child.exit(), (ChildEnd::Signal(15), true));
    child.group.signal_all(Signal::SIGKILL);
    child.is_gone();
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_for_the_leader_spares_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    // A loop, and not `wait`: a shell that is told between its last look at signals and its wait would sleep on.
    let script =
        format!("sleep 60 & trap 'kill $!; exit 4' USR1; : > {}; while :; do sleep 0.1; done", ready.display());
    let child = run(shell(&script));
    wait_until("the trap is set", || ready.exists());
    child.group.signal_leader(Signal::SIGUSR1);
    assert_eq!(child.exit().0, ChildEnd::Code(4));
    child.group.signal_all(Signal::SIGKILL);
    child.is_gone();
}

#[test]
fn a_missing_program_is_127_one_that_cannot_be_run_126_and_a_missing_directory_125() {
    let start_error = |launch: Launch| match next(&told(launch, None)) {
        ChildEvent::NotStarted(error) => error,
        other => panic!("started: {other:?}"),
    };
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let of = |program: &std::path::Path| Launch { command: vec![program.into()], directory: None };
    let missing = start_error(of(&directory.path().join("missing")));
    assert_eq!(missing.code, 127, "{missing}");
    let plain = start_error(of(&plain));
    assert_eq!(plain.code, 126, "{plain}");
    assert!(plain.problem.contains("chmod"), "{plain}");
    assert_eq!(start_error(of(directory.path())).code, 126);
    let nowhere = start_error(Launch { directory: Some("/nowhere".into()), ..shell(":") });
    assert_eq!(nowhere.code, 125);
    assert!(nowhere.problem.contains("/nowhere"), "{nowhere}");
}

#[test]
fn a_child_runs_in_the_directory_that_was_named() {
    let directory = tempfile::tempdir().unwrap();
    let launch = Launch { directory: Some(directory.path().to_owned()), ..shell(": > here") };
    let child = run(launch);
    assert_eq!(child.exit(), (ChildEnd::Code(0), false));
    assert!(directory.path().join("here").exists());
}
