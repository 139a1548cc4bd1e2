//! What each kind of event says, and the rules that it must obey by itself.

use serde::{Deserialize, Serialize};

use super::EventKind;
use crate::entry::{Entry, Evidence, IntentKind};
use crate::health::Health;
use crate::id::{EpochId, Incarnation};
use crate::instance::{Registration, Vouching};
use crate::limits::{INTEGER_MAX, TEXT_BYTES_MAX};
use crate::name::{InstanceId, Namespace, OperatorName, ServiceName};
use crate::refusal::Refusal;
use crate::timestamp::Timestamp;

/// What an event says, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventData {
    /// See [`EventKind::Register`].
    Register(Registration),
    /// See [`EventKind::Deregister`].
    Deregister(Deregistration),
    /// See [`EventKind::Health`].
    Health(HealthReport),
    /// See [`EventKind::Expire`].
    Expire(Expiry),
    /// See [`EventKind::Intent`].
    Intent(IntentSet),
    /// See [`EventKind::Lapse`].
    Lapse(Lapse),
    /// See [`EventKind::Epoch`].
    Epoch(EpochBegan),
    /// See [`EventKind::Carry`].
    Carry(CarriedOver),
    /// See [`EventKind::Recovered`].
    Recovered(Recovered),
    /// See [`EventKind::Setting`].
    Setting(SettingChanged),
}

/// Why an agent takes an instance back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeregisterReason {
    /// It was stopped.
    Stopped,
    /// Its process exited.
    ChildExited,
    /// It was critical for too long.
    CriticalTooLong,
    /// An operator asked.
    Operator,
}

impl DeregisterReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::ChildExited => "child_exited",
            Self::CriticalTooLong => "critical_too_long",
            Self::Operator => "operator",
        }
    }
}

/// Data of `deregister`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Deregistration {
    /// Which vouching ends.
    #[serde(flatten)]
    pub vouching: Vouching,
    /// Why.
    pub reason: DeregisterReason,
    /// For people, at most 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Data of `health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct HealthReport {
    /// Of which vouching.
    #[serde(flatten)]
    pub vouching: Vouching,
    /// Generation of the registration whose health it is. If the log holds none from there on, it has lost that registration,
    /// and the report is ignored: what is held otherwise describes the instance as it was before. None: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_generation: Option<u64>,
    /// The health from now on.
    pub health: Health,
}

/// Why a replica holds an instance for gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExpiryCause {
    /// No heartbeat for a TTL, and no answer to a probe.
    Silent,
    /// The agent's connection broke, and nobody answers for it.
    Disconnected,
    /// The agent answers and does not vouch for it.
    Disowned,
    /// The agent's whole server was silent for longer than the limit.
    Unreachable,
}

/// Data of `expire`: accepted only if nothing has happened to the instance since `observed_sequence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Expiry {
    /// Which vouching ends.
    #[serde(flatten)]
    pub vouching: Vouching,
    /// The log that the sequence is of.
    pub epoch: EpochId,
    /// Sequence of the last event that the replica knows of the instance.
    pub observed_sequence: u64,
    /// Why.
    pub cause: ExpiryCause,
    /// What convinced it.
    pub evidence: Evidence,
}

/// Data of `intent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct IntentSet {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// What is wanted.
    pub intent: IntentKind,
    /// Who wants it; the sender.
    pub who: OperatorName,
    /// Why, at most 1 KiB.
    #[serde(default)]
    pub why: String,
    /// Until when; null = until cleared.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// For `evict`: the incarnation that the operator read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

/// Data of `lapse`: accepted only if the intent set by `ends_sequence` is in force and its end has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Lapse {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// The log that the sequence is of.
    pub epoch: EpochId,
    /// Sequence of the event that set the intent.
    pub ends_sequence: u64,
}

/// Data of `epoch`: accepted only as the successor of the log in force, with a larger id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct EpochBegan {
    /// The new log.
    pub epoch: EpochId,
    /// The log before it; null for the first.
    pub previous_epoch: Option<EpochId>,
    /// The namespace.
    pub namespace: Namespace,
    /// Where the registry stands.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// The fold version in force from here on.
    pub fold_version: u32,
}

