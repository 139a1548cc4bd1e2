//! Why a registry ends, and with which exit code.

use muster_runtime::broker::BrokerError;
use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::http::HttpError;

use crate::stream::Difference;

/// Why a registry ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no usable broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Metrics and health cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The stream is there, and is not as it must be. It was left as it is.
    #[error(
        "stream {stream} has another configuration: {}; change it with `nats stream edit {stream}`, or choose another \
         --namespace", list(.differences)
    )]
    StreamDiffers {
        /// The stream.
        stream: String,
        /// Each field that differs.
        differences: Vec<Difference>,
    },
    /// The broker does not say what the stream is like.
    #[error(
        "the broker does not describe stream {stream}: {reason}; check JetStream and the permissions for $JS.API.>"
    )]
    StreamUnknown {
        /// The stream.
        stream: String,
        /// What it said.
        reason: String,
    },
    /// The state directory cannot be used.
    #[error(
        "the state directory {directory} cannot be used: {reason}; choose another --state-dir, or make it writable"
    )]
    StateDirectory {
        /// The directory.
        directory: String,
        /// What happened.
        reason: String,
    },
    /// The operating system gives no thread.
    #[error("no thread for the registry's core: {reason}; allow this user more threads")]
    Thread {
        /// What it says.
        reason: String,
    },
    /// A connection ended for good.
    #[error("the connection {connection} was closed")]
    Closed {
        /// Its name.
        connection: String,
    },
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl ExitReason for RegistryError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Http(error) => error.exit(),
            Self::StreamDiffers { .. } | Self::StateDirectory { .. } => Exit::Configuration,
            Self::StreamUnknown { .. } | Self::Closed { .. } => Exit::BrokerUnavailable,
            Self::Thread { .. } => Exit::Failed,
        }
    }
}
