//! Facts in the log: CloudEvents 1.0 in structured mode, read strictly where identity is concerned.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Evidence, IntentKind};
use crate::health::Health;
use crate::id::{EpochId, Incarnation};
use crate::instance::{Registration, Vouching};
use crate::limits::{CARRY_BYTES_MAX, EVENT_BYTES_MAX, EVENT_ID_BYTES_MAX, INTEGER_MAX, TEXT_BYTES_MAX};
use crate::name::{AgentId, InstanceId, NameError, Namespace, OperatorName, ReplicaId, ServiceName};
use crate::refusal::{Refusal, RefusalKind};
use crate::subject::{Subject, SubjectError, Subjects, Target};
use crate::timestamp::Timestamp;

/// The kinds of event; each has a type on the envelope and a token in the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// An agent describes an instance, whole.
    Register,
    /// An agent takes an instance back.
    Deregister,
    /// An agent tells of an instance's health.
    Health,
    /// A registry proposes that an instance is gone.
    Expire,
    /// An operator wants something of an instance.
    Intent,
    /// A registry proposes that a timed intent has ended.
    Lapse,
    /// A log begins.
    Epoch,
    /// An entry comes over from a lost log.
    Carry,
    /// The end of `recovering`.
    Recovered,
    /// A setting that the fold obeys.
    Setting,
}

/// Who may send a kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SenderClass {
    /// Agents.
    Agent,
    /// Registries.
    Registry,
    /// Operators.
    Operator,
}

impl SenderClass {
    /// The word in `source` and `actor`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Registry => "registry",
            Self::Operator => "operator",
        }
    }
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Register,
        Self::Deregister,
        Self::Health,
        Self::Expire,
        Self::Intent,
        Self::Lapse,
        Self::Epoch,
        Self::Carry,
        Self::Recovered,
        Self::Setting,
    ];

    /// The word in the subject.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Deregister => "deregister",
            Self::Health => "health",
            Self::Expire => "expire",
            Self::Intent => "intent",
            Self::Lapse => "lapse",
            Self::Epoch => "epoch",
            Self::Carry => "carry",
            Self::Recovered => "recovered",
            Self::Setting => "setting",
        }
    }

    /// The envelope's `type`.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Register => "io.muster.instance.registered.v1",
            Self::Deregister => "io.muster.instance.deregistered.v1",
            Self::Health => "io.muster.instance.health_changed.v1",
            Self::Expire => "io.muster.instance.expired.v1",
            Self::Intent => "io.muster.intent.set.v1",
            Self::Lapse => "io.muster.intent.lapsed.v1",
            Self::Epoch => "io.muster.log.epoch_began.v1",
            Self::Carry => "io.muster.log.carried_over.v1",
            Self::Recovered => "io.muster.log.recovered.v1",
            Self::Setting => "io.muster.log.setting_changed.v1",
        }
    }

    /// The kind of a subject's token.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.token() == token)
    }

    /// Who may send it.
    #[must_use]
    pub fn sender_class(self) -> SenderClass {
        match self {
            Self::Register | Self::Deregister | Self::Health => SenderClass::Agent,
            Self::Intent => SenderClass::Operator,
            Self::Expire | Self::Lapse | Self::Epoch | Self::Carry | Self::Recovered | Self::Setting => {
                SenderClass::Registry
            }
        }
    }

    /// Is about the log, not about one instance.
    #[must_use]
    pub fn is_log_wide(self) -> bool {
        matches!(self, Self::Epoch | Self::Recovered | Self::Setting)
    }

    /// The largest event of this kind, in bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        if self == Self::Carry {
            CARRY_BYTES_MAX
        } else {
            EVENT_BYTES_MAX
        }
    }
}

/// Who sent an event: the last token of its subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// An agent.
    Agent(AgentId),
    /// A registry replica.
    Registry(ReplicaId),
    /// An operator.
    Operator(OperatorName),
}

