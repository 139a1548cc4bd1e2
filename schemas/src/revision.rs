//! Positions in a log: (epoch, sequence).

use serde::{Deserialize, Serialize};

use crate::id::EpochId;

/// A position in a named log. Revisions of different epochs compare by the epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Revision(pub EpochId, pub u64);

impl Revision {
    /// The log.
    #[must_use]
    pub fn epoch(&self) -> EpochId {
        self.0
    }

    /// The sequence within the log.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.1
    }
}

/// A revision that a reply must have reached; a null epoch means the one in force. Also what a heartbeat says of the
/// agent's last acknowledged event, null until a query has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct MinRevision(pub Option<EpochId>, pub u64);

impl MinRevision {
    /// The log, if one is named.
    #[must_use]
    pub fn epoch(&self) -> Option<EpochId> {
        self.0
    }

    /// The sequence within the log.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.1
    }
}

impl From<Revision> for MinRevision {
    fn from(revision: Revision) -> Self {
        Self(Some(revision.0), revision.1)
    }
}
