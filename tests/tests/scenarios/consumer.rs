//! Scenarios 24 to 26: what consumers see.

use std::path::Path;
use std::time::Duration;

use muster_discovery::{Discovery, Update};
use muster_tests::{eventually, throughout};

use crate::world::{SOON, World};

/// Scenario 24.
#[tokio::test]
async fn a_consumer_that_starts_without_a_broker_has_its_last_list_marked_unknown_and_then_synchronises() {
    let mut world = World::start(1).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let cache = world.directory().join("cache");
    let connect = async || {
        let builder = Discovery::builder().server(world.broker.url()).cache_dir(&cache).start_disconnected(true);
        builder.connect().await.expect("it starts")
    };
    let first = connect().await;
    until_on_disk(&first, &cache).await;
    drop(first);
    world.broker.kill();

    let discovery = Discovery::builder().server(world.broker.url()).cache_dir(&cache).start_disconnected(true);
    let discovery = discovery.connect().await.expect("it starts without a broker");
    let list = discovery.instances("orders").await.expect("the last list");
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list.unknown_since().is_some() && !list.is_proven_empty(), "{list:?}");

    world.broker.restart().await;
    eventually("the list is verified", SOON, async || one_verified(&discovery).await).await;
    observer.finish(&world.broker).await;
}

/// Scenario 24.
#[tokio::test]
async fn a_consumer_that_starts_without_a_registry_has_its_last_list_marked_unknown_and_then_synchronises() {
    let mut world = World::start(1).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a")]).await;
    let cache = world.directory().join("cache");
    let builder = || Discovery::builder().server(world.broker.url()).cache_dir(&cache);
    let first = builder().connect().await.expect("connected");
    until_on_disk(&first, &cache).await;
    drop(first);
    let builder = builder();
    world.registries[0].kill();

    let discovery = builder.connect().await.expect("the broker is there");
    let list = discovery.instances("orders").await.expect("the last list");
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list.unknown_since().is_some() && !list.is_proven_empty(), "{list:?}");

    world.restart_registry(0);
    eventually("the list is verified", SOON, async || one_verified(&discovery).await).await;
    observer.finish(&world.broker).await;
}

async fn one_verified(discovery: &Discovery) -> Result<(), String> {
    match discovery.instances("orders").await {
        Ok(list) if list.len() == 1 && list.is_verified() => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

async fn until_on_disk(discovery: &Discovery, cache: &Path) {
    eventually("the consumer has the list", SOON, async || one_verified(discovery).await).await;
    eventually("the list is on disk", SOON, async || {
        let holds = std::fs::read_dir(cache)
            .map_err(|error| error.to_string())?
            .flatten()
            .any(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("\"orders\"")));
        if holds { Ok(()) } else { Err("no file that holds it".to_owned()) }
    })
    .await;
}

/// Scenario 25.
#[tokio::test]
async fn when_the_last_instance_goes_the_consumer_sees_proven_empty() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a")]).await;
    let discovery = Discovery::connect(world.broker.url()).await.expect("connected");
    let mut watch = discovery.watch("orders").expect("a service name");
    assert!(matches!(watch.next().await, Some(Update::List(_))), "the first delivery is the list");
    observer.dies("orders/a");
    services[0].agent.stop(SOON).await;
    eventually("orders is proven empty", SOON, async || {
        let list = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        if list.is_proven_empty() { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    let removed = async {
        while let Some(update) = watch.next().await {
            if let Update::Change(change) = update
                && change.as_str() == "removed"
            {
                return Some(change);
            }
        }
        None
    };
    let change = tokio::time::timeout(SOON, removed).await.expect("in time").expect("the removal is delivered");
    assert_eq!(change.id().as_str(), "a");
    observer.finish(&world.broker).await;
}

/// Scenario 26.
#[tokio::test]
async fn a_watch_that_nobody_polls_across_a_broker_restart_is_right_when_it_is_polled_again() {
    let mut world = World::start(1).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    let discovery = Discovery::connect(world.broker.url()).await.expect("connected");
    let mut watch = discovery.watch("orders").expect("a service name");
    let mut held = std::collections::BTreeSet::new();
    let apply = |held: &mut std::collections::BTreeSet<String>, update: Update| match update {
        Update::List(list) => *held = list.all().map(|instance| instance.id().to_string()).collect(),
        Update::Change(change) if change.instance().is_some() => {
            held.insert(change.id().to_string());
        }
        Update::Change(change) => {
            held.remove(change.id().as_str());
        }
        _ => {}
    };
    let first = tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("a first list");
    apply(&mut held, first);

    world.broker.stop().await;
    throughout("the broker is away", Duration::from_secs(1), async || Ok::<(), String>(())).await;
    world.broker.restart().await;
    world.until_ready().await;
    observer.dies("orders/a");
    services[0].agent.stop(SOON).await;
    observer.until_removed("orders", "a", SOON).await;
    services.extend(world.start_services(&observer, &[("orders", "c")]).await);

    let wanted: std::collections::BTreeSet<String> = ["b", "c"].map(str::to_owned).into();
    let polled = async {
        while held != wanted {
            let update = watch.next().await.expect("the watch goes on");
            apply(&mut held, update);
        }
    };
    tokio::time::timeout(SOON, polled).await.expect("the watch leads to the present list");
    observer.finish(&world.broker).await;
}
