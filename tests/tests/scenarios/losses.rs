//! Scenario 21, and questions that meet a frozen replica.

use std::time::{Duration, Instant};

use muster_discovery::Discovery;
use muster_schemas::Cause;
use muster_tests::{NatsServer, eventually};

use crate::changes::ChangeLoad;
use crate::observer::Observer;
use crate::relay::{PREFIX, Relay};
use crate::world::{SOON, World};

/// Scenario 21: of all changes and pulses between registry and consumer a fifth is lost, a fifth comes twice, and two
/// fifths come in another order.
#[tokio::test]
async fn a_view_repairs_itself_when_changes_are_lost_repeated_and_shuffled() {
    let world = World::start(2).await;
    let _relay = Relay::start(world.broker.connect().await, 21).await;
    let harmed = Discovery::builder().server(world.broker.url()).prefix(PREFIX).connect().await.expect("connected");
    let harmed = Observer::of(harmed, world.subjects());
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b"), ("users", "c")]).await;
    for (service, instance) in [("orders", "a"), ("orders", "b"), ("users", "c")] {
        harmed.until_routable(service, instance).await;
    }
    let load = ChangeLoad::start(&world, Duration::from_millis(20)).await;
    load.until_more_than(100).await;
    observer.dies("orders/b");
    harmed.dies("orders/b");
    services[1].agent.kill();
    load.until_more_than(200).await;
    let acknowledged = load.stop().await;
    for observer in [&observer, &harmed] {
        eventually("orders/b is gone", SOON, async || {
            let snapshot = observer.snapshot().await;
            let held = snapshot.instance("orders", "b").is_some();
            if !held && snapshot.is_verified() { Ok(()) } else { Err(format!("{:?}", snapshot.state())) }
        })
        .await;
    }
    let resyncs = harmed.changes().into_iter().filter(|(_, change)| change.cause() == Cause::Resync).count();
    println!("{} changes, {resyncs} of them found by re-synchronising", acknowledged.len());
    assert!(resyncs > 0, "with a fifth of {} changes lost", acknowledged.len());
    let of_load = |(_, change): &(Instant, muster_discovery::Change)| change.service().as_str() != "orders";
    assert!(observer.changes().iter().filter(|change| of_load(change)).all(|(_, it)| it.cause() != Cause::Resync));
    harmed.finish(&world.broker).await;
    observer.finish(&world.broker).await;
}

/// How many questions are put to a pair of replicas of which one is frozen.
const QUESTIONS: u32 = 24;

async fn average_of_first_lists(world: &World) -> Duration {
    let began = Instant::now();
    for _ in 0..QUESTIONS {
        let discovery = Discovery::connect(world.broker.url()).await.expect("connected");
        let list = discovery.instances("orders").await.expect("a list");
        assert_eq!(list.len(), 1, "{list:?}");
    }
    began.elapsed() / QUESTIONS
}

/// A question that the broker hands to a frozen replica is asked again elsewhere.
#[tokio::test]
async fn questions_that_meet_a_frozen_replica_are_asked_elsewhere_and_cost_little() {
    // Without pings by which the broker would give the frozen one up.
    let world = World::start_on(NatsServer::builder().fixed_port().pings(60, 2), 2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let before = average_of_first_lists(&world).await;
    world.registries[1].freeze();
    let each = average_of_first_lists(&world).await;
    println!("a first list took {each:?} on average, {before:?} without a frozen replica");
    // Asked once and given up after 1.2 s, each would cost as much more.
    assert!(each < before + Duration::from_millis(700), "{each:?} each, {before:?} without a frozen replica");

    let began = Instant::now();
    for _ in 0..QUESTIONS / 4 {
        world.muster(&["services"]).await.expect_code(0);
    }
    let each = began.elapsed() / (QUESTIONS / 4);
    println!("`muster services` took {each:?} on average");
    world.registries[1].thaw();
    world.until_all_serve().await;
    observer.finish(&world.broker).await;
}
