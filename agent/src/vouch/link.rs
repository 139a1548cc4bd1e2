//! Whether the connection stands, and which one it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use muster_schemas::heartbeat::Connection;
use tokio::sync::Notify;

/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same while it stands and somebody would say if it broke: a freeze of the process must still be noticed, and an agent
/// that has nothing to do must not cost what looking costs.
const LOOK_EVERY_WHEN_TOLD: Duration = Duration::from_millis(500);

/// What a look at the connection found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// As before.
    Same,
    /// It broke; it may stand again already.
    Broke(Option<Connection>),
    /// It stands now.
    Stands(Connection),
}

/// Compares the connection with what it was. The client's own counter tells of a break that was too short to be seen.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    changed: Option<Arc<Notify>>,
    connects: u64,
    known: Option<Connection>,
    last: Option<Connection>,
}

impl Link {
    pub(super) fn new(client: Client, changed: Option<Arc<Notify>>) -> Self {
        Self { client, changed, connects: 0, known: None, last: None }
    }

    /// Waits until somebody says that the connection changed; for ever if nobody does.
    pub(super) async fn changed(&self) {
        match &self.changed {
            Some(changed) => changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// How long after one look the next one is due, whatever happens.
    pub(super) fn look_again_after(&self) -> Duration {
        let is_told = self.changed.is_some() && self.known.is_some();
        if is_told { LOOK_EVERY_WHEN_TOLD } else { LOOK_EVERY }
    }

    pub(super) fn look(&mut self) -> Look {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let stands = self.client.connection_state() == State::Connected;
        if self.known.is_some() && stands && connects == self.connects {
            return Look::Same;
        }
        let present = stands.then(|| self.present()).flatten();
        if self.known.is_some() {
            self.last = self.known.take();
            self.connects = connects;
            self.known.clone_from(&present);
            return Look::Broke(present);
        }
        let Some(present) = present else { return Look::Same };
        self.connects = connects;
        self.known = Some(present.clone());
        Look::Stands(present)
    }

    /// None while the broker has not introduced itself: for a moment the client shows the words of the last connection.
    fn present(&self) -> Option<Connection> {
        let info = self.client.server_info();
        if info.server_id.is_empty() {
            return None;
        }
        let present = Connection(info.server_name, info.server_id, info.client_id);
        let before = self.known.as_ref().or(self.last.as_ref());
        let is_another = before.is_none_or(|before| (&before.1, before.2) != (&present.1, present.2));
        is_another.then_some(present)
    }
}
