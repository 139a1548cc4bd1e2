//! Scenario 22: five hundred agents reconnect at once. They are agents of the library, with sessions, heartbeats and
//! instances of their own, but share a few connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use muster_agent::vouch::{InstanceSpec, Timing, Vouch, VouchSettings, Vouched};
use muster_tests::proxy::Flow;
use muster_tests::{NatsServer, Proxy, eventually};
use tokio::task::JoinHandle;

use crate::changes::ChangeLoad;
use crate::world::{SOON, Setup, TTL, World};

const AGENTS: usize = 500;
const CONNECTIONS: usize = 10;
/// All replicas together ask 200 in a second, so asking all of them takes two seconds and a half; what is heard of it comes in
/// heaps on a busy machine.
const ASKED_OVER_AT_LEAST: Duration = Duration::from_secs(1);

/// Agents that share connections; each vouches for one instance.
struct Crowd {
    clients: Vec<Client>,
    vouches: Vec<(Vouch, Vouched)>,
}

impl Crowd {
    async fn connect(url: &str) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(50));
            clients.push(options.connect(url).await.expect("connected"));
        }
        Self { clients, vouches: Vec::new() }
    }

    /// More agents come, all at once.
    fn grow(&mut self, count: usize) {
        for number in self.vouches.len()..self.vouches.len() + count {
            let client = self.clients[number % CONNECTIONS].clone();
            let agent = format!("crowd-{number}").parse().expect("an agent id");
            let timing = Timing { heartbeat_ms: 1_000, ..Timing::default() };
            let vouch = Vouch::start(VouchSettings { timing, ..VouchSettings::new(client, agent) });
            let instance = number.to_string().parse().expect("an instance id");
            let mut spec = InstanceSpec::new("crowd".parse().expect("a name"), instance);
            (spec.ttl_ms, spec.linger_ms) = (10_000, 10_000);
            let vouched = vouch.register(spec).expect("by the rules");
            self.vouches.push((vouch, vouched));
        }
    }

    async fn until_registered(&self) {
        eventually("everybody is registered", 3 * SOON, async || {
            let count = self.vouches.iter().filter(|(_, vouched)| vouched.status().borrow().is_registered()).count();
            if count == self.vouches.len() { Ok(()) } else { Err(count) }
        })
        .await;
    }
}

async fn until_listed(world: &World, count: usize) {
    let wanted = count as f64;
    world.until_metric(0, "muster_instances", |instances| instances >= wanted).await;
}

/// How many consumers JetStream keeps for the stream.
async fn jetstream_consumers(world: &World) -> usize {
    let context = async_nats::jetstream::new(world.broker.connect().await);
    let mut stream = context.get_stream(world.subjects().stream_name()).await.expect("the stream");
    stream.info().await.expect("its state").state.consumer_count
}

/// The moments at which messages of some subject came.
struct Moments {
    seen: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Drop for Moments {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Moments {
    async fn of(url: &str, subject: &str) -> Self {
        let client = async_nats::connect(url).await.expect("connected");
        let mut messages = client.subscribe(subject.to_owned()).await.expect("subscribed");
        client.flush().await.expect("flushed");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while messages.next().await.is_some() {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            drop(client);
        });
        Self { seen, task }
    }

    /// From the first to the last.
    fn span(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last().zip(seen.first()).map_or(Duration::ZERO, |(last, first)| last.duration_since(*first))
    }

    /// How many there were, and how many in the busiest second.
    fn busiest_second(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let in_second_from = |begin: &Instant| {
            seen.iter().filter(|at| **at >= *begin && at.duration_since(*begin) < Duration::from_secs(1)).count()
        };
        (seen.len(), seen.iter().map(in_second_from).max().unwrap_or(0))
    }
}

/// The same log: everybody looks, at a pace, and nothing has to be said again.
#[tokio::test]
async fn five_hundred_agents_that_reconnect_at_once_are_paced_and_leave_no_trace_in_the_log() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let mut crowd = Crowd::connect(&world.broker.url()).await;
    crowd.grow(AGENTS);
    crowd.until_registered().await;
    until_listed(&world, AGENTS + 1).await;
    let asked = Moments::of(&world.broker.url(), "muster.default.agent.*.announce").await;
    let events = Moments::of(&world.broker.url(), &world.subjects().all_events()).await;
    let before = jetstream_consumers(&world).await;
    world.broker.stop().await;
    world.broker.restart().await;
    world.until_all_serve().await;
    observer.until_verified().await;
    observer.sees_changes_only_of(&[], TTL * 3).await;
    let after = jetstream_consumers(&world).await;
    println!("{before} JetStream consumers before, {after} after");
    assert!(after <= before.max(2), "one for each registry, and no more: {before} before, {after} after");
    println!("asked to announce (all, in the busiest second): {:?}", asked.busiest_second());
    assert_eq!(events.busiest_second().0, 0, "nobody had anything to say");
    observer.finish(&world.broker).await;
}

/// An empty log: everybody is asked, at a pace, and comes back.
#[tokio::test]
async fn five_hundred_agents_of_a_lost_log_are_asked_at_a_pace_and_come_back() {
    let mut world = World::start(2).await;
    let mut crowd = Crowd::connect(&world.broker.url()).await;
    crowd.grow(AGENTS);
    crowd.until_registered().await;
    until_listed(&world, AGENTS).await;
    let asked = Moments::of(&world.broker.url(), "muster.default.agent.*.announce").await;
    for registry in &mut world.registries {
        // With nobody to carry anything over.
        registry.stop(SOON).await;
    }
    world.broker.kill();
    world.broker.wipe_store();
    world.broker.restart().await;
    let began = Instant::now();
    for index in [0, 1] {
        world.restart_registry(index);
    }
    until_listed(&world, AGENTS).await;
    let (all, busiest) = asked.busiest_second();
    println!("everybody was back after {:?}; {all} were asked, {busiest} in the busiest second", began.elapsed());
    assert!(all < AGENTS || asked.span() > ASKED_OVER_AT_LEAST, "all within {:?}", asked.span());
    assert!(jetstream_consumers(&world).await <= 2, "one for each registry");
}

/// What it hears is older than what it is told of: it concludes nothing.
#[tokio::test]
async fn a_registry_that_is_seconds_behind_asks_nobody_to_announce() {
    let mut world = World::without_registries(NatsServer::builder().fixed_port()).await;
    let proxy = Proxy::to_port(world.broker.port()).await;
    world.add_registry(Setup { url: Some(proxy.url()), ..Setup::default() });
    world.until_all_serve().await;
    let asked = Moments::of(&world.broker.url(), "muster.default.agent.*.announce").await;
    let mut crowd = Crowd::connect(&world.broker.url()).await;
    crowd.grow(20);
    crowd.until_registered().await;
    let load = ChangeLoad::start(&world, Duration::from_millis(20)).await;

    proxy.set_named(" log", Flow::Open, Flow::Delayed(Duration::from_secs(3)));
    crowd.grow(100);
    load.until_more_than(200).await;
    proxy.heal();
    until_listed(&world, 120).await;

    world.registries[0].freeze();
    crowd.grow(100);
    load.until_more_than(100).await;
    world.registries[0].thaw();
    until_listed(&world, 220).await;
    load.until_more_than(100).await;
    load.stop().await;
    assert_eq!(asked.busiest_second().0, 0, "somebody was asked");
    assert_eq!(world.metric(0, "muster_announces_total").await, Ok(0.0));
}
