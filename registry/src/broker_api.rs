//! Requests to the broker's own JetStream API, each over an inbox that is gone afterwards, so that an unanswered one
//! leaves nothing behind.

use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, Request, RequestErrorKind};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const API: &str = "$JS.API";

/// The broker's number for "stream not found".
pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
/// The broker's number for "no message found".
pub(crate) const NO_MESSAGE_FOUND: u64 = 10037;
/// The broker's number for "stream name already in use with a different configuration".
pub(crate) const STREAM_NAME_IN_USE: u64 = 10058;

/// Why a request has no useful answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The broker says that nobody listens.
    #[error("nobody listens")]
    NoResponders,
    /// Nobody answered in time.
    #[error("no answer within {waited_ms} ms")]
    Timeout {
        /// How long was waited.
        waited_ms: u128,
    },
    /// It could not be sent, or the answer is unreadable.
    #[error("{0}")]
    Failed(String),
    /// The API answered with an error.
    #[error("{description} ({code})")]
    Refused {
        /// Its number.
        code: u64,
        /// Its words.
        description: String,
    },
}

/// Asks anyone; the timeout covers everything from queueing to the answer.
pub(crate) async fn ask(
    client: &Client,
    subject: String,
    payload: Bytes,
    timeout: Duration,
) -> Result<Bytes, AskError> {
    let waited_ms = timeout.as_millis();
    let request = Request::new().payload(payload).inbox(client.new_inbox()).timeout(Some(timeout));
    match tokio::time::timeout(timeout, client.send_request(subject, request)).await {
        Ok(Ok(message)) => Ok(message.payload),
        Ok(Err(error)) => Err(match error.kind() {
            RequestErrorKind::NoResponders => AskError::NoResponders,
            RequestErrorKind::TimedOut => AskError::Timeout { waited_ms },
            _ => AskError::Failed(error.to_string()),
        }),
        Err(_) => Err(AskError::Timeout { waited_ms }),
    }
}

/// Asks the JetStream API; `verb` is what follows its prefix, for instance `STREAM.INFO.<name>`.
pub(crate) async fn ask_jetstream<T: DeserializeOwned>(
    client: &Client,
    verb: &str,
    body: &impl Serialize,
    timeout: Duration,
) -> Result<T, AskError> {
    let body = serde_json::to_vec(body).map_err(|error| AskError::Failed(error.to_string()))?;
    let answer = match ask(client, subject(verb), body.into(), timeout).await {
        Err(AskError::NoResponders) => Err(AskError::Failed("the broker offers no JetStream now".into())),
        other => other,
    }?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => {
            Err(AskError::Refused { code: error.error_code().0, description: error.to_string() })
        }
        Err(error) => Err(AskError::Failed(format!("the broker's answer to {verb} is unreadable: {error}"))),
    }
}

/// The subject of a verb of the JetStream API.
pub(crate) fn subject(verb: &str) -> String {
    format!("{API}.{verb}")
}
