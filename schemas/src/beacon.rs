//! A replica's "I am here" to other replicas.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{EpochId, SessionId};
use crate::name::{AgentId, ReplicaId};
use crate::pulse::CatalogState;
use crate::timestamp::Timestamp;

/// Sent every 200 ms; ranks replicas by age and compares their catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Beacon {
    /// Wire version.
    pub v: u32,
    /// The log in force; null while none is known.
    pub epoch: Option<EpochId>,
    /// The sender.
    pub replica: ReplicaId,
    /// When it started; older ranks first, ties by replica id.
    pub started_at: Timestamp,
    /// State of its catalog.
    pub state: CatalogState,
    /// How far it has folded.
    pub revision: u64,
    /// Sum over all entries of its catalog.
    pub digest: Digest,
    /// The fold versions that it knows.
    pub fold_versions: Vec<u32>,
    /// It has read this log anew because its catalog differed from another replica's of the same revision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilt: bool,
    /// Names of the broker servers that it heard in the last 2 s.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Silent agents that it leaves to whoever hears their broker server, which it does not hear itself; a few at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftAgent>,
}

/// Where the sender of a beacon heard an agent last. Whoever heard an earlier heartbeat last takes the agent to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct LeftAgent {
    /// The agent.
    pub agent: AgentId,
    /// Its life.
    pub session: SessionId,
    /// Counter of the heartbeat.
    pub counter: u64,
    /// Name of the broker server that it came over.
    pub server: String,
}
