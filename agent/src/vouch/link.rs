//! Whether the connection stands, and which one it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::Client;
use async_nats::connection::State;
use muster_schemas::heartbeat::Connection;
use tokio::sync::Notify;

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
}

impl Link {
    pub(super) fn new(client: Client, changed: Option<Arc<Notify>>) -> Self {
        Self { client, changed, connects: 0, known: None }
    }

    /// Waits until somebody says that the connection changed; for ever if nobody does.
    pub(super) async fn changed(&self) {
        match &self.changed {
            Some(changed) => changed.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn look(&mut self) -> Look {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let stands = self.client.connection_state() == State::Connected;
        let present = stands.then(|| self.present()).flatten();
        if self.known.is_some() && (present.is_none() || connects != self.connects || present != self.known) {
            self.known.clone_from(&present);
            self.connects = connects;
            return Look::Broke(present);
        }
        match present {
            Some(present) if self.known.is_none() => {
                self.known = Some(present.clone());
                self.connects = connects;
                Look::Stands(present)
            }
            _ => Look::Same,
        }
    }

    /// None while the broker has not introduced itself.
    fn present(&self) -> Option<Connection> {
        let info = self.client.server_info();
        if info.server_id.is_empty() {
            return None;
        }
        Some(Connection(info.server_name, info.server_id, info.client_id))
    }
}
