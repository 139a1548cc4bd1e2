//! Scenarios 1 and 4 to 9: what happens to services and agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use muster_discovery::{Change, Discovery};
use muster_schemas::alarm::{Alarm, AlarmKind};
use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, HealthReport};
use muster_schemas::query::Request;
use muster_schemas::subject::{Query, Subject};
use muster_schemas::{Cause, HealthStatus, Instance};
use muster_tests::process::Signal;
use muster_tests::{eventually, http};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::world::{SOON, Starting, Supervised, TTL, World};

async fn signal_service(supervised: &Supervised, signal: Signal) {
    kill(Pid::from_raw(supervised.service_pid().await), signal).expect("the service runs");
}

/// Scenario 1.
#[tokio::test]
async fn a_killed_service_is_taken_back_by_its_agent_at_once() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    observer.dies("orders/a");
    let begun = Instant::now();
    signal_service(&services[0], Signal::SIGKILL).await;
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    assert_eq!(change.cause(), Cause::Deregistered);
    let evidence = change.evidence().expect("evidence");
    assert_eq!(evidence.reason.as_deref(), Some(DeregisterReason::ChildExited.as_str()));
    assert_eq!(change.actor(), "agent/agent-a");
    println!("told {} ms after the kill", at.duration_since(begun).as_millis());
    assert_eq!(services[0].agent.wait_exit(SOON).await.code(), Some(128 + 9));
    assert!(observer.removals_of("orders/b").is_empty(), "the other instance lives");
    observer.finish(&world.broker).await;
}

/// Scenario 4.
#[tokio::test]
async fn a_frozen_agent_is_expired_with_evidence_and_registers_again_when_it_thaws() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    observer.dies("orders/a");
    services[0].agent.freeze();
    let (_, change) = observer.until_removed("orders", "a", SOON).await;
    assert_eq!(change.cause(), Cause::Expired);
    let evidence = change.evidence().expect("evidence");
    assert!(evidence.charged_ms.is_some_and(|charged_ms| charged_ms >= 2_000), "{evidence:?}");
    assert!(evidence.last_heartbeat_at.is_some() && evidence.probe.is_some(), "{evidence:?}");
    services[0].agent.thaw();
    observer.until_routable("orders", "a").await;
    assert!(observer.removals_of("orders/b").is_empty(), "the other instance lives");
    observer.finish(&world.broker).await;
}

/// Scenario 5.
#[tokio::test]
async fn a_frozen_service_turns_critical_and_passing_again_when_it_thaws() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a")]).await;
    signal_service(&services[0], Signal::SIGSTOP).await;
    let is_critical = |instance: &Instance| instance.registration.health.status == HealthStatus::Critical;
    let pid = services[0].agent.pid();
    let critical = observer.until("orders", "a", "critical", is_critical).await;
    assert!(!critical.is_routable());
    thaw_children_of(pid);
    observer.until_routable("orders", "a").await;
    assert!(observer.removals_of("orders/a").is_empty(), "nothing was removed");
    let health = observer.changes_of("orders/a").into_iter().filter(|(_, change)| change.cause() == Cause::Health);
    assert_eq!(health.count(), 2, "one change to critical and one back: the thresholds hold single failures");
    observer.finish(&world.broker).await;
}

/// Scenario 5.
#[tokio::test]
async fn one_failed_check_alone_changes_nothing() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a")]).await;
    for _ in 0..3 {
        services[0].fail_one_check().await;
        // Several runs of the check.
        observer.sees_changes_only_of(&[], Duration::from_secs(1)).await;
    }
    observer.finish(&world.broker).await;
}

/// Checks that fail turn a service critical; it stays listed, is not routed to, and comes back by itself.
#[tokio::test]
async fn a_service_that_says_it_is_unwell_is_not_routed_to_until_it_is_well_again() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    services[0].set_healthy(false);
    let is_critical = |instance: &Instance| instance.registration.health.status == HealthStatus::Critical;
    let critical = observer.until("orders", "a", "critical", is_critical).await;
    let check = critical.registration.health.checks.first().expect("the check");
    assert!(check.output.as_deref().is_some_and(|output| output.contains("503")), "{check:?}");
    let routable: Vec<_> = observer.snapshot().await.instances().map(|held| held.id().to_string()).collect();
    assert_eq!(routable, ["b"]);
    services[0].set_healthy(true);
    observer.until_routable("orders", "a").await;
    assert!(observer.removals_of("orders/a").is_empty(), "it was never removed");
    observer.finish(&world.broker).await;
}

/// A frozen service does not answer with its number; its parent knows it.
fn thaw_children_of(agent: u32) {
    let path = format!("/proc/{agent}/task/{agent}/children");
    let mut thawed = 0;
    let tasks = std::fs::read_dir(format!("/proc/{agent}/task")).expect("the agent runs");
    for task in tasks.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            kill(Pid::from_raw(child), Signal::SIGCONT).expect("the child is there");
            thawed += 1;
        }
    }
    assert!(thawed > 0, "no child in {path}");
}

