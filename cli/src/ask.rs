//! Asking a registry: retried where another replica may answer, chunks joined.

use std::time::Duration;

use muster_discovery::hedge;
use muster_schemas::event::Event;
use muster_schemas::history::HistoryReply;
use muster_schemas::query::{ErrorCode, ErrorReply, QueryError, Reply, Request, Status};
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, ServiceName};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use crate::error::CommandError;
use crate::session::Session;

/// How long the replicas that are asked may take before it is told why nobody answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long all attempts together may take: a registry that is just starting gets its chance.
const ATTEMPTS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a look into the past may take: events may have to be folded for it.
const PAST_TIMEOUT: Duration = Duration::from_secs(30);
/// When another replica is asked for it, too: not while the first may be folding.
const PAST_AGAIN: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(12)];
const PAUSE: Duration = Duration::from_millis(100);

impl Session {
    /// Asks a query and joins all chunks of the answer into one reply.
    pub(crate) async fn ask(&self, query: &Query, request: &Request) -> Result<Reply, CommandError> {
        'snapshot: loop {
            let mut reply: Reply =
                self.ask_subject(self.subjects().query(query), request, request.at.is_some()).await?;
            while let Some(next) = reply.next.take() {
                match self.ask_subject::<Reply>(next, &Request::default(), false).await {
                    Ok(chunk) => join(&mut reply, chunk),
                    // The replica that held the snapshot is gone, or it took too long: begin again.
                    Err(CommandError::Query(QueryError { code: ErrorCode::CursorExpired, .. })) => continue 'snapshot,
                    Err(error) => return Err(error),
                }
            }
            return Ok(reply);
        }
    }

    /// Asks what happened.
    pub(crate) async fn history(&self, query: &Query, request: &Request) -> Result<HistoryReply, CommandError> {
        self.ask_subject(self.subjects().query(query), request, true).await
    }

    /// Asks the replica that happens to answer what it says of itself.
    pub(crate) async fn status(&self) -> Result<Status, CommandError> {
        self.ask_subject(self.subjects().query(&Query::Status), &Request::default(), false).await
    }

    /// One instance as the registry holds it; an error `not_found` if there is none.
    pub(crate) async fn instance(
        &self,
        service: &ServiceName,
        instance: &InstanceId,
        request: &Request,
    ) -> Result<Reply, CommandError> {
        self.ask(&Query::Instance(service.clone(), instance.clone()), request).await
    }

    /// Appends an event to the log; answers its sequence. An error leaves open whether it was stored.
    pub(crate) async fn append(&self, event: &Event) -> Result<u64, CommandError> {
        let payload = event.encode(self.subjects().namespace())?;
        let context = async_nats::jetstream::new(self.client().clone());
        let refused = |error: &dyn std::fmt::Display| {
            CommandError::Failed(format!("the event was not acknowledged ({error}); run `muster doctor`"))
        };
        let sent = context.publish(event.subject(self.subjects()), payload.into()).await;
        let acknowledged = timeout(ATTEMPTS_TIMEOUT, async {
            sent.map_err(|error| refused(&error))?.await.map_err(|error| refused(&error))
        });
        match acknowledged.await {
            Ok(ack) => Ok(ack?.sequence),
            Err(_) => Err(refused(&"no answer in time")),
        }
    }

    async fn ask_subject<T: DeserializeOwned>(
        &self,
        subject: String,
        request: &Request,
        past: bool,
    ) -> Result<T, CommandError> {
        let body = if *request == Request::default() { Vec::new() } else { encode(request) };
        let patience = if past { PAST_TIMEOUT } else { ANSWER_TIMEOUT };
        let deadline = Instant::now() + ATTEMPTS_TIMEOUT;
        loop {
            let error = match self.ask_once(subject.clone(), body.clone(), patience).await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// The outer error is worth another attempt, the inner one is final.
    async fn ask_once<T: DeserializeOwned>(
        &self,
        subject: String,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Result<T, CommandError>, CommandError> {
        let again: &[Duration] = if patience == PAST_TIMEOUT { &PAST_AGAIN } else { &hedge::AGAIN_AFTER };
        let asked = hedge::ask(self.client(), subject, body.into(), again, patience).await;
        let message = asked.map_err(|error| self.no_registry(&error.to_string()))?;
        if let Ok(ErrorReply { error }) = serde_json::from_slice(&message.payload) {
            let elsewhere = matches!(error.code, ErrorCode::Behind | ErrorCode::NotReady);
            return if elsewhere { Err(error.into()) } else { Ok(Err(error.into())) };
        }
        let unreadable =
            |error| CommandError::Failed(format!("the answer is not understood ({error}); upgrade muster"));
        Ok(serde_json::from_slice(&message.payload).map_err(unreadable))
    }

    fn no_registry(&self, reason: &str) -> CommandError {
        CommandError::NoRegistry { namespace: self.subjects().namespace().to_string(), reason: reason.into() }
    }
}

fn encode(request: &Request) -> Vec<u8> {
    // Plain data with string keys cannot fail to serialise.
    serde_json::to_vec(request).unwrap_or_default()
}

/// Appends a chunk; a service that was cut in two is made whole again.
fn join(reply: &mut Reply, chunk: Reply) {
    reply.next = chunk.next;
    for service in chunk.services {
        match reply.services.last_mut() {
            Some(last) if last.service == service.service => {
                last.instances.extend(service.instances);
                last.conflicts.extend(service.conflicts);
            }
            _ => reply.services.push(service),
        }
    }
}
