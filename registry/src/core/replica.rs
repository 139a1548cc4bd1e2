//! One registry replica, pure: what it knows, and what it does about what happens.
//!
//! Reading order: here what goes in is handed out; `locating` finds out which log is in force, `beginning` where to begin;
//! `folding` takes its events in; `publishing` sends changes, pulses and beacons; `proposing` puts events into the log.

mod announcing;
mod beginning;
mod broker_words;
mod checkpoints;
mod continuity;
mod counters;
mod divergence;
mod duplicates;
pub(crate) mod epochs;
mod folding;
mod liveness;
mod locating;
mod minting;
pub mod peers;
mod probing;
mod proposals;
mod proposing;
mod publishing;
mod pulses;
mod remembering;
mod removals;
pub mod ring;
mod snapshot;
mod timing;

use std::collections::BTreeMap;

use muster_schemas::alarm::AlarmKind;
use muster_schemas::{EpochId, EventKind, ReplicaId, Subjects, Timestamp};

pub use checkpoints::{Keeping, Kept};
pub use counters::Counters;
pub use snapshot::Snapshot;
pub use timing::Timing;

use self::beginning::Beginning;
use self::broker_words::Unreachable;
use self::checkpoints::Checkpoints;
use self::continuity::Continuity;
use self::divergence::Divergence;
use self::duplicates::Duplicates;
use self::epochs::KnownEpochs;
use self::liveness::Liveness;
use self::minting::Minting;
use self::peers::Peers;
use self::proposals::Proposals;
use self::proposing::Wishes;
use self::pulses::Pulses;
use self::removals::RemovalLines;
use self::ring::Ring;
use super::catalog::{Catalog, FOLD_VERSIONS};
use super::io::{Effect, Effects, Input, Severity};

/// How many set-aside catalogs are kept; beyond it the oldest is dropped, with what only it knew.
const ASIDE_MAX: usize = 3;

/// What would repeat with every message is reported no more often than this.
const REPORT_AGAIN_MS: u64 = 10_000;

/// Who this replica is, and how it times what it does.
#[derive(Debug, Clone)]
pub struct ReplicaSettings {
    /// The namespace's subjects.
    pub subjects: Subjects,
    /// The replica's id, unique among those of its namespace.
    pub replica: ReplicaId,
    /// When this process started, by its host's clock: older replicas publish before younger ones.
    pub started_at: Timestamp,
    /// Where the registry stands; written into epochs that it begins.
    pub datacenter: Option<String>,
    /// Version of this software, for `query.status`.
    pub software_version: String,
    /// All durations.
    pub timing: Timing,
}

/// One registry replica.
#[derive(Debug)]
pub struct Replica {
    settings: ReplicaSettings,
    /// What every subject of an `epoch` event begins with.
    epoch_prefix: String,
    now_ms: u64,
    minting: Minting,
    phase: Phase,
    continuity: Continuity,
    beginning: Beginning,
    checkpoints: Checkpoints,
    divergence: Divergence,
    duplicates: Duplicates,
    /// The fold versions that this software has.
    fold_versions: Vec<u32>,
    known: KnownEpochs,
    catalog: Catalog,
    /// Catalogs of lost logs, the newest last.
    aside: Vec<Catalog>,
    peers: Peers,
    /// This replica's rank as of the last tick or beacon.
    rank: Option<u32>,
    publish_connected: bool,
    ring: Ring,
    pulses: Pulses,
    next_beacon_ms: u64,
    next_mark_ms: u64,
    mark_counter: u64,
    /// When an alarm that would repeat was raised last.
    complained_ms: BTreeMap<AlarmKind, u64>,
    reader_reported_ms: Option<u64>,
    liveness: Liveness,
    unreachable: Unreachable,
    removal_lines: RemovalLines,
    asked_servers_ms: Option<u64>,
    proposals: Proposals,
    wishes: Wishes,
    serving: bool,
    suspected: bool,
    snapshot_changed: bool,
    counters: Counters,
}

/// How far this replica has come with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Where to begin is not known yet.
    Locating,
    /// Reading, but no epoch is in force in what is read.
    Awaiting(Awaiting),
    /// Folding towards the last sequence seen at the start.
    Warming { target: u64 },
    /// At the log's end, or close behind it.
    Live,
}

/// Waiting for an epoch, somebody's or the own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Awaiting {
    /// The log that is in force in the stream, and not good enough: it was lost once.
    after: Option<EpochId>,
    since_ms: u64,
    target: u64,
}

impl Replica {
    /// A replica that knows nothing yet.
    #[must_use]
    pub fn new(settings: ReplicaSettings, now_ms: u64) -> Self {
        let peers = Peers::new(settings.replica.clone(), settings.started_at);
        let epochs = settings.subjects.events_of_kind(EventKind::Epoch);
        Self {
            epoch_prefix: epochs.trim_end_matches('>').to_owned(),
            now_ms,
            minting: Minting::default(),
            phase: Phase::Locating,
            continuity: Continuity::default(),
            beginning: Beginning::default(),
            checkpoints: Checkpoints::default(),
            divergence: Divergence::default(),
            duplicates: Duplicates::default(),
            fold_versions: FOLD_VERSIONS.to_vec(),
            known: KnownEpochs::default(),
            catalog: Catalog::default(),
            aside: Vec::new(),
            peers,
            rank: None,
            publish_connected: false,
            ring: Ring::default(),
            pulses: Pulses::new(now_ms, 0),
            next_beacon_ms: now_ms,
            next_mark_ms: now_ms,
            mark_counter: 0,
            complained_ms: BTreeMap::new(),
            reader_reported_ms: None,
            liveness: Liveness::new(now_ms, &settings),
            unreachable: Unreachable::default(),
            removal_lines: RemovalLines::default(),
            asked_servers_ms: None,
            proposals: Proposals::default(),
            wishes: Wishes::default(),
            serving: false,
            suspected: false,
            snapshot_changed: true,
            counters: Counters::new(),
            settings,
        }
    }

