//! When each bucket's next pulse is due, and what is in it.
//!
//! A bucket gets a pulse every period, and shortly after the last change of a burst. The oldest replica sends it when it
//! is due, the others when it is overdue by their rank; whoever hears another's good pulse counts it as sent.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use muster_schemas::limits::PULSE_BYTES_MAX;
use muster_schemas::pulse::{BUCKETS, CatalogState, Pulse, bucket};
use muster_schemas::{EpochId, ServiceName, WIRE_VERSION};

use super::Timing;

/// How many changes of the window are remembered, over all buckets. At the bound the ranges of the busiest reach less far
/// back than they should, and consumers that missed a pulse re-synchronise.
const CHANGES_MAX: usize = 1_000_000;

/// Pulses of all buckets.
#[derive(Debug)]
pub(super) struct Pulses {
    buckets: Vec<Bucket>,
    /// Changes remembered, over all buckets.
    changes: usize,
    /// Own revision at moments of the window, oldest first; the first is at or before the window's start.
    samples: VecDeque<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Bucket {
    /// The window's changes in order: (revision, service).
    changed: VecDeque<(u64, ServiceName)>,
    /// All changes above this revision are in `changed`.
    complete_above: u64,
    /// When the regular pulse is due.
    due_ms: u64,
    /// The last change since the last pulse: (when, revision).
    touched: Option<(u64, u64)>,
}

/// What all pulses of a moment say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) epoch: EpochId,
    /// The end of the range: all changes up to here have been sent.
    pub(super) to: u64,
    pub(super) state: CatalogState,
}

impl Pulses {
    /// Nothing is known above `complete_above`, the revision that folding begins after.
    pub(super) fn new(now_ms: u64, complete_above: u64) -> Self {
        let bucket = || Bucket { complete_above, ..Bucket::default() };
        Self {
            buckets: (0..BUCKETS).map(|_| bucket()).collect(),
            changes: 0,
            samples: VecDeque::from([(now_ms, complete_above)]),
        }
    }

    /// Spreads the regular pulses over one period from now on.
    pub(super) fn spread(&mut self, now_ms: u64, timing: &Timing) {
        let count = u64::from(BUCKETS);
        for (index, bucket) in (0..).zip(&mut self.buckets) {
            bucket.due_ms = now_ms + index * timing.pulse_ms / count;
            bucket.touched = None;
        }
    }

    /// A change was folded.
    pub(super) fn changed(&mut self, now_ms: u64, revision: u64, service: &ServiceName) {
        let index = usize::from(bucket(service));
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        bucket.changed.push_back((revision, service.clone()));
        bucket.touched = Some((now_ms, revision));
        self.changes += 1;
        if self.changes > CHANGES_MAX {
            self.forget_one(index);
        }
    }

    /// The bucket that just grew gives up its oldest change.
    fn forget_one(&mut self, index: usize) {
        if let Some((revision, _)) = self.buckets.get_mut(index).and_then(|bucket| bucket.changed.pop_front()) {
            self.buckets[index].complete_above = revision;
            self.changes -= 1;
        }
    }

    /// Notes how far this replica has come, and forgets what lies before the window. Called on every tick.
    pub(super) fn tick(&mut self, now_ms: u64, revision: u64, timing: &Timing) {
        if self.samples.back().is_some_and(|(_, last)| *last != revision) {
            self.samples.push_back((now_ms, revision));
        }
        let start_ms = now_ms.saturating_sub(timing.pulse_window_ms);
        while self.samples.get(1).is_some_and(|(ms, _)| *ms <= start_ms) {
            self.samples.pop_front();
        }
        let from = self.window_from();
        for bucket in &mut self.buckets {
            while bucket.changed.front().is_some_and(|(revision, _)| *revision <= from) {
                bucket.changed.pop_front();
                self.changes -= 1;
            }
            bucket.complete_above = bucket.complete_above.max(from);
        }
    }

    /// The revision at the start of the window.
    fn window_from(&self) -> u64 {
        self.samples.front().map_or(0, |(_, revision)| *revision)
    }

    /// The revision at a moment of the window.
    fn revision_at(&self, ms: u64) -> u64 {
        let after = self.samples.partition_point(|(sample_ms, _)| *sample_ms <= ms);
        after.checked_sub(1).and_then(|index| self.samples.get(index)).map_or(0, |(_, revision)| *revision)
    }

