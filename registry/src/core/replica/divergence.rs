//! Two catalogs of one log at one revision are the same, bit for bit, or there is a bug. Then there is an alarm; each of the two
//! reads the log anew, once, the younger first; and if they differ still, the younger stops answering for as long as the
//! older one lives and differs.

use muster_schemas::alarm::AlarmKind;
use muster_schemas::beacon::Beacon;
use muster_schemas::{EpochId, ReplicaId};

use super::{Phase, Replica};
use crate::core::io::{Effects, Severity};

/// What this replica has done about a difference.
#[derive(Debug, Default)]
pub(super) struct Divergence {
    /// The log that was read anew; not again in this one.
    rebuilt: Option<EpochId>,
    /// The older replica that differs although both have read the log anew.
    differs_from: Option<ReplicaId>,
}

impl Replica {
    /// Whether it has read the log in force anew because its catalog differed.
    pub(super) fn has_rebuilt(&self) -> bool {
        self.divergence.rebuilt.is_some() && self.divergence.rebuilt == self.catalog.epoch()
    }

    /// The older replica whose catalog differs for good: until it agrees, or is gone, this one gives no answers.
    pub(super) fn yields_to(&self) -> Option<&ReplicaId> {
        self.divergence.differs_from.as_ref()
    }

    /// Whoever is no longer heard is no longer yielded to: somebody has to answer.
    pub(super) fn look_after_divergence(&mut self) {
        let timing = &self.settings.timing;
        if let Some(older) = &self.divergence.differs_from
            && !self.peers.alive(self.now_ms, timing).any(|beacon| beacon.replica == *older)
        {
            self.divergence.differs_from = None;
        }
    }

    /// Holds the own catalog against that of another replica. What either folds while the log is in doubt proves nothing.
    pub(super) fn compare_digest(&mut self, beacon: &Beacon, effects: &mut Effects) {
        let comparable = self.phase == Phase::Live
            && self.knows_the_end()
            && self.catalog.is_supported()
            && beacon.epoch == self.catalog.epoch()
            && beacon.revision == self.catalog.revision()
            && beacon.fold_versions.contains(&self.catalog.fold_version());
        if !comparable {
            return;
        }
        if beacon.digest == self.catalog.digest() {
            self.divergence.differs_from.take_if(|older| *older == beacon.replica);
            return;
        }
        let text = format!(
            "replicas {} and {} differ at revision {}: digests {} and {}; each reads the log anew, the younger first; report \
             this with both logs",
            self.settings.replica,
            beacon.replica,
            beacon.revision,
            self.catalog.digest(),
            beacon.digest
        );
        self.complain(AlarmKind::DigestMismatch, text, effects);
        let is_younger = (self.settings.started_at, &self.settings.replica) > (beacon.started_at, &beacon.replica);
        match (is_younger, self.has_rebuilt(), beacon.rebuilt) {
            (true, false, _) | (false, false, true) => self.rebuild(&beacon.replica, effects),
            (true, true, true) => self.divergence.differs_from = Some(beacon.replica.clone()),
            // The older one waits for the younger, the younger for the older; an older one that has done its part goes on.
            (true, true, false) | (false, true, _) | (false, false, false) => {}
        }
    }

    /// Forgets the catalog, without keeping it for what follows: what may be wrong must not be carried over.
    fn rebuild(&mut self, other: &ReplicaId, effects: &mut Effects) {
        self.counters.rebuilds += 1;
        self.divergence.rebuilt = self.catalog.epoch();
        let text = format!("reads the log anew, because its catalog differs from that of replica {other}");
        self.report(Severity::Warning, text, effects);
        self.begin_catalog(0);
        self.locate_anew();
        self.beginning.from_afar = true;
    }
}
