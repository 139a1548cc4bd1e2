//! The broker stops and comes back, with its disk as it was or otherwise; the log breaks.

use super::agents::TTL_MS;
use super::faults::Deed;
use super::link::LinkId;
use super::stream::Stream;
use super::world::World;

/// Breaks of the log in one history: each takes its time to recover from.
const LOGS_BROKEN_MAX: u64 = 2;
/// Copies of the disk that are kept.
const COPIES_MAX: usize = 3;

/// What is on the disk when the broker returns.
#[derive(Debug)]
pub(crate) enum Disk {
    Intact,
    WithoutTail(usize),
    Empty,
    Copy(Box<Stream>),
}

impl World {
    pub(crate) fn stop_broker(&mut self, disk: Disk) -> bool {
        if !self.broker.up {
            return false;
        }
        let for_ms = match self.random.up_to(9) {
            0..=4 => self.random.between(20, 400),
            5..=8 => self.random.between(1_000, 5 * TTL_MS / 2),
            _ => self.random.between(5 * TTL_MS, 10 * TTL_MS),
        };
        self.tell(|| format!("the broker stops for {for_ms} ms, then its disk is {}", disk.words()));
        self.broker.up = false;
        for link in 0..self.links.len() {
            self.cut(LinkId(link));
        }
        self.oracle.registry_disturbed(self.now_ms);
        self.later(for_ms, Deed::BrokerReturns(disk));
        true
    }

    pub(crate) fn return_broker(&mut self, disk: Disk) {
        self.say(|| format!("the broker returns, its disk {}", disk.words()));
        self.broker.up = true;
        match disk {
            Disk::Intact => {}
            Disk::WithoutTail(count) => {
                if let Some(stream) = &mut self.broker.stream {
                    stream.lose_tail(count);
                }
                self.truth.forget_ends();
                self.remember_tail();
            }
            Disk::Empty => {
                self.broker.stream = None;
                self.truth.forget_ends();
            }
            Disk::Copy(stream) => {
                self.broker.stream = Some(*stream);
                self.truth.forget_ends();
                self.remember_tail();
            }
        }
        self.oracle.registry_disturbed(self.now_ms);
        for link in 0..self.links.len() {
            let after_ms = self.random.up_to(500);
            self.later(after_ms, Deed::Connect(LinkId(link)));
        }
    }

    fn may_break_log(&self) -> bool {
        self.broker.up && self.oracle.logs_broken < LOGS_BROKEN_MAX && self.broker.stream.is_some()
    }

    pub(crate) fn truncate_log(&mut self) -> bool {
        let held = self.broker.stream.as_ref().map_or(0, Stream::len);
        if !self.may_break_log() || held < 3 {
            return false;
        }
        self.oracle.logs_broken += 1;
        let count = usize::try_from(self.random.between(1, 8)).unwrap_or(1);
        self.stop_broker(Disk::WithoutTail(count))
    }

    pub(crate) fn replace_log(&mut self) -> bool {
        if !self.may_break_log() {
            return false;
        }
        self.oracle.logs_broken += 1;
        match self.random.up_to(2) {
            0 => self.stop_broker(Disk::Empty),
            1 if !self.broker.copies.is_empty() => {
                let copy = self.random.below(self.broker.copies.len());
                let copy = Box::new(self.broker.copies[copy].clone());
                self.stop_broker(Disk::Copy(copy))
            }
            _ => {
                self.tell(|| "the stream is deleted".to_owned());
                self.broker.stream = None;
                self.truth.forget_ends();
                self.end_readers(|_| true);
                self.oracle.registry_disturbed(self.now_ms);
                true
            }
        }
    }

    /// Somebody copies the broker's disk.
    pub(crate) fn copy_disk(&mut self) {
        if let Some(stream) = self.broker.stream.clone().filter(|stream| stream.len() > 1) {
            if self.broker.copies.len() == COPIES_MAX {
                self.broker.copies.remove(0);
            }
            self.broker.copies.push(stream);
        }
    }
}

impl Disk {
    fn words(&self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::WithoutTail(_) => "without its tail",
            Self::Empty => "empty",
            Self::Copy(_) => "an older copy",
        }
    }
}