/// Scenario 6.
#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_request_of_a_client_that_obeys_its_view() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let names = [("orders", "a"), ("orders", "b"), ("orders", "c")];
    let mut services = world.start_services(&observer, &names).await;
    let load = Load::start(&world).await;
    for (index, (service, instance)) in names.into_iter().enumerate() {
        load.until_more_than(100).await;
        observer.dies(&format!("{service}/{instance}"));
        let exit = services[index].agent.stop(SOON).await;
        assert!(exit.code().is_some(), "{exit:?}");
        observer.until_removed(service, instance, SOON).await;
        services[index] = world.start_service(service, instance, &Starting::default());
        observer.until_routable(service, instance).await;
    }
    load.until_more_than(100).await;
    let (requests, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {requests} requests failed: {failures:?}", failures.len());
    observer.finish(&world.broker).await;
}

struct Load {
    requests: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    async fn start(world: &World) -> Self {
        let discovery = Discovery::connect(world.broker.url()).await.expect("the client connects");
        let requests = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (count, end) = (requests.clone(), stopped.clone());
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                if let Err(failure) = request(&discovery, number).await {
                    failures.push(failure);
                }
            }
            failures
        });
        Self { requests, stopped, task }
    }

    async fn until_more_than(&self, more: u64) {
        let goal = self.requests.load(Ordering::Relaxed) + more;
        eventually(format!("{more} more requests"), SOON, async || {
            let done = self.requests.load(Ordering::Relaxed);
            if done >= goal { Ok(()) } else { Err(format!("{done} of {goal}")) }
        })
        .await;
    }

    async fn stop(self) -> (u64, Vec<String>) {
        self.stopped.store(true, Ordering::Relaxed);
        let failures = self.task.await.expect("the load did not panic");
        (self.requests.load(Ordering::Relaxed), failures)
    }
}

/// One request to one of the routable instances, in turn.
async fn request(discovery: &Discovery, number: u64) -> Result<(), String> {
    let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
    let ports: Vec<u16> = snapshot.instances().filter_map(|held| held.registration.endpoints.first()?.port).collect();
    if ports.is_empty() {
        return Err(format!("no routable instance: {:?}", snapshot.state()));
    }
    let port = ports[usize::try_from(number).unwrap_or(0) % ports.len()];
    http::get(port, "/").await.map(|_| ()).map_err(|error| format!("port {port}: {error}"))
}

/// Scenario 7.
#[tokio::test]
async fn late_messages_of_an_earlier_incarnation_are_ignored_and_counted() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a")]).await;
    let first = observer.until_routable("orders", "a").await;
    observer.dies("orders/a");
    services[0].agent.stop(SOON).await;
    observer.until_removed("orders", "a", SOON).await;
    services[0] = world.start_service("orders", "a", &Starting::default());
    let second = observer.until_routable("orders", "a").await;
    assert!(second.vouching().incarnation > first.vouching().incarnation);

    let mut late = first.vouching().clone();
    late.generation += 10;
    let before = world.outcome_count("stale").await;
    let reason = DeregisterReason::Stopped;
    let events = [
        EventData::Deregister(Deregistration { vouching: late.clone(), reason, detail: None }),
        EventData::Health(HealthReport { vouching: late, registered_generation: None, health: critical() }),
        EventData::Register(first.registration.clone()),
    ];
    for (number, data) in events.into_iter().enumerate() {
        let source = muster_schemas::Source::Agent(services[0].agent_id());
        let event = Event { id: format!("late-{number}"), source, time: None, data };
        let payload = event.encode(world.subjects().namespace()).expect("an event");
        world.append(&event.subject(world.subjects()), &payload).await;
    }
    assert_eq!(world.outcome_count("stale").await, before + 3);
    let now = observer.until_routable("orders", "a").await;
    assert_eq!(now.modified_revision, second.modified_revision, "nothing has changed");
    late_heartbeats_renew_nothing(&world, &first, &services[0]).await;
    observer.dies("orders/a");
    services[0].agent.freeze();
    observer.until_removed("orders", "a", SOON).await;
    observer.finish(&world.broker).await;
}

