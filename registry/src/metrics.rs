//! What a registry measures, by the names that it is served under.

use std::sync::atomic::Ordering;

use muster_runtime::metrics::{Counter, Family, Gauge, MetricDoc, Metrics, Unit};
use muster_schemas::query::{ErrorCode, ServerState, Status};
use prometheus_client::encoding::EncodeLabelSet;

use crate::core::replica::{Counters, Kept};
use crate::queries::Endpoint;

/// Told apart by what became of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Told apart by the kind of event, or of alarm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Told apart by what was asked and what was answered: `ok`, or the error's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    endpoint: &'static str,
    answer: &'static str,
}

/// A number of the core, the name that it is served under, and what it counts.
type CoreCounter = (&'static str, &'static str, ReadCounter);

type ReadCounter = fn(&Counters) -> u64;

const CORE_COUNTERS: [CoreCounter; 26] = [
    ("changes_published", "Changes that this replica published", |core| core.changes_published),
    ("changes_hedged", "Changes published because the publisher before this replica did not", |core| {
        core.changes_hedged
    }),
    ("changes_seen", "Changes that another replica was seen to publish first", |core| core.changes_seen),
    ("changes_given_up", "Changes neither published nor seen to be", |core| core.changes_given_up),
    ("pulses_published", "Pulses published", |core| core.pulses_published),
    ("notices_sent", "Notices sent to agents", |core| core.notices_sent),
    ("beacons_heard", "Beacons of other replicas heard", |core| core.beacons_heard),
    ("heartbeats", "Heartbeats of agents taken in", |core| core.heartbeats),
    ("heartbeats_refused", "Heartbeats unreadable, or not above the last counter", |core| core.heartbeats_refused),
    ("advisories", "Disconnect advisories of the broker heard", |core| core.advisories),
    ("disconnects", "Connections of agents that the broker said are gone", |core| core.disconnects),
    ("marks", "Own marks processed", |core| core.marks),
    ("marks_charged", "Own marks that charged leases", |core| core.marks_charged),
    ("probes", "Probes sent to agents", |core| core.probes),
    ("announces", "Agents asked to announce", |core| core.announces),
    ("proposal_batches_failed", "Batches of proposals not acknowledged in full", |core| core.batches_failed),
    ("log_suspicions", "Checks of the log that failed", |core| core.suspicions),
    ("logs_broken", "Logs believed to be broken", |core| core.logs_broken),
    ("rebuilds", "Times that the log was read anew because the catalog differed from another replica's", |core| {
        core.rebuilds
    }),
    ("messages_refused", "Messages of other replicas unreadable or of no use", |core| core.messages_refused),
    ("checkpoints_saved", "Checkpoints written and read back", |core| core.checkpoints_saved),
    ("checkpoints_failed", "Checkpoints that could not be written, or not be read back", |core| {
        core.checkpoints_failed
    }),
    ("checkpoints_broken", "Checkpoints skipped because they were broken, or of another log", |core| {
        core.checkpoints_broken
    }),
    ("states_saved", "Times that the catalog was written to the state directory", |core| core.states_saved),
    ("states_failed", "Times that the catalog could not be written to the state directory", |core| core.states_failed),
    ("events_trimmed", "Events that went when the log's head was trimmed", |core| core.events_trimmed),
];

type CoreGauge = (&'static str, Unit, &'static str, ReadGauge);

type ReadGauge = fn(&Status) -> u64;

const CORE_GAUGES: [CoreGauge; 11] = [
    ("revision", Unit::None, "How far the log is folded", |status| status.revision),
    ("services", Unit::None, "Services with instances", |status| status.services),
    ("instances", Unit::None, "Instances", |status| status.instances),
    ("tombstones", Unit::None, "Tombstones kept", |status| status.tombstones),
    ("intents", Unit::None, "Intents in force", |status| status.intents),
    ("agents", Unit::None, "Agents heard in the last TTL", |status| status.agents),
    ("servers_unreachable", Unit::None, "Broker servers with agents that nobody hears", |status| {
        let unreachable = status.servers.iter().filter(|server| server.state == ServerState::Unreachable);
        u64::try_from(unreachable.count()).unwrap_or(u64::MAX)
    }),
    (
        "instances_unreachable",
        Unit::None,
        "Instances kept although nobody hears their agents' broker server",
        |status| status.unreachable_instances,
    ),
    ("replicas", Unit::None, "Replicas heard, this one included", |status| {
        u64::try_from(status.replicas.len()).unwrap_or(u64::MAX)
    }),
    ("publisher", Unit::None, "1 if this replica publishes changes first", |status| u64::from(status.rank == Some(0))),
    ("head_age", Unit::Seconds, "Time since the stream confirmed that this replica is at its end", |status| {
        status.head_age_ms.unwrap_or(0) / 1_000
    }),
];

