//! Why a command failed, and the exit code that says so.

use muster_runtime::broker::BrokerError;
use muster_runtime::exit::{Exit, ExitReason};
use muster_schemas::query::QueryError;
use muster_schemas::refusal::Refusal;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// No usable broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A registry answered with an error.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// No registry answered.
    #[error(
        "no registry answers in namespace {namespace} ({reason}); start one with `muster-registry`, or check --namespace and --prefix"
    )]
    NoRegistry {
        /// The namespace that was asked.
        namespace: String,
        /// What came instead of an answer.
        reason: String,
    },
    /// An argument is against a rule.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Somebody else has taken over.
    #[error("{0}")]
    Superseded(String),
    /// There is no nats-server to start.
    #[error("{0}")]
    NoNatsServer(String),
    /// Something on this machine is not as the settings say.
    #[error("{0}")]
    Configuration(String),
    /// The registry inside this process ended.
    #[error(transparent)]
    Registry(#[from] muster_registry::RegistryError),
    /// The past cannot be told.
    #[error(transparent)]
    Past(#[from] muster_registry::past::PastError),
    /// What was asked for failed.
    #[error("{0}")]
    Failed(String),
}

impl ExitReason for CommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Registry(error) => error.exit(),
            Self::Usage(_) | Self::Refused(_) => Exit::Usage,
            Self::Superseded(_) => Exit::Superseded,
            Self::NoNatsServer(_) => Exit::BrokerUnavailable,
            Self::Configuration(_) => Exit::Configuration,
            Self::Query(_) | Self::Past(_) | Self::NoRegistry { .. } | Self::Failed(_) => Exit::Failed,
        }
    }
}
