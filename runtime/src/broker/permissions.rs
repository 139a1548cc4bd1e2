//! Asks the broker whether it grants the subjects that are needed, for it would refuse them without the caller noticing.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use futures::StreamExt;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use super::error::BrokerError;
use super::link::{LinkEvent, Operation, Violation};

/// How long the broker may take for the whole check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Complaints pass through a task of the client; this is what they get to arrive after the last reply.
const GRACE: Duration = Duration::from_millis(50);

/// One subject that must be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    operation: Operation,
    subject: String,
    queue: Option<String>,
}

impl Need {
    /// To send to this subject, which must have no wildcards.
    #[must_use]
    pub fn publish(subject: impl Into<String>) -> Self {
        Self { operation: Operation::Publish, subject: subject.into(), queue: None }
    }

    /// To listen to this subject.
    #[must_use]
    pub fn subscribe(subject: impl Into<String>) -> Self {
        Self { operation: Operation::Subscribe, subject: subject.into(), queue: None }
    }

    /// To listen to this subject as a member of a queue group.
    #[must_use]
    pub fn queue_subscribe(subject: impl Into<String>, queue: impl Into<String>) -> Self {
        Self { operation: Operation::Subscribe, subject: subject.into(), queue: Some(queue.into()) }
    }
}

pub(super) async fn verify(
    client: &Client,
    connection: &str,
    mut events: broadcast::Receiver<LinkEvent>,
    needs: &[Need],
) -> Result<(), BrokerError> {
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let unknown = || BrokerError::PermissionsUnknown {
        connection: connection.to_owned(),
        waited_ms: CHECK_TIMEOUT.as_millis() as u64,
    };
    let (inbox, mut replies, _subscriptions) =
        timeout_at(deadline, ask(client, needs)).await.map_err(|_| unknown())?.ok_or_else(unknown)?;
    let mut refused = BTreeSet::new();
    let answered = await_end(&mut events, &mut replies, &inbox, deadline, &mut refused).await;
    collect(&mut events, Instant::now() + GRACE, &mut refused).await;

    refused.retain(|violation| needs.iter().any(|need| concerns(violation, need)) || is_own_inbox(violation, &inbox));
    if !refused.is_empty() {
        let violations = refused.into_iter().collect();
        return Err(BrokerError::SubjectsRefused { connection: connection.to_owned(), violations });
    }
    if answered { Ok(()) } else { Err(unknown()) }
}

/// Subscribes and publishes everything, then something whose end is always noticed. `None` if the client is closed.
async fn ask(client: &Client, needs: &[Need]) -> Option<(String, Subscriber, Vec<Subscriber>)> {
    let inbox = client.new_inbox();
    let replies = client.subscribe(inbox.clone()).await.ok()?;
    let mut subscriptions = Vec::new();
    for need in needs {
        match (need.operation, &need.queue) {
            (Operation::Subscribe, None) => subscriptions.push(client.subscribe(need.subject.clone()).await.ok()?),
            (Operation::Subscribe, Some(queue)) => {
                subscriptions.push(client.queue_subscribe(need.subject.clone(), queue.clone()).await.ok()?);
            }
            (Operation::Publish, _) => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Expected-Stream", "permission-check");
                client.publish_with_headers(need.subject.clone(), headers, Default::default()).await.ok()?;
            }
        }
    }
    // The server handles a connection's commands in order. Whether this one comes back, is refused, or finds nobody
    // because the connection does not hear itself: the earlier ones are done.
    client.publish_with_reply(inbox.clone(), inbox.clone(), Default::default()).await.ok()?;
    client.flush().await.ok()?;
    Some((inbox, replies, subscriptions))
}

/// Waits until the last command came back or was refused. False if neither happened in time.
async fn await_end(
    events: &mut broadcast::Receiver<LinkEvent>,
    replies: &mut Subscriber,
    inbox: &str,
    deadline: Instant,
    refused: &mut BTreeSet<Violation>,
) -> bool {
    let last = Violation { operation: Operation::Publish, subject: inbox.to_owned() };
    loop {
        tokio::select! {
            reply = replies.next() => return reply.is_some(),
            event = events.recv() => match event {
                Ok(LinkEvent::Violation(violation)) if violation == last => return true,
                Ok(LinkEvent::Violation(violation)) => { refused.insert(violation); }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return false,
            },
            () = tokio::time::sleep_until(deadline) => return false,
        }
    }
}

/// Takes what was complained about before `until`. Of more than are held the oldest are lost, and the others tell.
async fn collect(events: &mut broadcast::Receiver<LinkEvent>, until: Instant, refused: &mut BTreeSet<Violation>) {
    loop {
        match timeout_at(until, events.recv()).await {
            Ok(Ok(LinkEvent::Violation(violation))) => {
                refused.insert(violation);
            }
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => return,
        }
    }
}

fn concerns(violation: &Violation, need: &Need) -> bool {
    violation.operation == need.operation && violation.subject == need.subject
}

/// Without its inbox a client gets no replies. That it may not publish there itself is as it should be.
fn is_own_inbox(violation: &Violation, inbox: &str) -> bool {
    violation.operation == Operation::Subscribe && violation.subject == inbox
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_more_refused_subjects_than_are_held_the_last_are_still_told() {
        let (sender, mut events) = broadcast::channel(4);
        for number in 0..10 {
            let subject = format!("muster.{number}");
            sender.send(LinkEvent::Violation(Violation { operation: Operation::Publish, subject })).unwrap();
        }
        let mut refused = BTreeSet::new();
        collect(&mut events, Instant::now() + GRACE, &mut refused).await;
        let subjects: Vec<&str> = refused.iter().map(|violation| violation.subject.as_str()).collect();
        assert_eq!(subjects, ["muster.6", "muster.7", "muster.8", "muster.9"]);
    }
}
