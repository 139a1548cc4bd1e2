//! Settings of a `Discovery`, and connecting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use muster_schemas::{Namespace, Prefix, Subjects};
use tokio::sync::mpsc;

use super::Discovery;
use super::shared::{Shared, Source};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::signals::Signals;

/// Views that wait to be opened; the caller waits beyond it.
const OPENS_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(3);
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";
/// How long a start without a broker tries to find one first.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts to reconnect.
const RECONNECT_MS_MAX: u64 = 4_000;

/// Settings of a [`Discovery`].
///
/// ```no_run
/// # async fn example() -> Result<(), muster_discovery::Error> {
/// use std::time::Duration;
/// use muster_discovery::Discovery;
///
/// let discovery = Discovery::builder()
///     .server("nats://nats.internal:4222")
///     .namespace("staging")
///     .cache_dir("/var/cache/shop/muster")
///     .start_disconnected(true)
///     .patience(Duration::from_secs(1))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    server: Option<String>,
    client: Option<Client>,
    options: Option<ConnectOptions>,
    namespace: Option<String>,
    prefix: Option<String>,
    inbox_prefix: Option<String>,
    cache_dir: Option<PathBuf>,
    patience: Option<Duration>,
    start_disconnected: bool,
}

impl Builder {
    /// The broker's address, or several separated by commas; `nats://127.0.0.1:4222` unless given.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// A connection that exists already; used as it is, beside `server`, `options` and `inbox_prefix`.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Credentials, TLS and whatever else the client library offers. Its event callback and its reconnect delays are
    /// replaced by this library's own.
    pub fn options(mut self, options: ConnectOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// The namespace; `default` unless given.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The first token of all subjects; `muster` unless given.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// What replies are sent to; `_INBOX` unless given. Give each identity its own where permissions matter.
    pub fn inbox_prefix(mut self, inbox_prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(inbox_prefix.into());
        self
    }

    /// Keep the last known lists in this directory, for starting while broker or registries are down. What is read from
    /// it is *unknown since* the moment until which it was known to be right. Not kept unless given.
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(directory.into());
        self
    }

    /// How long the first question about a service waits for an answer; 3 s unless given.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Whether to go on without the broker if it cannot be reached, and connect in the background; no unless given.
    /// Everything is *unknown* until then.
    pub fn start_disconnected(mut self, start_disconnected: bool) -> Self {
        self.start_disconnected = start_disconnected;
        self
    }

    /// Connects, and starts the task that keeps the views.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] and [`ErrorKind::InvalidSetting`] for settings; [`ErrorKind::Unreachable`] (not with
    /// `start_disconnected`), [`ErrorKind::CredentialsRefused`] for the connection. Nothing has changed then.
    pub async fn connect(self) -> Result<Discovery, Error> {
        let prefix = self.prefix.as_deref().map_or_else(|| Ok(Prefix::default()), Prefix::new)?;
        let namespace = self.namespace.as_deref().map_or_else(|| Ok(Namespace::default()), Namespace::new)?;
        let subjects = Subjects::new(prefix, namespace);
        let signals = Arc::new(Signals::default());
        let cache = self.cache_dir.clone().map(|directory| Cache::new(directory, subjects.clone()));
        let patience = self.patience.unwrap_or(PATIENCE);
        let client = match self.client {
            Some(client) => client,
            None => self.open_connection(&signals).await?,
        };
        let (opens, opened) = mpsc::channel(OPENS_MAX);
        let clock = Clock::start();
        let source = Source::Broker { opens, cache: cache.clone(), signals: signals.clone() };
        let shared = Arc::new(Shared::new(source, clock, patience));
        let driver = Driver::new(client, subjects, clock, signals, cache, Arc::downgrade(&shared));
        tokio::spawn(driver.run(opened));
        Ok(Discovery::of(shared))
    }

    async fn open_connection(self, signals: &Arc<Signals>) -> Result<Client, Error> {
        let server = self.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let addresses: Vec<&str> = server.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
        let noted = signals.clone();
        let mut options =
            self.options.unwrap_or_default().reconnect_delay_callback(reconnect_delay).event_callback(move |event| {
                noted.note(&event);
                std::future::ready(())
            });
        if let Some(inbox_prefix) = &self.inbox_prefix {
            check_inbox_prefix(inbox_prefix)?;
            options = options.custom_inbox_prefix(inbox_prefix);
        }
        if !self.start_disconnected {
            return options.connect(addresses.as_slice()).await.map_err(|error| refused(&server, error));
        }
        // A first attempt all the same: credentials that the broker refuses will not get better in the background.
        let first = options.clone().connection_timeout(FIRST_ATTEMPT).connect(addresses.as_slice()).await;
        match first.map_err(|error| refused(&server, error)) {
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                let later = options.retry_on_initial_connect().connect(addresses.as_slice()).await;
                later.map_err(|error| refused(&server, error))
            }
            settled => settled,
        }
    }
}

/// The client library panics on a prefix that no subject can begin with.
fn check_inbox_prefix(prefix: &str) -> Result<(), Error> {
    let is_token =
        |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c == '*' || c == '>');
    if prefix.split('.').all(is_token) {
        return Ok(());
    }
    let message =
        format!("inbox_prefix {prefix:?} is no subject: give tokens without spaces, * and >, separated by dots");
    Err(Error::new(ErrorKind::InvalidSetting, message))
}

fn refused(server: &str, error: async_nats::ConnectError) -> Error {
    let (kind, way_out) = match error.kind() {
        ConnectErrorKind::ServerParse => (ErrorKind::InvalidSetting, "give it as nats://host:port"),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (ErrorKind::CredentialsRefused, "check the credentials in `options`")
        }
        ConnectErrorKind::Tls => (ErrorKind::Unreachable, "check the TLS settings in `options`"),
        _ => (ErrorKind::Unreachable, "start the broker, correct the address, or set `start_disconnected`"),
    };
    Error::new(kind, format!("cannot connect to the broker at {server} ({error}): {way_out}")).because(error)
}

/// The first attempt at once, then with jitter, so that the consumers of a broker do not all come back together.
fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let ceiling_ms = (100_u64 << attempts.min(6)).min(RECONNECT_MS_MAX);
    Duration::from_millis(rand::random_range(ceiling_ms / 4..=ceiling_ms))
}
