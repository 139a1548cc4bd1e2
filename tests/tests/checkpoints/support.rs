//! A registry with short periods, events, and a look into the stores.

use std::time::Duration;

use async_nats::jetstream::{self, object_store::ObjectStore, stream::State};
use async_nats::{Client, Message};
use futures::TryStreamExt;
use muster_schemas::event::{Event, EventData, IntentSet, Source};
use muster_schemas::query::{Reply, Status};
use muster_schemas::{Namespace, OperatorName, Prefix, Registration, Subjects};
use muster_tests::process::Ended;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually};
use serde_json::{Value, json};

/// What anything that should happen may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

/// A replica that writes a checkpoint every second in which there are events.
pub(crate) fn start(broker: &NatsServer, replica: &str, arguments: &[&str]) -> Process {
    ProcessBuilder::new(bin("muster-registry"))
        .name(replica)
        .args(["--server", &broker.url(), "--replica-id", replica, "--listen-period", "200ms"])
        .args(["--checkpoint-period", "1s"])
        .args(arguments)
        .start()
}

pub(crate) async fn start_ready(broker: &NatsServer, replica: &str, arguments: &[&str]) -> Process {
    // On a busy machine the broker may not answer within the second that a registry gives it at its start.
    for _ in 0..5 {
        let mut process = start(broker, replica, arguments);
        let is_up = eventually(format!("{replica} answers, or has ended"), SOON, async || {
            match (said(&process, "answering queries"), process.exit()) {
                (true, _) => Ok(true),
                (false, Some(_)) => Ok(false),
                (false, None) => Err("neither"),
            }
        });
        if is_up.await {
            return process;
        }
    }
    panic!("{replica} ended each time that it was started");
}

pub(crate) fn said(process: &Process, text: &str) -> bool {
    process.lines().iter().any(|line| line.text.contains(text))
}

/// Publishes an event as its sender would; returns its sequence.
async fn publish(client: &Client, id: String, source: Source, data: EventData) -> u64 {
    let event = Event { id, source, time: None, data };
    let (subject, bytes) = (event.subject(&subjects()), event.encode(subjects().namespace()).expect("small enough"));
    let acknowledged = client.request(subject, bytes.into()).await.expect("the stream acknowledges");
    let value: Value = serde_json::from_slice(&acknowledged.payload).expect("JSON");
    value["seq"].as_u64().unwrap_or_else(|| panic!("no sequence in {value}"))
}

/// Registers a static instance of `orders`, which needs no agent to stay; returns the event's sequence.
pub(crate) async fn register(client: &Client, instance: &str) -> u64 {
    let value = json!({
        "service": "orders", "instance": instance, "agent": "agent-1", "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": 1, "ttl_ms": 0,
        "endpoints": [{ "name": "http", "scheme": "http", "host": format!("{instance}.example"), "port": 80 }],
        "health": { "status": "passing" },
    });
    let registration: Registration = serde_json::from_value(value).expect("a registration");
    let source = Source::Agent("agent-1".parse().expect("a name"));
    publish(client, format!("register {instance}"), source, EventData::Register(registration)).await
}

/// The agent takes an instance of `orders` back.
pub(crate) async fn deregister(client: &Client, instance: &str) -> u64 {
    let value = json!({
        "service": "orders", "instance": instance, "agent": "agent-1", "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": 2, "reason": "stopped",
    });
    let deregistration = serde_json::from_value(value).expect("a deregistration");
    let source = Source::Agent("agent-1".parse().expect("a name"));
    publish(client, format!("deregister {instance}"), source, EventData::Deregister(deregistration)).await
}

/// An operator evicts an instance of `orders`.
pub(crate) async fn evict(client: &Client, instance: &str) -> u64 {
    let who: OperatorName = "ada".parse().expect("a name");
    let value = json!({
        "service": "orders", "instance": instance, "intent": "evict", "who": who, "why": "wrong", "until": null,
        "incarnation": "01J00000000000000000000001",
    });
    let intent: IntentSet = serde_json::from_value(value).expect("an intent");
    publish(client, format!("evict {instance}"), Source::Operator(who), EventData::Intent(intent)).await
}

/// Runs `muster` to its end.
pub(crate) async fn muster(broker: &NatsServer, arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut process = ProcessBuilder::new(bin("muster"))
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("NATS_URL", broker.url())
        .args(arguments)
        .start();
    Ended::of(&mut process).await
}

/// An operator puts an instance of `orders` into maintenance.
pub(crate) async fn set_maintenance(client: &Client, instance: &str) -> u64 {
    let who: OperatorName = "ada".parse().expect("a name");
    let value = json!({ "service": "orders", "instance": instance, "intent": "maintenance", "who": who, "why": "disk", "until": null });
    let intent: IntentSet = serde_json::from_value(value).expect("an intent");
    publish(client, format!("maintain {instance}"), Source::Operator(who), EventData::Intent(intent)).await
}

async fn ask(client: &Client, what: &str) -> Result<Message, String> {
    let subject = format!("muster.default.{what}");
    client.request(subject, "{}".into()).await.map_err(|error| error.to_string())
}

/// The status of one replica, once it is as wanted.
pub(crate) async fn status_of(client: &Client, replica: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    eventually(format!("the wanted status of {replica}"), SOON, async || {
        let message = ask(client, "query.status").await?;
        let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if status.replica.as_str() == replica && wanted(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// What is known of `orders`, once it is as wanted.
pub(crate) async fn orders_with(client: &Client, wanted: impl Fn(&Reply) -> bool) -> Reply {
    eventually("the wanted answer about orders", SOON, async || {
        let message = ask(client, "query.service.orders").await?;
        let reply: Reply = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if wanted(&reply) { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
    .await
}

pub(crate) async fn store(client: &Client) -> Result<ObjectStore, String> {
    let context = jetstream::new(client.clone());
    context.get_object_store(subjects().checkpoint_bucket()).await.map_err(|error| error.to_string())
}

/// The names of all checkpoints, the newest last.
pub(crate) async fn checkpoints(client: &Client) -> Result<Vec<String>, String> {
    let objects = store(client).await?.list().await.map_err(|error| error.to_string())?;
    let objects: Vec<_> = objects.try_collect().await.map_err(|error| error.to_string())?;
    let mut names: Vec<String> = objects.into_iter().map(|object| object.name).collect();
    names.sort();
    Ok(names)
}

/// Waits for a checkpoint of this revision or a later one; its name.
pub(crate) async fn checkpoint_from(client: &Client, revision: u64) -> String {
    eventually(format!("a checkpoint from revision {revision} on"), SOON, async || {
        let newest = checkpoints(client).await?.pop().ok_or("there is none")?;
        let of: u64 = newest.rsplit('-').next().and_then(|number| number.parse().ok()).ok_or("not a number")?;
        if of >= revision { Ok(newest) } else { Err(newest) }
    })
    .await
}

pub(crate) async fn stream_state(client: &Client) -> State {
    let context = jetstream::new(client.clone());
    let mut stream = context.get_stream(subjects().stream_name()).await.expect("a stream");
    stream.info().await.expect("described").state.clone()
}
