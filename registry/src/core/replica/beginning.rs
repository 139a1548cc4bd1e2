//! Where a replica that knows nothing begins: at the newest checkpoint that is whole and whose event stands in the stream,
//! else at the newest epoch that the stream holds.

use muster_schemas::Revision;
use muster_schemas::alarm::AlarmKind;
use muster_schemas::limits::INTEGER_MAX;

use super::remembering::{Memory, Remembered};
use super::{Awaiting, Phase, REPORT_AGAIN_MS, Replica, epochs};
use crate::core::catalog::checkpoint::{Checkpoint, name};
use crate::core::io::{Effect, Effects, Loaded, LogFacts, Severity};

/// So often the store for checkpoints may fail to answer before a replica begins without it, if it can.
const FAILURES_MAX: u32 = 3;
/// How long to wait before the store is asked again.
const ASK_AGAIN_MS: u64 = 1_000;

/// How far the search for a checkpoint is.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    stage: Stage,
    failures: u32,
    complained_ms: Option<u64>,
    pub(super) remembered: Option<Remembered>,
    /// The log is to be read from as far back as it can be.
    pub(super) from_afar: bool,
    /// Why a checkpoint that the log needs can be read by another version of this software only.
    pub(super) foreign: Option<String>,
    /// Why nothing can be appended to this stream any more, whatever is done here.
    pub(super) used_up: Option<String>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Unasked,
    /// Not asked again before this time.
    Paused {
        until_ms: u64,
    },
    Listing {
        list: u64,
        since_ms: u64,
    },
    /// The store could not be asked.
    Unlisted,
    /// All that are there.
    Listed(Vec<Revision>),
    Loading {
        load: u64,
        since_ms: u64,
        checkpoint: Revision,
        left: Vec<Revision>,
    },
    /// The store stopped answering.
    Unread,
    /// Its event has to be found in the stream.
    Loaded {
        checkpoint: Box<Checkpoint>,
        left: Vec<Revision>,
    },
    /// No checkpoint is left to be tried.
    Exhausted,
}

enum Choice {
    Wait,
    Log,
    Checkpoint(Box<Checkpoint>),
}

impl Replica {
    /// Begins to read where that is known, or asks for what is missing to know it.
    pub(super) fn locate(&mut self, facts: &LogFacts<'_>, effects: &mut Effects) {
        self.beginning.used_up = used_up(facts);
        if let Some(reason) = self.beginning.used_up.clone() {
            self.complain(AlarmKind::LogBroken, reason, effects);
            return;
        }
        let choice = self.choose(facts, effects);
        let in_force = match &choice {
            Choice::Wait => return,
            Choice::Log => epochs::in_force(&self.settings.subjects, &facts.epochs).map(|(_, epoch)| epoch),
            Choice::Checkpoint(checkpoint) => Some(checkpoint.revision().epoch()),
        };
        match (self.contradicts_memory(in_force, facts, effects), choice) {
            (Memory::Suspicious, Choice::Checkpoint(checkpoint)) => {
                self.beginning.stage = Stage::Loaded { checkpoint, left: Vec::new() };
            }
            (Memory::Suspicious, _) => {}
            (Memory::Consistent, Choice::Checkpoint(checkpoint)) => {
                self.begin_at_checkpoint(*checkpoint, facts, effects);
            }
            (Memory::Consistent | Memory::Lost, _) => self.begin_at_epoch(facts, effects),
        }
    }

    /// A replica that could not begin to read a trimmed log looks now and then whether there is a checkpoint by now.
    pub(super) fn look_again(&mut self) {
        let Phase::Awaiting(awaiting) = self.phase else { return };
        let waited_ms = self.now_ms.saturating_sub(awaiting.since_ms);
        if waited_ms >= self.settings.timing.checkpoint_retry_ms && self.somebody_knows_better() {
            self.locate_anew();
        }
    }

