//! Services that behave badly, with consumers who watch: what they are told, what is left of the service, and the code.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use muster_schemas::{Cause, Change, ChangeKind};
use muster_tests::{Process, eventually, free_port};

use crate::support::{Ended, SOON, World, program, subjects, texts};

/// Dead, or dead and not reaped yet.
pub(crate) async fn until_dead(pid: &str) {
    let stat = Path::new("/proc").join(pid).join("stat");
    eventually(format!("process {pid} is dead"), SOON, async || match std::fs::read_to_string(&stat) {
        Ok(text) if !text.contains(") Z ") => Err(text),
        _ => Ok(()),
    })
    .await;
}

impl World {
    /// The service `orders`, which is this script.
    fn script(&self, flags: &[&str], script: &str) -> Process {
        let run = ["--service", "orders", "--instance", "a"];
        self.agent(&[]).args(run).args(flags).args(["--", "sh", "-c", script]).start()
    }

    async fn written(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        eventually(format!("{name} is written"), SOON, async || match std::fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    async fn changes(&self) -> async_nats::Subscriber {
        let changes = self.client.subscribe(subjects().all_changes()).await.expect("subscribed");
        // A round trip: the broker knows of the subscription.
        let _ = self.status().await;
        changes
    }
}

async fn next(changes: &mut async_nats::Subscriber) -> Change {
    let message = tokio::time::timeout(SOON, changes.next()).await.expect("a change in time").expect("connected");
    serde_json::from_slice(&message.payload).expect("a change")
}

#[tokio::test]
async fn a_service_that_ends_at_once_is_started_again_with_growing_waits_and_never_registered() {
    let world = World::start().await;
    let port = format!("http={}", free_port());
    let mut agent = world.script(&["--port", &port, "--restart", "on-failure"], "exit 3");
    let first = agent.wait_for_line("service started", SOON).await;
    let second = agent.wait_for_line_after(&first, "service started", SOON).await;
    let third = agent.wait_for_line_after(&second, "service started", SOON).await;
    agent.wait_for_line_after(&third, "starting the service again", SOON).await;
    let (wait, longer) = (second.at - first.at, third.at - second.at);
    assert!(wait > Duration::from_millis(900) && longer > Duration::from_millis(1_900), "{wait:?}, {longer:?}");
    assert_eq!(agent.stop(SOON).await.code(), Some(3), "{}", texts(&agent.lines()));
    assert_eq!(world.last_sequence().await, 1, "nothing but the epoch was written");
}

#[tokio::test]
async fn a_service_that_forks_and_ends_is_taken_back_and_what_it_left_is_ended() {
    let world = World::start().await;
    let mut changes = world.changes().await;
    let script = "(trap '' TERM; exec sleep 600) & echo $! > left; while ! [ -e go ]; do sleep 0.02; done; exit 4";
    let mut agent = world.script(&["--grace", "100ms"], script);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    let left = world.written("left").await;
    assert_eq!(next(&mut changes).await.change, ChangeKind::Added);
    std::fs::write(world.directory.path().join("go"), "").expect("written");
    let removed = next(&mut changes).await;
    assert_eq!((removed.change, removed.cause), (ChangeKind::Removed, Cause::Deregistered));
    assert_eq!(removed.evidence.expect("evidence").reason.as_deref(), Some("child_exited"));
    assert_eq!(agent.wait_exit(SOON).await.code(), Some(4));
    until_dead(&left).await;
}

#[tokio::test]
async fn a_service_that_ignores_sigterm_is_taken_back_first_and_killed_in_the_end() {
    let world = World::start().await;
    let mut changes = world.changes().await;
    let script = "trap 'echo > asked' TERM; echo $$ > pid; while :; do sleep 0.02; done";
    let mut agent = world.script(&["--grace", "300ms", "--drain", "10ms"], script);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    let pid = world.written("pid").await;
    assert_eq!(next(&mut changes).await.change, ChangeKind::Added);
    agent.signal(muster_tests::process::Signal::SIGTERM);
    assert_eq!(next(&mut changes).await.change, ChangeKind::Removed);
    assert!(Path::new("/proc").join(&pid).exists(), "it still serves those who have not heard yet");
    assert_eq!(agent.wait_exit(SOON).await.code(), Some(137));
    assert!(world.directory.path().join("asked").exists());
    until_dead(&pid).await;
    assert_eq!(world.status().await.instances, 0);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_registered() {
    let world = World::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound");
    let mut agent = world.script(&["--port", &format!("http={}", taken.port())], "echo > started");
    let ended = Ended::of(&mut agent).await.expect_code(125);
    assert!(ended.stderr.contains(&taken.to_string()) && ended.stderr.contains("is in use"), "{ended:?}");
    assert!(!world.directory.path().join("started").exists());

    let http = ["--http", &taken.to_string()];
    let mut agent = world.agent(&http).args(["--service", "orders", "--", "sh", "-c", "echo > started"]).start();
    let registry = program("muster-registry", &world.directory).args(["--server", &world.broker.url()]);
    let mut registry = registry.args(http).start();
    for ended in [Ended::of(&mut agent).await.expect_code(125), Ended::of(&mut registry).await.expect_code(78)] {
        let told = format!("cannot listen on {taken} (--http)");
        assert!(ended.stderr.contains(&told) && ended.stderr.contains("choose another address"), "{ended:?}");
    }
    assert!(!world.directory.path().join("started").exists());
    assert_eq!(world.last_sequence().await, 1, "nothing but the epoch was written");
}
