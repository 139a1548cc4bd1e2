//! What a state directory remembers is never begun from. It is evidence: a stream that does not hold what it remembers is
//! another one, or has lost its tail; then it is a catalog that was set aside, like that of a replica that lived on.

use muster_schemas::EpochId;
use muster_schemas::alarm::AlarmKind;

use super::Replica;
use crate::core::catalog::CARRY_MS;
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::io::{Effects, LogFacts, Record, Severity};

/// What the state directory holds.
#[derive(Debug)]
pub(super) struct Remembered {
    checkpoint: Checkpoint,
    contradicted_since_ms: Option<u64>,
}

/// What the stream says of what the state directory remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Nothing against it.
    Consistent,
    /// Something against it, not yet for long.
    Suspicious,
    /// It was lost.
    Lost,
}

impl Replica {
    /// What an earlier process kept on the local disk. To be told before the first step.
    pub fn remember(&mut self, checkpoint: Checkpoint) {
        self.beginning.remembered = Some(Remembered { checkpoint, contradicted_since_ms: None });
    }

    pub(super) fn remembers(&self) -> bool {
        self.beginning.remembered.is_some()
    }

    /// Whether the stream holds the log that the state directory remembers. One that seems not to is looked at again for
    /// a while before that is believed.
    pub(super) fn contradicts_memory(
        &mut self,
        in_force: Option<EpochId>,
        facts: &LogFacts<'_>,
        effects: &mut Effects,
    ) -> Memory {
        let Some(remembered) = &mut self.beginning.remembered else {
            return Memory::Consistent;
        };
        let held = remembered.checkpoint.revision();
        let last = facts.last_sequence;
        let reason = match in_force {
            None => "no log is in force in the stream".to_owned(),
            Some(epoch) if epoch < held.epoch() => format!("the older log {epoch} is in force in the stream"),
            Some(epoch) if epoch == held.epoch() && held.sequence() > last => format!("the stream ends at {last}"),
            Some(_) => {
                remembered.contradicted_since_ms = None;
                return Memory::Consistent;
            }
        };
        let since_ms = *remembered.contradicted_since_ms.get_or_insert(self.now_ms);
        if self.now_ms.saturating_sub(since_ms) < self.continuity.verify_ms(&self.settings.timing) {
            self.continuity.doubt(self.now_ms, &reason, &self.settings.timing);
            return Memory::Suspicious;
        }
        self.lose_what_is_remembered(&reason, effects);
        Memory::Lost
    }

    fn lose_what_is_remembered(&mut self, reason: &str, effects: &mut Effects) {
        let Some(Remembered { checkpoint, .. }) = self.beginning.remembered.take() else { return };
        let held = checkpoint.revision();
        self.counters.logs_broken += 1;
        let held = format!("{} of log {}", held.sequence(), held.epoch());
        let text = format!(
            "the log is broken, a new one has to begin: {reason}, and the state directory holds revision {held}"
        );
        self.alarm(AlarmKind::LogBroken, text, effects);
        self.known.lose(Some(checkpoint.revision().epoch()));
        self.set_aside(checkpoint.catalog().clone());
    }

    /// At the revision that the state directory remembers, the log must hold what it remembers.
    pub(super) fn compare_with_memory(&mut self, record: &Record<'_>, effects: &mut Effects) {
        let Some(Remembered { checkpoint, .. }) = &self.beginning.remembered else { return };
        let held = checkpoint.revision();
        if self.catalog.epoch() != Some(held.epoch()) || record.sequence < held.sequence() {
            return;
        }
        if record.sequence == held.sequence() && !checkpoint.catalog().folded_last(record) {
            let reason = format!("another event stands at revision {}", record.sequence);
            self.lose_what_is_remembered(&reason, effects);
            self.begin_anew();
            return;
        }
        self.beginning.remembered = None;
    }

    /// At the end of a log that follows the remembered one, what that held is carried over while there is time.
    pub(super) fn use_memory(&mut self, effects: &mut Effects) {
        let Some(Remembered { checkpoint, .. }) = self.beginning.remembered.take() else { return };
        if self.catalog.epoch() == Some(checkpoint.revision().epoch()) {
            return;
        }
        let began_ms = self.catalog.epoch_began_at().map_or(0, |began_at| began_at.as_ms());
        let now_ms = self.minting.wall().as_ms().max(self.catalog.stream_time().as_ms());
        let begun_without_it = self.catalog.previous_epoch().is_none() && now_ms.saturating_sub(began_ms) <= CARRY_MS;
        let log = checkpoint.revision().epoch();
        if self.catalog.accepts_carry() || begun_without_it {
            self.report(
                Severity::Info,
                format!("what the state directory holds of log {log} is carried over"),
                effects,
            );
            self.set_aside(checkpoint.catalog().clone());
        } else {
            let text = format!("the state directory holds log {log}, which another has long replaced: not used");
            self.report(Severity::Warning, text, effects);
        }
    }
}
