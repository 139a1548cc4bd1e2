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

#[cfg(test)]
mod tests {
    use muster_schemas::entry::IntentKind;
    use muster_schemas::event::{EventData, IntentSet, Source};
    use muster_schemas::{InstanceId, Namespace, OperatorName, Prefix, ServiceName};

    use super::*;

    #[test]
    fn a_batch_takes_the_first_256_events_and_the_others_are_left_to_be_decided_anew() {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let who = OperatorName::new("ada").unwrap();
        let event = |number: usize| {
            let data = EventData::Intent(IntentSet {
                service: ServiceName::new("orders").unwrap(),
                instance: InstanceId::new(&format!("i{number}")).unwrap(),
                intent: IntentKind::Maintenance,
                who: who.clone(),
                why: String::new(),
                until: None,
                incarnation: None,
            });
            Event { id: number.to_string(), source: Source::Operator(who.clone()), time: None, data }
        };
        let events: Vec<Event> = (0..BATCH_MAX + 10).map(event).collect();
        let (mut proposals, mut effects) = (Proposals::default(), Effects::new());
        assert!(proposals.send(1, &events, &subjects, &mut effects).is_empty());
        let sent: Vec<Effect> = effects.drain().collect();
        let [Effect::Propose { batch: 1, events: proposed }] = sent.as_slice() else { panic!("{sent:?}") };
        let expected: Vec<String> = events[..256].iter().map(|event| event.subject(&subjects)).collect();
        assert_eq!(proposed.iter().map(|event| event.subject.clone()).collect::<Vec<_>>(), expected);
        assert!(!proposals.is_free(1, &Timing::default()), "one batch at a time");
        assert!(proposals.answered(1) && proposals.is_free(1, &Timing::default()));
    }
}
