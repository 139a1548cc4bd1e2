//! What a catalog holds: instances, tombstones and intents; and what proves a removal.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::change::Cause;
use crate::digest::Digest;
use crate::id::Incarnation;
use crate::instance::{Instance, Vouching};
use crate::name::{InstanceId, OperatorName, ReplicaId, ServiceName};
use crate::timestamp::Timestamp;

/// One entry of a catalog, whole: what checkpoints hold and `carry` events bring over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An instance.
    #[serde(deserialize_with = "read_once")]
    Instance(Arc<Instance>),
    /// What is kept of one that is gone.
    Tombstone(Arc<Tombstone>),
    /// What an operator wants of one.
    Intent(Arc<Intent>),
}

/// Serde reads what is shared into a box first, and then moves it to where it is shared.
fn read_once<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
    T::deserialize(deserializer).map(Arc::new)
}

/// More than most entries take.
const ENTRY_BYTES: usize = 1_024;

impl Entry {
    /// The service that the entry is about.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Instance(instance) => instance.service(),
            Self::Tombstone(tombstone) => &tombstone.vouching.service,
            Self::Intent(intent) => &intent.service,
        }
    }

    /// The instance that the entry is about.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::Instance(instance) => instance.id(),
            Self::Tombstone(tombstone) => &tombstone.vouching.instance,
            Self::Intent(intent) => &intent.instance,
        }
    }

    /// The bytes that digests and checkpoints are made of: JSON without white space, fields in the order of the types,
    /// unknown fields after them in byte order.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        // Serialising plain data with string keys into memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, self);
        bytes
    }

    /// The entry's share of the catalog's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.canonical_bytes())
    }
}

/// The bytes of the instance in the canonical bytes of its entry.
#[must_use]
pub fn instance_of(canonical: &[u8]) -> Option<&[u8]> {
    canonical.strip_prefix(b"{\"instance\":")?.strip_suffix(b"}")
}

/// What is kept of a gone instance so that late messages do not revive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Tombstone {
    /// The vouching that ended, with the generation in force at its end.
    #[serde(flatten)]
    pub vouching: Vouching,
    /// Why it ended.
    pub cause: Cause,
    /// Who ended it, as in `Change::actor`.
    pub actor: String,
    /// Sequence of the event that ended it.
    pub revision: u64,
    /// Stream time of that event; forgotten 24 h of stream time later.
    pub at: Timestamp,
    /// What convinced whoever ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// Which wish an operator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// Alive, but not to be used.
    Maintenance,
    /// Out, and this incarnation stays out.
    Evict,
    /// The end of either.
    Clear,
}

/// An operator's wish in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Intent {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// `maintenance` or `evict`.
    pub intent: IntentKind,
    /// For `evict`: the incarnation that is fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Who wants it.
    pub who: OperatorName,
    /// Why.
    pub why: String,
    /// Until when; null = until cleared.
    pub until: Option<Timestamp>,
    /// Sequence of the event that set it; a `lapse` names it.
    pub sequence: u64,
}

/// What a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeResult {
    /// Nobody listens on the agent's subject.
    NoResponders,
    /// Nobody answered in time.
    Timeout,
    /// The agent answered, and does not vouch for the instance.
    Unlisted,
}

impl ProbeResult {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoResponders => "no_responders",
            Self::Timeout => "timeout",
            Self::Unlisted => "unlisted",
        }
    }
}

/// What convinced a replica that an instance is gone. All fields are optional: evidence is what there was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// When a heartbeat was last heard, by the replica's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_at: Option<Timestamp>,
    /// The replica that heard it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_by: Option<ReplicaId>,
    /// Lease clock charged since then, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_ms: Option<u64>,
    /// The broker's reason in its disconnect advisory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_reason: Option<String>,
    /// The broker server that the agent was connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What the probe showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeResult>,
    /// The replica that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// For a deregistration: the reason that its agent gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whatever else is worth telling a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: BTreeMap<String, Value>,
}
