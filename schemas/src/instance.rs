//! What an agent registers, and how replicas hold it.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::health::{Health, HealthStatus};
use crate::id::{Incarnation, SessionId};
use crate::labels::Labels;
use crate::limits::{
    ENDPOINTS_MAX, INTEGER_MAX, METADATA_KEY_BYTES_MAX, METADATA_MAX, METADATA_RESERVED, METADATA_VALUE_BYTES_MAX,
    TAG_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN, VERSION_BYTES_MAX,
};
use crate::name::{AgentId, InstanceId, OperatorName, ServiceName};
use crate::object::object;
use crate::refusal::Refusal;
use crate::shared;
use crate::text::Text;
use crate::tight::Tight;
use crate::timestamp::Timestamp;

/// Who vouches for which instance, and which vouching this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Vouching {
    /// The service.
    pub service: ServiceName,
    /// The instance, unique within the service.
    pub instance: InstanceId,
    /// The agent that vouches.
    pub agent: AgentId,
    /// The life of that agent.
    pub session: SessionId,
    /// The vouching, minted when it began.
    pub incarnation: Incarnation,
    /// Raised by every event of the vouching; from 1.
    #[cfg_attr(feature = "json-schema", schemars(range(min = 1, max = 9_007_199_254_740_991_u64)))]
    pub generation: u64,
}

impl Vouching {
    /// What orders the events of one instance.
    #[must_use]
    pub fn order(&self) -> (Incarnation, u64) {
        (self.incarnation, self.generation)
    }

    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        if self.generation == 0 || self.generation > INTEGER_MAX {
            return Err(Refusal::malformed("data.generation", self.generation, "must be from 1 to 2^53-1"));
        }
        Ok(())
    }
}

/// An instance as its agent describes it: the data of a `register` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Registration {
    /// Who vouches for what.
    #[serde(flatten)]
    pub vouching: Vouching,
    /// How long the lease lasts without a heartbeat, in milliseconds; 0 = static, no lease.
    pub ttl_ms: u64,
    /// How long the instance is kept after its agent's connection broke, in milliseconds; at most `ttl_ms`.
    #[serde(default)]
    pub linger_ms: u64,
    /// The version of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Text>,
    /// Where it listens; may be empty.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Labels to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text>,
    /// Keys and values of the user's own.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub metadata: Labels,
    /// Share of the traffic; 0 = none, 100 unless given.
    #[serde(default = "default_weight")]
    pub weight: u16,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Arc<Locality>>,
    /// The machine it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<Node>>,
    /// What its checks say.
    #[serde(default)]
    pub health: Health,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

/// The weight of an instance that states none.
pub const DEFAULT_WEIGHT: u16 = 100;

fn default_weight() -> u16 {
    DEFAULT_WEIGHT
}

/// A named port; with scheme `nats` a subject instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    /// Unique within the instance.
    pub name: Text,
    /// `http`, `grpc`, `tcp`, `nats`, …; may repeat.
    pub scheme: Text,
    /// An IP literal (IPv6 without brackets) or a DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
    /// The port, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// For scheme `nats`: the subject that the instance answers on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

/// Where an instance stands, from large to small.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Locality {
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Text>,
    /// Zone within the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Text>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

/// The machine that an instance runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// The machine's own id, a ULID unless a user gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Text>,
    /// Its name.
    pub name: Text,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "json-schema", schemars(skip))]
    pub extra: Extra,
}

/// An operator's wish that consumers do not use an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Maintenance {
    /// Who wants it.
    pub who: OperatorName,
    /// Why.
    pub why: String,
    /// Until when; null = until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// An instance as replicas hold it and as consumers receive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Instance {
    /// What its agent said last.
    #[serde(flatten)]
    pub registration: Registration,
    /// Sequence of the event that added it.
    pub created_revision: u64,
    /// Sequence of the event that changed it last.
    pub modified_revision: u64,
    /// Set while an operator keeps it from being used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Box<Maintenance>>,
}

/// Fields that only a registry writes: an agent that sends one would have it read as the registry's word.
const REGISTRY_FIELDS: [&str; 3] = ["created_revision", "modified_revision", "maintenance"];

