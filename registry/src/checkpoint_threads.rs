//! Threads that read the entries of a checkpoint, so that beginning from a large one takes all cores and not one.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::core::catalog::checkpoint::{Batch, ReadBatch, Readers};

/// More would wait for the one that hands out and takes in.
const THREADS_MAX: usize = 4;
/// Batches that one thread has or that wait for it; more are not handed out.
const BATCHES_MAX: usize = 2;

/// They end when this is dropped.
#[derive(Debug)]
pub struct CheckpointThreads {
    threads: Vec<Thread>,
    /// Whose batches are under way, the oldest first.
    under_way: VecDeque<usize>,
    next: usize,
}

#[derive(Debug)]
struct Thread {
    batches: SyncSender<Batch>,
    read: Receiver<ReadBatch>,
}

impl CheckpointThreads {
    /// As many as there are cores. `None` where there is one core, or no thread to be had: whoever feeds reads then.
    #[must_use]
    pub fn begin() -> Option<Box<dyn Readers>> {
        let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads: Vec<Thread> = (0..cores).map_while(|_| Thread::begin().ok()).collect();
        (cores > 1 && !threads.is_empty())
            .then(|| Box::new(Self { threads, under_way: VecDeque::new(), next: 0 }) as Box<dyn Readers>)
    }
}

impl Readers for CheckpointThreads {
    fn room(&self) -> usize {
        BATCHES_MAX * self.threads.len()
    }

    fn put(&mut self, batch: Batch) {
        let index = self.next % self.threads.len();
        self.next += 1;
        self.under_way.push_back(index);
        // There is room for it. That a thread has ended is noticed when its answer is missing.
        let _ = self.threads[index].batches.send(batch);
    }

    fn take(&mut self) -> ReadBatch {
        let thread = self.under_way.pop_front().map(|index| &self.threads[index]);
        thread.and_then(|thread| thread.read.recv().ok()).unwrap_or_else(ReadBatch::lost)
    }
}

impl Thread {
    /// Ends when nobody sends any more.
    fn begin() -> std::io::Result<Self> {
        let (batches, to_read) = sync_channel::<Batch>(BATCHES_MAX);
        let (answers, read) = sync_channel(BATCHES_MAX);
        thread::Builder::new().name("checkpoint".into()).spawn(move || {
            for batch in to_read {
                if answers.send(batch.read()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { batches, read })
    }
}