/// The envelope's `source` names the sender; the two are one thing.
pub type Source = Sender;

impl Sender {
    /// What class of sender.
    #[must_use]
    pub fn class(&self) -> SenderClass {
        match self {
            Self::Agent(_) => SenderClass::Agent,
            Self::Registry(_) => SenderClass::Registry,
            Self::Operator(_) => SenderClass::Operator,
        }
    }

    /// The name as a subject token.
    #[must_use]
    pub fn token(&self) -> String {
        match self {
            Self::Agent(agent) => agent.token(),
            Self::Registry(replica) => replica.token(),
            Self::Operator(who) => who.token(),
        }
    }

    /// Parses a subject token.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn from_token(class: SenderClass, token: &str) -> Result<Self, NameError> {
        Ok(match class {
            SenderClass::Agent => Self::Agent(AgentId::from_token(token)?),
            SenderClass::Registry => Self::Registry(ReplicaId::from_token(token)?),
            SenderClass::Operator => Self::Operator(OperatorName::from_token(token)?),
        })
    }

    /// The envelope's `source`: `/muster/<namespace>/<class>/<token>`.
    #[must_use]
    pub fn source(&self, namespace: &Namespace) -> String {
        format!("/muster/{namespace}/{}/{}", self.class().as_str(), self.token())
    }
}

/// As in a change's `actor`: `<class>/<name>`.
impl fmt::Display for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Agent(agent) => agent.as_str(),
            Self::Registry(replica) => replica.as_str(),
            Self::Operator(who) => who.as_str(),
        };
        write!(out, "{}/{name}", self.class().as_str())
    }
}

/// A fact in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id, a ULID unless a user gives another text.
    pub id: String,
    /// Who sent it.
    pub source: Sender,
    /// When, by the sender's clock; informative, never folded.
    pub time: Option<Timestamp>,
    /// What it says.
    pub data: EventData,
}

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

    fn validate(&self) -> Result<(), Refusal> {
        if let Some(vouching) = self.vouching() {
            vouching.validate()?;
        }
        match self {
            Self::Register(data) => data.validate(),
            Self::Health(data) => data.health.validate(),
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
    if text.len() > TEXT_BYTES_MAX {
        Err(Refusal::too_large(field, text.len(), TEXT_BYTES_MAX))
    } else {
        Ok(())
    }
}

fn check_integer(field: &str, number: u64) -> Result<(), Refusal> {
    if number > INTEGER_MAX {
        Err(Refusal::malformed(field, number, "must be at most 2^53-1"))
    } else {
        Ok(())
    }
}

/// The parts of the envelope that are read before its data.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    #[serde(default)]
    time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Body<D> {
    data: D,
}

impl Event {
    /// Reads an event: understands the subject, the envelope and the data, checks that the three agree on sender, service
    /// and instance, and that every rule and limit holds.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field, its value and the way out.
    pub fn parse(subjects: &Subjects, subject: &str, payload: &[u8]) -> Result<Self, Refusal> {
        let (kind, target, sender) = parse_subject(subjects, subject)?;
        if payload.len() > kind.bytes_max() {
            return Err(Refusal::too_large("event", payload.len(), kind.bytes_max()));
        }
        let head: Head<'_> = read(payload)?;
        check_head(&head, kind)?;
        let expected = sender.source(subjects.namespace());
        if head.source != expected {
            return Err(mismatch("source", &head.source, &expected));
        }
        let data = read_data(kind, payload)?;
        check_identity(&data, &target, &sender)?;
        data.validate()?;
        Ok(Self {
            id: head.id.into_owned(),
            source: sender,
            time: head.time,
            data,
        })
    }

    /// The id in a payload that may otherwise be unreadable, for telling its sender.
    #[must_use]
    pub fn peek_id(payload: &[u8]) -> Option<String> {
        let value: serde_json::Value =
            serde_json::from_slice(payload.get(..CARRY_BYTES_MAX).unwrap_or(payload)).ok()?;
        let id = value.get("id")?.as_str()?;
        (id.len() <= EVENT_ID_BYTES_MAX).then(|| id.to_owned())
    }
}

fn parse_subject(subjects: &Subjects, subject: &str) -> Result<(EventKind, Target, Sender), Refusal> {
    match subjects.parse(subject) {
        Ok(Subject::Event { kind, target, sender }) => Ok((kind, target, sender)),
        Ok(_) => Err(Refusal::malformed("subject", subject, "is not an event's subject")),
        Err(error @ SubjectError::UnknownKind { .. }) => Err(Refusal::new(
            RefusalKind::UnknownKind,
            "subject",
            subject,
            error.to_string(),
        )),
        Err(error) => Err(Refusal::malformed("subject", subject, error.to_string())),
    }
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload)
        .map_err(|error| Refusal::malformed("event", String::from_utf8_lossy(payload), error.to_string()))
}

