//! What an owner wants registered: a registration without the vouching, which the agent mints itself.

use std::collections::BTreeMap;

use muster_schemas::instance::{DEFAULT_WEIGHT, Endpoint, Locality, Node};
use muster_schemas::{Extra, Health, InstanceId, Registration, ServiceName, Vouching};

/// The TTL of a lease whose owner states none, in milliseconds.
pub const DEFAULT_TTL_MS: u64 = 10_000;

/// An instance as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The service.
    pub service: ServiceName,
    /// The instance, unique within the service.
    pub instance: InstanceId,
    /// Where it listens; may be empty.
    pub endpoints: Vec<Endpoint>,
    /// Labels to filter by.
    pub tags: Vec<String>,
    /// Keys and values of the user's own.
    pub metadata: BTreeMap<String, String>,
    /// Share of the traffic.
    pub weight: u16,
    /// The version of the software.
    pub version: Option<String>,
    /// Where it stands.
    pub locality: Option<Locality>,
    /// The machine it runs on.
    pub node: Option<Node>,
    /// How long the lease lasts without a heartbeat, in milliseconds; 0 = static, no lease.
    pub ttl_ms: u64,
    /// How long it is kept after the agent's connection broke, in milliseconds; at most `ttl_ms`.
    pub linger_ms: u64,
    /// What its checks say.
    pub health: Health,
}

impl InstanceSpec {
    /// An instance without endpoints, passing, with the usual weight and TTL.
    #[must_use]
    pub fn new(service: ServiceName, instance: InstanceId) -> Self {
        Self {
            service,
            instance,
            endpoints: Vec::new(),
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            weight: DEFAULT_WEIGHT,
            version: None,
            locality: None,
            node: None,
            ttl_ms: DEFAULT_TTL_MS,
            linger_ms: DEFAULT_TTL_MS,
            health: Health::default(),
        }
    }

    /// Has no lease.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.ttl_ms == 0
    }

    /// The registration of a vouching.
    #[must_use]
    pub fn registration(&self, vouching: Vouching) -> Registration {
        Registration {
            vouching,
            ttl_ms: self.ttl_ms,
            linger_ms: self.linger_ms,
            version: self.version.as_ref().map(Into::into),
            endpoints: self.endpoints.clone(),
            tags: self.tags.iter().map(Into::into).collect(),
            metadata: self.metadata.clone().into(),
            weight: self.weight,
            locality: self.locality.clone().map(Into::into),
            node: self.node.clone().map(Into::into),
            health: self.health.clone(),
            extra: Extra::new(),
        }
    }
}
