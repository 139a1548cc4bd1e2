//! Makes connections: one at once with a deadline, or one in the background that is waited for later.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{broadcast, watch};

use super::access::Access;
use super::backoff;
use super::error::BrokerError;
use super::link::{Link, LinkEvent, LinkState};
use super::permissions::{self, Need};
use super::requirements::{check_jetstream, check_version};
use super::settings::BrokerSettings;

/// What a later attempt to connect may take: a broker that restarts under thousands of clients is slow.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that does not answer for this long gets a rival from the list.
const HEAD_START: Duration = Duration::from_millis(250);
/// A frozen broker is noticed after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(2);

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

impl BrokerSettings {
    /// Connects, and answers within `connect_timeout` (1 s by default) and a little.
    ///
    /// # Errors
    /// Why there is no usable broker; nothing is left running then.
    pub async fn connect(&self, role: Role) -> Result<Connection, BrokerError> {
        let access = self.access()?;
        let link = Arc::new(Link::new(role.name.clone(), access.servers()));
        let options = options(&access, &role, &link)?;
        let attempt = first_to_answer(&access, &options);
        let client = match tokio::time::timeout(access.connect_timeout.as_duration(), attempt).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(typed(&access, &error)),
            Err(_) => {
                let reason = format!("no answer within {}", access.connect_timeout);
                return Err(BrokerError::Unreachable {
                    servers: access.servers(),
                    reason,
                });
            }
        };
        // Until here the client knows only the server that answered first.
        if let Err(error) = client.set_server_pool(access.addresses()).await {
            tracing::warn!(%error, "the client keeps to a single server");
        }
        let connection = Connection::new(client, link, role);
        connection.check_requirements().await?;
        Ok(connection)
    }

    /// Begins to connect and goes on trying; never waits. See [`Connection::established`].
    ///
    /// # Errors
    /// The settings are wrong. Whatever the broker has to say comes later.
    pub async fn connect_in_background(&self, role: Role) -> Result<Connection, BrokerError> {
        let access = self.access()?;
        let link = Arc::new(Link::new(role.name.clone(), access.servers()));
        let options = options(&access, &role, &link)?.retry_on_initial_connect();
        let client = options
            .connect(access.addresses())
            .await
            .map_err(|error| typed(&access, &error))?;
        Ok(Connection::new(client, link, role))
    }
}

impl Connection {
    fn new(client: Client, link: Arc<Link>, role: Role) -> Self {
        link.attach(client.statistics());
        Self {
            client,
            link,
            role: Arc::new(role),
        }
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
        self.client
            .statistics()
            .connects
            .load(std::sync::atomic::Ordering::Relaxed)
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

    async fn check_requirements(&self) -> Result<(), BrokerError> {
        check_version(&self.client.server_info())?;
        if self.role.jetstream {
            check_jetstream(&self.client).await
        } else {
            Ok(())
        }
    }
}

fn options(access: &Access, role: &Role, link: &Arc<Link>) -> Result<ConnectOptions, BrokerError> {
    let events = Arc::clone(link);
    let inbox = match &role.identity {
        Some(identity) => format!("{}.{identity}", access.inbox_prefix),
        None => access.inbox_prefix.clone(),
    };
    let mut options = ConnectOptions::new()
        .name(&role.name)
        .custom_inbox_prefix(inbox)
        .connection_timeout(RECONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(role.subscription_capacity)
        .client_capacity(role.command_capacity)
        .reconnect_delay_callback(backoff::wait)
        .event_callback(move |event| {
            events.take(event);
            std::future::ready(())
        });
    if let Some(ca) = &access.tls_ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &access.tls_client {
        options = options
            .add_client_certificate(cert.clone(), key.clone())
            .require_tls(true);
    }
    if access.tls_first {
        options = options.tls_first();
    }
    access
        .credentials
        .apply(options)
        .map_err(|error| refuse(access, error.to_string()))
}

fn refuse(access: &Access, reason: String) -> BrokerError {
    BrokerError::CredentialsRefused {
        servers: access.servers(),
        credentials: format!("{}: {reason}", access.credentials.kind()),
    }
}

/// Tries the servers in the given order, each with a head start; the first that answers wins, the others are dropped.
async fn first_to_answer(access: &Access, options: &ConnectOptions) -> Result<Client, ConnectError> {
    let mut waiting: std::collections::VecDeque<ServerAddr> = access.addresses().into();
    let mut attempts = FuturesUnordered::new();
    let mut worst: Option<ConnectError> = None;
    loop {
        if let Some(server) = waiting.pop_front() {
            attempts.push(options.clone().connect(server));
        }
        let head_start = if waiting.is_empty() { Duration::MAX } else { HEAD_START };
        match tokio::time::timeout(head_start, attempts.next()).await {
            Ok(Some(Ok(client))) => return Ok(client),
            Ok(Some(Err(error))) => worst = Some(worse(worst, error)),
            Ok(None) => return Err(worst.unwrap_or_else(|| ConnectError::new(ConnectErrorKind::ServerParse))),
            Err(_) => {}
        }
    }
}

/// The error that tells more: a server that refuses us beats one that is not there.
fn worse(known: Option<ConnectError>, new: ConnectError) -> ConnectError {
    let weight = |error: &ConnectError| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => 2,
        ConnectErrorKind::Tls => 2,
        _ if is_tls(error) => 2,
        _ => 1,
    };
    match known {
        Some(known) if weight(&known) >= weight(&new) => known,
        _ => new,
    }
}

fn typed(access: &Access, error: &ConnectError) -> BrokerError {
    let servers = access.servers();
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => BrokerError::CredentialsRefused {
            servers,
            credentials: access.credentials.kind(),
        },
        ConnectErrorKind::Authentication => {
            refuse(access, "the broker's challenge could not be signed with it".to_owned())
        }
        ConnectErrorKind::Tls => BrokerError::Tls {
            servers,
            reason: deepest(error),
        },
        _ if is_tls(error) => BrokerError::Tls {
            servers,
            reason: deepest(error),
        },
        _ => BrokerError::Unreachable {
            servers,
            reason: deepest(error),
        },
    }
}

/// Trouble with TLS comes as an I/O error that carries one of rustls.
fn is_tls(error: &ConnectError) -> bool {
    causes(error).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        io.is_some_and(|inner| inner.is::<async_nats::rustls::Error>()) || cause.is::<async_nats::rustls::Error>()
    })
}

fn deepest(error: &ConnectError) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.kind().to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a ConnectError) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}
