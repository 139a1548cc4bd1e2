//! What every log that there ever was said at every revision. A log that lost its tail says two things at one revision.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use muster_registry::core::catalog::Catalog;
use muster_schemas::{Change, Digest, EpochId, Revision};

/// What a log said at one revision, and what of it was news.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) catalog: Catalog,
    pub(crate) change: Option<Arc<Change>>,
}

/// All facts of a history.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    facts: BTreeMap<(EpochId, u64), Vec<Fact>>,
    /// How far the log in force reached, and when; begins anew when the log breaks.
    ends: VecDeque<(u64, Revision)>,
}

impl Truth {
    pub(crate) fn learn(&mut self, now_ms: u64, catalog: &Catalog, change: Option<Arc<Change>>) {
        let Some(Revision(epoch, sequence)) = catalog.position() else { return };
        self.facts.entry((epoch, sequence)).or_default().push(Fact { catalog: catalog.clone(), change });
        self.ends.push_back((now_ms, Revision(epoch, sequence)));
    }

    /// The log broke: where it ended says nothing about where it ends.
    pub(crate) fn forget_ends(&mut self) {
        self.ends.clear();
    }

    /// Where the log ended at a moment, if it has not broken since.
    pub(crate) fn end_at(&self, ms: u64) -> Option<Revision> {
        let later = self.ends.partition_point(|(at_ms, _)| *at_ms <= ms);
        self.ends.get(later.checked_sub(1)?).map(|(_, end)| *end)
    }

    /// What was said at a revision: more than one thing if the log lost it once.
    pub(crate) fn at(&self, Revision(epoch, sequence): Revision) -> &[Fact] {
        self.facts.get(&(epoch, sequence)).map_or(&[], Vec::as_slice)
    }

    /// Whether a revision was said twice: the log lost it, everybody who knew it was gone, and it was written anew.
    pub(crate) fn forks_at(&self, position: Revision) -> bool {
        self.at(position).len() > 1
    }

    /// What was said at a revision or later.
    pub(crate) fn from(&self, Revision(epoch, sequence): Revision) -> impl Iterator<Item = &Fact> {
        self.facts.range((epoch, sequence)..=(epoch, u64::MAX)).flat_map(|(_, facts)| facts)
    }

    /// Whether a catalog is what some log said at its revision.
    pub(crate) fn knows(&self, position: Revision, digest: Digest) -> bool {
        self.at(position).iter().any(|fact| fact.catalog.digest() == digest)
    }
}
