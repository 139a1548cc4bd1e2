//! One question to the registries: asks, puts the chunks together, and says what went wrong.

use std::time::Duration;

use async_nats::{Client, Message, Request as NatsRequest};
use muster_schemas::Subjects;
use muster_schemas::query::{ErrorCode, ErrorReply, Reply, Request};
use muster_schemas::subject::{Query as Subject, Subject as Parsed};

use crate::core::io::{Ask, AskFailure, Scope};

/// A replica that is behind says so after 500 ms; one that says nothing for so long is frozen or gone.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_200);

/// A round trip that takes longer has met a replica that is frozen; what follows on the connection comes after it anyhow.
const ROUND_TRIP_WITHIN: Duration = Duration::from_millis(400);

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
    let mut whole = request_one(client, subjects.query(&query), body).await?;
    while let Some(subject) = whole.next.take() {
        // The broker delivers it to whoever it names: only ever to a registry of this namespace.
        if !matches!(subjects.parse(&subject), Ok(Parsed::Query(Subject::Next(..)))) {
            tracing::warn!(subject, "a reply named a next chunk that is not a query subject: asking again");
            return Err(AskFailure::Failed);
        }
        let chunk = request_one(client, subject, Vec::new()).await?;
        append(&mut whole, chunk)?;
    }
    Ok(whole)
}

/// Makes a round trip on the connection: afterwards the server has taken every earlier subscription.
/// Which answer comes, and whether one comes at all, does not matter: *no responders* is the server's own word.
pub(crate) async fn round_trip(client: &Client, subjects: &Subjects) {
    let asked = exchange(client, subjects.query(&Subject::Status), Vec::new());
    if !matches!(tokio::time::timeout(ROUND_TRIP_WITHIN, asked).await, Ok(Ok(_))) {
        tracing::debug!("nobody answered a query of status");
    }
}

async fn request_one(client: &Client, subject: String, body: Vec<u8>) -> Result<Reply, AskFailure> {
    let message = exchange(client, subject, body).await?;
    let is_error = message.headers.as_ref().is_some_and(|headers| headers.get(ERROR_CODE_HEADER).is_some());
    if is_error {
        return Err(failure(&message.payload));
    }
    serde_json::from_slice(&message.payload).map_err(|error| {
        tracing::debug!(%error, "a reply was not understood");
        AskFailure::Failed
    })
}

async fn exchange(client: &Client, subject: String, body: Vec<u8>) -> Result<Message, AskFailure> {
    // An inbox of its own: a request that is never answered leaves nothing behind.
    let request = NatsRequest::new().payload(body.into()).inbox(client.new_inbox()).timeout(Some(ANSWER_WITHIN));
    // The client's own timeout does not cover waiting for room in its queue.
    let limit = ANSWER_WITHIN + Duration::from_millis(300);
    match tokio::time::timeout(limit, client.send_request(subject, request)).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a query was not answered");
            Err(AskFailure::Failed)
        }
        Err(_) => Err(AskFailure::Failed),
    }
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
