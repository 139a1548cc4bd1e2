//! What supervision counts.

use muster_runtime::metrics::{MetricDoc, Metrics, Unit};
use muster_schemas::HealthStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::core::supervision::Saying;

/// The kind of a check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    kind: &'static str,
    status: &'static str,
}

/// What supervision counts; clones count together.
#[derive(Debug, Clone)]
pub struct Meters {
    checks: Family<CheckLabels, Counter>,
    starts: Counter,
    exits: Counter,
    health_changes: Counter,
    services: Gauge,
    registered: Gauge,
}

/// The agent's metrics, for the documents.
#[must_use]
pub fn docs() -> Vec<MetricDoc> {
    let metrics = Metrics::new();
    let _ = Meters::register(&metrics);
    metrics.docs()
}

impl Meters {
    /// Puts all of it into `metrics`.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let checks = "Runs of checks, by kind and by what they found before damping";
        Self {
            checks: metrics.counters("agent_checks", &["kind", "status"], checks),
            starts: metrics.counter("agent_service_starts", "Services started, first starts and later ones"),
            exits: metrics.counter("agent_service_exits", "Ends of started services, asked for or not"),
            health_changes: metrics.counter("agent_health_changes", "Changes of a service's damped health"),
            services: metrics.gauge("agent_services", Unit::None, "Services under supervision"),
            registered: metrics.gauge(
                "agent_services_registered",
                Unit::None,
                "Services whose registration is confirmed",
            ),
        }
    }

    pub(super) fn checked(&self, kind: &'static str, status: HealthStatus) {
        let status = status.as_str();
        self.checks.get_or_create(&CheckLabels { kind, status }).inc();
    }

    pub(super) fn count(&self, saying: &Saying) {
        match saying {
            Saying::Started { .. } => drop(self.starts.inc()),
            Saying::Exited { .. } => drop(self.exits.inc()),
            Saying::HealthChanged { .. } => drop(self.health_changes.inc()),
            _ => {}
        }
    }

    pub(super) fn standing(&self, services: usize, registered: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.services.set(number(services));
        self.registered.set(number(registered));
    }
}
