//! Which connection a `Discovery` or a `Registrar` uses, and opening it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use muster_schemas::{Namespace, Prefix, Subjects};

use crate::error::{Error, ErrorKind};
use crate::signals::Signals;

const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";
/// How long a start without a broker tries to find one first.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts to reconnect.
const RECONNECT_MS_MAX: u64 = 4_000;

/// What builders collect.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSettings {
    pub(crate) server: Option<String>,
    pub(crate) client: Option<Client>,
    pub(crate) options: Option<ConnectOptions>,
    pub(crate) namespace: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) inbox_prefix: Option<String>,
    pub(crate) start_disconnected: bool,
}

impl ConnectionSettings {
    /// The subjects of the namespace.
    pub(crate) fn subjects(&self) -> Result<Subjects, Error> {
        let prefix = self.prefix.as_deref().map_or_else(|| Ok(Prefix::default()), Prefix::new)?;
        let namespace = self.namespace.as_deref().map_or_else(|| Ok(Namespace::default()), Namespace::new)?;
        Ok(Subjects::new(prefix, namespace))
    }

    /// The connection: the one that was given, or a new one, whose events go to `signals`.
    pub(crate) async fn open(self, signals: &Arc<Signals>) -> Result<Client, Error> {
        if let Some(client) = self.client {
            return Ok(client);
        }
        let server = self.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let addresses: Vec<&str> = server.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
        let noted = signals.clone();
        let options = self.options.unwrap_or_default().reconnect_delay_callback(reconnect_delay);
        let mut options = options.event_callback(move |event| {
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
