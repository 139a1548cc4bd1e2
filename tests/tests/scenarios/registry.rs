//! Scenario 13 and restarts: what happens to registries.

use futures::StreamExt;
use muster_schemas::Cause;
use muster_schemas::alarm::{Alarm, AlarmKind};
use muster_tests::{ProcessBuilder, bin, throughout};

use crate::changes::Wire;
use crate::world::{SOON, TTL, World};

/// Scenario 13.
#[tokio::test]
async fn all_registries_stopped_for_five_ttls_remove_nobody_who_lives() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b"), ("users", "c")]).await;
    for registry in &mut world.registries {
        assert_eq!(registry.stop(SOON).await.code(), Some(0), "a registry stops cleanly");
    }
    observer.dies("orders/b");
    services[1].agent.kill();
    throughout("nothing is removed while no registry runs", 5 * TTL, async || {
        let removed = observer.changes().len() > 3;
        if removed { Err(format!("{:?}", observer.changes().last())) } else { Ok(()) }
    })
    .await;
    world.restart_registry(0);
    world.restart_registry(1);
    let (_, change) = observer.until_removed("orders", "b", SOON).await;
    assert_eq!(change.cause(), Cause::Expired);
    observer.sees_changes_only_of(&[], TTL * 2).await;
    for key in ["orders/a", "users/c"] {
        assert_eq!(observer.changes_of(key).len(), 1, "only its registration was ever seen of {key}");
    }
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_rolling_restart_of_the_registries_makes_no_change() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a"), ("users", "b")]).await;
    let wire = Wire::tap(&world).await;
    for index in [0, 1, 0] {
        world.registries[index].stop(SOON).await;
        world.restart_registry(index);
        world.until_all_serve().await;
        observer.until_verified().await;
    }
    observer.sees_changes_only_of(&[], TTL * 2).await;
    assert_eq!(observer.changes().len(), 2, "both registrations, and nothing else");
    assert!(wire.heard().is_empty(), "nor went any change over the wire: {:?}", wire.heard());
    observer.finish(&world.broker).await;
}

/// Nobody is there whose pulses would show them that everything was said long ago.
#[tokio::test]
async fn registries_that_were_all_stopped_say_nothing_of_what_was_there_before_when_they_start_again() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a"), ("users", "b")]).await;
    let wire = Wire::tap(&world).await;
    for index in [0, 1] {
        world.registries[index].stop(SOON).await;
    }
    for index in [0, 1] {
        world.restart_registry(index);
    }
    world.until_all_serve().await;
    observer.until_verified().await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    assert_eq!(observer.changes().len(), 2, "both registrations, and nothing else");
    assert!(wire.heard().is_empty(), "nor went any change over the wire: {:?}", wire.heard());
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_killed_publisher_is_replaced_and_no_change_is_lost() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _first = world.start_services(&observer, &[("orders", "a")]).await;
    world.registries[0].kill();
    let _second = world.start_services(&observer, &[("orders", "b"), ("users", "c")]).await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn two_replicas_of_one_id_raise_an_alarm_and_remove_nobody() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let client = world.broker.connect().await;
    let subject = world.subjects().alarm(AlarmKind::DuplicateIds.as_str());
    let mut alarms = client.subscribe(subject).await.expect("subscribed");
    client.flush().await.expect("flushed");
    let before = world.metric(0, "muster_alarms_total").await.expect("a number");
    let _second = ProcessBuilder::new(bin("muster-registry"))
        .name("second r1")
        .args(["--server", &world.broker.url(), "--replica-id", "r1", "--listen-period", "400ms"])
        .start();
    let message = tokio::time::timeout(SOON, alarms.next()).await.expect("an alarm").expect("connected");
    let alarm: Alarm = serde_json::from_slice(&message.payload).expect("an alarm");
    assert!(alarm.message.contains("calls itself replica r1 too"), "{}", alarm.message);
    world.until_metric(0, "muster_alarms_total", |alarms| alarms > before).await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}
