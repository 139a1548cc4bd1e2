//! A connection: what it is for, the state it is in, and what the broker grants it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::FutureExt;
use tokio::sync::{broadcast, watch};

use super::error::BrokerError;
use super::link::{Link, LinkEvent, LinkState};
use super::permissions::{self, Need};
use super::requirements::{check_jetstream, check_version};

/// What closing may take; only a broker that stands still takes longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection is for. Give heavy input, output and requests connections of their own: one connection is read,
/// dispatched and written by one task.
#[derive(Clone, Debug)]
pub struct Role {
    /// What operators see in the broker's list of connections: `muster-registry r1 output`.
    pub name: String,
    /// Becomes a token behind the inbox prefix, so that broker permissions can keep others from reading our replies;
    /// must be a valid subject token.
    pub identity: Option<String>,
    /// Refuse a broker without JetStream.
    pub jetstream: bool,
    /// End at the first disconnect instead of coming back.
    pub once: bool,
    /// Do not hear what this connection publishes itself.
    pub deaf_to_itself: bool,
    /// Messages that wait in one subscription before it overflows, which loses the newest.
    pub subscription_capacity: usize,
    /// Commands that wait for the connection's task before the sender has to.
    pub command_capacity: usize,
}

impl Role {
    /// A role with the client's usual bounds.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            identity: None,
            jetstream: false,
            once: false,
            deaf_to_itself: false,
            subscription_capacity: 65_536,
            command_capacity: 2_048,
        }
    }

    /// With an inbox of its own.
    #[must_use]
    pub fn identity(mut self, token: impl Into<String>) -> Self {
        self.identity = Some(token.into());
        self
    }

    /// Of no use without JetStream.
    #[must_use]
    pub fn needs_jetstream(mut self) -> Self {
        self.jetstream = true;
        self
    }

    /// For what must not outlive its reason: at the first disconnect the connection is closed, and what it had not
    /// sent is never sent. Connect anew then.
    #[must_use]
    pub fn ends_at_disconnect(mut self) -> Self {
        self.once = true;
        self
    }

    /// The broker sends back nothing that this connection publishes, also where it has subscribed to it. Whoever asks
    /// for a round trip gets *no responders* instead of its own message.
    #[must_use]
    pub fn deaf_to_itself(mut self) -> Self {
        self.deaf_to_itself = true;
        self
    }

    /// With another bound on waiting messages.
    #[must_use]
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages;
        self
    }
}

/// A connection to the broker. Dropping it does not close it as long as clones of its client live.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    link: Arc<Link>,
    role: Arc<Role>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role.name)
            .field("state", &*self.link.state().borrow())
            .finish()
    }
}

impl Connection {
    pub(super) fn new(client: Client, link: Arc<Link>, role: Role) -> Self {
        link.attach(client.statistics());
        Self { client, link, role: Arc::new(role) }
    }

    /// The client of this connection, for everything else.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The connection's name, as the broker lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.role.name
    }

    /// The present state, and a way to wait for the next. Nothing is lost here but intermediate states.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.link.state()
    }

    /// What happens from now on. Who is more than 256 events behind loses the oldest and is told.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.link.events()
    }

    /// How often the connection was made, from the client's own counter: right even where an event got lost.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether the connection was closed and does not come back.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Whether the connection is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits, without limit, until the connection was made for the first time, and checks the broker.
    ///
    /// # Errors
    /// The broker is too old or lacks JetStream.
    pub async fn established(&self) -> Result<(), BrokerError> {
        let mut state = self.state();
        // The sender lives in `self.link`, so waiting cannot fail.
        let _ = state.wait_for(|state| state.connects > 0).await;
        self.check_requirements().await
    }

    /// Finds out by a round trip whether the broker grants what is needed.
    ///
    /// A check of publishing sends an empty message that no stream accepts (header `Nats-Expected-Stream`) to the
    /// subject itself; plain subscribers see it and must ignore it.
    ///
    /// # Errors
    /// [`BrokerError::SubjectsRefused`] with everything that is refused, or [`BrokerError::PermissionsUnknown`].
    pub async fn verify(&self, needs: &[Need]) -> Result<(), BrokerError> {
        permissions::verify(&self.client, self.name(), self.events(), needs).await
    }

    /// Closes the connection for all its clones: what was sent before leaves, every subscription ends, and on return the
    /// broker is left and the tasks behind the connection have ended. Nothing of it is logged any more.
    ///
    /// Two brokers make a difference. One that stands still is waited for one second; the connection ends within two
    /// more. One that is not there cannot be left: the client library has no way to end its attempts to come back, so
    /// they end after the one under way, and a task sleeps on until the runtime ends.
    pub async fn close(&self) {
        let was_connected = self.is_connected();
        self.link.close();
        if !was_connected {
            // Should an attempt succeed that is under way, this ends the connection at once.
            let _ = self.client.drain().now_or_never();
            return;
        }
        let closed = async {
            // Fails where the tasks have ended by themselves.
            let _ = self.client.drain().await;
            self.link.ended().await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
    }

    pub(super) async fn check_requirements(&self) -> Result<(), BrokerError> {
        check_version(&self.client.server_info())?;
        if self.role.jetstream { check_jetstream(&self.client).await } else { Ok(()) }
    }
}
