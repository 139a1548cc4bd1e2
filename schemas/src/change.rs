//! What an accepted event did to one instance, as consumers are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::entry::Evidence;
use crate::id::EpochId;
use crate::instance::Instance;
use crate::name::{InstanceId, ServiceName};
use crate::timestamp::Timestamp;

/// What happened to the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It was, and is different now.
    Updated,
    /// It is gone.
    Removed,
}

/// Why it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its agent registered it.
    Registered,
    /// Its agent registered it with other content.
    Updated,
    /// Its health changed.
    Health,
    /// Its agent deregistered it.
    Deregistered,
    /// A replica proposed that it is gone.
    Expired,
    /// An operator evicted it.
    Evicted,
    /// An operator began or ended maintenance.
    Maintenance,
    /// A timed intent ended.
    Lapsed,
    /// It came over from a lost log.
    CarriedOver,
    /// Only on a consumer's side: found out by re-synchronising, not by a change.
    Resync,
}

impl Cause {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Health => "health",
            Self::Deregistered => "deregistered",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Maintenance => "maintenance",
            Self::Lapsed => "lapsed",
            Self::CarriedOver => "carried_over",
            Self::Resync => "resync",
        }
    }
}

/// One change to one instance. Nothing in it depends on which replica sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Change {
    /// Wire version.
    pub v: u32,
    /// The log.
    pub epoch: EpochId,
    /// Sequence of the event that caused it.
    pub revision: u64,
    /// The service's revision before; 0 whenever the service had no instance before.
    pub previous_revision: u64,
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// What happened.
    pub change: ChangeKind,
    /// Why.
    pub cause: Cause,
    /// Who caused it: `agent/<agent>`, `registry/<replica>` or `operator/<who>`.
    pub actor: String,
    /// Stream time of the event.
    pub at: Timestamp,
    /// What convinced whoever caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Other instances that registered the same host and port, as `<service>/<instance>` in subject tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The whole instance afterwards; null when removed.
    pub value: Option<Arc<Instance>>,
    /// The service's digest afterwards.
    pub digest: Digest,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: BTreeMap<String, Value>,
}
