//! Taking in a change: applied if it is the next and leads to the digest that it names, held if it came too early.

use muster_schemas::change::Change as WireChange;
use muster_schemas::pulse::bucket;
use muster_schemas::{Digest, ServiceName, WIRE_VERSION};

use super::super::io::{Effect, Scope};
use super::View;
use crate::change::{Change, Why, differ};
use crate::snapshot::ServiceList;

/// A second mismatch within this time is not a mishap: no longer asked at once.
const MISMATCH_PAUSE_MS: u64 = 1_000;

impl View {
    pub(super) fn on_change(&mut self, now_ms: u64, change: Box<WireChange>, effects: &mut Vec<Effect>) {
        let sound = change.v == WIRE_VERSION && is_sound(&change) && self.scope.covers(&change.service);
        if !sound || !self.enter(now_ms, change.epoch) {
            return;
        }
        self.seen = self.seen.max(change.revision);
        let service = change.service.clone();
        match self.judge_change(&change) {
            Verdict::Repeated => self.counters.repeated += 1,
            Verdict::Follows => {
                self.apply(now_ms, &change, effects);
                self.apply_held(now_ms, &service, effects);
            }
            Verdict::Early => {
                self.counters.early += 1;
                if !self.gaps.hold(now_ms, change) {
                    self.asking.want_whole(now_ms, "too many changes out of order");
                }
            }
            Verdict::Contradicts => self.mismatch(now_ms, &service),
        }
    }

    pub(super) fn judge_change(&self, change: &WireChange) -> Verdict {
        let list = self.lists.get(&change.service).filter(|list| list.proven() > 0);
        let listed = list.map_or(0, |list| list.revision);
        if change.revision <= self.complete_through(&change.service) {
            // Everything through there was said to be in the list; a change that is not can only mean that it was wrong.
            let new = list.is_some() && change.revision > listed;
            return if new { Verdict::Contradicts } else { Verdict::Repeated };
        }
        // 0 says that the service had no instance, so it fits any empty list, whatever happened to the service before.
        if change.previous_revision == listed { Verdict::Follows } else { Verdict::Early }
    }

    /// Applies a change that follows, if the digest afterwards is the one that it names.
    pub(super) fn apply(&mut self, now_ms: u64, change: &WireChange, effects: &mut Vec<Effect>) {
        let mut list = self.lists.get(&change.service).cloned().unwrap_or_default();
        let before = list.instances.get(&change.instance).cloned();
        let was_kept = list.kept.contains(&change.instance);
        let item = |modified_revision| Digest::of_instance(&change.instance, modified_revision);
        if let Some(before) = before.as_ref().filter(|_| !was_kept) {
            list.digest = list.digest.minus(item(before.modified_revision));
        }
        if let Some(value) = &change.value {
            list.digest = list.digest.plus(item(value.modified_revision));
        }
        if list.digest != change.digest {
            self.mismatch(now_ms, &change.service);
            return;
        }
        list.revision = change.revision;
        list.complete_through = change.revision;
        list.kept.remove(&change.instance);
        match &change.value {
            Some(value) => drop(list.instances.insert(change.instance.clone(), value.clone())),
            None => drop(list.instances.remove(&change.instance)),
        }
        self.store(&change.service, list);
        self.reached = self.reached.max(change.revision);
        let same =
            matches!((&before, &change.value), (Some(before), Some(after)) if was_kept && !differ(before, after));
        if !same {
            let delivered = Change::between(before, change.value.clone(), || Why::of(change).into());
            effects.extend(delivered.map(Effect::Changed));
        }
    }

    pub(super) fn store(&mut self, service: &ServiceName, list: ServiceList) {
        if list.instances.is_empty() && self.scope == Scope::Everything {
            self.emptied.insert(service.clone());
        }
        self.lists.insert(service.clone(), list);
    }

    /// An empty list says nothing more once its bucket is verified beyond it: names do not pile up.
    pub(super) fn forget_emptied(&mut self) {
        for service in std::mem::take(&mut self.emptied) {
            let covered = self.coverage_index(bucket(&service)).map_or(0, |index| self.coverage[index].through);
            match self.lists.get(&service) {
                Some(list) if !list.instances.is_empty() => {}
                Some(list) if list.complete_through > covered => drop(self.emptied.insert(service)),
                _ => drop(self.lists.remove(&service)),
            }
        }
    }

    /// Applies what was held for a service, as far as it follows now, and looks at the pulses that waited for it.
    pub(super) fn apply_held(&mut self, now_ms: u64, service: &ServiceName, effects: &mut Vec<Effect>) {
        if self.gaps.contains(service) {
            while let Some(next) = self.gaps.next(service, self.complete_through(service)) {
                let next = next.clone();
                if self.judge_change(&next) != Verdict::Follows {
                    break;
                }
                self.gaps.take(service);
                self.apply(now_ms, &next, effects);
            }
            self.gaps.moved(now_ms, service, self.complete_through(service));
        }
        if let Some(index) = self.coverage_index(bucket(service)) {
            self.advance(now_ms, index);
        }
    }

    /// The list is not what the registry holds: ask at once, and believe nothing that was built on it.
    pub(super) fn mismatch(&mut self, now_ms: u64, service: &ServiceName) {
        self.counters.mismatched += 1;
        self.gaps.drop_service(service);
        let again = self.last_mismatch_ms.is_some_and(|last| now_ms.saturating_sub(last) < MISMATCH_PAUSE_MS);
        self.last_mismatch_ms = Some(now_ms);
        let wait_ms = if again { self.random.up_to(MISMATCH_PAUSE_MS) } else { 0 };
        self.asking.want(self.target(service), now_ms + wait_ms, "a digest differed");
    }
}

/// What to do with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The list holds it.
    Repeated,
    /// It is the next.
    Follows,
    /// Something is missing before it.
    Early,
    /// It should have been in the list.
    Contradicts,
}

/// Whether a change says the same in its own fields and in its value.
fn is_sound(change: &WireChange) -> bool {
    use muster_schemas::ChangeKind::Removed;
    match &change.value {
        Some(value) => change.change != Removed && *value.service() == change.service && *value.id() == change.instance,
        None => change.change == Removed,
    }
}
