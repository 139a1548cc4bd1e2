//! Something that whoever watches should see at once.

use serde::{Deserialize, Serialize};

use crate::name::ReplicaId;
use crate::timestamp::Timestamp;

/// One alarm, under the subject of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Alarm {
    /// Wire version.
    pub v: u32,
    /// What kind: `mass_expiry`, `unreachable_server`, `log_broken`, `digest_mismatch`, `checkpoint_too_old`,
    /// `duplicate_ids`, `deaf`, or one of a later version.
    pub kind: String,
    /// Who raises it.
    pub replica: ReplicaId,
    /// When, by that replica's clock.
    pub at: Timestamp,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What alarms are raised for. Operations' documentation says of each what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Many leases were used up at once.
    MassExpiry,
    /// A broker server is silent with all its agents.
    UnreachableServer,
    /// The stream is another one, or has lost its tail.
    LogBroken,
    /// Two replicas hold different catalogs of the same revision.
    DigestMismatch,
    /// No checkpoint could be written for too long.
    CheckpointTooOld,
    /// Two processes use one id.
    DuplicateIds,
    /// A replica cannot hear its own marks, and so gives up nobody.
    Deaf,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::MassExpiry,
        Self::UnreachableServer,
        Self::LogBroken,
        Self::DigestMismatch,
        Self::CheckpointTooOld,
        Self::DuplicateIds,
        Self::Deaf,
    ];

    /// The word in its subject and its body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MassExpiry => "mass_expiry",
            Self::UnreachableServer => "unreachable_server",
            Self::LogBroken => "log_broken",
            Self::DigestMismatch => "digest_mismatch",
            Self::CheckpointTooOld => "checkpoint_too_old",
            Self::DuplicateIds => "duplicate_ids",
            Self::Deaf => "deaf",
        }
    }
}