object!(
    Registration {
        need service: ServiceName,
        need instance: InstanceId,
        need agent: AgentId,
        need session: SessionId,
        need incarnation: Incarnation,
        need generation: u64,
        need ttl_ms: u64,
        may linger_ms: u64 = 0,
        may version: Option<Text> = None,
        may endpoints: Tight<Endpoint> = Tight::default(),
        may tags: Tight<Text> = Tight::default(),
        may metadata: Labels = Labels::default(),
        may weight: u16 = default_weight(),
        may locality: Option<Locality> = None,
        may node: Option<Node> = None,
        may health: Health = Health::default(),
        rest extra,
    } => Registration {
        vouching: Vouching { service, instance, agent, session, incarnation, generation },
        ttl_ms,
        linger_ms,
        version,
        endpoints: endpoints.0,
        tags: tags.0,
        metadata,
        weight,
        locality: locality.map(shared::locality),
        node: node.map(shared::node),
        health,
        extra,
    }
);

object!(
    Instance {
        need service: ServiceName,
        need instance: InstanceId,
        need agent: AgentId,
        need session: SessionId,
        need incarnation: Incarnation,
        need generation: u64,
        need ttl_ms: u64,
        need created_revision: u64,
        need modified_revision: u64,
        may linger_ms: u64 = 0,
        may version: Option<Text> = None,
        may endpoints: Tight<Endpoint> = Tight::default(),
        may tags: Tight<Text> = Tight::default(),
        may metadata: Labels = Labels::default(),
        may weight: u16 = default_weight(),
        may locality: Option<Locality> = None,
        may node: Option<Node> = None,
        may health: Health = Health::default(),
        may maintenance: Option<Box<Maintenance>> = None,
        rest extra,
    } => {
        let registration = Registration {
            vouching: Vouching { service, instance, agent, session, incarnation, generation },
            ttl_ms,
            linger_ms,
            version,
            endpoints: endpoints.0,
            tags: tags.0,
            metadata,
            weight,
            locality: locality.map(shared::locality),
            node: node.map(shared::node),
            health,
            extra,
        };
        Instance { registration, created_revision, modified_revision, maintenance }
    }
);

object!(
    Endpoint {
        need name: Text,
        need scheme: Text,
        may host: Option<Text> = None,
        may port: Option<u16> = None,
        may subject: Option<Text> = None,
        rest extra,
    } => Endpoint { name, scheme, host, port, subject, extra }
);

object!(
    Locality {
        may region: Option<Text> = None,
        may zone: Option<Text> = None,
        rest extra,
    } => Locality { region, zone, extra }
);

object!(
    Node {
        need name: Text,
        may id: Option<Text> = None,
        may address: Option<Text> = None,
        rest extra,
    } => Node { id, name, address, extra }
);

impl Instance {
    /// Who vouches for it.
    #[must_use]
    pub fn vouching(&self) -> &Vouching {
        &self.registration.vouching
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.registration.vouching.service
    }

    /// The instance's id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.registration.vouching.instance
    }

    /// May be used: passing or warning, not in maintenance, weight above 0.
    #[must_use]
    pub fn is_routable(&self) -> bool {
        self.registration.health.status != HealthStatus::Critical
            && self.maintenance.is_none()
            && self.registration.weight > 0
    }

    /// Has no lease.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.registration.is_static()
    }
}

impl Registration {
    /// Nothing but names and a lease: passing, of the default weight, without endpoints.
    #[must_use]
    pub fn bare(vouching: Vouching, ttl_ms: u64, linger_ms: u64) -> Self {
        Self {
            vouching,
            ttl_ms,
            linger_ms,
            version: None,
            endpoints: Vec::new(),
            tags: Vec::new(),
            metadata: Labels::default(),
            weight: DEFAULT_WEIGHT,
            locality: None,
            node: None,
            health: Health::default(),
            extra: Extra::default(),
        }
    }

