//! What a replica counts, as plain numbers; the shell exports them.

use std::collections::BTreeMap;

use muster_schemas::alarm::AlarmKind;

use crate::core::catalog::Outcome;

/// Counts since the start. All only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events folded, by outcome; events before any epoch count as `no_epoch`.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Changes that this replica published.
    pub changes_published: u64,
    /// Those of them that it published because the publisher before it did not.
    pub changes_hedged: u64,
    /// Changes folded that some other replica was seen to publish first.
    pub changes_seen: u64,
    /// Changes that were neither published nor seen to be.
    pub changes_given_up: u64,
    /// Pulses published.
    pub pulses_published: u64,
    /// Notices sent to agents.
    pub notices_sent: u64,
    /// Beacons of other replicas heard.
    pub beacons_heard: u64,
    /// Heartbeats of agents taken in.
    pub heartbeats: u64,
    /// Heartbeats that were unreadable, or not above the last counter.
    pub heartbeats_refused: u64,
    /// Disconnect advisories of the broker.
    pub advisories: u64,
    /// Connections of agents that the broker said are gone.
    pub disconnects: u64,
    /// Instances removed, for whatever cause, while at the log's end.
    pub removals: u64,
    /// Own marks processed.
    pub marks: u64,
    /// Own marks that charged leases.
    pub marks_charged: u64,
    /// Lease clock in all, in milliseconds.
    pub charged_ms: u64,
    /// Probes sent to agents.
    pub probes: u64,
    /// Agents asked to announce.
    pub announces: u64,
    /// Events proposed, by kind.
    pub proposed: BTreeMap<&'static str, u64>,
    /// Batches of proposals that were not acknowledged in full.
    pub batches_failed: u64,
    /// Times that a check of the log failed.
    pub suspicions: u64,
    /// Times that a log was believed to be broken.
    pub logs_broken: u64,
    /// Times that the log was read anew because the catalog differed from another replica's.
    pub rebuilds: u64,
    /// Messages of other replicas that were unreadable or of no use.
    pub messages_refused: u64,
    /// Checkpoints written and read back.
    pub checkpoints_saved: u64,
    /// Checkpoints that could not be written, or not be read back.
    pub checkpoints_failed: u64,
    /// Checkpoints skipped because they were broken, or of another log.
    pub checkpoints_broken: u64,
    /// Times that the catalog was written to the local disk.
    pub states_saved: u64,
    /// Times that it could not be.
    pub states_failed: u64,
    /// Events that went when the log's head was trimmed.
    pub events_trimmed: u64,
    /// Alarms raised, by kind.
    pub alarms: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            outcomes: Outcome::all_words().map(|word| (word, 0)).collect(),
            alarms: AlarmKind::ALL.map(|kind| (kind.as_str(), 0)).into(),
            ..Self::default()
        }
    }
}
