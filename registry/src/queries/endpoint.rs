//! The kinds of questions, each an endpoint of the NATS service with a subscription of its own.

use muster_schemas::{ReplicaId, Subjects};

/// The queue group in which replicas share questions.
pub(super) const QUEUE_GROUP: &str = "muster-registry";

/// One kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Services,
    Service,
    Instance,
    Snapshot,
    Status,
    Next,
    History,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 7] =
        [Self::Services, Self::Service, Self::Instance, Self::Snapshot, Self::Status, Self::Next, Self::History];

    /// The name shown by tools.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Service => "service",
            Self::Instance => "instance",
            Self::Snapshot => "snapshot",
            Self::Status => "status",
            Self::Next => "next",
            Self::History => "history",
        }
    }

    /// Where it is asked.
    pub(super) fn subject(self, subjects: &Subjects, replica: &ReplicaId) -> String {
        match self {
            Self::Services => subjects.query_wildcard("services"),
            Self::Service => subjects.query_wildcard("service.*"),
            Self::Instance => subjects.query_wildcard("instance.*.*"),
            Self::Snapshot => subjects.query_wildcard("snapshot"),
            Self::Status => subjects.query_wildcard("status"),
            Self::Next => subjects.all_next(replica),
            Self::History => subjects.query_wildcard("history.>"),
        }
    }

    /// Asked of any replica, not of one.
    pub(super) fn is_shared(self) -> bool {
        self != Self::Next
    }

    /// Answered only by a replica at the log's end.
    pub(super) fn needs_catalog(self) -> bool {
        !matches!(self, Self::Status | Self::Next)
    }
}
