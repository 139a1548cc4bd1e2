//! A question that a frozen registry costs little: asked again after a moment, of whoever the broker chooses this time,
//! and whoever answers first has answered.
//!
//! The broker goes on handing a frozen registry its share of the questions until it gives it up, seconds later. Only for
//! questions that may be answered twice.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep_until, timeout_at};

/// When a question about the present is asked again, counted from its beginning: longer than a healthy registry takes, and
/// so seldom that one which is slow under load is not made much slower.
pub const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(150), Duration::from_millis(350), Duration::from_millis(650)];

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens, says the broker.
    #[error("no responders")]
    NoResponders,
    /// Whoever was asked said nothing.
    #[error("no answer in time")]
    Timeout,
    /// The question did not get away.
    #[error("{0}")]
    Failed(String),
}

/// Asks, and asks again whenever one of these times is over; the first answer, whatever it says.
///
/// # Errors
/// There was none within the time given. Those who were asked may still be at work on it.
pub async fn ask(
    client: &Client,
    subject: String,
    question: Bytes,
    again_after: &[Duration],
    within: Duration,
) -> Result<Message, NoAnswer> {
    let began = Instant::now();
    let again = again_after.iter().map(|after| began + *after);
    let asked = timeout_at(began + within, ask_until_answered(client, subject, question, again));
    asked.await.unwrap_or(Err(NoAnswer::Timeout))
}

async fn ask_until_answered(
    client: &Client,
    subject: String,
    question: Bytes,
    mut again: impl Iterator<Item = Instant>,
) -> Result<Message, NoAnswer> {
    // An inbox of its own: a request that is never answered leaves nothing behind.
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| NoAnswer::Failed(error.to_string()))?;
    loop {
        let sent = client.publish_with_reply(subject.clone(), inbox.clone(), question.clone()).await;
        sent.map_err(|error| NoAnswer::Failed(error.to_string()))?;
        let answer = match again.next() {
            Some(moment) => tokio::select! {
                answer = answers.next() => answer,
                () = sleep_until(moment) => continue,
            },
            None => answers.next().await,
        };
        return match answer {
            Some(answer) if answer.status == Some(StatusCode::NO_RESPONDERS) => Err(NoAnswer::NoResponders),
            Some(answer) => Ok(answer),
            None => Err(NoAnswer::Failed("the connection is closed".to_owned())),
        };
    }
}
