//! What consumers see, held against what the logs said.
//!
//! A log that lost its tail and goes on under the same name says two things at one revision. Consumers of it are not judged
//! until a registry that knew the tail has had the time to begin another; if none is left, nobody can tell.

use std::collections::BTreeMap;

use muster_discovery::Snapshot;
use muster_discovery::change::Change;
use muster_discovery::core::io::{Effect, Scope};
use muster_registry::core::catalog::Catalog;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Cause, Digest, Revision, ServiceName};

use super::world::World;

/// A verified view is not older: three pulses, the age of the end that they speak of, and what stalls on the way.
const STALE_MS_MAX: u64 = 20_000;
/// Whoever has been well for so long, in an unbroken log, is in every verified view.
const SHOWN_WITHIN_MS: u64 = 25_000;

/// What a consumer saw last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    revision: Option<Revision>,
    verified: bool,
    /// The revision of each list.
    lists: BTreeMap<ServiceName, Revision>,
}

impl World {
    pub(crate) fn judge_view(&mut self, index: usize, effects: &[Effect]) {
        let snapshot = self.consumers[index].view.snapshot();
        let seen = &self.oracle.seen[index];
        let touched = effects.iter().any(|effect| !matches!(effect, Effect::Ask(_)));
        if !touched && seen.revision == snapshot.revision() && seen.verified == snapshot.is_verified() {
            return;
        }
        if let (Some(before), Some(now)) = (seen.revision, snapshot.revision())
            && before.epoch() == now.epoch()
            && now < before
        {
            return self.fail(format!("I5: consumer {index} went back from {before:?} to {now:?}"));
        }
        for effect in effects {
            if let Effect::Changed(change) = effect {
                self.judge_delivery(index, change);
            }
        }
        self.judge_lists(index, &snapshot);
        let seen = &mut self.oracle.seen[index];
        seen.revision = snapshot.revision();
        seen.verified = snapshot.is_verified();
    }

    /// A change reaches whoever watches.
    fn judge_delivery(&mut self, index: usize, change: &Change) {
        let why = change.why();
        let Some(revision) = why.revision.filter(|_| why.cause != Cause::Resync) else {
            return self.fail(format!("I5: consumer {index} is told of {change} without a revision"));
        };
        if matches!(change, Change::Removed { .. }) && (why.evidence.is_none() || why.actor.is_empty()) {
            return self.fail(format!("I4: consumer {index} is told of {change} without actor or evidence"));
        }
        let last = self.oracle.seen[index].lists.insert(change.service().clone(), revision);
        if last.is_some_and(|last| last.epoch() == revision.epoch() && last >= revision && !self.truth.forks_at(last)) {
            self.fail(format!("I5: consumer {index} is told of {change} at {revision:?} after {last:?}"));
        }
    }

    /// Every list is what the log said at the list's revision; a verified view, what it said at the view's.
    pub(crate) fn judge_lists(&mut self, index: usize, snapshot: &Snapshot) {
        let Some(through) = snapshot.revision() else {
            if snapshot.is_verified() {
                self.fail(format!("I3: consumer {index} is verified, and knows no log"));
            }
            return;
        };
        let epoch = through.epoch();
        if self.is_ambiguous(epoch) {
            return self.judge_age(index, snapshot, through);
        }
        for service in self.services_of(index) {
            let Some((digest, sequence)) = snapshot.digest(service.as_str()) else { continue };
            let revision = Revision(epoch, sequence);
            let says = |catalog: &Catalog| {
                catalog.service(&service).is_some_and(|held| held.digest() == digest && held.revision() == sequence)
            };
            if !self.truth.at(revision).iter().any(|fact| says(&fact.catalog)) {
                return self
                    .fail(format!("I3: consumer {index} has a list of {service} that no log had at {revision:?}"));
            }
            let last = self.oracle.seen[index].lists.insert(service.clone(), revision);
            if last.is_some_and(|last| last.epoch() == epoch && last > revision && !self.truth.forks_at(last)) {
                return self.fail(format!("I5: consumer {index}: {service} went back from {last:?} to {revision:?}"));
            }
        }
        if snapshot.is_verified() {
            self.judge_verified(index, snapshot, through);
        }
    }

    fn services_of(&self, index: usize) -> Vec<ServiceName> {
        match &self.consumers[index].scope {
            Scope::Service(service) => vec![service.clone()],
            Scope::Everything => self.services.clone(),
        }
    }

    fn judge_verified(&mut self, index: usize, snapshot: &Snapshot, through: Revision) {
        let services = self.services_of(index);
        let is_right = |catalog: &Catalog| {
            catalog.state() == CatalogState::Ready
                && services.iter().all(|service| self.is_right(snapshot, catalog, service, through))
        };
        if !self.truth.at(through).iter().any(|fact| is_right(&fact.catalog)) {
            return self
                .fail(format!("I3: consumer {index} is verified at {through:?}, and is not what a log said there"));
        }
        self.judge_age(index, snapshot, through);
        self.judge_shown(index, snapshot);
    }

    fn judge_age(&mut self, index: usize, snapshot: &Snapshot, through: Revision) {
        let end = self.truth.end_at(self.now_ms.saturating_sub(STALE_MS_MAX));
        if snapshot.is_verified() && end.is_some_and(|end| through < end) {
            self.fail(format!("I3: consumer {index} is verified at {through:?}, long after {end:?}"));
        }
    }

    fn is_right(&self, snapshot: &Snapshot, catalog: &Catalog, service: &ServiceName, through: Revision) -> bool {
        let held = catalog.service(service);
        let shown = snapshot.of_service(service.as_str());
        let shown: Digest = shown.map(|instance| Digest::of_instance(instance.id(), instance.modified_revision)).sum();
        match snapshot.digest(service.as_str()) {
            // Ahead of the view as a whole: compared at its own revision.
            Some((digest, sequence)) if sequence > through.sequence() => shown == digest,
            Some((digest, sequence)) => {
                let same = held.is_some_and(|held| held.digest() == digest && held.revision() == sequence);
                same && shown == digest
            }
            None => {
                let is_empty = |catalog: &Catalog| catalog.service(service).is_none_or(|held| held.total() == 0);
                shown == Digest::ZERO
                    && (is_empty(catalog) || self.truth.from(through).any(|fact| is_empty(&fact.catalog)))
            }
        }
    }

    /// Whoever lives is shown, whatever logs say.
    fn judge_shown(&mut self, index: usize, snapshot: &Snapshot) {
        if !self.oracle.is_calm(self.now_ms, SHOWN_WITHIN_MS) {
            return;
        }
        let scope = &self.consumers[index].scope;
        let is_missing = |(service, instance): &(ServiceName, _)| {
            scope.covers(service) && snapshot.instance(service.as_str(), AsRef::<str>::as_ref(instance)).is_none()
        };
        let owed = self.owed(SHOWN_WITHIN_MS, SHOWN_WITHIN_MS);
        let missing = owed.into_iter().map(|(_, key)| key).find(|key: &super::agents::Key| is_missing(key));
        if let Some((service, instance)) = missing {
            self.fail(format!("I1: {service}/{instance} lives, and verified consumer {index} does not show it"));
        }
    }
}
