//! The one stream of the broker, as its disk holds it, with the fold of what is in it.

use std::rc::Rc;

use bytes::Bytes;
use muster_registry::core::catalog::{Catalog, Folded};
use muster_registry::core::io::Record;
use muster_schemas::{Subjects, Timestamp};

/// One event as the disk holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
}

impl Stored {
    pub(crate) fn record(&self) -> Record<'_> {
        Record { sequence: self.sequence, at: self.at, subject: &self.subject, payload: &self.payload }
    }

    fn is_epoch(&self) -> bool {
        self.subject.contains(".event.epoch.")
    }
}

/// The stream. A clone is a copy of the disk.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) created_at: Timestamp,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    events: Vec<(Rc<Stored>, Catalog)>,
    /// The fold of everything that was ever in it.
    pub(crate) catalog: Catalog,
}

impl Stream {
    pub(crate) fn new(created_at: Timestamp) -> Self {
        Self { created_at, first_sequence: 1, last_sequence: 0, events: Vec::new(), catalog: Catalog::default() }
    }

    pub(crate) fn append(
        &mut self,
        subjects: &Subjects,
        at: Timestamp,
        subject: String,
        payload: Bytes,
    ) -> (Rc<Stored>, Folded) {
        self.last_sequence += 1;
        let stored = Rc::new(Stored { sequence: self.last_sequence, at, subject, payload });
        let folded = self.catalog.fold(subjects, &stored.record());
        self.events.push((stored.clone(), self.catalog.clone()));
        (stored, folded)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// What it holds from a sequence on.
    pub(crate) fn from(&self, sequence: u64) -> impl Iterator<Item = &Rc<Stored>> {
        let begin = sequence.saturating_sub(self.first_sequence);
        self.events.iter().skip(usize::try_from(begin).unwrap_or(usize::MAX)).map(|(stored, _)| stored)
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Rc<Stored>> {
        self.from(sequence).next().filter(|stored| stored.sequence == sequence).cloned()
    }

    pub(crate) fn epochs(&self) -> Vec<Rc<Stored>> {
        self.events.iter().map(|(stored, _)| stored).filter(|stored| stored.is_epoch()).cloned().collect()
    }

    /// The last events never reached the disk; at least one remains.
    pub(crate) fn lose_tail(&mut self, count: usize) {
        let left = self.events.len().saturating_sub(count).max(1);
        self.events.truncate(left);
        if let Some((stored, catalog)) = self.events.last() {
            self.last_sequence = stored.sequence;
            self.catalog = catalog.clone();
        }
    }
}
