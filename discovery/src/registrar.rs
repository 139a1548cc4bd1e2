//! `Registrar`: registers what a program itself provides, and vouches for it as long as the program lives.

mod description;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use muster_agent::vouch::{DeregisterOutcome, Timing, Vouch, VouchError, VouchSettings, Vouched};
use muster_schemas::event::DeregisterReason;
use muster_schemas::{AgentId, Health, HealthStatus, InstanceId, Revision, ServiceName};
use tokio::sync::watch;

pub use description::Description;
pub use muster_agent::vouch::{InstanceSpec, Status};

use crate::connection::ConnectionSettings;
use crate::error::{Error, ErrorKind};
use crate::signals::Signals;

/// How long a registration waits to be confirmed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a session is kept for a deregistration in the background, which itself is given 5 s.
const DEREGISTRATION_WITHIN: Duration = Duration::from_secs(6);

/// Registers instances and vouches for them. Cheap to clone; all clones are one agent on one connection.
///
/// ```no_run
/// # async fn example() -> Result<(), muster_discovery::Error> {
/// use muster_discovery::{Description, HealthStatus, Registrar};
///
/// let registrar = Registrar::connect("nats://127.0.0.1:4222").await?;
/// let description = Description::new("orders", "web1-8080")?.endpoint("http", "http", "10.0.0.1", 8080);
/// let orders = registrar.register(description).await?;
/// // Consumers see it now.
/// orders.set_health(HealthStatus::Warning);
/// orders.deregister().await?;
/// # Ok(()) }
/// ```
///
/// The vouching ends with the program: a program that is killed is gone from every list when its TTL has passed.
#[derive(Debug, Clone)]
pub struct Registrar {
    vouch: Arc<Vouch>,
    agent: AgentId,
    patience: Duration,
}

/// Settings of a [`Registrar`].
#[derive(Debug, Default)]
#[must_use]
pub struct RegistrarBuilder {
    connection: ConnectionSettings,
    agent: Option<String>,
    patience: Option<Duration>,
    heartbeat: Option<Duration>,
}

impl RegistrarBuilder {
    /// The broker's address, or several separated by commas; `nats://127.0.0.1:4222` unless given.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.connection.server = Some(server.into());
        self
    }

    /// A connection that exists already; used as it is, beside `server`, `options` and `inbox_prefix`.
    pub fn client(mut self, client: Client) -> Self {
        self.connection.client = Some(client);
        self
    }

    /// Credentials, TLS and whatever else the client library offers. Its event callback and its reconnect delays are
    /// replaced by this library's own.
    pub fn options(mut self, options: ConnectOptions) -> Self {
        self.connection.options = Some(options);
        self
    }

    /// The namespace; `default` unless given.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.connection.namespace = Some(namespace.into());
        self
    }

    /// The first token of all subjects; `muster` unless given.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.connection.prefix = Some(prefix.into());
        self
    }

    /// What replies are sent to; `_INBOX` unless given.
    pub fn inbox_prefix(mut self, inbox_prefix: impl Into<String>) -> Self {
        self.connection.inbox_prefix = Some(inbox_prefix.into());
        self
    }

    /// Whether to go on without the broker if it cannot be reached, and register when it can; no unless given.
    pub fn start_disconnected(mut self, start_disconnected: bool) -> Self {
        self.connection.start_disconnected = start_disconnected;
        self
    }

    /// The agent id, which only one process may use at a time; the program's name and a random number unless given.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }

    /// How long [`Registrar::register`] and [`Registered::deregister`] wait to be confirmed; 10 s unless given.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// How often to send a heartbeat; 2 s unless given, and never less than five to a TTL.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Connects, and begins a session. Nothing is registered yet.
    ///
    /// # Errors
    /// As [`Builder::connect`](crate::Builder::connect).
    pub async fn connect(self) -> Result<Registrar, Error> {
        let subjects = self.connection.subjects()?;
        let agent = AgentId::new(&self.agent.unwrap_or_else(own_name))?;
        let client = self.connection.open(&Arc::new(Signals::default())).await?;
        let heartbeat_ms = self.heartbeat.map(|period| u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
        let mut timing = Timing::default();
        timing.heartbeat_ms = heartbeat_ms.unwrap_or(timing.heartbeat_ms);
        let settings = VouchSettings { subjects, timing, ..VouchSettings::new(client, agent.clone()) };
        let patience = self.patience.unwrap_or(PATIENCE);
        Ok(Registrar { vouch: Arc::new(Vouch::start(settings)), agent, patience })
    }
}

/// The program's name and a random number: several of them on one machine are several agents.
fn own_name() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().into_owned());
    let short: String =
        name.as_deref().unwrap_or("program").chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("{short}-{:08x}", rand::random::<u32>())
}

