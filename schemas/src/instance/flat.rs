//! Reads an instance in one pass: what is nested in the types is flat in JSON, and reading it level by level would hold every
//! field several times. A replica that starts reads hundreds of thousands.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Endpoint, Instance, Locality, Maintenance, Node, Registration, Vouching, default_weight};
use crate::health::Health;
use crate::id::{Incarnation, SessionId};
use crate::name::{AgentId, InstanceId, ServiceName};

/// All fields of [`Vouching`], [`Registration`] and [`Instance`], with their defaults.
#[derive(Deserialize)]
#[serde(expecting = "struct Instance")]
struct Flat {
    service: ServiceName,
    instance: InstanceId,
    agent: AgentId,
    session: SessionId,
    incarnation: Incarnation,
    generation: u64,
    ttl_ms: u64,
    #[serde(default)]
    linger_ms: u64,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default = "default_weight")]
    weight: u16,
    #[serde(default)]
    locality: Option<Locality>,
    #[serde(default)]
    node: Option<Node>,
    #[serde(default)]
    health: Health,
    created_revision: u64,
    modified_revision: u64,
    #[serde(default)]
    maintenance: Option<Maintenance>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = Flat::deserialize(deserializer)?;
        let vouching = Vouching {
            service: flat.service,
            instance: flat.instance,
            agent: flat.agent,
            session: flat.session,
            incarnation: flat.incarnation,
            generation: flat.generation,
        };
        let registration = Registration {
            vouching,
            ttl_ms: flat.ttl_ms,
            linger_ms: flat.linger_ms,
            version: flat.version,
            endpoints: flat.endpoints,
            tags: flat.tags,
            metadata: flat.metadata,
            weight: flat.weight,
            locality: flat.locality,
            node: flat.node,
            health: flat.health,
            extra: flat.extra,
        };
        Ok(Self {
            registration,
            created_revision: flat.created_revision,
            modified_revision: flat.modified_revision,
            maintenance: flat.maintenance,
        })
    }
}

#[cfg(test)]
mod tests;
