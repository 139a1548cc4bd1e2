//! Makes connections: one at once with a deadline, or one in the background that is waited for later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr, ServerError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::access::Access;
use super::backoff;
use super::connection::{Connection, Role};
use super::error::BrokerError;
use super::link::{Link, is_refusal};
use super::once;
use super::settings::BrokerSettings;

/// What a later attempt to connect may take: a broker that restarts under thousands of clients is slow.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that does not answer for this long gets a rival from the list.
const HEAD_START: Duration = Duration::from_millis(250);
/// A frozen broker is noticed after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(2);

impl BrokerSettings {
    /// Connects, and answers within `connect_timeout` (1 s by default) and a little.
    ///
    /// # Errors
    /// Why there is no usable broker; nothing is left running then.
    pub async fn connect(&self, role: Role) -> Result<Connection, BrokerError> {
        let access = self.access()?;
        let (link, options) = options(&access, &role)?;
        let attempt = first_to_answer(&access, &options, role.once);
        let client = match tokio::time::timeout(access.connect_timeout.as_duration(), attempt).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(typed(&access, &error)),
            Err(_) => {
                let reason = format!("no answer within {}", access.connect_timeout);
                return Err(BrokerError::Unreachable { servers: access.servers(), reason });
            }
        };
        drop(options);
        // Until here the client knows only the server that answered first.
        if !role.once
            && let Err(error) = client.set_server_pool(access.addresses()).await
        {
            tracing::warn!(%error, "the client keeps to a single server");
        }
        let connection = Connection::new(client, link, role);
        connection.check_requirements().await?;
        Ok(connection)
    }

    /// Begins to connect and goes on trying; never waits. See [`Connection::established`]. Not for
    /// [`Role::ends_at_disconnect`], which is ignored here.
    ///
    /// # Errors
    /// The settings are wrong. Whatever the broker has to say comes later.
    pub async fn connect_in_background(&self, role: Role) -> Result<Connection, BrokerError> {
        let access = self.access()?;
        let (link, options) = options(&access, &role)?;
        let client = options
            .retry_on_initial_connect()
            .connect(access.addresses())
            .await
            .map_err(|error| typed(&access, &error))?;
        Ok(Connection::new(client, link, role))
    }
}

fn options(access: &Access, role: &Role) -> Result<(Arc<Link>, ConnectOptions), BrokerError> {
    let (link, alive) = Link::new(role, access.servers());
    let link = Arc::new(link);
    let (events, waits) = (Arc::clone(&link), Arc::clone(&link));
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
        .reconnect_delay_callback(
            move |attempt| if waits.is_closed() { backoff::NEVER } else { backoff::wait(attempt) },
        )
        .event_callback(move |event| {
            // Dropped with this, and this with the client's tasks.
            let _ = &alive;
            events.take(event);
            std::future::ready(())
        });
    if role.deaf_to_itself {
        options = options.no_echo();
    }
    if let Some(ca) = &access.tls_ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &access.tls_client {
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    if access.tls_first {
        options = options.tls_first();
    }
    let options = access.credentials.apply(options).map_err(|error| refuse(access, error.to_string()))?;
    Ok((link, options))
}

fn refuse(access: &Access, reason: String) -> BrokerError {
    BrokerError::CredentialsRefused {
        servers: access.servers(),
        credentials: format!("{}: {reason}", access.credentials.kind()),
    }
}

/// Tries the servers in the given order, each with a head start; the first that answers wins, the others are dropped.
async fn first_to_answer(access: &Access, options: &ConnectOptions, once: bool) -> Result<Client, ConnectError> {
    let mut waiting: VecDeque<ServerAddr> = access.addresses().into();
    let mut attempts = FuturesUnordered::new();
    let mut worst: Option<ConnectError> = None;
    loop {
        if let Some(server) = waiting.pop_front() {
            attempts.push(match once {
                true => once::options(options.clone()).connect(once::pool(server)),
                false => options.clone().connect(vec![server]),
            });
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
        ConnectErrorKind::AuthorizationViolation => {
            BrokerError::CredentialsRefused { servers, credentials: access.credentials.kind() }
        }
        ConnectErrorKind::Authentication => {
            refuse(access, "the broker's challenge could not be signed with it".to_owned())
        }
        ConnectErrorKind::Tls => BrokerError::Tls { servers, reason: deepest(error) },
        // Expired and revoked users are refused in other words.
        _ if causes(error).any(|cause| cause.downcast_ref().is_some_and(is_refused_by_server)) => {
            BrokerError::CredentialsRefused {
                servers,
                credentials: format!("{}: {}", access.credentials.kind(), deepest(error)),
            }
        }
        _ if is_tls(error) => BrokerError::Tls { servers, reason: deepest(error) },
        _ => BrokerError::Unreachable { servers, reason: deepest(error) },
    }
}

fn is_refused_by_server(error: &ServerError) -> bool {
    matches!(error, ServerError::Other(text) if is_refusal(text))
}

/// Trouble with TLS comes as an I/O error that carries one of rustls.
fn is_tls(error: &ConnectError) -> bool {
    causes(error).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        io.is_some_and(<dyn std::error::Error + Send + Sync>::is::<async_nats::rustls::Error>)
            || cause.is::<async_nats::rustls::Error>()
    })
}

fn deepest(error: &ConnectError) -> String {
    causes(error).last().map_or_else(|| error.kind().to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a ConnectError) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}
