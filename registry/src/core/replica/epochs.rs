//! Chains of epochs: which one of a stream is in force, and which may follow it.
//!
//! A log begins with an `epoch` event. The first of a stream is accepted whatever it follows; a later one only if it
//! follows the one in force and is larger. So of several that are appended at once the first wins, and everybody sees
//! which.

use muster_schemas::event::EpochBegan;
use muster_schemas::{EpochId, Event, EventData, Revision, Subjects};

use crate::core::io::Record;

/// Whether an epoch is accepted where `in_force` is.
pub(super) fn succeeds(in_force: Option<EpochId>, began: &EpochBegan) -> bool {
    in_force.is_none_or(|in_force| began.previous_epoch == Some(in_force) && began.epoch > in_force)
}

/// Reads an `epoch` event; none if it is another kind, or unreadable.
pub(super) fn read(subjects: &Subjects, record: &Record<'_>) -> Option<EpochBegan> {
    match Event::parse(subjects, record.subject, record.payload).ok()?.data {
        EventData::Epoch(began) => Some(began),
        _ => None,
    }
}

/// The log in force at the end of a stream, and the sequence at which it began.
pub(crate) fn in_force(subjects: &Subjects, epochs: &[Record<'_>]) -> Option<(u64, EpochId)> {
    let mut newest = None;
    for record in epochs {
        let in_force = newest.map(|(_, epoch)| epoch);
        if let Some(began) = read(subjects, record).filter(|began| succeeds(in_force, began)) {
            newest = Some((record.sequence, began.epoch));
        }
    }
    newest
}

/// The log in force at the end of a stream in which another was in force at a revision.
pub(crate) fn in_force_after(subjects: &Subjects, revision: Revision, epochs: &[Record<'_>]) -> EpochId {
    let later = epochs.iter().filter(|record| record.sequence > revision.sequence());
    later
        .filter_map(|record| read(subjects, record))
        .fold(revision.epoch(), |in_force, began| if succeeds(Some(in_force), &began) { began.epoch } else { in_force })
}

/// What is known of epochs beyond the log in hand.
#[derive(Debug, Default)]
pub(super) struct KnownEpochs {
    /// The largest epoch whose log this replica has folded and lost.
    pub(super) lost: Option<EpochId>,
    /// The largest epoch that an agent or another replica named, and when it was first named.
    rumour: Option<(EpochId, u64)>,
}

impl KnownEpochs {
    /// Somebody named an epoch.
    pub(super) fn named(&mut self, now_ms: u64, epoch: EpochId) {
        if self.rumour.is_none_or(|(known, _)| epoch > known) {
            self.rumour = Some((epoch, now_ms));
        }
    }

    /// A log that this replica held is lost.
    pub(super) fn lose(&mut self, epoch: Option<EpochId>) {
        self.lost = self.lost.max(epoch);
    }

    /// The largest of all, `in_force` included.
    pub(super) fn largest(&self, in_force: Option<EpochId>) -> Option<EpochId> {
        let rumoured = self.rumour.map(|(epoch, _)| epoch);
        in_force.max(self.lost).max(rumoured)
    }

    /// What the first epoch of a stream without any follows.
    pub(super) fn predecessor(&self) -> Option<EpochId> {
        self.largest(None)
    }

    /// Whether somebody named a larger epoch than the one in force, although this replica has since been at the log's end.
    pub(super) fn is_outdated(&self, in_force: EpochId, end_confirmed_ms: Option<u64>) -> bool {
        self.rumour
            .is_some_and(|(epoch, named_ms)| epoch > in_force && end_confirmed_ms.is_some_and(|ms| ms > named_ms))
    }
}

#[cfg(test)]
mod tests;