    /// Has no lease.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.ttl_ms == 0
    }

    /// Checks every rule that a registration must obey by itself.
    ///
    /// # Errors
    /// The first field that is against a rule or over a limit.
    pub fn validate(&self) -> Result<(), Refusal> {
        self.vouching.validate()?;
        self.validate_lease()?;
        self.validate_endpoints()?;
        self.validate_labels()?;
        self.health.validate()?;
        match REGISTRY_FIELDS.iter().find(|field| self.extra.contains_key(**field)) {
            Some(field) => Err(Refusal::malformed(field, "(set)", "only a registry sets it: leave it out")),
            None => Ok(()),
        }
    }

    fn validate_lease(&self) -> Result<(), Refusal> {
        if self.ttl_ms != 0 && !(TTL_MS_MIN..=TTL_MS_MAX).contains(&self.ttl_ms) {
            let help = "must be 0 (static) or from 1,000 to 3,600,000 milliseconds";
            return Err(Refusal::malformed("data.ttl_ms", self.ttl_ms, help));
        }
        if self.linger_ms > self.ttl_ms {
            return Err(Refusal::malformed("data.linger_ms", self.linger_ms, "must not be above ttl_ms"));
        }
        Ok(())
    }

    fn validate_endpoints(&self) -> Result<(), Refusal> {
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(Refusal::too_large("data.endpoints", self.endpoints.len(), ENDPOINTS_MAX));
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.validate()?;
            if self.endpoints[..index].iter().any(|earlier| earlier.name == endpoint.name) {
                return Err(Refusal::malformed("data.endpoints.name", &endpoint.name, "names must be unique"));
            }
        }
        Ok(())
    }

    fn validate_labels(&self) -> Result<(), Refusal> {
        let version = self.version.as_ref().map_or(0, |version| version.len());
        if version > VERSION_BYTES_MAX {
            return Err(Refusal::too_large("data.version", version, VERSION_BYTES_MAX));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(Refusal::too_large("data.tags", self.tags.len(), TAGS_MAX));
        }
        if let Some(tag) = self.tags.iter().find(|tag| tag.len() > TAG_BYTES_MAX) {
            return Err(Refusal::too_large("data.tags", tag.len(), TAG_BYTES_MAX));
        }
        if self.metadata.len() > METADATA_MAX {
            return Err(Refusal::too_large("data.metadata", self.metadata.len(), METADATA_MAX));
        }
        for (key, value) in self.metadata.iter() {
            if key.len() > METADATA_KEY_BYTES_MAX {
                return Err(Refusal::too_large("data.metadata (key)", key.len(), METADATA_KEY_BYTES_MAX));
            }
            if key.starts_with(METADATA_RESERVED) {
                return Err(Refusal::malformed("data.metadata", key, "keys beginning \"muster.\" are reserved"));
            }
            if value.len() > METADATA_VALUE_BYTES_MAX {
                let field = format!("data.metadata.{key}");
                return Err(Refusal::too_large(&field, value.len(), METADATA_VALUE_BYTES_MAX));
            }
        }
        Ok(())
    }
}

impl Endpoint {
    fn validate(&self) -> Result<(), Refusal> {
        for (field, text) in [("data.endpoints.name", &self.name), ("data.endpoints.scheme", &self.scheme)] {
            if text.is_empty() {
                return Err(Refusal::malformed(field, "", "must not be empty"));
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(Refusal::too_large(field, text.len(), TEXT_BYTES_MAX));
            }
        }
        if self.port == Some(0) {
            return Err(Refusal::malformed("data.endpoints.port", 0, "must be from 1 to 65535"));
        }
        match &self.host {
            Some(host) if !is_host(host) => {
                let help = "must be an IP literal (IPv6 without brackets) or a DNS name";
                Err(Refusal::malformed("data.endpoints.host", host, help))
            }
            None if self.subject.is_none() => {
                let help = "an endpoint needs host and port, or, with scheme nats, a subject";
                Err(Refusal::malformed("data.endpoints.host", "(missing)", help))
            }
            _ => Ok(()),
        }
    }
}

/// An IP literal, or a DNS name: labels of 1 to 63 letters, digits, `-` and `_`, at most 253 bytes.
#[must_use]
pub fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // All digits and dots that are no IP address are a mistyped one, not a name.
    let looks_like_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    !name.is_empty() && name.len() <= 253 && !looks_like_address && name.split('.').all(label_ok)
}

#[cfg(test)]
mod tests;