    /// Takes in one input and pushes what is to be done about it. `now_ms` is a monotonic clock; a step back is ignored.
    pub fn step(&mut self, now_ms: u64, input: Input<'_>, effects: &mut Effects) {
        let now_ms = now_ms.max(self.now_ms);
        let gap_ms = now_ms - self.now_ms;
        self.now_ms = now_ms;
        if gap_ms > self.settings.timing.freeze_ms {
            self.was_frozen();
        }
        match input {
            Input::Tick { wall, random } => {
                self.minting.refresh(wall, random);
                self.tick(effects);
            }
            Input::LogConnected(connected) => {
                self.continuity.set_connected(now_ms, connected);
                self.liveness.gap(now_ms);
            }
            Input::PublishConnected(connected) => {
                self.publish_connected = connected;
                self.peers.set_listening(now_ms, connected);
                self.rank = None;
            }
            Input::LogInspected { check, found } => self.inspected(check, &found, effects),
            Input::Record { reader, record } => self.record(reader, &record, effects),
            Input::ReaderStopped { reader, reason } => {
                if self.continuity.reader_stopped(now_ms, reader) {
                    self.report_reader(reason, effects);
                }
            }
            Input::Heartbeat { subject, payload } => self.heartbeat(subject, payload, effects),
            Input::ConnectedTo { servers, is_cluster } => self.liveness.leases.connected_to(servers, is_cluster),
            Input::Advisory(payload) => self.advisory(payload, effects),
            Input::ServerAnswered(payload) => self.server_answered(payload, effects),
            Input::HeartbeatsLost => self.liveness.gap(now_ms),
            Input::ChangeHeard(payload) => self.change_heard(payload),
            Input::PulseHeard(payload) => self.pulse_heard(payload),
            Input::BeaconHeard(payload) => self.beacon_heard(payload, effects),
            Input::Probed { probe, outcome } => self.probed(probe, &outcome, effects),
            Input::Announced { request, instances } => self.liveness.announcing.announced(now_ms, request, instances),
            Input::Proposed { batch, acknowledged } => self.proposed(batch, acknowledged),
            Input::CheckpointsListed { list, checkpoints } => self.checkpoints_listed(list, checkpoints, effects),
            Input::CheckpointLoaded { load, found } => self.checkpoint_loaded(load, &found, effects),
            Input::CheckpointSaved { save, bytes } => self.checkpoint_saved(save, bytes, effects),
            Input::LogTrimmed { events } => self.log_trimmed(events),
            Input::StateSaved { saved } => self.state_saved(saved),
        }
    }

    /// This process did not run for a while. What others did meanwhile waits in its queues: until that has been taken in,
    /// it neither ranks itself nor believes that others are silent.
    fn was_frozen(&mut self) {
        self.peers.set_listening(self.now_ms, self.publish_connected);
        self.rank = None;
        // The answer to a probe may have waited for as long as its timeout.
        self.liveness.stand_back();
    }

    fn tick(&mut self, effects: &mut Effects) {
        self.continuity.tick(self.now_ms, &self.settings.timing, effects);
        self.report_suspicion(effects);
        self.rank_anew();
        self.send_mark(effects);
        self.send_beacon(effects);
        self.serve_or_not(effects);
        self.send_due_changes(effects);
        self.send_due_pulses(effects);
        self.tell_left_out(effects);
        self.watch_servers(effects);
        self.look_after_leases(effects);
        self.ask_servers(effects);
        self.ask_to_announce(effects);
        self.propose(effects);
        self.look_again();
        self.keep_checkpoints(effects);
        self.keep_state(effects);
    }

    fn report_suspicion(&mut self, effects: &mut Effects) {
        let suspicion = self.continuity.suspicion();
        if suspicion.is_some() == self.suspected {
            return;
        }
        self.suspected = suspicion.is_some();
        self.counters.suspicions += u64::from(self.suspected);
        let (severity, text) = match suspicion {
            Some(reason) => (Severity::Warning, format!("the log may be broken, checking again: {reason}")),
            None => (Severity::Info, "the log is what it was".to_owned()),
        };
        self.report(severity, text, effects);
    }

    /// One that stops again and again is reported now and then.
    fn report_reader(&mut self, reason: &str, effects: &mut Effects) {
        let again_ms = self.reader_reported_ms.map_or(0, |ms| ms + REPORT_AGAIN_MS);
        if self.now_ms >= again_ms {
            self.reader_reported_ms = Some(self.now_ms);
            self.report(Severity::Warning, format!("the log reader stopped: {reason}"), effects);
        }
    }

    fn report(&self, severity: Severity, text: String, effects: &mut Effects) {
        effects.push(Effect::Report(severity, text));
    }

    /// What it has counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
