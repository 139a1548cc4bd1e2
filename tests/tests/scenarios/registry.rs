//! Scenario 13 and restarts: what happens to registries.

use muster_schemas::Cause;
use muster_tests::throughout;

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
    for index in [0, 1] {
        world.registries[index].stop(SOON).await;
        world.restart_registry(index);
        world.until_ready().await;
        observer.until_verified().await;
    }
    throughout("nothing changes", TTL * 2, async || match observer.changes().len() {
        2 => Ok(()),
        _ => Err(format!("{:?}", observer.changes().last())),
    })
    .await;
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