fn check_head(head: &Head<'_>, kind: EventKind) -> Result<(), Refusal> {
    if head.specversion != "1.0" {
        return Err(Refusal::malformed("specversion", &head.specversion, "must be \"1.0\""));
    }
    if head.id.is_empty() || head.id.len() > EVENT_ID_BYTES_MAX {
        return Err(Refusal::malformed("id", &head.id, "must have 1 to 128 bytes"));
    }
    if head.type_name == kind.type_name() {
        return Ok(());
    }
    if EventKind::ALL.iter().any(|known| known.type_name() == head.type_name) {
        return Err(mismatch("type", &head.type_name, kind.type_name()));
    }
    let help = format!("this version reads {}: upgrade the registries first", kind.type_name());
    Err(Refusal::new(RefusalKind::UnknownKind, "type", &head.type_name, help))
}

fn read_data(kind: EventKind, payload: &[u8]) -> Result<EventData, Refusal> {
    fn body<D: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<D, Refusal> {
        read::<Body<D>>(payload).map(|body| body.data)
    }
    Ok(match kind {
        EventKind::Register => EventData::Register(body(payload)?),
        EventKind::Deregister => EventData::Deregister(body(payload)?),
        EventKind::Health => EventData::Health(body(payload)?),
        EventKind::Expire => EventData::Expire(body(payload)?),
        EventKind::Intent => EventData::Intent(body(payload)?),
        EventKind::Lapse => EventData::Lapse(body(payload)?),
        EventKind::Epoch => EventData::Epoch(body(payload)?),
        EventKind::Carry => EventData::Carry(body(payload)?),
        EventKind::Recovered => EventData::Recovered(body(payload)?),
        EventKind::Setting => EventData::Setting(body(payload)?),
    })
}

fn mismatch(field: &str, value: impl fmt::Display, expected: impl fmt::Display) -> Refusal {
    let help = format!("subject, envelope and data must agree: expected {expected}");
    Refusal::new(RefusalKind::IdentityMismatch, field, value, help)
}

fn check_identity(data: &EventData, target: &Target, sender: &Sender) -> Result<(), Refusal> {
    match (data.target(), target) {
        (Some((service, instance)), Some((expected_service, expected_instance))) => {
            if service != expected_service {
                return Err(mismatch("data.service", service, expected_service));
            }
            if instance != expected_instance {
                return Err(mismatch("data.instance", instance, expected_instance));
            }
        }
        (None, None) => {}
        _ => return Err(mismatch("subject", "-", "the service and instance of the data")),
    }
    match (data, sender) {
        (EventData::Register(_) | EventData::Deregister(_) | EventData::Health(_), Sender::Agent(agent)) => {
            match data.vouching() {
                Some(vouching) if vouching.agent != *agent => Err(mismatch("data.agent", &vouching.agent, agent)),
                _ => Ok(()),
            }
        }
        (EventData::Intent(intent), Sender::Operator(who)) if intent.who != *who => {
            Err(mismatch("data.who", &intent.who, who))
        }
        _ => Ok(()),
    }
}