    /// The search begins again.
    pub(super) fn forget_checkpoints(&mut self) {
        self.beginning.stage = Stage::Unasked;
        self.beginning.failures = 0;
        self.continuity.expect(None);
    }

    fn choose(&mut self, facts: &LogFacts<'_>, effects: &mut Effects) -> Choice {
        let timing = &self.settings.timing;
        let overdue = |since_ms: u64, limit_ms: u64| self.now_ms.saturating_sub(since_ms) > 2 * limit_ms;
        match std::mem::take(&mut self.beginning.stage) {
            _ if facts.last_sequence == 0 || self.beginning.from_afar && facts.first_sequence <= 1 => Choice::Log,
            Stage::Unasked => self.ask_for_checkpoints(effects),
            Stage::Paused { until_ms } if self.now_ms >= until_ms => self.ask_for_checkpoints(effects),
            Stage::Unlisted => self.unanswered("the checkpoints cannot be listed", facts, effects),
            Stage::Listing { since_ms, .. } if overdue(since_ms, timing.checkpoint_list_ms) => {
                self.unanswered("the checkpoints were not listed in time", facts, effects)
            }
            Stage::Unread => self.unanswered("a checkpoint cannot be read", facts, effects),
            Stage::Loading { since_ms, .. } if overdue(since_ms, timing.checkpoint_transfer_ms) => {
                self.unanswered("a checkpoint was not read in time", facts, effects)
            }
            Stage::Listed(checkpoints) => {
                let left = self.candidates(checkpoints, facts);
                self.try_next(left, facts, effects)
            }
            Stage::Loaded { checkpoint, left } => self.verify(checkpoint, left, facts, effects),
            Stage::Exhausted => self.without_checkpoint(facts),
            waiting @ (Stage::Paused { .. } | Stage::Listing { .. } | Stage::Loading { .. }) => {
                self.beginning.stage = waiting;
                Choice::Wait
            }
        }
    }

    /// What the log itself says has to do. Where its beginning is gone, and only another version of this software can read
    /// what stands for that, another log must not be begun: it would lose what this one holds.
    fn without_checkpoint(&mut self, facts: &LogFacts<'_>) -> Choice {
        let is_missed = facts.first_sequence > 1 && epochs::in_force(&self.settings.subjects, &facts.epochs).is_none();
        if is_missed && self.beginning.foreign.is_some() {
            self.beginning.stage = Stage::Paused { until_ms: self.now_ms + self.settings.timing.checkpoint_retry_ms };
            return Choice::Wait;
        }
        self.beginning.stage = Stage::Exhausted;
        Choice::Log
    }

    fn ask_for_checkpoints(&mut self, effects: &mut Effects) -> Choice {
        let list = self.checkpoints.number();
        self.beginning.stage = Stage::Listing { list, since_ms: self.now_ms };
        effects.push(Effect::ListCheckpoints { list });
        Choice::Wait
    }

    /// The store does not answer. A log that is there from its beginning can be read without it; one that was trimmed
    /// cannot, and to begin another would lose what it holds.
    fn unanswered(&mut self, what: &str, facts: &LogFacts<'_>, effects: &mut Effects) -> Choice {
        self.beginning.failures += 1;
        let newest = epochs::in_force(&self.settings.subjects, &facts.epochs);
        let patience = if facts.first_sequence <= 1 { 1 } else { FAILURES_MAX };
        let enough = self.beginning.failures >= patience && (newest.is_some() || facts.first_sequence <= 1);
        if self.beginning.complained_ms.is_none_or(|ms| self.now_ms.saturating_sub(ms) >= REPORT_AGAIN_MS) {
            self.beginning.complained_ms = Some(self.now_ms);
            let then = if enough { "reading the whole log" } else { "asking again, for the log was trimmed" };
            self.report(Severity::Warning, format!("{what}: {then}"), effects);
        }
        if enough {
            self.beginning.stage = Stage::Exhausted;
            return Choice::Log;
        }
        self.beginning.stage = Stage::Paused { until_ms: self.now_ms + ASK_AGAIN_MS };
        Choice::Wait
    }

