//! Scenarios 12 and 20: a replica that publishes is killed, frozen, deaf, or half connected.

use std::time::Duration;

use muster_discovery::Discovery;
use muster_schemas::Cause;
use muster_tests::proxy::Flow;
use muster_tests::{NatsServer, Proxy, eventually};

use crate::changes::{ChangeLoad, SERVICE, Wire};
use crate::observer::Observer;
use crate::world::{SOON, Setup, World};

const PERIOD: Duration = Duration::from_millis(20);
/// So many events take longer than any change may.
const LONG: u64 = 300;

/// Which of two registries publishes first.
async fn publisher(world: &World) -> usize {
    eventually("one of the two publishes", SOON, async || {
        for index in [0, 1] {
            if world.metric(index, "muster_publisher").await? == 1.0 {
                return Ok(index);
            }
        }
        Err("neither".to_owned())
    })
    .await
}

/// Every change of the load came to the observer's watch, each once, and none of them was found by re-synchronising.
async fn each_came_once(observer: &Observer, acknowledged: &[(u64, std::time::Instant)]) {
    let wanted: Vec<u64> = acknowledged.iter().map(|(sequence, _)| *sequence).collect();
    eventually("the watch has delivered every change once", SOON, async || {
        let changes: Vec<_> = observer.changes().into_iter().map(|(_, change)| change).collect();
        if let Some(resync) = changes.iter().find(|change| change.cause() == Cause::Resync) {
            panic!("found by re-synchronising: {resync:?}");
        }
        let of_load = changes.iter().filter(|change| change.service().as_str() == SERVICE);
        let seen: Vec<u64> = of_load.filter_map(|change| Some(change.why().revision?.sequence())).collect();
        if seen == wanted { Ok(()) } else { Err(format!("{} of {}", seen.len(), wanted.len())) }
    })
    .await;
}

/// Scenario 12.
#[tokio::test]
async fn one_of_two_replicas_killed_frozen_and_restarted_in_a_loop_costs_less_than_a_second_and_no_change() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let wire = Wire::tap(&world).await;
    let load = ChangeLoad::start(&world, PERIOD).await;
    for round in 0..3 {
        let index = publisher(&world).await;
        load.until_more_than(20).await;
        match round % 2 {
            0 => drop(world.registries[index].kill()),
            _ => world.registries[index].freeze(),
        }
        // It is missed, replaced, and not needed.
        load.until_more_than(LONG).await;
        match round % 2 {
            0 => world.restart_registry(index),
            _ => world.registries[index].thaw(),
        }
        world.until_all_serve().await;
        load.until_more_than(20).await;
    }
    let index = publisher(&world).await;
    world.registries[index].stop(SOON).await;
    load.until_more_than(20).await;
    let acknowledged = load.stop().await;
    let gap = wire.until_all_heard(&acknowledged).await;
    println!("{} changes, the slowest after {gap:?}", acknowledged.len());
    assert!(gap < wire.longest(), "the slowest of {} changes came after {gap:?}", acknowledged.len());
    each_came_once(&observer, &acknowledged).await;
    observer.finish(&world.broker).await;
}

/// Two registries, each behind a proxy of its own, and the one that publishes.
struct Proxied {
    world: World,
    proxies: [Proxy; 2],
}

impl Proxied {
    async fn start() -> Self {
        let broker = NatsServer::builder().fixed_port().pings(1, 2);
        let mut world = World::without_registries(broker).await;
        let proxies = [Proxy::to_port(world.broker.port()).await, Proxy::to_port(world.broker.port()).await];
        for proxy in &proxies {
            world.add_registry(Setup { url: Some(proxy.url()), ..Setup::default() });
        }
        world.until_all_serve().await;
        Self { world, proxies }
    }
}

