//! The metrics of a process: registered once with everything the documents say about them, served as text.
//!
//! Names get the prefix `muster_`, the unit and, for counters, `_total` from here: `counter("changes_published", …)` is
//! served as `muster_changes_published_total`. Units are base units. Label values must be few and known beforehand: never
//! a service, an instance, an agent or a subject.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::{self, Metric, Registry};
use serde::Serialize;

pub use prometheus_client::encoding::{EncodeLabelSet as LabelSet, EncodeLabelValue as LabelValue};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// What [`Metrics::text`] is, for the `Content-Type` header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "muster";

/// The unit of a metric; only base units exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A plain count.
    None,
    /// Of time.
    Seconds,
    /// Of data.
    Bytes,
}

impl Unit {
    fn exported(self) -> Option<registry::Unit> {
        match self {
            Self::None => None,
            Self::Seconds => Some(registry::Unit::Seconds),
            Self::Bytes => Some(registry::Unit::Bytes),
        }
    }
}

/// What the documents say about a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricDoc {
    /// As it is served.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: Vec<&'static str>,
    /// What it counts or measures.
    pub help: String,
}

struct Described<'a> {
    name: &'a str,
    kind: &'static str,
    unit: Unit,
    labels: &'a [&'static str],
    help: &'a str,
}

/// All metrics of a process; clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    docs: Vec<MetricDoc>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { registry: Registry::with_prefix(PREFIX), docs: Vec::new() })) }
    }

    /// Something that only grows. `name` without prefix and `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::default(), Described { name, kind: "counter", unit: Unit::None, labels: &[], help })
    }

    /// Something that goes up and down. `name` without prefix and unit.
    pub fn gauge(&self, name: &str, unit: Unit, help: &str) -> Gauge {
        self.register(Gauge::default(), Described { name, kind: "gauge", unit, labels: &[], help })
    }

    /// A distribution; `bounds` are the upper bounds of its buckets, in its unit.
    pub fn histogram(&self, name: &str, unit: Unit, bounds: impl IntoIterator<Item = f64>, help: &str) -> Histogram {
        self.register(Histogram::new(bounds), Described { name, kind: "histogram", unit, labels: &[], help })
    }

    /// Counters told apart by labels, whose names are `labels`.
    pub fn counters<L>(&self, name: &str, labels: &[&'static str], help: &str) -> Family<L, Counter>
    where
        L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static,
    {
        self.register(Family::default(), Described { name, kind: "counter", unit: Unit::None, labels, help })
    }

    /// Gauges told apart by labels, whose names are `labels`.
    pub fn gauges<L>(&self, name: &str, unit: Unit, labels: &[&'static str], help: &str) -> Family<L, Gauge>
    where
        L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static,
    {
        self.register(Family::default(), Described { name, kind: "gauge", unit, labels, help })
    }

    fn register<M: Metric + Clone>(&self, metric: M, described: Described<'_>) -> M {
        let Described { name, kind, unit, labels, help } = described;
        let mut inner = self.lock();
        let unit_suffix = match unit.exported() {
            Some(exported) => {
                let suffix = format!("_{}", exported.as_str());
                inner.registry.register_with_unit(name, help, exported, metric.clone());
                suffix
            }
            None => {
                inner.registry.register(name, help, metric.clone());
                String::new()
            }
        };
        let total = if kind == "counter" { "_total" } else { "" };
        let name = format!("{PREFIX}_{name}{unit_suffix}{total}");
        inner.docs.push(MetricDoc { name, kind, unit, labels: labels.to_vec(), help: help.to_owned() });
        metric
    }

    /// What the documents say about all of them, by name.
    #[must_use]
    pub fn docs(&self) -> Vec<MetricDoc> {
        let mut docs = self.lock().docs.clone();
        docs.sort_by(|left, right| left.name.cmp(&right.name));
        docs
    }

    /// Their present values, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail; a metric that cannot be encoded ends the text early.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.lock().registry);
        text
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Outcome {
        outcome: &'static str,
    }

    #[test]
    fn what_the_documents_say_is_what_is_served() {
        let metrics = Metrics::new();
        metrics.counter("changes_published", "Changes published").inc();
        metrics.gauge("head_age", Unit::Seconds, "Age of the head").set(1);
        metrics.histogram("snapshot_size", Unit::Bytes, [100.0, 1000.0], "Size of snapshots").observe(10.0);
        metrics
            .counters::<Outcome>("events", &["outcome"], "Events")
            .get_or_create(&Outcome { outcome: "stale" })
            .inc();
        metrics
            .gauges::<Outcome>("leases", Unit::None, &["outcome"], "Leases")
            .get_or_create(&Outcome { outcome: "held" })
            .set(3);
        let text = metrics.text();
        for doc in metrics.docs() {
            assert!(text.lines().any(|line| line.starts_with(&doc.name)), "`{}` is not served in:\n{text}", doc.name);
        }
        assert!(text.contains("muster_events_total{outcome=\"stale\"} 1"), "{text}");
        assert!(text.contains("muster_head_age_seconds 1"), "{text}");
        let names: Vec<String> = metrics.docs().into_iter().map(|doc| doc.name).collect();
        assert_eq!(names[0], "muster_changes_published_total");
    }
}