/// The core's numbers.
pub(crate) struct CoreMetrics {
    counters: Vec<(Counter, ReadCounter)>,
    gauges: Vec<(Gauge, ReadGauge)>,
    checkpoint_age: Gauge,
    checkpoint_size: Gauge,
    checkpoint_revision: Gauge,
    events: Family<Outcome, Counter>,
    proposed: Family<Kind, Counter>,
    alarms: Family<Kind, Counter>,
}

impl CoreMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let counters = CORE_COUNTERS.map(|(name, help, read)| (metrics.counter(name, help), read));
        let gauges = CORE_GAUGES.map(|(name, unit, help, read)| (metrics.gauge(name, unit, help), read));
        Self {
            counters: counters.into(),
            gauges: gauges.into(),
            checkpoint_age: metrics.gauge(
                "checkpoint_age",
                Unit::Seconds,
                "Time since this replica wrote a checkpoint or began from one",
            ),
            checkpoint_size: metrics.gauge("checkpoint_size", Unit::Bytes, "Size of the checkpoint written last"),
            checkpoint_revision: metrics.gauge("checkpoint_revision", Unit::None, "Revision of that checkpoint"),
            events: metrics.counters("events_folded", &["outcome"], "Events of the log folded, by what became of them"),
            proposed: metrics.counters("events_proposed", &["kind"], "Events proposed, by kind"),
            alarms: metrics.counters("alarms", &["kind"], "Alarms raised, by kind"),
        }
    }

    /// Shows the present numbers.
    pub(crate) fn show(&self, counters: &Counters, status: &Status, checkpoint: Option<Kept>) {
        let set = |counter: &Counter, value: u64| counter.inner().store(value, Ordering::Relaxed);
        for (counter, read) in &self.counters {
            set(counter, read(counters));
        }
        for (outcome, count) in &counters.outcomes {
            set(&self.events.get_or_create(&Outcome { outcome }), *count);
        }
        for (kind, count) in &counters.proposed {
            set(&self.proposed.get_or_create(&Kind { kind }), *count);
        }
        for (kind, count) in &counters.alarms {
            set(&self.alarms.get_or_create(&Kind { kind }), *count);
        }
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        for (gauge, read) in &self.gauges {
            set(gauge, read(status));
        }
        if let Some(checkpoint) = checkpoint {
            set(&self.checkpoint_age, checkpoint.age_ms / 1_000);
            set(&self.checkpoint_size, checkpoint.bytes);
            set(&self.checkpoint_revision, checkpoint.revision.sequence());
        }
    }
}

/// The numbers of the task that answers queries.
pub(crate) struct QueryMetrics {
    /// By endpoint; resolved once, for looking a label up costs more than counting.
    answered: [Counter; Endpoint::ALL.len()],
    queries: Family<Asked, Counter>,
    waiting: Gauge,
    held: Gauge,
    serving: Gauge,
}

impl QueryMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let queries: Family<Asked, Counter> = metrics.counters(
            "queries",
            &["endpoint", "answer"],
            "Queries answered, by what was asked and answered: ok or the error",
        );
        let answered = Endpoint::ALL.map(|endpoint| {
            let asked = Asked { endpoint: endpoint.as_str(), answer: "ok" };
            queries.get_or_create(&asked).clone()
        });
        Self {
            answered,
            queries,
            waiting: metrics.gauge("queries_waiting", Unit::None, "Queries that wait for their min_revision"),
            held: metrics.gauge("answers_held", Unit::None, "Large answers of which the rest is held"),
            serving: metrics.gauge("serving", Unit::None, "1 if this replica answers queries"),
        }
    }

    /// One more answer, or error.
    pub(crate) fn count(&self, endpoint: Endpoint, error: Option<ErrorCode>) {
        match error {
            None => self.answered[endpoint as usize].inc(),
            Some(code) => {
                let asked = Asked { endpoint: endpoint.as_str(), answer: code.as_str() };
                self.queries.get_or_create(&asked).inc()
            }
        };
    }

    /// Shows what is under way.
    pub(crate) fn show(&self, waiting: usize, held: usize, serving: bool) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.waiting.set(count(waiting));
        self.held.set(count(held));
        self.serving.set(i64::from(serving));
    }
}

/// What the documents say about the metrics of a registry.
#[must_use]
pub fn metric_docs() -> Vec<MetricDoc> {
    let metrics = Metrics::new();
    CoreMetrics::register(&metrics);
    QueryMetrics::register(&metrics);
    metrics.docs()
}
