//! What a program says of the instance that it registers.

use std::time::Duration;

use muster_agent::vouch::InstanceSpec;
use muster_schemas::instance::{Endpoint, Locality, Node};
use muster_schemas::{Health, HealthStatus, InstanceId, ServiceName};

use crate::error::Error;

/// An instance as its program describes it: passing, with weight 100 and a TTL of 10 s unless told otherwise.
///
/// ```
/// # fn example() -> Result<(), muster_discovery::Error> {
/// use muster_discovery::Description;
///
/// let orders = Description::new("orders", "web1-8080")?
///     .endpoint("http", "http", "10.0.0.1", 8080)
///     .version("1.4.2")
///     .tag("primary")
///     .metadata("team", "shop");
/// # Ok(()) }
/// # example().unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Description {
    pub(crate) spec: InstanceSpec,
}

impl Description {
    /// An instance without endpoints.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName).
    pub fn new(service: &str, instance: &str) -> Result<Self, Error> {
        Ok(InstanceSpec::new(ServiceName::new(service)?, InstanceId::new(instance)?).into())
    }

    /// Where it listens: an IP literal (IPv6 without brackets) or DNS name, and a port. Names are unique, schemes may repeat.
    pub fn endpoint(mut self, name: &str, scheme: &str, host: &str, port: u16) -> Self {
        self.spec.endpoints.push(Endpoint {
            name: name.into(),
            scheme: scheme.into(),
            host: Some(host.into()),
            port: Some(port),
            subject: None,
            extra: muster_schemas::Extra::new(),
        });
        self
    }

    /// The version of the software.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.spec.version = Some(version.into());
        self
    }

    /// A label to filter by; may be called again.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.spec.tags.push(tag.into());
        self
    }

    /// A key and a value of the program's own; may be called again.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.metadata.insert(key.into(), value.into());
        self
    }

    /// Its share of the traffic; 0 = none.
    pub fn weight(mut self, weight: u16) -> Self {
        self.spec.weight = weight;
        self
    }

    /// Where it stands.
    pub fn locality(mut self, locality: Locality) -> Self {
        self.spec.locality = Some(locality);
        self
    }

    /// The machine that it runs on.
    pub fn node(mut self, node: Node) -> Self {
        self.spec.node = Some(node);
        self
    }

    /// How healthy it is to begin with.
    pub fn health(mut self, status: HealthStatus) -> Self {
        self.spec.health = Health { status, ..Health::default() };
        self
    }

    /// How long it stays registered without a heartbeat: 1 s to 1 h.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.spec.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.spec.linger_ms = self.spec.linger_ms.min(self.spec.ttl_ms);
        self
    }
}

impl From<InstanceSpec> for Description {
    fn from(spec: InstanceSpec) -> Self {
        Self { spec }
    }
}
