//! Lists and watches when messages are lost, readers are slow, registries freeze, and brokers restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use futures::StreamExt;
use muster_discovery::{Cause, Discovery, Snapshot};
use muster_tests::{NatsServer, eventually, throughout};
use tokio::time::timeout;

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

/// Against somebody who takes questions and answers none.
#[tokio::test]
async fn of_more_questions_than_may_be_under_way_the_others_wait_for_their_turn() {
    /// Sooner no question is given up, so none makes room for another.
    const BEFORE_ANY_IS_GIVEN_UP: Duration = Duration::from_millis(1_000);
    let broker = NatsServer::start().await;
    let names: Vec<String> = (0..20).map(|number| format!("service-{number}")).collect();
    for attempt in 1.. {
        let mut questions =
            broker.connect().await.subscribe("muster.default.query.service.*").await.expect("subscribed");
        let discovery = Discovery::connect(broker.url()).await.expect("connected");
        let began = Instant::now();
        let reading = async {
            futures::future::join_all(names.iter().map(|name| discovery.instances(name))).await;
            std::future::pending::<()>().await;
        };
        let mut asked = BTreeSet::new();
        let hearing = async {
            while let Some(question) = questions.next().await {
                asked.insert(question.subject.to_string());
            }
        };
        let both = async {
            tokio::select! { () = reading => {}, () = hearing => {} }
        };
        let _ = timeout(BEFORE_ANY_IS_GIVEN_UP, both).await;
        // A machine that is busy elsewhere has not come so far in that time, or not looked in time.
        if began.elapsed() < BEFORE_ANY_IS_GIVEN_UP + Duration::from_millis(150) && asked.len() >= 8 {
            assert_eq!(asked.len(), 8, "{asked:?}");
            break;
        }
        assert!(attempt < 20, "{asked:?} after {:?}", began.elapsed());
    }
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
    eventually(subject, SOON, async || {
        match place.writer.request("$JS.API.STREAM.INFO.MUSTER_default", "".into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await;
    place.put("orders", id, "0").await
}

async fn until_unknown(discovery: &Discovery, within: Duration) {
    eventually("the list is unknown", within, async || {
        let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        assert_eq!(list(&snapshot), versions(&[("a", "1")]), "the last good list is kept");
        snapshot.unknown_since().ok_or("verified".to_owned())
    })
    .await;
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
    until_unknown(&discovery, Duration::from_secs(2)).await;
    place.broker.restart().await;
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    place.put("orders", "b", "1").await;
    mirror.until(&mut watch, &versions(&[("a", "1"), ("b", "1")])).await;
    let told: Vec<&str> = mirror.changes.iter().map(|change| change.id().as_str()).collect();
    assert_eq!(told, ["b"], "nothing happened to a");
}

#[tokio::test]
async fn a_broker_restart_is_noticed_on_a_given_connection_too() {
    let mut place = Place::start().await;
    place.put("orders", "a", "1").await;
    let client = place.broker.connect().await;
    let discovery = Discovery::builder().client(client).connect().await.expect("connected");
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    place.broker.kill();
    until_unknown(&discovery, Duration::from_secs(2)).await;
    place.broker.restart().await;
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
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
    until_unknown(&discovery, SOON).await;
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
    let builder = Discovery::builder().server(place.broker.url()).options(with_room_for_one_message());
    overflows_and_is_never_wrong(&place, &builder.connect().await.expect("connected")).await;
}

#[tokio::test]
async fn a_consumer_on_a_given_connection_whose_buffer_overflows_is_never_wrong_either() {
    let place = Place::start().await;
    let client = place.broker.connect_with(with_room_for_one_message()).await;
    let builder = Discovery::builder().client(client);
    overflows_and_is_never_wrong(&place, &builder.connect().await.expect("connected")).await;
}

fn with_room_for_one_message() -> ConnectOptions {
    ConnectOptions::new().subscription_capacity(1)
}

/// Whatever its state, a list is what the log holds at the list's revision.
async fn overflows_and_is_never_wrong(place: &Place, discovery: &Discovery) {
    let first = place.put("orders", "instance-0", "0").await;
    until_verified(discovery, "orders", &versions(&[("instance-0", "0")])).await;
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("instance-0", "0")])).await;

    let put = async |number: usize| {
        let (id, version) = (format!("instance-{}", number % 50), number.to_string());
        (place.put("orders", &id, &version).await, id, version)
    };
    let mut log = vec![(first, "instance-0".to_owned(), "0".to_owned())];
    let mut seen: BTreeMap<u64, Arc<Snapshot>> = BTreeMap::new();
    for burst in 0..8 {
        log.extend(futures::future::join_all((0..20).map(|number| put(burst * 20 + number))).await);
        log.sort_unstable();
        let last = log.last().expect("many").0;
        let catching_up = async {
            while seen.last_key_value().is_none_or(|(revision, _)| *revision < last) {
                mirror.take(watch.next().await.expect("a watch does not end"));
                let snapshot = discovery.instances("orders").await.expect("a list");
                seen.insert(snapshot.revision().expect("of a log").sequence(), snapshot);
            }
        };
        timeout(SOON, catching_up).await.expect("the list catches up");
    }
    for (revision, snapshot) in &seen {
        let upto = log.iter().filter(|(sequence, ..)| sequence <= revision);
        let held: BTreeMap<String, String> = upto.map(|(_, id, version)| (id.clone(), version.clone())).collect();
        assert_eq!(list(snapshot), held, "{} at revision {revision}", snapshot.state());
    }
    let wanted = place.truth("orders", log.last().expect("many").0).await;
    until_verified(discovery, "orders", &wanted).await;
    mirror.until(&mut watch, &wanted).await;
    let is_resync = |change: &muster_discovery::Change| change.cause() == Cause::Resync;
    assert!(mirror.changes.iter().any(is_resync), "a buffer of one message cannot have held them all");
    throughout("the list stays verified", Duration::from_secs(3), async || {
        let snapshot = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        if snapshot.is_verified() { Ok(()) } else { Err(snapshot.state().to_string()) }
    })
    .await;
}
