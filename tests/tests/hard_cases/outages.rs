//! A broker that goes away and comes back in ways that nobody ordered: every process says so once in ten seconds, loses
//! nothing that it knew, and goes on when there is a broker again.

use muster_tests::process::Line;
use muster_tests::{Process, eventually};

use crate::support::{SOON, World, texts};

/// What is said whenever another attempt to connect has failed; several within ten seconds are one line.
const AGAIN: &str = "no connection to the broker";

/// All that want a broker at the same time.
struct Everybody {
    world: World,
    agent: Process,
    watch: Process,
    register: Process,
}

impl Everybody {
    async fn start() -> Self {
        let world = World::start().await;
        let agent = world.agent(&[]).args(["--service", "orders", "--instance", "a", "--", "sleep", "600"]).start();
        agent.wait_for_line(": registered after_ms=", SOON).await;
        let register = world.muster(&["register", "orders", "--instance", "b", "--state-dir", "state-b"]).start();
        register.wait_for_line("orders/b is registered", SOON).await;
        let watch = world.muster(&["watch", "orders"]).start();
        watch.wait_for_line("2 instances, verified", SOON).await;
        Self { world, agent, watch, register }
    }

    fn all(&self) -> [(&'static str, &Process); 4] {
        [
            ("the registry", &self.world.registry),
            ("the agent", &self.agent),
            ("the watch", &self.watch),
            ("the command that vouches", &self.register),
        ]
    }

    /// How many lines each has printed.
    fn lines(&self) -> [u64; 4] {
        self.all().map(|(_, process)| process.lines().last().map_or(0, |line| line.index + 1))
    }

    async fn until_everything_is_there_again(&self) {
        eventually("both are registered and the watch is sure of it", SOON, async || {
            let reply = self.world.try_ask("query.service.orders", "").await?;
            if reply.services[0].total != 2 {
                return Err(format!("{reply:?}"));
            }
            let unsure = self.watch.lines().into_iter().rfind(|line| line.text.contains("orders: "));
            match unsure {
                Some(line) if line.text.contains("unknown since") => Err(line.text),
                _ => Ok(()),
            }
        })
        .await;
    }
}

/// The lines of a process from this one on that are warnings or errors.
fn complaints(process: &Process, from: u64) -> Vec<Line> {
    let is_complaint = |line: &Line| line.text.contains(" WARN ") || line.text.contains(" ERROR ");
    process.lines().into_iter().filter(|line| line.index >= from && is_complaint(line)).collect()
}

/// Waits until a process has complained about the connection more than ten seconds after it was lost.
async fn second_complaint(process: &Process, from: u64) {
    eventually("a second complaint about the connection", SOON, async || {
        let said = complaints(process, from);
        if said.iter().any(|line| line.text.contains(AGAIN)) { Ok(()) } else { Err(texts(&said)) }
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_goes_away_is_one_line_in_ten_seconds_and_then_everything_goes_on() {
    let mut everybody = Everybody::start().await;
    let before = everybody.lines();
    everybody.world.broker.kill();
    for ((name, process), from) in everybody.all().into_iter().zip(before) {
        second_complaint(process, from).await;
        let said = complaints(process, from);
        let of_connection: Vec<&Line> = said.iter().filter(|line| line.text.contains("broker")).collect();
        assert_eq!(of_connection.len(), 2, "{name}:{}", texts(&said));
        let apart = of_connection[1].at - of_connection[0].at;
        assert!(apart.as_millis() > 9_900, "{name}: {apart:?} apart:{}", texts(&said));
        // A registry that no longer answers says that, too.
        assert!(said.len() <= 3, "{name}:{}", texts(&said));
    }
    everybody.world.broker.restart().await;
    everybody.until_everything_is_there_again().await;
}

#[tokio::test]
async fn a_broker_that_comes_back_and_refuses_everybody_is_told_at_once_and_once() {
    let mut everybody = Everybody::start().await;
    let before = everybody.lines();
    everybody.world.broker.stop().await;
    everybody.world.broker.set_settings("authorization { token: sesame }");
    everybody.world.broker.restart().await;
    for ((name, process), from) in everybody.all().into_iter().zip(before) {
        process.wait_for_line("the broker refuses the credentials", SOON).await;
        let said = complaints(process, from);
        assert!(said.len() <= 3, "{name}:{}", texts(&said));
    }
    everybody.world.broker.stop().await;
    everybody.world.broker.set_settings("");
    everybody.world.broker.restart().await;
    everybody.until_everything_is_there_again().await;
}

/// The broker's disk is gone, and so is its JetStream: nobody is removed, and nothing is called proven.
#[tokio::test]
async fn a_broker_that_comes_back_without_jetstream_keeps_everybody_where_they_were() {
    let mut everybody = Everybody::start().await;
    let before = everybody.lines();
    everybody.world.broker.stop().await;
    everybody.world.broker.set_settings("jetstream: disabled");
    everybody.world.broker.restart().await;
    everybody.world.registry.wait_for_line("no longer answering queries", SOON).await;
    everybody.watch.wait_for_line("unknown since", SOON).await;
    for ((name, process), from) in everybody.all().into_iter().zip(before) {
        let said = complaints(process, from);
        assert!(said.len() <= 4, "{name}:{}", texts(&said));
    }
    assert!(!everybody.watch.lines().iter().any(|line| line.text.contains("REMOVED")));
    everybody.world.broker.stop().await;
    everybody.world.broker.set_settings("");
    everybody.world.broker.restart().await;
    everybody.until_everything_is_there_again().await;
    assert!(!everybody.watch.lines().iter().any(|line| line.text.contains("REMOVED")));
}
