//! What an observer has seen, and what must hold of it at every moment.

use std::collections::BTreeMap;
use std::time::Instant;

use muster_discovery::{Change, Snapshot, Update};
use muster_schemas::{Cause, Digest, Incarnation, Instance, Revision};

/// Verified views that are kept to be compared with the log; beyond it every second one is dropped.
const VERIFIED_MAX: usize = 4_096;

/// A view that called itself verified through a revision: of each service its digest, and the revision of its last change.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) revision: Revision,
    pub(crate) services: BTreeMap<String, (Digest, u64)>,
}

/// All that was seen, and the first thing that must not be.
#[derive(Debug, Default)]
pub(crate) struct Record {
    changes: Vec<(Instant, Change)>,
    /// Who lives, by the test's own doing, in which incarnation at least.
    living: BTreeMap<String, Incarnation>,
    last_revisions: BTreeMap<String, Revision>,
    /// Services that were ever seen, and the revision of the removal that was seen last of each, if that was its last change.
    services: BTreeMap<String, Option<Revision>>,
    verified: Vec<Verified>,
    breach: Option<String>,
}

/// `service/instance`.
pub(crate) fn key_of(change: &Change) -> String {
    format!("{}/{}", change.service(), change.id())
}

impl Record {
    pub(crate) fn changes(&self) -> &[(Instant, Change)] {
        &self.changes
    }

    pub(crate) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    pub(crate) fn take_verified(&mut self) -> Vec<Verified> {
        std::mem::take(&mut self.verified)
    }

    pub(crate) fn lives(&mut self, instance: &Instance) {
        let key = format!("{}/{}", instance.service(), instance.id());
        self.living.insert(key, instance.vouching().incarnation);
    }

    pub(crate) fn dies(&mut self, key: &str) {
        self.living.remove(key);
    }

    fn breaks(&mut self, invariant: &str, what: String) {
        self.breach.get_or_insert_with(|| format!("{invariant}: {what}"));
    }

    /// What the watch delivered.
    pub(crate) fn take(&mut self, update: Update) {
        let Update::Change(change) = update else { return };
        self.check_life(&change);
        self.check_explanation(&change);
        self.check_order(&change);
        let removed_at = change.why().revision.filter(|_| change.instance().is_none());
        self.services.insert(change.service().to_string(), removed_at);
        self.changes.push((Instant::now(), change));
    }

    /// I1: whoever lives is not removed.
    fn check_life(&mut self, change: &Change) {
        let Change::Removed { before, .. } = change else { return };
        let lives_since = self.living.get(&key_of(change));
        if lives_since.is_some_and(|since| before.vouching().incarnation >= *since) {
            self.breaks("I1, somebody who lives was removed", format!("{change:?}"));
        }
    }

    /// I4: every removal carries cause and actor, an expiry also evidence.
    fn check_explanation(&mut self, change: &Change) {
        let Change::Removed { why, .. } = change else { return };
        let proven = why.evidence.as_ref().is_some_and(|evidence| evidence != &Default::default());
        if why.actor.is_empty() || (why.cause == Cause::Expired && !proven) {
            self.breaks("I4, a removal does not say who did it, or what convinced it", format!("{change:?}"));
        }
    }

    /// I5: revisions never go back within an epoch, and no change comes twice.
    fn check_order(&mut self, change: &Change) {
        let Some(revision) = change.why().revision.filter(|_| change.cause() != Cause::Resync) else {
            return;
        };
        if let Some(before) = self.last_revisions.insert(key_of(change), revision)
            && before >= revision
        {
            self.breaks("I5, a change came late or twice", format!("{change:?} after {before:?}"));
        }
    }

    /// I1: in a view that calls itself verified nobody who lives is missing. What it is verified through is kept for I3.
    pub(crate) fn look_at(&mut self, snapshot: &Snapshot) {
        let Some(revision) = snapshot.revision().filter(|_| snapshot.is_verified()) else {
            return;
        };
        let is_missing = |key: &&String| {
            let (service, instance) = key.split_once('/').unwrap_or_default();
            snapshot.instance(service, instance).is_none()
        };
        if let Some(missing) = self.living.keys().find(is_missing).cloned() {
            self.breaks("I1, somebody who lives is missing from a verified view", format!("{missing}: {snapshot:?}"));
        }
        if self.verified.last().is_none_or(|last| last.revision != revision) {
            self.keep(snapshot, revision);
        }
    }

    fn keep(&mut self, snapshot: &Snapshot, revision: Revision) {
        let digest = |name: &muster_schemas::ServiceName| Some((name.to_string(), snapshot.digest(name.as_str())?));
        let services: BTreeMap<_, _> = snapshot.services().filter_map(digest).collect();
        // A list may be ahead of what is proven of the others: then the whole is of no single revision. One without
        // instances does not say how far it is; what removed the last of them does.
        let is_gone_by_then = |(name, removed_at): (&String, &Option<Revision>)| {
            services.contains_key(name) || removed_at.is_some_and(|removed_at| removed_at <= revision)
        };
        let is_of_one_revision = services.values().all(|(_, changed)| *changed <= revision.sequence())
            && self.services.iter().all(is_gone_by_then);
        for name in services.keys() {
            self.services.entry(name.clone()).or_default();
        }
        if is_of_one_revision {
            self.verified.push(Verified { revision, services });
        }
        if self.verified.len() > VERIFIED_MAX {
            let mut number = 0;
            self.verified.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
    }
}
