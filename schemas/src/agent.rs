//! What registries and operators ask of an agent, and what they tell it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{EpochId, Incarnation, SessionId};
use crate::name::{InstanceId, ServiceName};
use crate::timestamp::Timestamp;

/// The answer to `probe`: what the agent vouches for, static instances left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ProbeReply {
    /// The agent's life.
    pub session: SessionId,
    /// `<service>/<instance>`, each as a subject token, to its (incarnation, generation).
    pub incarnations: BTreeMap<String, (Incarnation, u64)>,
}

/// The key of an instance in [`ProbeReply`] and in conflict marks: `<service>/<instance>`, each as a subject token.
#[must_use]
pub fn instance_key(service: &ServiceName, instance: &InstanceId) -> String {
    format!("{}/{}", service.token(), instance.token())
}

/// `announce`: register everything again, paced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct AnnounceRequest {
    /// Why, for the agent's log.
    #[serde(default)]
    pub reason: String,
    /// The log that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochId>,
}

/// The agent will register this many instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct AnnounceReply {
    /// The agent's life.
    pub session: SessionId,
    /// How many registrations follow.
    pub instances: u32,
}

/// `drain`: take an instance out of service and stop it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DrainRequest {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// How long it may take, in milliseconds.
    pub deadline_ms: u64,
}

/// Progress or result of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DrainReply {
    /// `deregistered`, `stopped` or `refused`.
    pub result: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why an agent's event was not accepted, or what else it should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoticeCode {
    /// Not JSON, or against a rule.
    Malformed,
    /// Over a limit.
    Oversize,
    /// Subject, envelope and data disagree.
    IdentityMismatch,
    /// Not above the (incarnation, generation) in force.
    Stale,
    /// The incarnation is more than a day ahead of stream time.
    FutureIncarnation,
    /// A kind or version that the registry does not know.
    UnknownKind,
    /// The instance that the event is about is not registered.
    UnknownInstance,
    /// An operator's eviction is in force.
    Fenced,
    /// Another session registered the same instance with a larger incarnation.
    Displaced,
    /// Another instance registered the same host and port.
    Conflict,
    /// The instance was removed as gone.
    Expired,
}

/// `notice`: sent to the agent by the publishing replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Notice {
    /// The id of the event that it is about, if it had one.
    #[serde(default)]
    pub event_id: Option<String>,
    /// What happened to it.
    pub code: NoticeCode,
    /// The service.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// The instance.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// The (incarnation, generation) in force.
    #[serde(default)]
    pub in_force: Option<(Incarnation, u64)>,
    /// Session that the incarnation in force belongs to.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// Stream time, from which an agent whose clock is wrong can mint.
    #[serde(default)]
    pub stream_time: Option<Timestamp>,
    /// What to do.
    pub help: String,
}
