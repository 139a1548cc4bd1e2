//! Appends proposals to the log, one batch at a time, over a connection that is closed, not resumed, at the first
//! disconnect: a proposal must not outlive its reason, and a client that reconnects sends what it still had in its queue.

use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, StatusCode};
use futures::StreamExt;
use muster_runtime::broker::{BrokerError, BrokerSettings, Connection, LinkPhase, Role};
use muster_runtime::logging::limited;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::core::io::ProposedEvent;

/// One batch of events to append.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) batch: u64,
    pub(crate) events: Vec<ProposedEvent>,
}

/// Whether every event of a batch was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proposed {
    pub(crate) batch: u64,
    pub(crate) acknowledged: bool,
}

/// Appends batch after batch until nobody sends any; there is never more than one under way. `role` must be of a connection
/// that ends at the first disconnect.
pub(crate) async fn run(
    broker: BrokerSettings,
    role: Role,
    timeout: Duration,
    mut batches: mpsc::Receiver<Batch>,
    done: impl AsyncFn(Proposed),
) {
    let mut connection: Option<Connection> = None;
    while let Some(Batch { batch, events }) = batches.recv().await {
        if !connection.as_ref().is_some_and(Connection::is_connected) {
            connection = connect(&broker, &role).await;
        }
        let acknowledged = match &connection {
            Some(connection) => tokio::time::timeout(timeout, append_all(connection, events)).await,
            None => Ok(false),
        };
        let acknowledged = acknowledged.unwrap_or(false);
        if !acknowledged {
            connection = None;
        }
        done(Proposed { batch, acknowledged }).await;
    }
    if let Some(connection) = connection {
        connection.close().await;
    }
}

async fn connect(broker: &BrokerSettings, role: &Role) -> Option<Connection> {
    let connected = broker.connect(role.clone()).await;
    let complain = |error: &BrokerError| {
        limited("proposal connection", |suppressed| {
            tracing::warn!(suppressed, "no connection for proposals: {error}");
        });
    };
    connected.inspect_err(complain).ok()
}

/// Appends all events, in order. False at the first failure or disconnect; any of them may be in the log then.
async fn append_all(connection: &Connection, events: Vec<ProposedEvent>) -> bool {
    let mut state = connection.state();
    let lost = async {
        // The sender lives as long as the connection.
        let _ = state.wait_for(|state| state.phase != LinkPhase::Connected).await;
    };
    tokio::select! {
        acknowledged = append(connection.client(), events) => acknowledged.unwrap_or(false),
        () = lost => false,
    }
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(rename = "seq")]
    _sequence: u64,
}

async fn append(client: &Client, events: Vec<ProposedEvent>) -> Option<bool> {
    let inbox = client.new_inbox();
    let count = events.len();
    let replies = client.subscribe(format!("{inbox}.*")).await.ok()?;
    for (number, event) in events.into_iter().enumerate() {
        let reply = format!("{inbox}.{number}");
        client.publish_with_reply(event.subject, reply, event.payload).await.ok()?;
    }
    let mut replies = replies.take(count);
    while let Some(reply) = replies.next().await {
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(false);
        }
        match serde_json::from_slice(&reply.payload) {
            Ok(Response::Ok(Acknowledgement { .. })) => {}
            Ok(Response::Err { error }) => {
                limited("proposal refused", |suppressed| {
                    tracing::warn!(suppressed, "the broker refuses a proposal: {error}");
                });
                return Some(false);
            }
            Err(_) => return Some(false),
        }
    }
    Some(true)
}
