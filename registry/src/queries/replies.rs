//! How answers and errors leave: to permitted reply subjects only, counted, errors with the service error headers.

use std::time::{Duration, Instant};

use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use muster_runtime::logging::limited;
use muster_schemas::MinRevision;
use muster_schemas::query::{ErrorCode, ErrorReply, QueryError, Status};
use tokio::sync::{mpsc, oneshot};

use super::{Asked, Endpoint, Queries, StatusRequest};
use crate::core::replica::Snapshot;

/// How long the core may take to describe itself.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions for its status that may wait; one more is told to ask again.
const STATUSES_MAX: usize = 64;

impl Queries {
    /// Only below the configured prefixes: whoever asks chooses the reply subject, and could have us publish anywhere.
    pub(super) fn is_permitted(&self, reply: &Subject) -> bool {
        let permitted = self.settings.reply_prefixes.iter().any(|prefix| reply.starts_with(prefix.as_str()));
        if !permitted {
            limited("reply prefix", |suppressed| {
                let prefixes = self.settings.reply_prefixes.join(", ");
                tracing::warn!(
                    suppressed,
                    %reply,
                    prefixes,
                    "a question was ignored, for its reply subject is below none of --reply-prefix"
                );
            });
        }
        permitted
    }

    /// The core is asked, and may be busy: nobody else waits for that.
    pub(super) async fn answer_status(&mut self, asked: Asked) {
        let answered = match ask_core(&self.statuses) {
            Ok(answered) => answered,
            Err(error) => return self.refuse(&asked, &error).await,
        };
        let client = self.client.clone();
        self.count(asked.endpoint, asked.since, None);
        tokio::spawn(async move {
            if let Ok(Ok(status)) = tokio::time::timeout(STATUS_TIMEOUT, answered).await {
                let bytes = serde_json::to_vec(&status).unwrap_or_default();
                let _ = client.publish(asked.reply, bytes.into()).await;
            }
        });
    }

    pub(super) fn count(&mut self, endpoint: Endpoint, since: Instant, error: Option<&QueryError>) {
        self.api.count(endpoint, since.elapsed(), error);
        self.shown.metrics.count(endpoint, error.map(|error| error.code));
    }

    pub(super) async fn refuse(&mut self, asked: &Asked, error: &QueryError) {
        self.count(asked.endpoint, asked.since, Some(error));
        self.send_error(asked.reply.clone(), error).await;
    }

    pub(super) async fn send_error(&self, reply: Subject, error: &QueryError) {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_SERVICE_ERROR, error.code.as_str());
        headers.insert(NATS_SERVICE_ERROR_CODE, error.code.number().to_string());
        let body = serde_json::to_vec(&ErrorReply { error: error.clone() }).unwrap_or_default();
        self.send(reply, Some(headers), body.into()).await;
    }

    pub(super) async fn send(&self, reply: Subject, headers: Option<HeaderMap>, bytes: Bytes) {
        let sent = match headers {
            Some(headers) => self.client.publish_with_headers(reply, headers, bytes).await,
            None => self.client.publish(reply, bytes).await,
        };
        if let Err(error) = sent {
            limited("answer", |suppressed| tracing::warn!(suppressed, "an answer was not sent: {error}"));
        }
    }
}

/// The way of questions for the core's status.
pub(crate) fn waiting_statuses() -> (mpsc::Sender<StatusRequest>, mpsc::Receiver<StatusRequest>) {
    mpsc::channel(STATUSES_MAX)
}

/// Asks the core for its status, unless too many have.
fn ask_core(statuses: &mpsc::Sender<StatusRequest>) -> Result<oneshot::Receiver<Status>, QueryError> {
    let (answer, answered) = oneshot::channel();
    match statuses.try_send(answer) {
        Ok(()) => Ok(answered),
        Err(_) => Err(too_many("too many questions about the status are waiting", statuses.max_capacity())),
    }
}

/// The error of a replica of which more is asked than it has room for.
pub(super) fn too_many(message: &str, waiting_max: usize) -> QueryError {
    QueryError::new(ErrorCode::NotReady, message, "waiting", waiting_max, "ask again in a while")
}

/// The error of a replica that has not reached what is wanted.
pub(super) fn behind(wanted: Option<MinRevision>, snapshot: &Snapshot) -> QueryError {
    let value = wanted.and_then(|wanted| serde_json::to_string(&wanted).ok());
    let message = match snapshot.epoch {
        Some(epoch) => format!("this replica is at revision {} of epoch {epoch}", snapshot.revision),
        None => "this replica knows no log yet".to_owned(),
    };
    let help = "ask again, another replica may answer; after a change of epoch ask without it";
    QueryError::new(ErrorCode::Behind, &message, "min_revision", value.unwrap_or_default(), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_about_the_status_more_than_may_wait_is_told_so_until_there_is_room() {
        let (statuses, mut requests) = waiting_statuses();
        let _waiting: Vec<_> = (0..64).map(|_| ask_core(&statuses).expect("room")).collect();
        let error = ask_core(&statuses).expect_err("full");
        assert_eq!((error.code, error.value.as_str()), (ErrorCode::NotReady, "64"));
        drop(requests.try_recv().expect("the first"));
        ask_core(&statuses).expect("room again");
    }
}
