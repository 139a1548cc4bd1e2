//! Scenarios 14 and 15: where a registry begins, and registries of different versions side by side.

use async_nats::{Client, jetstream};
use futures::{StreamExt, TryStreamExt};
use muster_discovery::Change;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::catalog::checkpoint::{Checkpoint, name};
use muster_registry::core::io::Record;
use muster_schemas::beacon::Beacon;
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{Request, Status};
use muster_schemas::subject::Query;
use muster_schemas::{Cause, EventKind, Source, Timestamp};
use muster_tests::{Process, ProcessBuilder, bin, eventually, free_port, http, throughout};
use serde_json::{Value, json};

use crate::observer::Observer;
use crate::world::{SOON, Supervised, TTL, World};

/// One more registry of a world, with these flags besides.
fn start_registry(world: &World, replica: &str, flags: &[&str]) -> Process {
    ProcessBuilder::new(bin("muster-registry"))
        .name(replica)
        .args(["--server", &world.broker.url(), "--replica-id", replica, "--listen-period", "400ms"])
        .args(["--checkpoint-period", "1s"])
        .args(flags)
        .start()
}

/// What a replica says of itself, once it is as wanted.
async fn status_of(world: &World, replica: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let client = world.broker.connect().await;
    eventually(format!("the wanted status of {replica}"), SOON, async || {
        let message = client.request(world.subjects().query(&Query::Status), "".into()).await;
        let message = message.map_err(|error| error.to_string())?;
        let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if status.replica.as_str() == replica && wanted(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

fn said(process: &Process, text: &str) -> bool {
    process.lines().iter().any(|line| line.text.contains(text))
}

/// Waits until the store for checkpoints holds one of this revision or a later one.
async fn checkpoint_from(world: &World, revision: u64) {
    let context = jetstream::new(world.broker.connect().await);
    eventually(format!("a checkpoint from revision {revision} on"), SOON, async || {
        let store = context.get_object_store(world.subjects().checkpoint_bucket()).await;
        let objects = store.map_err(|error| error.to_string())?.list().await.map_err(|error| error.to_string())?;
        let objects: Vec<_> = objects.try_collect().await.map_err(|error| error.to_string())?;
        let sequence = |name: &str| name.rsplit('-').next().and_then(|sequence| sequence.parse::<u64>().ok());
        let newest = objects.iter().filter_map(|object| sequence(&object.name)).max();
        if newest >= Some(revision) { Ok(()) } else { Err(format!("the newest is of {newest:?}")) }
    })
    .await;
}

/// A world whose one registry writes checkpoints, with three services that are up.
async fn with_services() -> (World, Observer, Vec<Supervised>) {
    let mut world = World::start(0).await;
    world.registries.push(start_registry(&world, "r1", &[]));
    world.until_ready().await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a"), ("orders", "b"), ("users", "c")]).await;
    (world, observer, services)
}

/// Both replicas at the same revision, and what the first says there.
async fn agreement(world: &World, first: &str, second: &str) -> Status {
    let mut told = None;
    for _ in 0..20 {
        let status = status_of(world, first, |_| true).await;
        let other = status_of(world, second, |other| other.revision >= status.revision).await;
        if other.revision == status.revision {
            assert_eq!((other.digest, other.epoch), (status.digest, status.epoch), "at revision {}", status.revision);
            told = Some(status);
            break;
        }
    }
    told.expect("the log comes to rest")
}

/// Scenario 14, the first two.
#[tokio::test]
async fn from_a_checkpoint_and_from_the_log_alone_a_registry_comes_to_the_same_digest() {
    let (world, observer, _services) = with_services().await;
    let revision = status_of(&world, "r1", |status| status.instances == 3).await.revision;
    checkpoint_from(&world, revision).await;
    let second = start_registry(&world, "r2", &[]);
    second.wait_for_line("answering queries", SOON).await;
    assert!(said(&second, "begins from checkpoint"), "{:?}", second.lines());
    agreement(&world, "r1", "r2").await;

    let context = jetstream::new(world.broker.connect().await);
    context.delete_object_store(world.subjects().checkpoint_bucket()).await.expect("deleted");
    let third = start_registry(&world, "r3", &[]);
    third.wait_for_line("answering queries", SOON).await;
    assert!(!said(&third, "begins from checkpoint"), "{:?}", third.lines());
    agreement(&world, "r1", "r3").await;
    agreement(&world, "r2", "r3").await;
    assert_eq!(observer.changes().len(), 3, "consumers saw nothing of it: {:?}", observer.changes());
    observer.finish(&world.broker).await;
}

/// How long after the new log began the last instance was back in it, by the stream's clock.
async fn return_took_ms(client: &Client, world: &World, instances: usize) -> i64 {
    let context = jetstream::new(client.clone());
    let stream = context.get_stream(world.subjects().stream_name()).await.expect("a stream");
    let registers = world.subjects().events_of_kind(EventKind::Register);
    let at = async |sequence: u64| {
        let message = stream.get_raw_message(sequence).await.expect("an event");
        (message.subject.to_string(), Timestamp::from_nanoseconds(message.time.unix_timestamp_nanos()).as_ms())
    };
    let (_, began_ms) = at(1).await;
    let last = stream.get_info().await.expect("its state").state.last_sequence;
    let (mut seen, mut last_ms) = (std::collections::BTreeSet::new(), began_ms);
    for sequence in 2..=last {
        let (subject, at_ms) = at(sequence).await;
        if subject.starts_with(registers.trim_end_matches('>')) && seen.insert(subject) {
            last_ms = at_ms;
        }
    }
    assert_eq!(seen.len(), instances, "{seen:?}");
    last_ms - began_ms
}

/// Scenario 14, the third: nobody is left who knew, and the broker's disk is empty.
#[tokio::test]
async fn into_an_empty_log_everything_comes_back_from_the_agents_alone() {
    let (mut world, observer, services) = with_services().await;
    let before = status_of(&world, "r1", |status| status.instances == 3).await;
    assert!(world.registries[0].stop(SOON).await.success());
    world.broker.stop().await;
    world.broker.wipe_store();
    world.broker.restart().await;
    world.registries[0] = start_registry(&world, "r2", &[]);
    let after = status_of(&world, "r2", |status| status.instances == 3).await;
    assert!(after.epoch > before.epoch, "a new log, above the one that the agents still name: {after:?}");
    let took_ms = return_took_ms(&world.broker.connect().await, &world, services.len()).await;
    println!("all instances were back {took_ms} ms after the new log began");
    // A heartbeat period of 400 ms, and the two seconds for which a difference must last; the rest is for a busy machine.
    assert!(took_ms < 10_000, "{took_ms} ms");
    for supervised in &services {
        let view = observer.snapshot().await;
        assert!(view.instance(supervised.service.as_str(), supervised.instance.as_str()).is_some(), "{view:?}");
        assert_eq!(observer.removals_of(&supervised.key()).len(), 0, "no consumer saw {} go", supervised.key());
    }
}

/// What a registry of a later version says, as far as an older one hears it: its beacons follow those of `r1`.
async fn speak_as_newer(world: &World) -> tokio::task::JoinHandle<()> {
    let client = world.broker.connect().await;
    let subjects = world.subjects().clone();
    let mut beacons = client.subscribe(subjects.all_beacons()).await.expect("subscribed");
    client.flush().await.expect("connected");
    tokio::spawn(async move {
        while let Some(message) = beacons.next().await {
            let Ok(mut beacon) = serde_json::from_slice::<Beacon>(&message.payload) else { continue };
            if beacon.replica.as_str() != "r1" {
                continue;
            }
            beacon.replica = "newer".parse().expect("a name");
            beacon.started_at = Timestamp::from_ms(beacon.started_at.as_ms() + 60_000);
            beacon.fold_versions = vec![1, 2];
            let mut value = serde_json::to_value(&beacon).expect("plain data");
            value["v"] = json!(1);
            value["invented_later"] = json!({ "deep": [1, null] });
            let _ = client.publish(subjects.beacon(&beacon.replica), value.to_string().into()).await;
        }
    })
}

fn event(world: &World, kind: &str, id: &str, source: &Source, data: &Value) -> Vec<u8> {
    let source = format!("/muster/{}/{}", world.subjects().namespace(), source);
    let event = json!({
        "specversion": "1.0", "id": id, "source": source, "type": format!("io.muster.{kind}"),
        "datacontenttype": "application/json", "inventedlater": 1, "data": data,
    });
    event.to_string().into_bytes()
}

/// Scenario 15. The newer replica is played: what an older one hears of it is all that matters to that.
#[tokio::test]
async fn a_registry_works_beside_a_newer_one_and_steps_back_when_a_newer_fold_comes_into_force() {
    let mut world = World::start(0).await;
    let port = free_port();
    world.registries.push(start_registry(&world, "r1", &["--http", &format!("127.0.0.1:{port}")]));
    world.until_ready().await;
    let observer = world.observe().await;
    let newer = speak_as_newer(&world).await;
    status_of(&world, "r1", |status| status.replicas.len() == 2).await;
    let services = world.start_services(&observer, &[("orders", "a")]).await;

    // Fields of a later version are kept and passed on; an event that only a later version knows is counted and no more.
    let agent: Source = Source::Agent("later".parse().expect("a name"));
    let key = Some((&"users".parse().expect("a name"), &"z".parse().expect("a name")));
    let registration = json!({
        "service": "users", "instance": "z", "agent": "later", "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": 1, "ttl_ms": 0, "invented_later": { "x": 1 },
        "endpoints": [{ "name": "http", "scheme": "http", "host": "z.example", "port": 80, "invented_later": 2 }],
        "health": { "status": "passing" },
    });
    let subject = world.subjects().event(EventKind::Register, key, &agent);
    world.append(&subject, &event(&world, "instance.registered.v1", "later-1", &agent, &registration)).await;
    let seen = observer.until_routable("users", "z").await;
    assert_eq!(seen.registration.extra["invented_later"], json!({ "x": 1 }));
    assert_eq!(seen.registration.endpoints[0].extra["invented_later"], 2);
    world.append(&subject, &event(&world, "instance.registered.v2", "later-2", &agent, &registration)).await;
    assert_eq!(world.outcome_count("unknown_kind").await, 1);
    assert_eq!(status_of(&world, "r1", |_| true).await.state, CatalogState::Ready);

    let registry = Source::Registry("newer".parse().expect("a name"));
    let subject = world.subjects().event(EventKind::Setting, None, &registry);
    let setting =
        event(&world, "log.setting_changed.v1", "later-3", &registry, &json!({ "name": "fold_version", "value": 2 }));
    let context = jetstream::new(world.broker.connect().await);
    context.publish(subject, setting.into()).await.expect("sent").await.expect("stored");
    let status = status_of(&world, "r1", |status| status.reason.is_some()).await;
    let reason = status.reason.unwrap_or_default();
    assert!(reason.contains("fold version 2 is in force") && reason.contains("upgrade"), "{reason}");
    eventually("it is not ready, and says why", SOON, async || {
        let answer = http::answer(port, "/health/ready").await?;
        if answer.starts_with("HTTP/1.1 503") && answer.contains("fold version 2") { Ok(()) } else { Err(answer) }
    })
    .await;
    eventually("nobody answers from a catalog that stands still", SOON, async || {
        match world.ask(&Query::Snapshot, &Request::default()).await {
            Ok(reply) => Err(format!("{reply:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
    observer.until_unknown().await;
    drop(services);
    let expired = world.subjects().events_of_kind(EventKind::Expire);
    throughout("what it does not understand it does not judge", 3 * TTL, async || {
        let stream = context.get_stream(world.subjects().stream_name()).await.map_err(|error| error.to_string())?;
        match stream.get_last_raw_message_by_subject(&expired).await {
            Ok(message) => Err(message.subject.to_string()),
            Err(_) => Ok(()),
        }
    })
    .await;
    let kept = observer.snapshot().await;
    assert_eq!(kept.services().count(), 2, "the list is kept");
    newer.abort();
}

/// The log, folded with one registration that says something else than the agent did: what a bug would have made of it.
async fn harmed_checkpoint(world: &World) -> Checkpoint {
    let context = jetstream::new(world.broker.connect().await);
    let stream = context.get_stream(world.subjects().stream_name()).await.expect("a stream");
    let info = stream.get_info().await.expect("its state");
    let mut catalog = Catalog::default();
    for sequence in 1..=info.state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("an event");
        let text = String::from_utf8_lossy(&message.payload).replace("\"weight\":100", "\"weight\":7");
        let at = Timestamp::from_nanoseconds(message.time.unix_timestamp_nanos());
        let record = Record { sequence, at, subject: &message.subject, payload: text.as_bytes() };
        catalog.fold(world.subjects(), &record);
    }
    let created_at = Timestamp::from_nanoseconds(info.created.unix_timestamp_nanos());
    Checkpoint::of(&catalog, Some(created_at)).expect("a log in force")
}

#[tokio::test]
async fn a_replica_whose_catalog_was_harmed_is_noticed_and_reads_the_log_anew() {
    let (world, observer, _services) = with_services().await;
    let revision = status_of(&world, "r1", |status| status.instances == 3).await.revision;
    checkpoint_from(&world, revision).await;
    let client = world.broker.connect().await;
    let mut alarms = client.subscribe(world.subjects().alarm("digest_mismatch")).await.expect("subscribed");
    client.flush().await.expect("connected");

    let harmed = harmed_checkpoint(&world).await;
    let mut bytes = Vec::new();
    harmed.write(&mut bytes).expect("into memory");
    let store =
        jetstream::new(client.clone()).get_object_store(world.subjects().checkpoint_bucket()).await.expect("a store");
    store.put(name(harmed.revision()).as_str(), &mut bytes.as_slice()).await.expect("stored");

    let second = start_registry(&world, "r2", &[]);
    second.wait_for_line("begins from checkpoint", SOON).await;
    let alarm = tokio::time::timeout(SOON, alarms.next()).await.expect("an alarm").expect("subscribed");
    let text = String::from_utf8_lossy(&alarm.payload).into_owned();
    assert!(text.contains("differ at revision") && text.contains("r1") && text.contains("r2"), "{text}");
    second.wait_for_line("reads the log anew, because", SOON).await;
    second.wait_for_line("at the log's end", SOON).await;
    status_of(&world, "r2", |status| status.state == CatalogState::Ready).await;
    agreement(&world, "r1", "r2").await;
    assert!(!said(&world.registries[0], "reads the log anew, because"), "the older one had no reason to");
    // What a starved service's checks say is not of it.
    let is_of_it = |change: &Change| !matches!(change.cause(), Cause::Registered | Cause::Health);
    let seen: Vec<_> = observer.changes().into_iter().filter(|(_, change)| is_of_it(change)).collect();
    assert!(seen.is_empty(), "consumers saw nothing of it: {seen:?}");
    observer.finish(&world.broker).await;
}
