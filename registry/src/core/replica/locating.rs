//! Which log is in force, where it begins, and what to do when it is lost.

use muster_schemas::EpochId;
use muster_schemas::alarm::AlarmKind;
use muster_schemas::pulse::CatalogState;

use super::continuity::Verdict;
use super::pulses::Pulses;
use super::{ASIDE_MAX, Phase, Replica, epochs};
use crate::core::catalog::Catalog;
use crate::core::io::{Effect, Effects, Inspection, LogFacts, Severity};

impl Replica {
    pub(super) fn inspected(&mut self, check: u64, found: &Inspection<'_>, effects: &mut Effects) {
        let confirmed_before = self.continuity.end_confirmed_ms();
        if let Inspection::Present(facts) = found {
            self.liveness.leases.servers_hold_log(self.now_ms, facts.servers);
        }
        let verdict = self.continuity.inspected(self.now_ms, check, found, &self.settings.timing);
        self.snapshot_changed |= self.continuity.end_confirmed_ms() != confirmed_before;
        match (verdict, found) {
            (Verdict::Nothing, _) => {}
            (Verdict::Create, _) => effects.push(Effect::CreateStream),
            (Verdict::Resume, Inspection::Present(facts)) => {
                if self.catalog.epoch().is_none() && !self.continuity.is_anchored() {
                    // Nothing was read of this log: it cannot be told whether it is the one that was located.
                    self.locate_anew();
                } else if !self.is_to_locate_anew(facts) {
                    self.continuity.read_on(effects);
                }
            }
            (Verdict::EpochsSeen, Inspection::Present(facts)) => drop(self.is_to_locate_anew(facts)),
            (Verdict::Broken(reason), _) => self.broken(&reason, effects),
            (Verdict::Locate, Inspection::Present(facts)) => self.locate(facts, effects),
            (Verdict::Trimmed, Inspection::Present(facts)) => self.trimmed(facts, effects),
            (Verdict::Locate | Verdict::Trimmed | Verdict::Resume | Verdict::EpochsSeen, _) => {}
        }
    }

    /// Whoever waits for an epoch begins again if one came, or went, below its position: between the two halves of the
    /// inspection by which it began, or in a log that was replaced, for it has folded nothing by which it could tell that.
    fn is_to_locate_anew(&mut self, facts: &LogFacts<'_>) -> bool {
        let Phase::Awaiting(awaiting) = self.phase else { return false };
        let newest = epochs::in_force(&self.settings.subjects, &facts.epochs).map(|(_, epoch)| epoch);
        let is_another = newest != awaiting.after;
        if is_another {
            self.locate_anew();
        }
        is_another
    }

    /// Nothing was folded, and nothing is known of the log any more.
    pub(super) fn locate_anew(&mut self) {
        self.phase = Phase::Locating;
        self.forget_checkpoints();
        self.continuity.forget(self.now_ms);
    }

    /// An empty catalog, and nothing left of what was to be published from the one before.
    pub(super) fn begin_catalog(&mut self, after_sequence: u64) {
        self.catalog = Catalog::default();
        self.liveness.leases.rebuild(&self.catalog);
        self.begin_publishing(after_sequence);
    }

    /// Nothing is published any more from a log before this sequence.
    pub(super) fn begin_publishing(&mut self, after_sequence: u64) {
        self.ring.clear();
        self.pulses = Pulses::new(self.now_ms, after_sequence);
        self.pulses.spread(self.now_ms, &self.settings.timing);
        self.snapshot_changed = true;
    }

    /// The log is another one, or has lost its tail. What it said is kept, a new log has to begin.
    pub(super) fn broken(&mut self, reason: &str, effects: &mut Effects) {
        self.counters.logs_broken += 1;
        let text = format!("the log is broken, a new one has to begin: {reason}");
        self.alarm(AlarmKind::LogBroken, text, effects);
        self.known.lose(self.catalog.epoch());
        self.begin_anew();
    }

    /// What follows the own revision was trimmed away: this replica begins again, from a checkpoint. Without one it begins at a
    /// newer epoch, or waits for one, and appends one only when nobody is left who knows this log.
    fn trimmed(&mut self, facts: &LogFacts<'_>, effects: &mut Effects) {
        let position = self.continuity.position().unwrap_or(0);
        let text = format!(
            "the log was trimmed up to {}, beyond revision {position} of this replica: starting again",
            facts.first_sequence
        );
        self.report(Severity::Warning, text, effects);
        if let Some(epoch) = self.catalog.epoch() {
            self.known.named(self.now_ms, epoch);
        }
        self.begin_anew();
    }

    pub(super) fn begin_anew(&mut self) {
        let lost = std::mem::take(&mut self.catalog);
        self.set_aside(lost);
        self.begin_catalog(0);
        self.phase = Phase::Locating;
        self.forget_checkpoints();
        self.continuity.forget(self.now_ms);
    }

    /// Keeps the catalog of a log that is no longer in force, for what has to be carried over from it.
    pub(super) fn set_aside(&mut self, lost: Catalog) {
        if lost.epoch().is_none() || lost.entries().next().is_none() {
            return;
        }
        self.aside.push(lost);
        if self.aside.len() > ASIDE_MAX {
            self.aside.remove(0);
        }
    }

    /// Whether another replica lives that has folded a log which this one could not begin to read.
    pub(super) fn somebody_knows_better(&self) -> bool {
        self.peers
            .alive(self.now_ms, &self.settings.timing)
            .any(|beacon| beacon.state != CatalogState::Warming && beacon.epoch > self.known.lost)
    }

    /// The log that beacons name: the one in force, or the one that was lost and has to be followed.
    pub(super) fn named_epoch(&self) -> Option<EpochId> {
        self.catalog.epoch().or(self.known.lost)
    }
}
