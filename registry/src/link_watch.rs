//! Tells the shell when a connection can be relied on: after it was made (again), its subscriptions were restored, and the
//! broker answered a message of its own; and when it no longer can.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use muster_runtime::broker::{Connection, LinkPhase};
use tokio::sync::{Notify, mpsc};

/// How long one round trip may take before it is tried again.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(1);

/// Which of the shell's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkRole {
    /// The one that the log and the heartbeats come by.
    Log,
    /// The one that changes, pulses, beacons and marks leave by.
    Output,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// Everything subscribed to before is in force.
    Up(LinkRole),
    /// It is gone, or was for a moment.
    Down(LinkRole),
    /// A subscription overflowed.
    Overflowed(LinkRole),
    /// It was closed and does not come back.
    Closed(LinkRole),
}

/// How often a connection is looked at although it said nothing: its events can get lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches a connection until it is closed or nobody listens any more. `recheck` asks for another round trip, for
/// instance because the connection seems stuck.
pub(crate) async fn watch(role: LinkRole, connection: Connection, recheck: Arc<Notify>, out: mpsc::Sender<LinkChange>) {
    watch_open(role, &connection, &recheck, &out).await;
    // Nobody left to tell: the shell ends.
    let _ = out.send(LinkChange::Closed(role)).await;
}

async fn watch_open(role: LinkRole, connection: &Connection, recheck: &Notify, out: &mpsc::Sender<LinkChange>) {
    let nobody = NobodysSubject::new(connection.client());
    let mut state = connection.state();
    let mut relied_on = None;
    let mut overflows = state.borrow().slow_consumers;
    loop {
        let (phase, now_overflows) = {
            let state = state.borrow_and_update();
            (state.phase, state.slow_consumers)
        };
        if phase == LinkPhase::Closed {
            return;
        }
        let (connected, connects) = (connection.is_connected(), connection.connects());
        let mut changes = Vec::new();
        if now_overflows > overflows {
            overflows = now_overflows;
            changes.push(LinkChange::Overflowed(role));
        }
        if relied_on.is_some_and(|before| !connected || connects != before) {
            relied_on = None;
            changes.push(LinkChange::Down(role));
        }
        if connected && relied_on.is_none() && nobody.round_trip().await && connection.connects() == connects {
            relied_on = Some(connects);
            changes.push(LinkChange::Up(role));
        }
        for change in changes {
            if out.send(change).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = recheck.notified() => relied_on = None,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// A subject of one's own that nobody listens to: whoever asks there is told so once the broker has handled everything
/// that the connection sent before. Always the same, for brokers of other clusters are asked once whether they know anybody.
struct NobodysSubject {
    client: Client,
    subject: String,
}

impl NobodysSubject {
    fn new(client: &Client) -> Self {
        Self { client: client.clone(), subject: client.new_inbox() }
    }

    async fn round_trip(&self) -> bool {
        let asked = self.client.request(self.subject.clone(), Bytes::new());
        match tokio::time::timeout(ROUND_TRIP_TIMEOUT, asked).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
            Err(_) => false,
        }
    }
}
