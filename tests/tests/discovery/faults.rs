//! Lists and watches when messages are lost, readers are slow, registries freeze, and brokers restart.

use std::time::{Duration, Instant};

use muster_discovery::{Cause, Discovery};
use muster_tests::{NatsServer, throughout};

use crate::relay::{PREFIX, Relay};
use crate::support::{Mirror, Place, SOON, list, until_verified, versions};

/// Scenario 21.
#[tokio::test]
async fn lost_repeated_and_shuffled_messages_are_repaired_and_never_go_unnoticed() {
    let place = Place::start().await;
    let _relay = Relay::start(place.broker.connect().await, 4).await;
    let discovery = Discovery::builder().server(place.broker.url()).prefix(PREFIX).connect().await.expect("connected");
    let mut orders = discovery.watch("orders").expect("a name");
    let mut all = discovery.watch_all();
    let (mut of_orders, mut of_all) = (Mirror::default(), Mirror::default());
    of_orders.until(&mut orders, &versions(&[])).await;
    of_all.until(&mut all, &versions(&[])).await;
    let mut last = 0;
    for number in 0..300 {
        let id = format!("instance-{}", number % 7);
        last = match number % 3 {
            2 => place.remove("orders", &id).await,
            _ => place.put("orders", &id, &number.to_string()).await,
        };
        let snapshot = discovery.instances("orders").await.expect("a list");
        if let Some((digest, revision)) = snapshot.digest("orders").filter(|_| snapshot.is_verified()) {
            assert!(revision <= last, "{digest} at {revision}, above everything published");
        }
    }
    let wanted = place.truth("orders", last).await;
    until_verified(&discovery, "orders", &wanted).await;
    of_orders.until(&mut orders, &wanted).await;
    of_all.until(&mut all, &wanted).await;
    let resyncs = of_orders.changes.iter().filter(|change| change.cause() == Cause::Resync).count();
    assert!(resyncs > 0, "with a fifth of 300 changes lost something must have been found by re-synchronising");
}

/// Scenario 26, beyond what a watch holds.
#[tokio::test]
async fn a_watch_that_misses_more_than_it_can_hold_across_a_broker_restart_is_right_when_polled() {
    let mut place = Place::start().await;
    place.put("orders", "a", "0").await;
    place.put("orders", "b", "0").await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "0"), ("b", "0")])).await;
    for version in 1..1_200 {
        place.put("orders", "a", &version.to_string()).await;
    }
    place.broker.kill();
    place.broker.restart().await;
    let last = retry_put(&place, "c").await;
    place.remove("orders", "b").await;
    let wanted = versions(&[("a", "1199"), ("c", "0")]);
    place.truth("orders", last).await;
    until_verified(&discovery, "orders", &wanted).await;
    mirror.until(&mut watch, &wanted).await;
    assert!(mirror.changes.len() < 1_200, "single steps beyond the bound are put together");
}

/// The stream needs a moment after the broker's return.
async fn retry_put(place: &Place, id: &str) -> u64 {
    let subject = format!("the stream takes {id}");
    muster_tests::eventually(subject, SOON, async || {
        match place.writer.request("$JS.API.STREAM.INFO.MUSTER_default", "".into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await;
    place.put("orders", id, "0").await
}

#[tokio::test]
async fn a_broker_restart_makes_lists_unknown_at_once_and_verified_again_without_a_change() {
    let mut place = Place::start().await;
    place.put("orders", "a", "1").await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "1")])).await;
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    place.broker.kill();
    muster_tests::eventually("the list is unknown", Duration::from_secs(2), async || {
        let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        assert_eq!(list(&snapshot), versions(&[("a", "1")]), "the last good list is kept");
        snapshot.unknown_since().ok_or("verified".to_owned())
    })
    .await;
    place.broker.restart().await;
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    place.put("orders", "b", "1").await;
    mirror.until(&mut watch, &versions(&[("a", "1"), ("b", "1")])).await;
    let told: Vec<&str> = mirror.changes.iter().map(|change| change.id().as_str()).collect();
    assert_eq!(told, ["b"], "nothing happened to a");
}

#[tokio::test]
async fn registries_that_restart_change_nothing_for_a_consumer() {
    let mut place = Place::start().await;
    place.put("orders", "a", "1").await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "1")])).await;
    place.registries[0].kill();
    // Longer than three periods of the pulse: the list is unknown then, and kept.
    muster_tests::eventually("the list is unknown", SOON, async || {
        let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        assert_eq!(list(&snapshot).len(), 1);
        snapshot.unknown_since().ok_or("verified".to_owned())
    })
    .await;
    place.registries[0] = place.registry("r1");
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    place.put("orders", "b", "1").await;
    mirror.until(&mut watch, &versions(&[("a", "1"), ("b", "1")])).await;
    assert_eq!(mirror.changes.len(), 1, "{:?}", mirror.changes);
}

/// Part of scenario 20: questions that reach a frozen replica are asked again.
#[tokio::test]
async fn a_consumer_that_starts_beside_a_frozen_replica_gets_its_list_from_the_other() {
    let place = Place::on(NatsServer::start().await, 2).await;
    let last = place.put("orders", "a", "1").await;
    place.truth("orders", last).await;
    place.registries[0].freeze();
    let started = Instant::now();
    for _ in 0..4 {
        let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
        until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    }
    assert!(started.elapsed() < SOON, "four lists took {:?}", started.elapsed());
    place.registries[0].thaw();
}

/// Part of scenario 20: a reader that cannot keep up.
#[tokio::test]
async fn a_consumer_whose_buffer_overflows_finds_out_and_repairs_its_list() {
    let place = Place::start().await;
    place.put("orders", "a", "0").await;
    let options = async_nats::ConnectOptions::new().subscription_capacity(1);
    let builder = Discovery::builder().server(place.broker.url()).options(options);
    let discovery = builder.connect().await.expect("connected");
    until_verified(&discovery, "orders", &versions(&[("a", "0")])).await;
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "0")])).await;
    let ids: Vec<String> = (0..500).map(|number| format!("instance-{number}")).collect();
    let sequences = futures::future::join_all(ids.iter().map(|id| place.put("orders", id, "1"))).await;
    let wanted = place.truth("orders", sequences.into_iter().max().unwrap_or(0)).await;
    assert_eq!(wanted.len(), 501);
    until_verified(&discovery, "orders", &wanted).await;
    mirror.until(&mut watch, &wanted).await;
    let is_resync = |change: &muster_discovery::Change| change.cause() == Cause::Resync;
    assert!(mirror.changes.iter().any(is_resync), "a buffer of one message cannot have held them all");
    throughout("the list stays verified", Duration::from_secs(3), async || {
        let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        if snapshot.is_verified() { Ok(()) } else { Err(snapshot.state().to_string()) }
    })
    .await;
}