    /// Checkpoints that this stream may continue, the best last.
    fn candidates(&self, checkpoints: Vec<Revision>, facts: &LogFacts<'_>) -> Vec<Revision> {
        let subjects = &self.settings.subjects;
        let newest = epochs::in_force(subjects, &facts.epochs);
        let is_whole = facts.first_sequence <= 1;
        let fits = |checkpoint: &Revision| {
            let (epoch, sequence) = (checkpoint.epoch(), checkpoint.sequence());
            let is_lost = Some(epoch) <= self.known.lost;
            let continues = sequence <= facts.last_sequence && sequence + 1 >= facts.first_sequence;
            let is_newest = epochs::in_force_after(subjects, *checkpoint, &facts.epochs) == epoch;
            // Where the stream shows its beginning, it says which log is in force.
            let belongs = !is_whole || newest.is_some_and(|(began, newest)| newest == epoch && began <= sequence);
            !is_lost && continues && is_newest && belongs
        };
        let mut fitting: Vec<Revision> = checkpoints.into_iter().filter(fits).collect();
        fitting.sort_unstable();
        fitting
    }

    fn try_next(&mut self, mut left: Vec<Revision>, facts: &LogFacts<'_>, effects: &mut Effects) -> Choice {
        self.continuity.expect(None);
        let next = if self.beginning.from_afar && !left.is_empty() { Some(left.remove(0)) } else { left.pop() };
        let Some(checkpoint) = next else {
            return self.without_checkpoint(facts);
        };
        let load = self.checkpoints.number();
        self.beginning.stage = Stage::Loading { load, since_ms: self.now_ms, checkpoint, left };
        effects.push(Effect::LoadCheckpoint { load, checkpoint });
        Choice::Wait
    }

    /// The last event of the checkpoint must be the one that the stream holds there. One that was trimmed up to it holds
    /// it no more, and is the same stream if it was created at the same time.
    fn verify(
        &mut self,
        checkpoint: Box<Checkpoint>,
        left: Vec<Revision>,
        facts: &LogFacts<'_>,
        effects: &mut Effects,
    ) -> Choice {
        let revision = checkpoint.revision();
        let stands = match &facts.own {
            Some(own) => checkpoint.catalog().folded_last(own),
            None => {
                revision.sequence() < facts.first_sequence && checkpoint.stream_created_at() == Some(facts.created_at)
            }
        };
        let fits = self.candidates(vec![revision], facts) == [revision];
        if stands && fits {
            return Choice::Checkpoint(checkpoint);
        }
        self.skip(revision, "its last event is not the one that stands in the stream", effects);
        self.try_next(left, facts, effects)
    }

    fn skip(&mut self, checkpoint: Revision, reason: &str, effects: &mut Effects) {
        self.counters.checkpoints_broken += 1;
        let text = format!("checkpoint {} is skipped: {reason}", name(checkpoint));
        self.report(Severity::Warning, text, effects);
    }

    /// True if it was this search that asked.
    pub(super) fn beginning_listed(&mut self, asked: u64, checkpoints: Option<&[Revision]>) -> bool {
        match self.beginning.stage {
            Stage::Listing { list, .. } if list == asked => {
                self.beginning.stage = match checkpoints {
                    Some(checkpoints) => Stage::Listed(checkpoints.to_vec()),
                    // What to do about it depends on the stream, which the next inspection shows.
                    None => Stage::Unlisted,
                };
                self.continuity.hurry(self.now_ms);
                true
            }
            _ => false,
        }
    }

