//! Questions to a registry and its answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::history::At;
use crate::id::EpochId;
use crate::instance::Instance;
use crate::limits::QUERY_BYTES_MAX;
use crate::name::{InstanceId, ReplicaId, ServiceName};
use crate::pulse::CatalogState;
use crate::refusal::Refusal;
use crate::revision::MinRevision;
use crate::timestamp::Timestamp;

/// Wishes of a query; an empty body is a request without wishes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Answer from this revision or a later one, or `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_revision: Option<MinRevision>,
    /// Only these instances. Applied last: revisions and digests are those of the whole service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Not the present, but the catalog as it was at this point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// At most this many instances in one reply; of a history, events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which instances to return.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Filter {
    /// Only routable ones (true) or only those that are not (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routable: Option<bool>,
    /// Only this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only those with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl Filter {
    /// Whether the filter lets an instance through.
    #[must_use]
    pub fn matches(&self, instance: &Instance) -> bool {
        let registration = &instance.registration;
        self.routable.is_none_or(|routable| instance.is_routable() == routable)
            && self.version.as_ref().is_none_or(|version| registration.version.as_deref() == Some(version.as_str()))
            && self.tag.as_ref().is_none_or(|tag| registration.tags.iter().any(|known| known == tag))
    }
}

impl Request {
    /// Reads a request; an empty body is one without wishes.
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`] or [`ErrorCode::BadRequest`].
    pub fn parse(body: &[u8]) -> Result<Self, QueryError> {
        if body.len() > QUERY_BYTES_MAX {
            let refusal = Refusal::too_large("request", body.len(), QUERY_BYTES_MAX);
            return Err(QueryError::from_refusal(ErrorCode::TooLarge, &refusal));
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(body).map_err(|error| {
            let refusal = Refusal::malformed("request", String::from_utf8_lossy(body), error.to_string());
            QueryError::from_refusal(ErrorCode::BadRequest, &refusal)
        })
    }
}

/// An answer: services at one revision of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Reply {
    /// Wire version.
    pub v: u32,
    /// The log.
    pub epoch: EpochId,
    /// The revision that the answer is of.
    pub revision: u64,
    /// In `recovering`, absence proves nothing.
    pub state: CatalogState,
    /// Milliseconds since the stream confirmed that the replica is at its end.
    pub head_age_ms: u64,
    /// A subject of the replica that answered, for the next chunk; good for 30 s; null at the end.
    pub next: Option<String>,
    /// The services, in byte order of their names.
    pub services: Vec<ServiceReply>,
}

/// One service in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ServiceReply {
    /// The service.
    pub service: ServiceName,
    /// Its revision; 0 when it is not known.
    pub revision: u64,
    /// Its digest, over all of its instances.
    pub digest: Digest,
    /// How many instances it has, filters aside.
    pub total: u32,
    /// How many of them are routable.
    pub routable: u32,
    /// Instances, in byte order of their ids; empty in an answer to `query.services`. A service may go on in the next chunk.
    #[serde(default)]
    pub instances: Vec<Arc<Instance>>,
    /// Hosts and ports registered by more than one instance: `host:port` to `<service>/<instance>` in subject tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflicts: BTreeMap<String, Vec<String>>,
}

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Wire version.
    pub v: u32,
    /// The replica.
    pub replica: ReplicaId,
    /// Version of its software.
    pub version: String,
    /// Fold version in force.
    pub fold_version: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// State of its catalog.
    pub state: CatalogState,
    /// Why it does not answer queries, when it does not.
    pub reason: Option<String>,
    /// The log in force; null while none is known.
    pub epoch: Option<EpochId>,
    /// How far it has folded.
    pub revision: u64,
    /// Milliseconds since the stream confirmed that the replica is at its end; null before.
    pub head_age_ms: Option<u64>,
    /// Digest of its catalog.
    pub digest: Digest,
    /// Its place among the replicas heard: 0 publishes.
    pub rank: Option<u32>,
    /// Replicas heard, itself included.
    pub replicas: Vec<ReplicaId>,
    /// Services with instances.
    pub services: u64,
    /// Instances.
    pub instances: u64,
    /// Tombstones kept.
    pub tombstones: u64,
    /// Intents in force.
    pub intents: u64,
    /// Agents heard in the last TTL.
    pub agents: u64,
    /// Broker servers that agents are on, by name.
    #[serde(default)]
    pub servers: Vec<BrokerServer>,
    /// Instances that are kept although nobody hears the broker server that their agents are on.
    #[serde(default)]
    pub unreachable_instances: u64,
    /// Disconnect advisories of the broker heard since it started.
    #[serde(default)]
    pub advisories: u64,
    /// Events folded since it started, by outcome.
    pub outcomes: BTreeMap<String, u64>,
}

/// A broker server that agents are on, as one replica sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct BrokerServer {
    /// Its name.
    pub name: String,
    /// Whether it is heard.
    pub state: ServerState,
    /// Milliseconds since it was heard; null before.
    pub heard_age_ms: Option<u64>,
    /// Agents that named it last.
    pub agents: u64,
    /// Leased instances of these agents.
    pub instances: u64,
}

/// Whether a replica hears a broker server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It was heard in the last two seconds, or is the only one and marks come through.
    Heard,
    /// It was not, and is being asked.
    Silent,
    /// Another replica hears it, this one does not: its agents' leases are not this replica's to end.
    Elsewhere,
    /// Nobody hears it: its agents' instances are kept until it is heard again, or for as long as the limit says.
    Unreachable,
}

impl ServerState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Silent => "silent",
            Self::Elsewhere => "elsewhere",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The closed list of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No such service or instance.
    NotFound,
    /// This replica has not reached the wanted revision in time: ask another.
    Behind,
    /// This replica cannot answer yet.
    NotReady,
    /// The chunk's snapshot is no longer held: begin again.
    CursorExpired,
    /// The request is against a rule.
    BadRequest,
    /// The request, or one item of the answer, is over a limit.
    TooLarge,
}

impl ErrorCode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Behind => "behind",
            Self::NotReady => "not_ready",
            Self::CursorExpired => "cursor_expired",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
        }
    }

    /// The number in the `Nats-Service-Error-Code` header, after HTTP's.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Behind => 412,
            Self::NotReady => 503,
            Self::CursorExpired => 410,
            Self::BadRequest => 400,
            Self::TooLarge => 413,
        }
    }
}

/// An error reply's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ErrorReply {
    /// The error.
    pub error: QueryError,
}

/// What went wrong, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[error("{message} ({field} = {value}): {help}")]
pub struct QueryError {
    /// Which error.
    pub code: ErrorCode,
    /// What went wrong.
    pub message: String,
    /// The field that it is about.
    pub field: String,
    /// That field's value.
    pub value: String,
    /// What to do.
    pub help: String,
}

impl QueryError {
    /// An error about one field.
    pub fn new(code: ErrorCode, message: &str, field: &str, value: impl ToString, help: &str) -> Self {
        Self { code, message: message.into(), field: field.into(), value: value.to_string(), help: help.into() }
    }

    /// An error from a refusal.
    #[must_use]
    pub fn from_refusal(code: ErrorCode, refusal: &Refusal) -> Self {
        Self::new(code, "the request was not understood", &refusal.field, &refusal.value, &refusal.help)
    }

    /// No such service or instance.
    #[must_use]
    pub fn not_found(service: &ServiceName, instance: Option<&InstanceId>) -> Self {
        let help = "`muster services` lists what is registered";
        match instance {
            Some(instance) => {
                Self::new(ErrorCode::NotFound, "no such instance", "instance", format!("{service}/{instance}"), help)
            }
            None => Self::new(ErrorCode::NotFound, "no such service", "service", service, help),
        }
    }
}
