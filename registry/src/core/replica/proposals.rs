//! Events on their way into the log: one batch at a time, and none that outlives its reason.

use bytes::Bytes;
use muster_schemas::{Event, Subjects};

use super::Timing;
use crate::core::io::{Effect, Effects, ProposedEvent};

/// The largest batch. What does not fit is decided again after it.
pub(super) const BATCH_MAX: usize = 256;

/// The batch under way.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    batch: u64,
    under_way_since_ms: Option<u64>,
}

impl Proposals {
    /// Whether a batch may be sent. One without an answer is given up when its time is over.
    pub(super) fn is_free(&self, now_ms: u64, timing: &Timing) -> bool {
        self.under_way_since_ms.is_none_or(|since_ms| now_ms.saturating_sub(since_ms) > timing.propose_timeout_ms)
    }

    /// Sends a batch; an empty one is no batch. An event too large for its kind is left out, and returned as a sentence.
    pub(super) fn send(
        &mut self,
        now_ms: u64,
        events: &[Event],
        subjects: &Subjects,
        effects: &mut Effects,
    ) -> Vec<String> {
        let mut proposed = Vec::with_capacity(events.len());
        let mut refused = Vec::new();
        for event in events.iter().take(BATCH_MAX) {
            match event.encode(subjects.namespace()) {
                Ok(payload) => {
                    let (subject, payload) = (event.subject(subjects), Bytes::from(payload));
                    proposed.push(ProposedEvent { subject, payload });
                }
                Err(refusal) => refused.push(format!("{} was not proposed: {refusal}", event.data.kind().token())),
            }
        }
        if !proposed.is_empty() {
            self.batch += 1;
            self.under_way_since_ms = Some(now_ms);
            effects.push(Effect::Propose { batch: self.batch, events: proposed });
        }
        refused
    }

    /// The answer to a batch; false when it is not the one under way.
    pub(super) fn answered(&mut self, batch: u64) -> bool {
        batch == self.batch && self.under_way_since_ms.take().is_some()
    }
}