/// Data of `carry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct CarriedOver {
    /// The log that it comes into.
    pub epoch: EpochId,
    /// The entry, whole.
    pub entry: Entry,
}

/// Data of `recovered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Recovered {
    /// The log that has recovered.
    pub epoch: EpochId,
}

/// Data of `setting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SettingChanged {
    /// Which setting; `fold_version` is one.
    pub name: String,
    /// Its value from here on.
    pub value: serde_json::Value,
}

impl EventData {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Register(_) => EventKind::Register,
            Self::Deregister(_) => EventKind::Deregister,
            Self::Health(_) => EventKind::Health,
            Self::Expire(_) => EventKind::Expire,
            Self::Intent(_) => EventKind::Intent,
            Self::Lapse(_) => EventKind::Lapse,
            Self::Epoch(_) => EventKind::Epoch,
            Self::Carry(_) => EventKind::Carry,
            Self::Recovered(_) => EventKind::Recovered,
            Self::Setting(_) => EventKind::Setting,
        }
    }

    /// The service and instance that it is about, if it is about one.
    #[must_use]
    pub fn target(&self) -> Option<(&ServiceName, &InstanceId)> {
        match self {
            Self::Register(data) => Some((&data.vouching.service, &data.vouching.instance)),
            Self::Deregister(data) => Some((&data.vouching.service, &data.vouching.instance)),
            Self::Health(data) => Some((&data.vouching.service, &data.vouching.instance)),
            Self::Expire(data) => Some((&data.vouching.service, &data.vouching.instance)),
            Self::Intent(data) => Some((&data.service, &data.instance)),
            Self::Lapse(data) => Some((&data.service, &data.instance)),
            Self::Carry(data) => Some((data.entry.service(), data.entry.instance())),
            Self::Epoch(_) | Self::Recovered(_) | Self::Setting(_) => None,
        }
    }

    /// Who vouches, for the kinds that say so.
    #[must_use]
    pub fn vouching(&self) -> Option<&Vouching> {
        match self {
            Self::Register(data) => Some(&data.vouching),
            Self::Deregister(data) => Some(&data.vouching),
            Self::Health(data) => Some(&data.vouching),
            Self::Expire(data) => Some(&data.vouching),
            _ => None,
        }
    }

    pub(super) fn validate(&self) -> Result<(), Refusal> {
        if let Some(vouching) = self.vouching() {
            vouching.validate()?;
        }
        match self {
            Self::Register(data) => data.validate(),
            Self::Health(data) => {
                check_integer("data.registered_generation", data.registered_generation.unwrap_or_default())?;
                data.health.validate()
            }
            Self::Deregister(data) => check_text("data.detail", data.detail.as_deref().unwrap_or_default()),
            Self::Expire(data) => check_integer("data.observed_sequence", data.observed_sequence),
            Self::Intent(data) => validate_intent(data),
            Self::Lapse(data) => check_integer("data.ends_sequence", data.ends_sequence),
            Self::Setting(data) => check_text("data.name", &data.name),
            Self::Carry(data) => validate_carried(&data.entry),
            Self::Epoch(_) | Self::Recovered(_) => Ok(()),
        }
    }
}

fn validate_carried(entry: &Entry) -> Result<(), Refusal> {
    match entry {
        Entry::Instance(instance) => instance.registration.validate(),
        Entry::Tombstone(tombstone) => tombstone.vouching.validate(),
        Entry::Intent(intent) => check_text("data.entry.intent.why", &intent.why),
    }
}

fn validate_intent(data: &IntentSet) -> Result<(), Refusal> {
    check_text("data.why", &data.why)?;
    if data.intent == IntentKind::Evict && data.incarnation.is_none() {
        let help = "evict must name the incarnation that was read";
        return Err(Refusal::malformed("data.incarnation", "(missing)", help));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_BYTES_MAX { Err(Refusal::too_large(field, text.len(), TEXT_BYTES_MAX)) } else { Ok(()) }
}

fn check_integer(field: &str, number: u64) -> Result<(), Refusal> {
    if number > INTEGER_MAX { Err(Refusal::malformed(field, number, "must be at most 2^53-1")) } else { Ok(()) }
}
