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
    /// What kind: `divergence`, `storm`, `deaf`, `log_broken`, `duplicate_replica`, ….
    pub kind: String,
    /// Who raises it.
    pub replica: ReplicaId,
    /// When, by that replica's clock.
    pub at: Timestamp,
    /// What is wrong, and what to do.
    pub message: String,
}