    /// Another replica's pulse of this log. It counts as sent if it is fresh and complete: it holds the bucket's last change,
    /// and is at most one hedge behind this replica.
    pub(super) fn heard(&mut self, now_ms: u64, pulse: &Pulse, timing: &Timing) {
        let behind_allowed = self.revision_at(now_ms.saturating_sub(timing.hedge_ms));
        let Some(bucket) = self.buckets.get_mut(usize::from(pulse.bucket)) else {
            return;
        };
        let last_change = bucket.touched.map_or(0, |(_, revision)| revision);
        if pulse.head_age_ms > timing.pulse_head_age_ms_max || pulse.to < behind_allowed.max(last_change) {
            return;
        }
        bucket.touched = None;
        bucket.due_ms = now_ms + timing.pulse_ms;
    }

    /// The buckets whose pulses this replica has to send now, being `rank`th (none: not ranked, so last).
    pub(super) fn due(&self, now_ms: u64, rank: Option<u32>, timing: &Timing) -> Vec<u8> {
        let patience_ms = rank
            .map_or(timing.hedge_ms_max, |rank| timing.hedge_ms.saturating_mul(rank.into()).min(timing.hedge_ms_max));
        let is_due = |bucket: &Bucket| {
            let after_burst = bucket.touched.map(|(ms, _)| ms + timing.pulse_after_burst_ms);
            let due_ms = after_burst.map_or(bucket.due_ms, |after_burst| after_burst.min(bucket.due_ms));
            now_ms >= due_ms.saturating_add(patience_ms)
        };
        (0..BUCKETS).zip(&self.buckets).filter(|(_, bucket)| is_due(bucket)).map(|(index, _)| index).collect()
    }

    /// The pulse of a bucket, in as many pieces as its size demands; counts as sent. `head_age_ms` tells how long ago the log
    /// was last known to end at a revision or before: each piece is asked about where it ends itself.
    pub(super) fn send(
        &mut self,
        now_ms: u64,
        index: u8,
        moment: Moment,
        head_age_ms: &impl Fn(u64) -> u64,
        timing: &Timing,
    ) -> Vec<Bytes> {
        let from = self.window_from();
        let Some(bucket) = self.buckets.get_mut(usize::from(index)) else {
            return Vec::new();
        };
        bucket.due_ms = now_ms + timing.pulse_ms;
        // A change that nobody has been seen to send lies above this pulse: the bucket needs another one after it.
        bucket.touched =
            bucket.touched.filter(|(_, revision)| *revision > moment.to).map(|(_, revision)| (now_ms, revision));
        let from = from.max(bucket.complete_above).min(moment.to);
        let changed = bucket.changed.make_contiguous();
        let start = changed.partition_point(|(revision, _)| *revision <= from);
        let end = changed.partition_point(|(revision, _)| *revision <= moment.to);
        let changed = changed.get(start..end).unwrap_or_default();
        let mut pieces = Vec::new();
        encode_range(index, moment, (from, moment.to), changed, head_age_ms, &mut pieces);
        pieces
    }
}

/// Encodes `(from, to]`, halving the range as long as a piece is too large.
fn encode_range(
    bucket: u8,
    moment: Moment,
    (from, to): (u64, u64),
    changed: &[(u64, ServiceName)],
    head_age_ms: &impl Fn(u64) -> u64,
    pieces: &mut Vec<Bytes>,
) {
    let services: BTreeMap<ServiceName, u64> =
        changed.iter().map(|(revision, service)| (service.clone(), *revision)).collect();
    let pulse = Pulse {
        v: WIRE_VERSION,
        epoch: moment.epoch,
        bucket,
        from,
        to,
        services,
        head_age_ms: head_age_ms(to),
        state: moment.state,
    };
    // Serialising plain data with string keys into memory cannot fail.
    let bytes = serde_json::to_vec(&pulse).unwrap_or_default();
    if bytes.len() <= PULSE_BYTES_MAX || changed.len() < 2 {
        pieces.push(Bytes::from(bytes));
        return;
    }
    let (first, second) = changed.split_at(changed.len() / 2);
    let middle = first.last().map_or(from, |(revision, _)| *revision);
    encode_range(bucket, moment, (from, middle), first, head_age_ms, pieces);
    encode_range(bucket, moment, (middle, to), second, head_age_ms, pieces);
}

#[cfg(test)]
mod tests;
