//! Checkpoints of the log in force: the publishing replica writes one now and then, keeps the newest three, and trims the
//! log's head up to the oldest of them, if it is told to. Every replica with a state directory keeps one of its own.

use muster_schemas::alarm::AlarmKind;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Revision, Timestamp};

use super::{Replica, Timing};
use crate::core::catalog::EventMark;
use crate::core::catalog::checkpoint::{Checkpoint, name};
use crate::core::io::{Effect, Effects, Loaded, Severity, Trim};

/// How many checkpoints are kept.
const KEPT_MAX: usize = 3;
/// After so many periods without a checkpoint, although there are events, an alarm is raised.
const PERIODS_TOO_OLD: u64 = 3;

/// What a replica is to keep beside the log, and how much of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keeping {
    /// There is a state directory.
    pub state: bool,
    /// Events older than this may go once a checkpoint holds what they said; none: they stay.
    pub history_age_ms: Option<u64>,
    /// The log may be cut down to about so many bytes in the same way; none: it may not.
    pub history_bytes: Option<u64>,
}

/// The newest checkpoint that this replica knows to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// What it is called by.
    pub revision: Revision,
    /// How old the knowledge of it is, in milliseconds: since it was written or begun from.
    pub age_ms: u64,
    /// How large it is; 0 if that is not known.
    pub bytes: u64,
}

/// What is known of checkpoints, and what is being done about them.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    keeping: Keeping,
    number: u64,
    /// What is under way, and since when.
    doing: Option<(Doing, u64)>,
    newest: Option<(Revision, u64, u64)>,
    /// Checkpoints that were read back whole, and what stands in the stream at their revisions; as many as are kept.
    verified: Vec<(Revision, EventMark)>,
    next_ms: u64,
    /// Since when none could be written, or none was needed.
    current_ms: u64,
    alarmed: bool,
    state_kept: Option<Revision>,
    next_state_ms: u64,
    state_under_way_ms: Option<u64>,
}

#[derive(Debug)]
enum Doing {
    Saving { save: u64, revision: Revision, mark: EventMark },
    Listing { list: u64 },
    Verifying { load: u64, revision: Revision },
}

impl Checkpoints {
    /// A number for the next request.
    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// This replica is at the log's end: from here on periods are counted.
    pub(super) fn went_live(&mut self, now_ms: u64, timing: &Timing) {
        self.next_ms = now_ms + timing.checkpoint_ms;
        self.next_state_ms = now_ms + timing.checkpoint_ms;
        self.current_ms = now_ms;
        self.doing = None;
    }

    pub(super) fn begun_from(&mut self, checkpoint: &Checkpoint, now_ms: u64) {
        self.newest = Some((checkpoint.revision(), now_ms, 0));
        self.note_verified(checkpoint.revision(), checkpoint.catalog().last_event().cloned());
    }

    fn note_verified(&mut self, revision: Revision, mark: Option<EventMark>) {
        self.verified.retain(|(known, _)| *known != revision);
        self.verified.extend(mark.map(|mark| (revision, mark)));
        if self.verified.len() > KEPT_MAX {
            self.verified.remove(0);
        }
    }

    fn verified_mark(&self, revision: Revision) -> Option<EventMark> {
        self.verified.iter().find(|(known, _)| *known == revision).map(|(_, mark)| mark.clone())
    }

    fn is_busy(&self, now_ms: u64, timing: &Timing) -> bool {
        let limit_ms = 2 * timing.checkpoint_transfer_ms;
        self.doing.as_ref().is_some_and(|(_, since_ms)| now_ms.saturating_sub(*since_ms) <= limit_ms)
    }
}

impl Replica {
    /// What to keep; nothing until this is called. To be told before the first step.
    pub fn keep(&mut self, keeping: Keeping) {
        self.checkpoints.keeping = keeping;
    }

