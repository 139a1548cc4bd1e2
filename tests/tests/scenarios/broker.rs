//! Scenarios 16 and 17: what happens to the broker.

use std::time::Duration;

use muster_schemas::Cause;
use muster_tests::throughout;

use crate::observer::Observer;
use crate::world::{SOON, TTL, World};

const NAMES: [(&str, &str); 3] = [("orders", "a"), ("orders", "b"), ("users", "c")];

/// Neither removed, nor missing from a view that calls itself verified, nor ever proven empty.
async fn alive_throughout(observer: &Observer, keys: &[&str], period: Duration) {
    throughout(format!("{keys:?} are alive"), period, async || alive(observer, keys).await).await;
}

async fn alive(observer: &Observer, keys: &[&str]) -> Result<(), String> {
    if let Some(removal) = keys.iter().flat_map(|key| observer.removals_of(key)).next() {
        return Err(format!("removed: {}", removal.1));
    }
    let snapshot = observer.snapshot().await;
    let missing = |key: &&&str| {
        let (service, instance) = key.split_once('/').expect("service/instance");
        snapshot.instance(service, instance).is_none()
    };
    match keys.iter().find(missing) {
        Some(key) => Err(format!("{key} is missing: {:?} {snapshot:?}", snapshot.state())),
        None => Ok(()),
    }
}

/// Scenario 16.
async fn the_broker_is_stopped_for(outage: Duration) {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &NAMES).await;
    world.broker.kill();
    observer.until_unknown().await;
    services[1].agent.kill();
    alive_throughout(&observer, &["orders/a", "orders/b", "users/c"], outage).await;
    world.broker.restart().await;
    let (_, change) = observer.until_removed("orders", "b", SOON).await;
    assert_eq!(change.cause(), Cause::Expired, "who died meanwhile is gone after the return");
    alive_throughout(&observer, &["orders/a", "users/c"], TTL * 2).await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_broker_stopped_for_less_than_a_heartbeat_removes_nobody_who_lives() {
    the_broker_is_stopped_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_broker_stopped_for_two_and_a_half_ttls_removes_nobody_who_lives() {
    the_broker_is_stopped_for(TTL * 5 / 2).await;
}

#[tokio::test]
async fn a_broker_stopped_for_twenty_ttls_removes_nobody_who_lives() {
    the_broker_is_stopped_for(TTL * 20).await;
}

#[tokio::test]
async fn a_frozen_broker_removes_nobody_who_lives() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    world.broker.freeze();
    alive_throughout(&observer, &["orders/a", "orders/b", "users/c"], TTL * 3).await;
    world.broker.thaw();
    observer.until_verified().await;
    alive_throughout(&observer, &["orders/a", "orders/b", "users/c"], TTL * 2).await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_broker_that_lost_its_disk_gets_everybody_back_and_nobody_is_proven_gone() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    world.broker.kill();
    world.broker.wipe_store();
    world.broker.restart().await;
    until_back_in_another_epoch(&observer, before).await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_broker_with_an_older_copy_of_its_disk_gets_everybody_back_and_nobody_is_proven_gone() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &NAMES[..2]).await;
    world.broker.stop().await;
    let copy = world.broker.copy_store();
    world.broker.restart().await;
    world.until_ready().await;
    services.extend(world.start_services(&observer, &NAMES[2..]).await);
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    world.broker.kill();
    world.broker.restore_store(&copy);
    world.broker.restart().await;
    until_back_in_another_epoch(&observer, before).await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_stream_deleted_under_the_registries_is_replaced_and_everybody_comes_back() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    let context = async_nats::jetstream::new(world.broker.connect().await);
    context.delete_stream(world.subjects().stream_name()).await.expect("the stream is deleted");
    until_back_in_another_epoch(&observer, before).await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_log_whose_head_was_purged_by_hand_goes_on() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let context = async_nats::jetstream::new(world.broker.connect().await);
    let mut stream = context.get_stream(world.subjects().stream_name()).await.expect("the stream");
    let last = stream.info().await.expect("its state").state.last_sequence;
    stream.purge().sequence(last).await.expect("the head is purged");
    alive_throughout(&observer, &["orders/a", "orders/b", "users/c"], TTL * 2).await;
    let _more = world.start_services(&observer, &[("users", "d")]).await;
    alive(&observer, &["orders/a", "orders/b", "users/c", "users/d"]).await.expect("alive");
}

async fn until_back_in_another_epoch(observer: &Observer, before: muster_schemas::EpochId) {
    let keys = ["orders/a", "orders/b", "users/c"];
    muster_tests::eventually("verified in another epoch, with everybody", Duration::from_secs(90), async || {
        alive(observer, &keys).await.unwrap_or_else(|error| panic!("{error}"));
        let snapshot = observer.snapshot().await;
        let other = snapshot.revision().is_some_and(|revision| revision.epoch() > before);
        if other && snapshot.is_verified() {
            Ok(())
        } else {
            Err(format!("{:?} {:?}", snapshot.state(), snapshot.revision()))
        }
    })
    .await;
}
