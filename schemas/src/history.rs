//! The past: a point in the log, and what happened to a service up to there.

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::id::EpochId;
use crate::name::{InstanceId, ServiceName};
use crate::pulse::CatalogState;
use crate::revision::MinRevision;
use crate::timestamp::Timestamp;

/// A point in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum At {
    /// After the event of this revision; a null epoch means the one in force there.
    Revision(MinRevision),
    /// After the last event that the stream stored by then, by the broker's clock.
    Time(Timestamp),
}

/// An answer to `query.history`: what the log holds about a service or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct HistoryReply {
    /// Wire version.
    pub v: u32,
    /// The log in force at `revision`.
    pub epoch: EpochId,
    /// The last revision that was looked at: the end of the log, or the point that was asked for.
    pub revision: u64,
    /// State of the catalog there.
    pub state: CatalogState,
    /// The service.
    pub service: ServiceName,
    /// The instance; null for all of the service's.
    pub instance: Option<InstanceId>,
    /// The first revision that the log still holds; above 1 what came before is gone.
    pub begins_at: u64,
    /// How many events come before the first one here: ask `at` the revision below it.
    pub earlier: u64,
    /// The newest events, the oldest first; those about the log as a whole included.
    pub events: Vec<HistoryEvent>,
}

/// One event, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct HistoryEvent {
    /// Its sequence.
    pub revision: u64,
    /// When the stream stored it, by the broker's clock.
    pub at: Timestamp,
    /// The instance; null for one about the log as a whole.
    pub instance: Option<InstanceId>,
    /// Its kind, as in its subject.
    pub kind: String,
    /// Who sent it: `agent/<id>`, `registry/<replica>`, `operator/<who>`.
    pub actor: String,
    /// `accepted`, `no_op`, why it was ignored, or `unknown` where that depends on events that are gone.
    pub outcome: String,
    /// The change that consumers were told; without `conflicts`, which depend on other services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}