    /// The newest checkpoint that this replica knows to be whole.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Option<Kept> {
        let (revision, at_ms, bytes) = self.checkpoints.newest?;
        Some(Kept { revision, age_ms: self.now_ms.saturating_sub(at_ms), bytes })
    }

    /// Writes a checkpoint when it is time, if this replica publishes.
    pub(super) fn keep_checkpoints(&mut self, effects: &mut Effects) {
        let timing = &self.settings.timing;
        if !self.decides() || self.rank != Some(0) || self.checkpoints.is_busy(self.now_ms, timing) {
            return;
        }
        if let Some((Doing::Saving { .. }, _)) = self.checkpoints.doing.take() {
            self.checkpoint_failed("it was not written in time", effects);
        }
        let newest = self.checkpoints.newest.map(|(revision, ..)| revision);
        if newest == self.catalog.position() {
            self.checkpoints.current_ms = self.now_ms;
            return;
        }
        if self.now_ms < self.checkpoints.next_ms {
            return;
        }
        let checkpoint = Checkpoint::of(&self.catalog, self.continuity.created_at());
        let (Some(checkpoint), Some(mark)) = (checkpoint, self.catalog.last_event().cloned()) else {
            return;
        };
        let (save, revision) = (self.checkpoints.number(), checkpoint.revision());
        self.checkpoints.doing = Some((Doing::Saving { save, revision, mark }, self.now_ms));
        effects.push(Effect::SaveCheckpoint { save, checkpoint: Box::new(checkpoint) });
    }

    pub(super) fn checkpoint_saved(&mut self, asked: u64, bytes: Option<u64>, effects: &mut Effects) {
        let saving = |doing: &mut (Doing, u64)| matches!(doing.0, Doing::Saving { save, .. } if save == asked);
        let Some((Doing::Saving { revision, mark, .. }, begun_ms)) = self.checkpoints.doing.take_if(saving) else {
            return;
        };
        let Some(bytes) = bytes else {
            self.checkpoint_failed("it was not written, or not read back as it was written", effects);
            return;
        };
        self.counters.checkpoints_saved += 1;
        let checkpoints = &mut self.checkpoints;
        checkpoints.newest = Some((revision, self.now_ms, bytes));
        checkpoints.note_verified(revision, Some(mark));
        // From one to the next, however long writing takes.
        checkpoints.next_ms = begun_ms + self.settings.timing.checkpoint_ms;
        checkpoints.current_ms = self.now_ms;
        checkpoints.alarmed = false;
        let list = checkpoints.number();
        checkpoints.doing = Some((Doing::Listing { list }, self.now_ms));
        effects.push(Effect::ListCheckpoints { list });
        let text = format!("checkpoint {} of {bytes} bytes", name(revision));
        self.report(Severity::Info, text, effects);
    }

    fn checkpoint_failed(&mut self, reason: &str, effects: &mut Effects) {
        self.counters.checkpoints_failed += 1;
        let timing = &self.settings.timing;
        let retry_ms = timing.checkpoint_retry_ms.min(timing.checkpoint_ms);
        self.checkpoints.next_ms = self.now_ms + retry_ms;
        self.report(Severity::Warning, format!("no checkpoint: {reason}; trying again in {retry_ms} ms"), effects);
        let age_ms = self.now_ms.saturating_sub(self.checkpoints.current_ms);
        if age_ms > PERIODS_TOO_OLD * self.settings.timing.checkpoint_ms && !self.checkpoints.alarmed {
            self.checkpoints.alarmed = true;
            let text = format!(
                "for {} s no checkpoint could be written: check the object store {} and the permissions for it",
                age_ms / 1_000,
                self.settings.subjects.checkpoint_bucket()
            );
            self.alarm(AlarmKind::CheckpointTooOld, text, effects);
        }
    }

    pub(super) fn checkpoints_listed(&mut self, asked: u64, listed: Option<&[Revision]>, effects: &mut Effects) {
        if self.beginning_listed(asked, listed) {
            return;
        }
        let listing = |doing: &mut (Doing, u64)| matches!(doing.0, Doing::Listing { list } if list == asked);
        if self.checkpoints.doing.take_if(listing).is_none() {
            return;
        }
        // A list that failed is asked for again after the next checkpoint.
        let Some(listed) = listed.filter(|_| self.decides() && self.rank == Some(0)) else { return };
        let mut kept = listed.to_vec();
        kept.sort_unstable_by(|one, other| other.cmp(one));
        let surplus = kept.split_off(kept.len().min(KEPT_MAX));
        if !surplus.is_empty() {
            effects.push(Effect::DeleteCheckpoints(surplus));
        }
        let in_force = kept.into_iter().filter(|kept| Some(kept.epoch()) == self.catalog.epoch());
        if let Some(oldest) = in_force.min() {
            self.trim_up_to(oldest, effects);
        }
    }

    /// The events before the oldest kept checkpoint may go, once that has been read back.
    fn trim_up_to(&mut self, oldest: Revision, effects: &mut Effects) {
        let keeping = &self.checkpoints.keeping;
        if keeping.history_age_ms.is_none() && keeping.history_bytes.is_none() {
            return;
        }
        let Some(mark) = self.checkpoints.verified_mark(oldest) else {
            let load = self.checkpoints.number();
            self.checkpoints.doing = Some((Doing::Verifying { load, revision: oldest }, self.now_ms));
            effects.push(Effect::LoadCheckpoint { load, checkpoint: oldest });
            return;
        };
        let now_ms = self.catalog.stream_time().as_ms();
        let since = keeping.history_age_ms.map(|age_ms| Timestamp::from_ms(now_ms.saturating_sub_unsigned(age_ms)));
        effects.push(Effect::TrimLog(Trim { below: oldest.sequence(), mark, since, bytes_max: keeping.history_bytes }));
    }

    pub(super) fn checkpoint_loaded(&mut self, asked: u64, found: &Loaded<'_>, effects: &mut Effects) {
        if self.beginning_loaded(asked, found, effects) {
            return;
        }
        let verifying = |doing: &mut (Doing, u64)| matches!(doing.0, Doing::Verifying { load, .. } if load == asked);
        let Some((Doing::Verifying { revision, .. }, _)) = self.checkpoints.doing.take_if(verifying) else {
            return;
        };
        match found {
            Loaded::Whole(whole) if whole.revision() == revision => {
                self.checkpoints.note_verified(revision, whole.catalog().last_event().cloned());
                if self.decides() && self.rank == Some(0) {
                    self.trim_up_to(revision, effects);
                }
            }
            Loaded::Whole(_) => self.not_trimmed(revision, "it is one of another revision", effects),
            Loaded::Broken(reason) | Loaded::Foreign(reason) => self.not_trimmed(revision, reason, effects),
            Loaded::Unreachable(_) => {}
        }
    }

    fn not_trimmed(&mut self, checkpoint: Revision, reason: &str, effects: &mut Effects) {
        self.counters.checkpoints_broken += 1;
        let text = format!("the log is not trimmed, for checkpoint {} is of no use: {reason}", name(checkpoint));
        self.report(Severity::Warning, text, effects);
    }

    pub(super) fn log_trimmed(&mut self, events: Option<u64>) {
        self.counters.events_trimmed += events.unwrap_or(0);
    }

    /// What would have to be kept on the local disk now. Nothing while there is something on it, or in this process, that
    /// has yet to be carried over: it must not be replaced by less.
    #[must_use]
    pub fn state_to_keep(&self) -> Option<Checkpoint> {
        let keeps = self.checkpoints.keeping.state && self.decides() && self.catalog.state() == CatalogState::Ready;
        let nothing_pending = self.aside.is_empty() && !self.wishes.carries() && !self.remembers();
        let checkpoint = Checkpoint::of(&self.catalog, self.continuity.created_at());
        checkpoint
            .filter(|checkpoint| keeps && nothing_pending && self.checkpoints.state_kept != Some(checkpoint.revision()))
    }

    pub(super) fn keep_state(&mut self, effects: &mut Effects) {
        let timing = &self.settings.timing;
        if !self.checkpoints.keeping.state || self.now_ms < self.checkpoints.next_state_ms {
            return;
        }
        let overdue_ms = 2 * timing.checkpoint_transfer_ms;
        let under_way = self.checkpoints.state_under_way_ms;
        if under_way.is_some_and(|since_ms| self.now_ms.saturating_sub(since_ms) <= overdue_ms) {
            return;
        }
        if let Some(checkpoint) = self.state_to_keep() {
            self.checkpoints.state_under_way_ms = Some(self.now_ms);
            self.checkpoints.state_kept = Some(checkpoint.revision());
            effects.push(Effect::SaveState(Box::new(checkpoint)));
        }
    }

    pub(super) fn state_saved(&mut self, saved: bool) {
        let timing = &self.settings.timing;
        self.checkpoints.state_under_way_ms = None;
        if saved {
            self.counters.states_saved += 1;
            self.checkpoints.next_state_ms = self.now_ms + timing.checkpoint_ms;
        } else {
            self.counters.states_failed += 1;
            self.checkpoints.state_kept = None;
            self.checkpoints.next_state_ms = self.now_ms + timing.checkpoint_retry_ms.min(timing.checkpoint_ms);
        }
    }
}
