//! A registry's process, raw events, and questions.

use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use muster_schemas::event::{Event, EventData, Source};
use muster_schemas::query::{ErrorReply, QueryError, Reply, Status};
use muster_schemas::{Change, Namespace, Prefix, Registration, Subjects};
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually};
use serde_json::{Value, json};

/// What anything that should happen may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

/// Starts a replica that does not wait long for a first log.
pub(crate) fn start_registry(broker: &NatsServer, replica: &str, arguments: &[&str]) -> Process {
    ProcessBuilder::new(bin("muster-registry"))
        .name(replica)
        .args(["--server", &broker.url(), "--replica-id", replica, "--listen-period", "200ms"])
        .args(arguments)
        .start()
}

/// Starts a replica and waits until it answers queries.
pub(crate) async fn start_ready(broker: &NatsServer, client: &Client, replica: &str, arguments: &[&str]) -> Process {
    let process = start_registry(broker, replica, arguments);
    process.wait_for_line("answering queries", SOON).await;
    answered(client, "query.services", json!({})).await;
    process
}

/// An agent's registration of an instance in its first session.
pub(crate) fn registration(service: &str, instance: &str, generation: u64) -> Registration {
    let value = json!({
        "service": service, "instance": instance, "agent": "agent-1", "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": generation, "ttl_ms": 0,
        "version": "1.0", "tags": [if instance.ends_with('1') { "odd" } else { "even" }],
        "endpoints": [{ "name": "http", "scheme": "http", "host": format!("{instance}.example"), "port": 80 }],
        "health": { "status": "passing" },
    });
    serde_json::from_value(value).expect("a registration")
}

/// Publishes an event as its sender would; returns its sequence.
pub(crate) async fn publish(client: &Client, data: EventData) -> u64 {
    let source: Source = Source::Agent("agent-1".parse().expect("a name"));
    let event = Event { id: format!("{:032x}", rand_id()), source, time: None, data };
    let (subject, bytes) = (event.subject(&subjects()), event.encode(subjects().namespace()).expect("small enough"));
    let acknowledged = client.request(subject, bytes.into()).await.expect("the stream acknowledges");
    let value: Value = serde_json::from_slice(&acknowledged.payload).expect("JSON");
    value["seq"].as_u64().unwrap_or_else(|| panic!("no sequence in {value}"))
}

fn rand_id() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    u128::from(COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Registers an instance; returns the event's sequence.
pub(crate) async fn register(client: &Client, service: &str, instance: &str, generation: u64) -> u64 {
    publish(client, EventData::Register(registration(service, instance, generation))).await
}

/// Asks once.
pub(crate) async fn ask(client: &Client, what: &str, body: &Value) -> Result<Message, String> {
    let subject = format!("muster.default.{what}");
    client.request(subject, body.to_string().into()).await.map_err(|error| error.to_string())
}

/// What a reply says: services, or an error.
pub(crate) fn read(message: &Message) -> Result<Reply, QueryError> {
    if let Ok(ErrorReply { error }) = serde_json::from_slice(&message.payload) {
        let headers = message.headers.as_ref().expect("an error comes with headers");
        let code = headers.get("Nats-Service-Error-Code").expect("the service error header");
        assert_eq!(code.as_str(), error.code.number().to_string());
        return Err(error);
    }
    Ok(serde_json::from_slice(&message.payload)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&message.payload))))
}

/// Asks until somebody answers with services.
pub(crate) async fn answered(client: &Client, what: &str, body: Value) -> Reply {
    eventually(format!("an answer to {what}"), SOON, async || {
        let message = ask(client, what, &body).await?;
        read(&message).map_err(|error| error.to_string())
    })
    .await
}

/// Asks until the answer is as wanted.
pub(crate) async fn answered_with(client: &Client, what: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
    eventually(format!("the wanted answer to {what}"), SOON, async || {
        let message = ask(client, what, &json!({})).await?;
        let reply = read(&message).map_err(|error| error.to_string())?;
        if wanted(&reply) { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
    .await
}

/// Asks once and expects an error.
pub(crate) async fn refused(client: &Client, what: &str, body: Value) -> QueryError {
    let message = ask(client, what, &body).await.expect("somebody answers");
    read(&message).expect_err("an error")
}

/// Asks for the status until it is as wanted.
pub(crate) async fn status_with(client: &Client, wanted: impl Fn(&Status) -> bool) -> Status {
    eventually("the wanted status", SOON, async || {
        let message = ask(client, "query.status", &json!({})).await?;
        let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if wanted(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Listens, and makes sure that the broker knows.
pub(crate) async fn listen(client: &Client, what: &str) -> Subscriber {
    let subscriber = client.subscribe(format!("muster.default.{what}")).await.expect("subscribed");
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish(inbox, "x".into()).await.expect("published");
    next(&mut back).await;
    subscriber
}

/// The next message that is not a check of permissions.
pub(crate) async fn next(messages: &mut Subscriber) -> Message {
    loop {
        let message = tokio::time::timeout(SOON, messages.next()).await.expect("a message in time").expect("connected");
        if !message.payload.is_empty() {
            return message;
        }
    }
}

/// The next change.
pub(crate) async fn next_change(changes: &mut Subscriber) -> Change {
    let message = next(changes).await;
    serde_json::from_slice(&message.payload).expect("a change")
}
