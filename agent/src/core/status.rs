//! How a vouching stands, as its owner sees it.

use muster_schemas::agent::Notice;
use muster_schemas::{AgentId, Incarnation, Revision, SessionId};

/// How a vouching stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not confirmed yet, or not any more; the agent goes on trying.
    Pending(Pending),
    /// A registry confirmed it.
    Registered {
        /// Of the last confirmed event.
        revision: Revision,
        /// Another instance registered the same host and port: who, for people.
        conflict: Option<String>,
    },
    /// A registry will not have it as it is: nothing more is tried before it is updated.
    Refused(Notice),
    /// An operator evicted it; the agent asks again now and then, and comes back when that is cleared.
    Fenced(Notice),
    /// Somebody else vouches for it with a larger incarnation and lives; the agent waits for that to end.
    Duplicate {
        /// Who.
        holder: Holder,
    },
    /// Another session took it over; nothing more is claimed.
    Displaced {
        /// Who did, if a registry could tell.
        by: Option<Holder>,
    },
    /// Being taken back.
    Deregistering,
    /// Taken back: nothing more will come.
    Deregistered(DeregisterOutcome),
    /// Another session of this agent id took over: nothing more will come.
    Superseded,
    /// The vouching ended without a deregistration: nothing more will come.
    Stopped,
}

/// What a pending vouching waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pending {
    /// The session has not begun: no connection to the broker yet.
    Starting,
    /// The connection to the broker broke.
    Disconnected,
    /// On its way to the log.
    Publishing,
    /// In the log; no registry has confirmed it yet.
    Confirming {
        /// What came instead of a confirmation, for people.
        problem: Option<String>,
    },
    /// It did not work; it is tried again, without end.
    Retrying {
        /// Why, for people.
        problem: String,
    },
}

/// Who vouches for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The agent.
    pub agent: AgentId,
    /// Its session.
    pub session: SessionId,
    /// Its vouching.
    pub incarnation: Incarnation,
}

/// What became of a deregistration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeregisterOutcome {
    /// A registry showed that the instance is gone.
    Removed {
        /// Of the deregistration, in the log in force.
        sequence: u64,
    },
    /// Nothing of it was in the log, or it is somebody else's by now.
    NothingToRemove,
    /// It was not seen in time. What is left of it ends with its lease.
    Unconfirmed {
        /// What came instead, for people.
        problem: String,
    },
}

impl DeregisterOutcome {
    /// No consumer is offered the instance any more, as far as registries can tell.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        !matches!(self, Self::Unconfirmed { .. })
    }
}

impl Status {
    /// Nothing more will come.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Displaced { .. } | Self::Deregistered(_) | Self::Superseded | Self::Stopped)
    }

    /// A registry confirmed it.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        matches!(self, Self::Registered { .. })
    }
}

impl std::fmt::Display for Status {
    /// In words that follow "the registration is".
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pending(pending) => pending.fmt(out),
            Self::Registered { revision, conflict } => {
                write!(out, "confirmed at sequence {}", revision.sequence())?;
                conflict.as_ref().map_or(Ok(()), |other| write!(out, "; conflict: {other}"))
            }
            Self::Refused(notice) => write!(out, "refused: {}", notice.help),
            Self::Fenced(notice) => write!(out, "fenced: {}", notice.help),
            Self::Duplicate { holder } => write!(
                out,
                "held by the living agent {} with a larger incarnation: stop one of the two, or give them different \
                 instance ids",
                holder.agent
            ),
            Self::Displaced { by } => {
                out.write_str("displaced: another agent registered the same instance id")?;
                by.as_ref().map_or(Ok(()), |holder| write!(out, " ({})", holder.agent))
            }
            Self::Deregistering => out.write_str("being taken back"),
            Self::Deregistered(DeregisterOutcome::Unconfirmed { problem }) => {
                write!(out, "taken back, unconfirmed: {problem}")
            }
            Self::Deregistered(_) => out.write_str("taken back"),
            Self::Superseded => out.write_str("superseded: another process runs under the same agent id"),
            Self::Stopped => out.write_str("no longer vouched for"),
        }
    }
}

impl std::fmt::Display for Pending {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => out.write_str("waiting for the broker"),
            Self::Disconnected => out.write_str("waiting for the connection to the broker"),
            Self::Publishing => out.write_str("on its way"),
            Self::Confirming { problem: None } => out.write_str("waiting for a registry to confirm it"),
            Self::Confirming { problem: Some(problem) } => {
                write!(out, "waiting for a registry to confirm it ({problem})")
            }
            Self::Retrying { problem } => write!(out, "being tried again ({problem})"),
        }
    }
}
