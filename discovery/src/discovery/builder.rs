//! Settings of a `Discovery`, and connecting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};

use super::Discovery;
use super::shared::{Shared, Source, waiting_opens};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::connection::ConnectionSettings;
use crate::driver::Driver;
use crate::error::Error;
use crate::signals::Signals;

const PATIENCE: Duration = Duration::from_secs(3);

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
    connection: ConnectionSettings,
    cache_dir: Option<PathBuf>,
    patience: Option<Duration>,
}

impl Builder {
    /// The broker's address, or several separated by commas; `nats://127.0.0.1:4222` unless given.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.connection.server = Some(server.into());
        self
    }

    /// A connection that exists already; used as it is, and `server`, `options` and `inbox_prefix` are not.
    ///
    /// Its events go to whoever made it. Lists are as right without them, only repaired later. A disconnect, however
    /// short, is found within 100 ms, by the connection's own counters. Messages that were dropped because a buffer was
    /// full leave a gap: the next change of the service shows it, or the next pulse, which comes every 2 s; half a second
    /// later the list is asked for. Until then it is what it was at its revision, and what no pulse confirms for 6 s is
    /// *unknown*. A subject that the broker refuses cannot be told from one that is silent: then the list stays *unknown*,
    /// where a connection of the library's own leads to [`PermissionDenied`](crate::ErrorKind::PermissionDenied).
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

    /// What replies are sent to; `_INBOX` unless given. Give each identity its own where permissions matter.
    pub fn inbox_prefix(mut self, inbox_prefix: impl Into<String>) -> Self {
        self.connection.inbox_prefix = Some(inbox_prefix.into());
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
        self.connection.start_disconnected = start_disconnected;
        self
    }

    /// Connects, and starts the task that keeps the views.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName) and [`InvalidSetting`](crate::ErrorKind::InvalidSetting) for settings;
    /// [`Unreachable`](crate::ErrorKind::Unreachable), but not with `start_disconnected`, and
    /// [`CredentialsRefused`](crate::ErrorKind::CredentialsRefused) for the connection. Nothing has changed then.
    pub async fn connect(self) -> Result<Discovery, Error> {
        let subjects = self.connection.subjects()?;
        let signals = Arc::new(Signals::default());
        let cache = self.cache_dir.clone().map(|directory| Cache::new(directory, subjects.clone()));
        let patience = self.patience.unwrap_or(PATIENCE);
        let client = self.connection.open(&signals).await?;
        let (opens, opened) = waiting_opens();
        let clock = Clock::start();
        let source = Source::Broker { opens, cache: cache.clone(), signals: signals.clone() };
        let shared = Arc::new(Shared::new(source, clock, patience));
        let driver = Driver::new(client, subjects, clock, signals, cache, Arc::downgrade(&shared));
        tokio::spawn(driver.run(opened));
        Ok(Discovery::of(shared))
    }
}