impl Registrar {
    /// Connects to the broker at `server` (or several, separated by commas) with the namespace `default`.
    ///
    /// # Errors
    /// As [`Builder::connect`](crate::Builder::connect).
    pub async fn connect(server: impl Into<String>) -> Result<Self, Error> {
        Self::builder().server(server).connect().await
    }

    /// Settings before connecting.
    pub fn builder() -> RegistrarBuilder {
        RegistrarBuilder::default()
    }

    /// The agent id.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Registers an instance and waits until a registry has confirmed it: consumers see it then.
    ///
    /// # Errors
    /// [`ErrorKind::Registration`]: against a rule, refused, or not confirmed in time. In the last case the registration
    /// is taken back, as far as it got ([`Error::may_have_changed`]).
    pub async fn register(&self, description: impl Into<Description>) -> Result<Registered, Error> {
        let registered = self.register_in_background(description)?;
        registered.confirmed().await?;
        Ok(registered)
    }

    /// Registers an instance as soon as that is possible, without waiting: for programs that must start while the broker
    /// is away.
    ///
    /// # Errors
    /// [`ErrorKind::Registration`] if the description is against a rule, or the instance is vouched for here already;
    /// [`ErrorKind::Closed`] if another process took over the agent id. Nothing has changed then.
    pub fn register_in_background(&self, description: impl Into<Description>) -> Result<Registered, Error> {
        let vouched = self.vouch.register(description.into().spec).map_err(|error| {
            let kind = match error {
                VouchError::Ended => ErrorKind::Closed,
                VouchError::Refused(_) | VouchError::Held { .. } => ErrorKind::Registration,
            };
            Error::new(kind, error.to_string()).because(error)
        })?;
        let session = Session { vouch: self.vouch.clone(), status: vouched.status() };
        Ok(Registered { vouched, session, patience: self.patience })
    }
}

/// A registration in force. Dropping it takes the registration back in the background, if the program still runs.
#[derive(Debug)]
#[must_use = "dropping it takes the registration back"]
pub struct Registered {
    // The first field is dropped first: that begins the deregistration, during which the second keeps the session.
    vouched: Vouched,
    session: Session,
    patience: Duration,
}

/// Keeps the session until nothing more will come of a vouching: the session's end would cut its deregistration off.
#[derive(Debug)]
struct Session {
    vouch: Arc<Vouch>,
    status: watch::Receiver<Status>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let (vouch, mut status) = (self.vouch.clone(), self.status.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                drop(tokio::time::timeout(DEREGISTRATION_WITHIN, status.wait_for(Status::is_final)).await);
                drop(vouch);
            });
        }
    }
}

impl Registered {
    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.vouched.service()
    }

    /// The instance's id.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        self.vouched.instance()
    }

    /// How the registration stands, and every change of that.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.session.status.clone()
    }

    /// Waits until a registry has confirmed it, at most for the builder's `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Registration`]: refused, or not confirmed in time; it is still vouched for then.
    pub async fn confirmed(&self) -> Result<Revision, Error> {
        let what = format!("{}/{}", self.service(), self.instance());
        match tokio::time::timeout(self.patience, self.vouched.registered()).await {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(error)) => Err(Error::new(ErrorKind::Registration, format!("{what}: {error}")).because(error)),
            Err(_) => {
                let status = self.status().borrow().clone();
                let message =
                    format!("the registration of {what} is not confirmed after {:?}: it is {status}", self.patience);
                Err(Error::new(ErrorKind::Registration, message).although_something_may_have_changed())
            }
        }
    }

    /// Says how healthy it is; `critical` takes it out of use without deregistering it.
    pub fn set_health(&self, status: HealthStatus) {
        self.vouched.set_health(Health { status, ..Health::default() });
    }

    /// Describes it anew, as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Registration`] if the description is against a rule; nothing has changed then.
    pub fn update(&self, description: impl Into<Description>) -> Result<(), Error> {
        let updated = self.vouched.update(description.into().spec);
        updated.map_err(|refusal| Error::new(ErrorKind::Registration, refusal.to_string()).because(refusal))
    }

    /// Takes it back and waits until a registry has confirmed that: consumers are told then.
    ///
    /// # Errors
    /// [`ErrorKind::Registration`] if that was not confirmed in time; what is left ends with the lease.
    pub async fn deregister(self) -> Result<(), Error> {
        let what = format!("{}/{}", self.service(), self.instance());
        match self.vouched.deregister(DeregisterReason::Stopped, None, self.patience).await {
            DeregisterOutcome::Removed { .. } | DeregisterOutcome::NothingToRemove => Ok(()),
            DeregisterOutcome::Unconfirmed { problem } => {
                let message =
                    format!("the deregistration of {what} is not confirmed ({problem}): it ends with its lease");
                Err(Error::new(ErrorKind::Registration, message).although_something_may_have_changed())
            }
        }
    }
}
