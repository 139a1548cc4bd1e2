//! Changes that were folded and that nobody has been seen to publish yet.
//!
//! The oldest replica publishes at once and keeps nothing here. Every other one keeps each change until it has seen it
//! published, and publishes it itself when the publisher makes no progress. Seen is seen, whoever sent it, also when the
//! change is seen before it is folded.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use muster_schemas::Revision;

use super::Timing;

/// How many changes, and how many bytes of them, are held. At the bound the oldest is given up: its consumers notice the
/// gap and re-synchronise.
const CHANGES_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// A change held for longer is given up: consumers have long re-synchronised past it.
const AGE_MS_MAX: u64 = 10_000;
/// How many revisions are remembered that were seen before they were folded. At the bound the smallest is forgotten, and
/// may be published twice, which is harmless.
const AHEAD_MAX: usize = 65_536;

/// A change ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its revision.
    pub revision: Revision,
    /// Where to.
    pub subject: String,
    /// The bytes.
    pub payload: Bytes,
}

#[derive(Debug, Clone)]
struct Held {
    publication: Publication,
    folded_ms: u64,
    seen: bool,
}

/// The bounded ring of changes not yet seen published.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    held: VecDeque<Held>,
    bytes: usize,
    ahead: BTreeSet<Revision>,
    /// When another replica was last seen to publish anything.
    progress_ms: u64,
    given_up: u64,
}

impl Ring {
    /// A change was folded. True when it was seen already, and need not be held.
    pub fn was_seen(&mut self, revision: Revision) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        let seen = self.ahead.remove(&revision);
        while self.ahead.first().is_some_and(|first| *first < revision) {
            self.ahead.pop_first();
        }
        seen
    }

    /// Holds a change until it is seen or due.
    pub fn hold(&mut self, now_ms: u64, publication: Publication) {
        self.bytes += publication.payload.len();
        self.held.push_back(Held { publication, folded_ms: now_ms, seen: false });
        while self.held.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            self.give_up_first();
        }
    }

    /// Another replica published this change; `folded` is how far this one has come. True if that spares it from
    /// publishing a change that it holds.
    pub fn saw(&mut self, now_ms: u64, revision: Revision, folded: Option<Revision>) -> bool {
        self.progress_ms = now_ms;
        if folded.is_none_or(|folded| revision > folded) {
            self.ahead.insert(revision);
            if self.ahead.len() > AHEAD_MAX {
                self.ahead.pop_first();
            }
            return false;
        }
        let found = self.held.binary_search_by_key(&revision, |held| held.publication.revision);
        let spared = match found.ok().and_then(|index| self.held.get_mut(index)) {
            Some(held) => !std::mem::replace(&mut held.seen, true),
            None => false,
        };
        self.drop_seen();
        spared
    }

    /// Another replica's pulse says that everything up to here was published. How many held changes that spares.
    pub fn saw_through(&mut self, revision: Revision) -> u64 {
        let mut spared = 0;
        for held in &mut self.held {
            if held.publication.revision > revision {
                break;
            }
            spared += u64::from(!std::mem::replace(&mut held.seen, true));
        }
        self.drop_seen();
        spared
    }

    /// Takes out the next change that this replica has to publish now, being `rank`th (none: not ranked, so last).
    pub fn next_due(&mut self, now_ms: u64, rank: Option<u32>, timing: &Timing) -> Option<Publication> {
        self.drop_seen();
        let first = self.held.front()?;
        let patience_ms = rank.map_or(timing.hedge_ms_max, |rank| timing.hedge_ms.saturating_mul(rank.into()));
        let due_ms = (first.folded_ms.max(self.progress_ms).saturating_add(patience_ms))
            .min(first.folded_ms.saturating_add(timing.hedge_ms_max));
        if rank != Some(0) && now_ms < due_ms {
            return None;
        }
        let held = self.held.pop_front()?;
        self.bytes -= held.publication.payload.len();
        Some(held.publication)
    }

    /// Gives up what is too old to be worth sending. Called while nothing can be sent.
    pub fn give_up_old(&mut self, now_ms: u64) {
        while self.held.front().is_some_and(|held| now_ms.saturating_sub(held.folded_ms) > AGE_MS_MAX) {
            self.give_up_first();
        }
    }

    /// The first change that nobody has been seen to publish: a pulse may not reach it.
    #[must_use]
    pub fn first_unseen(&self) -> Option<Revision> {
        self.held.iter().find(|held| !held.seen).map(|held| held.publication.revision)
    }

    /// How many changes were given up since the start.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many changes are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Another log: nothing held is of interest any more.
    pub fn clear(&mut self) {
        self.held.clear();
        self.ahead.clear();
        self.bytes = 0;
    }

    fn drop_seen(&mut self) {
        while self.held.front().is_some_and(|held| held.seen) {
            if let Some(held) = self.held.pop_front() {
                self.bytes -= held.publication.payload.len();
            }
        }
    }

    fn give_up_first(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= held.publication.payload.len();
            if !held.seen {
                self.given_up += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
