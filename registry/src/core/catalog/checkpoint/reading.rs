//! What takes longest of beginning from a checkpoint: entries as text become entries, and claims are put in order. It is done
//! in batches that know nothing of each other, so that whoever has threads can let them do it; what comes out does not depend
//! on that.

use std::collections::VecDeque;
use std::fmt::Debug;

use muster_schemas::Digest;
use muster_schemas::entry::Entry;

use super::stretch::Stretch;
use super::{CheckpointError, SEQUENCE_BYTES};
use crate::core::catalog::Claims;
use crate::core::catalog::conflicts::{ClaimList, ClaimTree, UnorderedClaims};

/// A batch of entries has at least so many bytes, unless it is the last one.
const BATCH_BYTES: usize = 256 * 1_024;

/// Work that depends on nothing else.
#[derive(Debug)]
pub struct Batch(Work);

#[derive(Debug)]
enum Work {
    Read(Box<Frames>),
    Order(UnorderedClaims),
}

/// Entries that have not been read yet.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// What was read before, emptied: to be filled by what is read next.
    stretch: Stretch,
}

/// What became of a batch.
#[derive(Debug)]
pub struct ReadBatch(Outcome);

#[derive(Debug)]
enum Outcome {
    /// And the frames, to be filled again: large pieces that one thread takes and another frees are slow to come back.
    Read(Result<(), CheckpointError>, Box<Frames>),
    Ordered(ClaimTree),
    Lost,
}

/// Who does batches beside the one that hands them out. Only so many may be under way as they say.
pub trait Readers: Debug + Send {
    /// How many batches they take before one must be taken back; at least one.
    fn room(&self) -> usize;
    /// Takes a batch to be done by [`Batch::read`]; does not wait.
    fn put(&mut self, batch: Batch);
    /// The oldest one that was put in, done: waits for it. [`ReadBatch::lost`] if it will never come.
    fn take(&mut self) -> ReadBatch;
}

/// Reads entries; gives them back in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Reading {
    readers: Option<Box<dyn Readers>>,
    under_way: usize,
    frames: Frames,
    /// As many as were done at once.
    spare: Vec<Frames>,
    done: VecDeque<Result<Frames, CheckpointError>>,
    /// Trees that have been put in order.
    trees: Vec<ClaimTree>,
}

impl Reading {
    pub(super) fn by(readers: Option<Box<dyn Readers>>) -> Self {
        Self { readers, ..Self::default() }
    }

    /// Takes in one frame.
    pub(super) fn put(&mut self, frame: &[u8]) {
        self.frames.bytes.extend_from_slice(frame);
        self.frames.ends.push(self.frames.bytes.len());
        if self.frames.bytes.len() >= BATCH_BYTES {
            self.hand_out_frames();
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        if !self.frames.ends.is_empty() {
            self.hand_out_frames();
        }
        self.take_in_all();
    }

    /// Hands on what has been read, the oldest first.
    ///
    /// # Errors
    /// It could not be read, or what `take` says of it.
    pub(super) fn hand_on(
        &mut self,
        mut take: impl FnMut(&mut Stretch) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        while let Some(done) = self.done.pop_front() {
            let mut frames = done?;
            take(&mut frames.stretch)?;
            frames.bytes.clear();
            frames.ends.clear();
            frames.stretch.empty();
            self.spare.push(frames);
        }
        Ok(())
    }

    /// Puts claims in order, after all else.
    ///
    /// # Errors
    /// Somebody who did it has ended.
    pub(super) fn put_in_order(mut self, claims: ClaimList) -> Result<Claims, CheckpointError> {
        for unordered in claims.unordered() {
            self.hand_out(Batch(Work::Order(unordered)));
        }
        self.take_in_all();
        Claims::of(self.trees).ok_or_else(lost)
    }

    fn hand_out_frames(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        let frames = std::mem::replace(&mut self.frames, next);
        self.hand_out(Batch(Work::Read(Box::new(frames))));
    }

    fn hand_out(&mut self, batch: Batch) {
        if self.readers.as_ref().is_some_and(|readers| self.under_way >= readers.room()) {
            self.take_in();
        }
        match &mut self.readers {
            Some(readers) => {
                readers.put(batch);
                self.under_way += 1;
            }
            None => self.keep(batch.read()),
        }
    }

    fn take_in_all(&mut self) {
        while self.under_way > 0 {
            self.take_in();
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
        match read.0 {
            Outcome::Read(outcome, frames) => self.done.push_back(outcome.map(|()| *frames)),
            Outcome::Ordered(tree) => self.trees.push(tree),
            Outcome::Lost => self.done.push_back(Err(lost())),
        }
    }
}

impl Batch {
    /// Does it: on any thread, and without waiting for anything.
    #[must_use]
    pub fn read(self) -> ReadBatch {
        ReadBatch(match self.0 {
            Work::Read(mut frames) => Outcome::Read(frames.read(), frames),
            Work::Order(unordered) => Outcome::Ordered(unordered.put_in_order()),
        })
    }
}

impl Frames {
    fn read(&mut self) -> Result<(), CheckpointError> {
        let mut begin = 0;
        for end in &self.ends {
            read_entry(&self.bytes[begin..*end], &mut self.stretch)?;
            begin = *end;
        }
        Ok(())
    }
}

impl ReadBatch {
    /// Of a batch that nobody does any more.
    #[must_use]
    pub fn lost() -> Self {
        Self(Outcome::Lost)
    }
}

fn lost() -> CheckpointError {
    CheckpointError::corrupt("a thread that read it has ended")
}

fn read_entry(frame: &[u8], stretch: &mut Stretch) -> Result<(), CheckpointError> {
    let Some((sequence, canonical)) = frame.split_first_chunk::<SEQUENCE_BYTES>() else {
        return Err(CheckpointError::corrupt("an entry is too short"));
    };
    let entry: Entry = super::restore::read(canonical, "entry")?;
    // Its bytes are the canonical ones: writing them once more for their digest would only take time.
    let digest = Digest::of_bytes(canonical);
    stretch.add(entry, u64::from_be_bytes(*sequence), digest)
}
