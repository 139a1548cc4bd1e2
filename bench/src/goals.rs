//! What the figures are held against. A ratio is always Muster's figure divided by the other.

/// What Muster is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// Another system, doing the same work.
    System(&'static str),
    /// Muster itself, doing other work.
    Work(&'static str),
    /// A fixed value, in the figure's unit.
    Limit(f64),
}

/// When a goal is met.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

/// One goal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) work: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) against: Against,
    pub(crate) wanted: Wanted,
}

const fn goal(work: &'static str, metric: &'static str, against: Against, wanted: Wanted) -> Goal {
    Goal { work, metric, against, wanted }
}

use Against::{Limit, System, Work};
use Wanted::{AtLeast, AtMost};

const FLOOR: Against = System("floor");
const ETCD: Against = System("etcd");
const KV: Against = System("nats-kv");

/// What docs/scaling.md reckons with, a row each.
const FLEET: &str = "simulated fleet of 100,000 agents";

pub(crate) const GOALS: &[Goal] = &[
    goal("registration to consumer, page cache", "p50", FLOOR, AtMost(1.15)),
    goal("registration to consumer, page cache", "p99", FLOOR, AtMost(1.5)),
    goal("registration to consumer, page cache", "p50", ETCD, AtMost(1.0 / 1.2)),
    goal("registration to consumer, page cache", "p99", ETCD, AtMost(0.5)),
    goal("registration to consumer, page cache", "p50", KV, AtMost(1.5)),
    goal("registration to consumer, fsync", "p50", FLOOR, AtMost(1.15)),
    goal("registration to consumer, fsync", "p99", FLOOR, AtMost(1.5)),
    goal("registration to consumer, fsync", "p50", ETCD, AtMost(1.25)),
    goal("registration to consumer, fsync", "p99", ETCD, AtMost(1.0)),
    goal("registration rate, page cache", "rate", FLOOR, AtLeast(0.6)),
    goal("registration rate, page cache", "rate", ETCD, AtLeast(2.0)),
    goal("heartbeat rate", "rate", FLOOR, AtLeast(0.85)),
    goal("query of 10 instances", "rate", FLOOR, AtLeast(0.85)),
    goal("query of 100 instances", "rate", FLOOR, AtLeast(0.85)),
    goal("query of 100 instances", "rate", ETCD, AtLeast(1.0)),
    goal("fan-out to 1,000 consumers", "last subscriber p50", FLOOR, AtMost(1.1)),
    goal("fan-out to 10,000 consumers", "last subscriber p50", FLOOR, AtMost(1.1)),
    goal("idle pulses to 10,000 consumers", "broker processor", Limit(10.0), AtMost(1.0)),
    goal("crash of a supervised service", "p99", Limit(10_000.0), AtMost(1.0)),
    goal("crash of agent and service", "beyond linger", Limit(50_000.0), AtMost(1.0)),
    // Nobody hears of it, so it takes the TTL and one heartbeat, by default ten and two seconds.
    goal("freeze of agent and service", "p99", Limit(12_000_000.0), AtMost(1.0)),
    goal("storm of restarts", "false removals", Limit(0.0), AtMost(1.0)),
    goal("return of the broker, 10,000 agents", "false removals", Limit(0.0), AtMost(1.0)),
    goal("catalog of 1,000,000 instances", "memory beyond JSON each", Limit(600.0), AtMost(1.0)),
    goal("catalog of 1,000,000 instances", "start from checkpoint", Limit(3.0), AtMost(1.0)),
    goal("catalog of 1,000,000 instances", "heartbeat", Work("catalog of 1,000 instances"), AtMost(3.0)),
    goal("catalog of 1,000,000 instances", "change", Work("catalog of 1,000 instances"), AtMost(3.0)),
    goal(FLEET, "processor, heartbeats alone", Limit(15.0), AtMost(1.0)),
    goal(FLEET, "memory each", Limit(1_100.0), AtMost(1.0)),
    // A tenth in a second, and what accrues in the 200 ms before may be handed out at once.
    goal(FLEET, "removed within a second at most", Limit(12.0), AtMost(1.0)),
    goal(FLEET, "false removals", Limit(0.0), AtMost(1.0)),
    goal("agent, idle", "resident memory", Limit(10_000_000.0), AtMost(1.0)),
    goal("agent, idle", "processor", Limit(0.1), AtMost(1.0)),
];