/// The session of the earlier life says that it lives, with ever higher counters: heard, and refused.
async fn late_heartbeats_renew_nothing(world: &World, first: &Instance, supervised: &Supervised) {
    let client = world.broker.connect().await;
    let subject = world.subjects().heartbeat(&supervised.agent_id());
    let refused = "muster_heartbeats_refused_total";
    let before = world.metric(0, refused).await.expect("a number");
    for counter in 1_000..1_005_u64 {
        let heartbeat = serde_json::json!({
            "v": 1, "session": first.vouching().session, "counter": counter, "instances": 1,
            "digest": "00000000000000000000000000000000",
        });
        client.publish(subject.clone(), heartbeat.to_string().into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    world.until_metric(0, refused, |count| count >= before + 5.0).await;
}

fn critical() -> muster_schemas::Health {
    muster_schemas::Health { status: HealthStatus::Critical, ..Default::default() }
}

/// Scenario 8.
#[tokio::test]
async fn of_two_agents_that_claim_one_instance_the_larger_incarnation_wins_and_the_other_says_so() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let starting = |agent: &str| Starting { agent_id: Some(agent.into()), ..Starting::default() };
    let first = world.start_service("orders", "a", &starting("one"));
    let held = observer.until_routable("orders", "a").await;
    assert_eq!(held.vouching().agent.as_str(), "one");
    let client = world.broker.connect().await;
    let subject = world.subjects().alarm(AlarmKind::DuplicateIds.as_str());
    let mut alarms = client.subscribe(subject).await.expect("subscribed");
    client.flush().await.expect("flushed");
    let second = world.start_service("orders", "a", &starting("two"));
    let is_two = |instance: &Instance| instance.vouching().agent.as_str() == "two";
    let now = observer.until("orders", "a", "of the second agent", is_two).await;
    assert!(now.vouching().incarnation > held.vouching().incarnation);
    first.agent.wait_for_line("another agent", SOON).await;
    let message = tokio::time::timeout(SOON, alarms.next()).await.expect("an alarm").expect("connected");
    let alarm: Alarm = serde_json::from_slice(&message.payload).expect("an alarm");
    assert!(alarm.message.contains("both live and both registered orders/a"), "{}", alarm.message);
    assert!(observer.removals_of("orders/a").is_empty(), "it was never removed");
    observer.finish(&world.broker).await;
    drop(second);
}

/// Scenario 9.
#[tokio::test]
async fn one_address_registered_by_two_instances_is_a_marked_conflict_and_removes_neither() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a")]).await;
    let mut other = observer.until_routable("orders", "a").await.registration.clone();
    other.vouching.service = "users".parse().expect("a name");
    other.vouching.instance = "b".parse().expect("a name");
    other.vouching.agent = "another".parse().expect("a name");
    other.ttl_ms = 0;
    other.linger_ms = 0;
    let source = muster_schemas::Source::Agent(other.vouching.agent.clone());
    let event = Event { id: "conflict".into(), source, time: None, data: EventData::Register(other) };
    let payload = event.encode(world.subjects().namespace()).expect("an event");
    world.append(&event.subject(world.subjects()), &payload).await;

    observer.until_routable("users", "b").await;
    let (_, change) = observer.changes_of("users/b").pop().expect("it was added");
    assert_eq!(change.why().conflicts, ["orders/a"]);
    services[0].agent.wait_for_line("conflict", SOON).await;
    let address = format!("127.0.0.1:{}", services[0].port);
    for service in ["orders", "users"] {
        let query = Query::Service(service.parse().expect("a name"));
        let reply = world.ask(&query, &Request::default()).await.expect("an answer");
        assert_eq!(reply.services[0].conflicts[&address], ["orders/a", "users/b"], "{service}");
    }
    assert!(observer.removals_of("orders/a").is_empty() && observer.removals_of("users/b").is_empty());
    observer.finish(&world.broker).await;
}

/// An agent that is killed takes its child with it; both expire within the TTL and a probe.
#[tokio::test]
async fn an_agent_killed_together_with_its_service_expires() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    observer.dies("orders/a");
    let begun = Instant::now();
    services[0].agent.kill();
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    assert_eq!(change.cause(), Cause::Expired);
    let took = at.duration_since(begun);
    println!("expired {} ms after the kill, with a TTL of {} ms", took.as_millis(), TTL.as_millis());
    assert!(took > Duration::from_millis(500), "not before it was silent: {took:?}");
    assert!(matches!(change, Change::Removed { .. }) && observer.removals_of("orders/b").is_empty());
    observer.finish(&world.broker).await;
}

/// The heartbeats of an earlier life are dropped: they keep nobody alive.
#[tokio::test]
async fn subjects_of_all_that_agents_say_are_understood() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let mut heartbeats =
        world.broker.connect().await.subscribe(world.subjects().all_heartbeats()).await.expect("subscribed");
    let services = world.start_services(&observer, &[("orders", "a")]).await;
    let expected = services[0].agent_id();
    eventually("a heartbeat of the agent and a mark of the registry", SOON, async || {
        let mut seen = (false, false);
        while let Some(message) = heartbeats.next().await {
            match world.subjects().parse(&message.subject) {
                Ok(Subject::Heartbeat(agent)) => seen.0 |= agent == expected,
                Ok(Subject::Mark(_)) => seen.1 = true,
                other => return Err(format!("{}: {other:?}", message.subject)),
            }
            if seen == (true, true) {
                return Ok(());
            }
        }
        Err("the subscription ended".into())
    })
    .await;
    observer.finish(&world.broker).await;
}
