//! Why there is no usable broker, in words with a way out, and the exit code of each.

use crate::exit::{Exit, ExitReason};
use crate::settings::Problems;

use super::link::Violation;
use super::requirements::SERVER_VERSION_MIN;

/// Why there is no usable broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Nobody answers, or not in time.
    #[error("no broker answers at {servers}: {reason}; check --server or NATS_URL, and that nats-server runs there")]
    Unreachable {
        /// As given, without passwords.
        servers: String,
        /// What the attempt ended with.
        reason: String,
    },
    /// The broker refuses the credentials.
    #[error(
        "the broker at {servers} refuses the credentials ({credentials}); check --creds, --nkey, --user or --token-file"
    )]
    CredentialsRefused {
        /// As given, without passwords.
        servers: String,
        /// Which kind was offered.
        credentials: String,
    },
    /// No TLS connection comes about.
    #[error("no TLS connection to {servers}: {reason}; check --tls-ca, --tls-cert and --tls-key")]
    Tls {
        /// As given, without passwords.
        servers: String,
        /// What the attempt ended with.
        reason: String,
    },
    /// The broker lacks what Muster needs.
    #[error("the broker {server} has version {version}, but {}.{} or newer is needed; upgrade nats-server", SERVER_VERSION_MIN.0, SERVER_VERSION_MIN.1)]
    TooOld {
        /// Its name.
        server: String,
        /// What it says.
        version: String,
    },
    /// The broker or the account has no JetStream.
    #[error(
        "the broker {server} offers no JetStream ({reason}); start nats-server with `-js` or `jetstream {{}}`, and enable it for the account"
    )]
    NoJetStream {
        /// Its name.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Subjects that are needed are refused.
    #[error("the broker refuses {}; grant these permissions to the user of {connection}", list(.violations))]
    SubjectsRefused {
        /// The connection's name.
        connection: String,
        /// Which.
        violations: Vec<Violation>,
    },
    /// Whether the subjects are granted could not be found out.
    #[error("the broker did not answer the check of permissions of {connection} within {waited_ms} ms")]
    PermissionsUnknown {
        /// The connection's name.
        connection: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// Files or contexts are wrong.
    #[error("{0}")]
    Settings(Problems),
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl ExitReason for BrokerError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. }
            | Self::TooOld { .. }
            | Self::NoJetStream { .. }
            | Self::PermissionsUnknown { .. } => Exit::BrokerUnavailable,
            Self::CredentialsRefused { .. } | Self::SubjectsRefused { .. } => Exit::PermissionDenied,
            Self::Tls { .. } => Exit::Configuration,
            Self::Settings(problems) => problems.exit(),
        }
    }
}