/// Scenario 20: something happens to the publisher, and later ends; changes go on.
async fn changes_go_on(fault: impl Fn(&Proxied, usize), end: impl Fn(&Proxied, usize)) {
    let place = Proxied::start().await;
    let world = &place.world;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let index = publisher(world).await;
    let wire = Wire::tap(world).await;
    let load = ChangeLoad::start(world, PERIOD).await;
    load.until_more_than(20).await;
    fault(&place, index);
    load.until_more_than(LONG).await;
    end(&place, index);
    load.until_more_than(50).await;
    let acknowledged = load.stop().await;
    let gap = wire.until_all_heard(&acknowledged).await;
    println!("{} changes, the slowest after {gap:?}", acknowledged.len());
    assert!(gap < wire.longest(), "the slowest of {} changes came after {gap:?}", acknowledged.len());
    each_came_once(&observer, &acknowledged).await;
    world.until_all_serve().await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_frozen_publisher_is_replaced_within_a_second() {
    let frozen = |place: &Proxied, index: usize| place.world.registries[index].freeze();
    changes_go_on(frozen, |place, index| place.world.registries[index].thaw()).await;
}

/// It hears nothing any more, and may say what it likes.
#[tokio::test]
async fn a_deaf_publisher_is_replaced_within_a_second() {
    let deaf = |place: &Proxied, index: usize| {
        place.proxies[index].set(muster_tests::proxy::Direction::FromTarget, Flow::Held);
    };
    changes_go_on(deaf, |place, index| place.proxies[index].heal()).await;
}

/// What it wants to say gets no further; log, heartbeats and queries go on.
#[tokio::test]
async fn a_publisher_whose_change_connection_alone_is_stuck_is_replaced_within_a_second() {
    let stuck = |place: &Proxied, index: usize| place.proxies[index].set_named("output", Flow::Held, Flow::Held);
    changes_go_on(stuck, |place, index| place.proxies[index].heal()).await;
}

/// It publishes, and hears of nobody else.
#[tokio::test]
async fn a_publisher_whose_log_connection_alone_is_stuck_is_replaced_within_a_second() {
    let stuck = |place: &Proxied, index: usize| place.proxies[index].set_named(" log", Flow::Held, Flow::Held);
    changes_go_on(stuck, |place, index| place.proxies[index].heal()).await;
}

/// Scenario 20: a consumer that takes nothing, beyond what the broker holds for it.
#[tokio::test]
async fn a_consumer_beyond_its_buffer_notices_it_re_synchronises_and_slows_nobody() {
    const BYTES: usize = 55 * 1024;
    let settings = "max_pending: 8MB\nwrite_deadline: \"1s\"\nno_fast_producer_stall: true";
    // Without pings that would tell it apart sooner: here the buffer is to be what overflows.
    let broker = NatsServer::builder().fixed_port().pings(60, 2).settings(settings);
    let world = World::start_on(broker, 2).await;
    let observer = world.observe().await;
    let proxy = Proxy::to_port(world.broker.port()).await;
    let slow = Discovery::connect(proxy.url()).await.expect("connected");
    let slow = Observer::of(slow, world.subjects());
    slow.until_verified().await;
    let wire = Wire::tap(&world).await;
    let load = ChangeLoad::padded(&world, PERIOD, BYTES).await;
    load.until_more_than(5).await;
    proxy.set(muster_tests::proxy::Direction::FromTarget, Flow::Held);
    world.broker.process().wait_for_line("Slow Consumer", 3 * SOON).await;
    load.until_more_than(20).await;
    proxy.heal();
    let acknowledged = load.stop().await;
    let gap = wire.until_all_heard(&acknowledged).await;
    println!("{} changes, the slowest after {gap:?}", acknowledged.len());
    assert!(gap < wire.longest(), "somebody else was slowed: {gap:?}");
    each_came_once(&observer, &acknowledged).await;
    let last = acknowledged.last().expect("many").0;
    eventually("the slow consumer is verified through the last change", SOON, async || {
        let snapshot = slow.snapshot().await;
        let through = snapshot.revision().map(|revision| revision.sequence());
        if snapshot.is_verified() && through >= Some(last) { Ok(()) } else { Err(format!("{:?}", snapshot.state())) }
    })
    .await;
    let resyncs = slow.changes().into_iter().filter(|(_, change)| change.cause() == Cause::Resync).count();
    assert!(resyncs > 0, "what it missed was found by re-synchronising");
    slow.finish(&world.broker).await;
    observer.finish(&world.broker).await;
}
