//! One question to the registries: asks, puts the chunks together, and says what went wrong.

use std::time::Duration;

use async_nats::{Client, Message, Request as NatsRequest};
use muster_schemas::Subjects;
use muster_schemas::query::{ErrorCode, ErrorReply, Reply, Request};
use muster_schemas::subject::{Query as Subject, Subject as Parsed};

use crate::core::io::{Ask, AskFailure, Scope};
use crate::hedge;

/// A replica that is behind says so after 500 ms; one that says nothing for so long is frozen or gone.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_200);

/// A round trip that takes longer is not waited for; what follows on the connection comes after it anyhow.
const ROUND_TRIP_WITHIN: Duration = Duration::from_millis(400);
/// In the place of a replica's name: no replica of this name holds a chunk of this name.
const NOBODY: &str = "round-trip";

/// The header that marks a reply of the NATS Services API as an error.
const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// Asks for a snapshot, chunk by chunk.
pub(crate) async fn ask(client: &Client, subjects: &Subjects, ask: &Ask) -> Result<Reply, AskFailure> {
    let query = match &ask.target {
        Scope::Everything => Subject::Snapshot,
        Scope::Service(service) => Subject::Service(service.clone()),
    };
    let request = Request { min_revision: ask.min_revision, ..Request::default() };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let asked = hedge::ask(client, subjects.query(&query), body.into(), &hedge::AGAIN_AFTER, ANSWER_WITHIN).await;
    let mut whole = read(&asked.map_err(failed)?)?;
    while let Some(subject) = whole.next.take() {
        // The broker delivers it to whoever it names: only ever to a registry of this namespace.
        if !matches!(subjects.parse(&subject), Ok(Parsed::Query(Subject::Next(..)))) {
            tracing::warn!(subject, "a reply named a next chunk that is not a query subject: asking again");
            return Err(AskFailure::Failed);
        }
        append(&mut whole, read(&next_chunk(client, subject).await?)?)?;
    }
    Ok(whole)
}

/// Makes a round trip on the connection: afterwards the server has taken every earlier subscription.
/// Asked is what nobody answers: that there are *no responders* is the server's own word, which no frozen replica delays.
pub(crate) async fn round_trip(client: &Client, subjects: &Subjects) {
    let Ok(nobody) = NOBODY.parse() else { return };
    let subject = subjects.query(&Subject::Next(nobody, NOBODY.to_owned()));
    let request = NatsRequest::new().inbox(client.new_inbox()).timeout(Some(ROUND_TRIP_WITHIN));
    // The client's own timeout does not cover waiting for room in its queue.
    if tokio::time::timeout(ROUND_TRIP_WITHIN, client.send_request(subject, request)).await.is_err() {
        tracing::debug!("a round trip took too long");
    }
}

fn read(message: &Message) -> Result<Reply, AskFailure> {
    let is_error = message.headers.as_ref().is_some_and(|headers| headers.get(ERROR_CODE_HEADER).is_some());
    if is_error {
        return Err(failure(&message.payload));
    }
    serde_json::from_slice(&message.payload).map_err(|error| {
        tracing::debug!(%error, "a reply was not understood");
        AskFailure::Failed
    })
}

/// Asked once: only the replica that holds it can answer, and a large one is not to be sent twice.
async fn next_chunk(client: &Client, subject: String) -> Result<Message, AskFailure> {
    // An inbox of its own: a request that is never answered leaves nothing behind.
    let request = NatsRequest::new().inbox(client.new_inbox()).timeout(Some(ANSWER_WITHIN));
    // The client's own timeout does not cover waiting for room in its queue.
    let limit = ANSWER_WITHIN + Duration::from_millis(300);
    match tokio::time::timeout(limit, client.send_request(subject, request)).await {
        Ok(answered) => answered.map_err(failed),
        Err(_) => Err(AskFailure::Failed),
    }
}

fn failed(error: impl std::fmt::Display) -> AskFailure {
    tracing::debug!(%error, "a query was not answered");
    AskFailure::Failed
}

fn failure(payload: &[u8]) -> AskFailure {
    match serde_json::from_slice::<ErrorReply>(payload) {
        Ok(reply) if reply.error.code == ErrorCode::Behind => AskFailure::Behind,
        Ok(reply) => {
            tracing::debug!(error = %reply.error, "a query was refused");
            AskFailure::Failed
        }
        Err(_) => AskFailure::Failed,
    }
}

/// Adds a chunk. All chunks are of one revision of one log; a chunk without content would never end.
fn append(whole: &mut Reply, chunk: Reply) -> Result<(), AskFailure> {
    let same = (chunk.epoch, chunk.revision) == (whole.epoch, whole.revision);
    let has_content = !chunk.services.is_empty();
    if !same || !has_content {
        return Err(AskFailure::Failed);
    }
    whole.next = chunk.next;
    for service in chunk.services {
        match whole.services.last_mut().filter(|last| last.service == service.service) {
            Some(last) => last.instances.extend(service.instances),
            None => whole.services.push(service),
        }
    }
    Ok(())
}
