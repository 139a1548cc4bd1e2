//! Changes that came before their predecessor, and revisions that are known to be missing: held until they fit or the
//! service is asked for.

use std::collections::BTreeMap;

use muster_schemas::ServiceName;
use muster_schemas::change::Change as WireChange;

/// Changes held in all. At the bound all are dropped, and the view asks for a snapshot, which holds what they said.
pub(super) const HELD_MAX: usize = 4_096;

/// What a service lacks.
#[derive(Debug)]
struct Gap {
    since_ms: u64,
    /// A pulse said that the service has at least this revision.
    needed: u64,
    held: BTreeMap<u64, Box<WireChange>>,
}

/// The gaps of a view.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    by_service: BTreeMap<ServiceName, Gap>,
    held: usize,
}

impl Gaps {
    fn gap(&mut self, now_ms: u64, service: &ServiceName) -> &mut Gap {
        let open = || Gap { since_ms: now_ms, needed: 0, held: BTreeMap::new() };
        self.by_service.entry(service.clone()).or_insert_with(open)
    }

    /// Keeps a change that does not fit yet. False if there is no room: everything held was dropped.
    pub(super) fn hold(&mut self, now_ms: u64, change: Box<WireChange>) -> bool {
        if self.held >= HELD_MAX {
            self.clear();
            return false;
        }
        let service = change.service.clone();
        if self.gap(now_ms, &service).held.insert(change.revision, change).is_none() {
            self.held += 1;
        }
        true
    }

    /// A pulse named a revision that the view does not have.
    pub(super) fn need(&mut self, now_ms: u64, service: &ServiceName, revision: u64) {
        let gap = self.gap(now_ms, service);
        gap.needed = gap.needed.max(revision);
    }

    /// The held change with the smallest revision above `complete_through`; what is below is dropped.
    pub(super) fn next(&mut self, service: &ServiceName, complete_through: u64) -> Option<&WireChange> {
        let gap = self.by_service.get_mut(service)?;
        let before = gap.held.len();
        gap.held.retain(|revision, _| *revision > complete_through);
        self.held -= before - gap.held.len();
        self.by_service.get(service)?.held.values().next().map(|change| &**change)
    }

    /// Takes the change that [`Gaps::next`] showed.
    pub(super) fn take(&mut self, service: &ServiceName) -> Option<Box<WireChange>> {
        let (_, change) = self.by_service.get_mut(service)?.held.pop_first()?;
        self.held -= 1;
        Some(change)
    }

    /// The service's list moved: the gap is closed, or another one begins.
    pub(super) fn moved(&mut self, now_ms: u64, service: &ServiceName, complete_through: u64) {
        let Some(gap) = self.by_service.get_mut(service) else {
            return;
        };
        gap.since_ms = now_ms;
        if gap.held.is_empty() && gap.needed <= complete_through {
            self.by_service.remove(service);
        }
    }

    /// Drops what is held for a service: a snapshot will say it.
    pub(super) fn drop_service(&mut self, service: &ServiceName) {
        if let Some(gap) = self.by_service.remove(service) {
            self.held -= gap.held.len();
        }
    }

    /// The services whose gap is older than `age_ms`.
    pub(super) fn older_than(&self, now_ms: u64, age_ms: u64) -> impl Iterator<Item = &ServiceName> {
        let old = move |gap: &Gap| now_ms.saturating_sub(gap.since_ms) >= age_ms;
        self.by_service.iter().filter(move |(_, gap)| old(gap)).map(|(service, _)| service)
    }

    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.by_service.keys().cloned().collect()
    }

    pub(super) fn contains(&self, service: &ServiceName) -> bool {
        self.by_service.contains_key(service)
    }

    pub(super) fn clear(&mut self) {
        self.by_service.clear();
        self.held = 0;
    }
}
