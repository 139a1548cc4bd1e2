//! Appends proposals to the log, one batch at a time, over a connection that is closed, not resumed, at the first
//! disconnect: a proposal must not outlive its reason, and a client that reconnects sends what it still had in its queue.

use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, StatusCode};
use futures::StreamExt;
use muster_runtime::broker::{BrokerSettings, Connection, Role};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
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

/// Appends batch after batch until nobody sends any; there is never more than one under way.
pub(crate) async fn run(
    broker: BrokerSettings,
    role: Role,
    timeout: Duration,
    mut batches: mpsc::Receiver<Batch>,
    done: impl AsyncFn(Proposed),
) {
    let mut connection: Option<Disposable> = None;
    while let Some(Batch { batch, events }) = batches.recv().await {
        if connection.as_ref().is_none_or(Disposable::is_spent) {
            drop(connection.take());
            connection = Disposable::open(&broker, &role).await;
        }
        let acknowledged = match &connection {
            Some(connection) => tokio::time::timeout(timeout, connection.append(events))
                .await
                .unwrap_or(false),
            None => false,
        };
        if !acknowledged {
            connection = None;
        }
        done(Proposed { batch, acknowledged }).await;
    }
}

/// A connection that can be thrown away with everything in its queue: all its tasks live in a runtime of their own.
struct Disposable {
    connection: Connection,
    runtime: Option<Runtime>,
}

impl Drop for Disposable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Disposable {
    async fn open(broker: &BrokerSettings, role: &Role) -> Option<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("muster-propose")
            .enable_all()
            .build()
            .inspect_err(|error| tracing::error!(%error, "no thread for proposals"))
            .ok()?;
        let (broker, role) = (broker.clone(), role.clone());
        let connecting = runtime.spawn(async move { broker.connect(role).await });
        match connecting.await {
            Ok(Ok(connection)) => Some(Self {
                connection,
                runtime: Some(runtime),
            }),
            outcome => {
                runtime.shutdown_background();
                if let Ok(Err(error)) = outcome {
                    muster_runtime::logging::limited("proposal connection", |suppressed| {
                        tracing::warn!(suppressed, "no connection for proposals: {error}");
                    });
                }
                None
            }
        }
    }

    /// It was lost at least once.
    fn is_spent(&self) -> bool {
        self.connection.connects() != 1 || !self.connection.is_connected()
    }

    /// Appends all events, in order. False at the first failure or disconnect; any of them may be in the log then.
    async fn append(&self, events: Vec<ProposedEvent>) -> bool {
        let mut state = self.connection.state();
        let lost = async {
            loop {
                if self.is_spent() || state.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            acknowledged = append(self.connection.client(), events) => acknowledged.unwrap_or(false) && !self.is_spent(),
            () = lost => false,
        }
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
        client
            .publish_with_reply(event.subject, reply, event.payload)
            .await
            .ok()?;
    }
    let mut replies = replies.take(count);
    while let Some(reply) = replies.next().await {
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(false);
        }
        match serde_json::from_slice(&reply.payload) {
            Ok(Response::Ok(Acknowledgement { .. })) => {}
            Ok(Response::Err { error }) => {
                muster_runtime::logging::limited("proposal refused", |suppressed| {
                    tracing::warn!(suppressed, "the broker refuses a proposal: {error}");
                });
                return Some(false);
            }
            Err(_) => return Some(false),
        }
    }
    Some(true)
}
