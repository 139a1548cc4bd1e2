//! Entries as text become entries: what takes longest of beginning from a checkpoint. They are read in batches, so that
//! whoever has threads can let them do it; what comes out, and in which order, does not depend on that.

use std::collections::VecDeque;
use std::fmt::Debug;

use muster_schemas::Digest;
use muster_schemas::entry::Entry;

use super::{CheckpointError, SEQUENCE_BYTES};

/// A batch has at least so many bytes, unless it is the last one.
const BATCH_BYTES: usize = 256 * 1_024;

/// An entry that was read.
#[derive(Debug)]
pub(super) struct ReadEntry {
    pub(super) entry: Entry,
    pub(super) last_sequence: u64,
    /// Its share of the catalog's digest.
    pub(super) digest: Digest,
    /// Its share of its service's digest, if it is an instance.
    pub(super) service_digest: Digest,
}

/// Entries that have not been read yet.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct ReadBatch {
    entries: Result<Vec<ReadEntry>, CheckpointError>,
    /// To be filled again: large pieces that one thread takes and another frees are slow to come back.
    batch: Batch,
}

/// Who reads batches beside the one that hands them out. Only so many may be under way as they say.
pub trait Readers: Debug + Send {
    /// How many batches they take before one must be taken back.
    fn room(&self) -> usize;
    /// Takes a batch to be read by [`Batch::read`]; does not wait.
    fn put(&mut self, batch: Batch);
    /// The oldest one that was put in, read: waits for it. [`ReadBatch::lost`] if it will never come.
    fn take(&mut self) -> ReadBatch;
}

/// Reads entries; gives them back in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Reading {
    readers: Option<Box<dyn Readers>>,
    under_way: usize,
    batch: Batch,
    spare: Option<Batch>,
    done: VecDeque<Result<Vec<ReadEntry>, CheckpointError>>,
}

impl Reading {
    pub(super) fn by(readers: Option<Box<dyn Readers>>) -> Self {
        Self { readers, ..Self::default() }
    }

    /// Takes in one frame.
    pub(super) fn put(&mut self, frame: &[u8]) {
        self.batch.bytes.extend_from_slice(frame);
        self.batch.ends.push(self.batch.bytes.len());
        if self.batch.bytes.len() >= BATCH_BYTES {
            self.hand_out();
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        if !self.batch.ends.is_empty() {
            self.hand_out();
        }
        while self.under_way > 0 {
            self.take_in();
        }
    }

    /// What has been read, the oldest first.
    pub(super) fn take(&mut self) -> Option<Result<Vec<ReadEntry>, CheckpointError>> {
        self.done.pop_front()
    }

    fn hand_out(&mut self) {
        if self.readers.as_ref().is_some_and(|readers| self.under_way >= readers.room()) {
            self.take_in();
        }
        let batch = std::mem::replace(&mut self.batch, self.spare.take().unwrap_or_default());
        match &mut self.readers {
            Some(readers) => {
                readers.put(batch);
                self.under_way += 1;
            }
            None => self.keep(batch.read()),
        }
    }

    fn take_in(&mut self) {
        if let Some(readers) = &mut self.readers {
            let read = readers.take();
            self.keep(read);
        }
        self.under_way -= 1;
    }

    fn keep(&mut self, read: ReadBatch) {
        let ReadBatch { entries, mut batch } = read;
        batch.bytes.clear();
        batch.ends.clear();
        self.spare = Some(batch);
        self.done.push_back(entries);
    }
}

impl Batch {
    /// Reads its entries: on any thread, and without waiting for anything.
    #[must_use]
    pub fn read(self) -> ReadBatch {
        let mut begin = 0;
        let frames = self.ends.iter().map(|end| {
            let frame = &self.bytes[begin..*end];
            begin = *end;
            read_entry(frame)
        });
        ReadBatch { entries: frames.collect(), batch: self }
    }
}

impl ReadBatch {
    /// Of a batch that nobody reads any more.
    #[must_use]
    pub fn lost() -> Self {
        Self { entries: Err(CheckpointError::corrupt("a thread that read it has ended")), batch: Batch::default() }
    }
}

fn read_entry(frame: &[u8]) -> Result<ReadEntry, CheckpointError> {
    let Some((sequence, canonical)) = frame.split_first_chunk::<SEQUENCE_BYTES>() else {
        return Err(CheckpointError::corrupt("an entry is too short"));
    };
    let entry: Entry = super::restore::read(canonical, "entry")?;
    let service_digest = match &entry {
        Entry::Instance(instance) => Digest::of_instance(instance.id(), instance.modified_revision),
        Entry::Tombstone(_) | Entry::Intent(_) => Digest::ZERO,
    };
    // Its bytes are the canonical ones: writing them once more for their digest would only take time.
    let digest = Digest::of_bytes(canonical);
    Ok(ReadEntry { entry, last_sequence: u64::from_be_bytes(*sequence), digest, service_digest })
}
