//! Which instances a watch, or a look at a snapshot, is about.

use muster_schemas::{HealthStatus, Instance};

/// Lets instances through; everything unless narrowed. Applied after verification, so it never hides a gap.
///
/// ```
/// use muster_discovery::Filter;
/// use muster_schemas::HealthStatus;
///
/// let filter = Filter::new().routable().version("1.4.2").tag("primary").health_at_worst(HealthStatus::Warning);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    routable: bool,
    health_at_worst: Option<HealthStatus>,
    version: Option<String>,
    tags: Vec<String>,
}

impl Filter {
    /// Lets everything through.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what may be used now: passing or warning, not in maintenance, weight above 0.
    #[must_use]
    pub fn routable(mut self) -> Self {
        self.routable = true;
        self
    }

    /// Only what is as healthy as this, or healthier.
    #[must_use]
    pub fn health_at_worst(mut self, status: HealthStatus) -> Self {
        self.health_at_worst = Some(status);
        self
    }

    /// Only this version, byte for byte.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Only what has this tag; called again, only what has all of them.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Whether the filter lets an instance through.
    #[must_use]
    pub fn matches(&self, instance: &Instance) -> bool {
        let registration = &instance.registration;
        (!self.routable || instance.is_routable())
            && self.health_at_worst.is_none_or(|worst| registration.health.status <= worst)
            && self.version.as_ref().is_none_or(|version| registration.version.as_deref() == Some(version.as_str()))
            && self.tags.iter().all(|tag| registration.tags.iter().any(|known| known == tag))
    }

    pub(crate) fn lets_everything_through(&self) -> bool {
        *self == Self::default()
    }
}