    /// True if it was this search that asked.
    pub(super) fn beginning_loaded(&mut self, asked: u64, found: &Loaded<'_>, effects: &mut Effects) -> bool {
        let Stage::Loading { load, checkpoint, left, .. } = &mut self.beginning.stage else {
            return false;
        };
        if *load != asked {
            return false;
        }
        let (wanted, left) = (*checkpoint, std::mem::take(left));
        match found {
            Loaded::Whole(whole) if whole.revision() == wanted => {
                let checkpoint = Box::new(Checkpoint::clone(whole));
                self.beginning.stage = Stage::Loaded { checkpoint, left };
                self.continuity.expect(Some(wanted.sequence()));
            }
            Loaded::Whole(_) => {
                self.skip(wanted, "it is one of another revision", effects);
                self.beginning.stage = Stage::Listed(left);
            }
            Loaded::Broken(reason) => {
                self.skip(wanted, reason, effects);
                self.beginning.stage = Stage::Listed(left);
            }
            Loaded::Foreign(reason) => {
                let needed =
                    format!("the log was trimmed, and checkpoint {} stands for what is gone: {reason}", name(wanted));
                self.beginning.foreign = Some(needed);
                self.skip(wanted, reason, effects);
                self.beginning.stage = Stage::Listed(left);
            }
            Loaded::Unreachable(_) => self.beginning.stage = Stage::Unread,
        }
        self.continuity.hurry(self.now_ms);
        true
    }

    /// Begins to read at the newest epoch, if it is above everything that this replica has lost; else at the end, where an
    /// epoch has to come.
    fn begin_at_epoch(&mut self, facts: &LogFacts<'_>, effects: &mut Effects) {
        let newest = epochs::in_force(&self.settings.subjects, &facts.epochs);
        let begin = newest.filter(|(_, epoch)| Some(*epoch) > self.known.lost);
        let from_sequence = begin.map_or(facts.last_sequence + 1, |(sequence, _)| sequence);
        self.phase = match begin {
            Some(_) => Phase::Warming { target: facts.last_sequence },
            None => Phase::Awaiting(Awaiting {
                after: newest.map(|(_, epoch)| epoch),
                since_ms: self.now_ms,
                target: facts.last_sequence,
            }),
        };
        self.begin_catalog(from_sequence.saturating_sub(1));
        self.has_begun();
        self.continuity.watch_epochs(begin.is_none());
        self.continuity.begin_at(self.now_ms, from_sequence, effects);
    }

    fn has_begun(&mut self) {
        self.forget_checkpoints();
        self.beginning.from_afar = false;
        self.beginning.foreign = None;
    }

    fn begin_at_checkpoint(&mut self, checkpoint: Checkpoint, facts: &LogFacts<'_>, effects: &mut Effects) {
        let revision = checkpoint.revision();
        let text = format!("begins from checkpoint {}", name(revision));
        self.report(Severity::Info, text, effects);
        self.catalog = checkpoint.catalog().clone();
        // What was set aside of this very log is an earlier state of it.
        self.aside.retain(|lost| lost.epoch() != Some(revision.epoch()));
        self.liveness.leases.begin_from(&checkpoint);
        self.begin_publishing(revision.sequence());
        self.checkpoints.begun_from(&checkpoint, self.now_ms);
        self.has_begun();
        self.phase = Phase::Warming { target: facts.last_sequence };
        self.continuity.watch_epochs(false);
        self.continuity.begin_at(self.now_ms, revision.sequence() + 1, effects);
        if let Some(own) = &facts.own {
            self.continuity.anchor_at(own);
        }
        if revision.sequence() >= facts.last_sequence {
            self.go_live(effects);
        }
    }
}

/// A stream that was purged up to a sequence beyond all that can be said on the wire takes no event that anybody could name,
/// and past the last number of all its sequences begin again below its own beginning.
fn used_up(facts: &LogFacts<'_>) -> Option<String> {
    let (first, last) = (facts.first_sequence, facts.last_sequence);
    let is_used_up = last >= INTEGER_MAX || first > last.saturating_add(1);
    is_used_up.then(|| {
        format!(
            "the stream's sequences are used up, it begins at {first} and ends at {last}: delete it, and what is known \
             here and at the agents comes back into a new one"
        )
    })
}
