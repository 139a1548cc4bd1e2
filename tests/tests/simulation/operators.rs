//! What people do: an operator's intents; and messages that somebody's network sends once more, much later.

use bytes::Bytes;
use muster_schemas::entry::IntentKind;
use muster_schemas::event::IntentSet;
use muster_schemas::{Event, EventData, OperatorName, Source, Timestamp};

use super::agents::Key;
use super::world::World;

impl World {
    pub(crate) fn set_intent(&mut self) -> bool {
        let Some((key, incarnation)) = self.registered_instance() else { return false };
        let until = self.random.chance(50).then(|| {
            let in_ms = i64::try_from(self.random.between(500, 8_000)).unwrap_or(500);
            Timestamp::from_ms(self.broker_time().as_ms() + in_ms)
        });
        let (intent, incarnation) = match self.random.up_to(2) {
            0 => (IntentKind::Evict, incarnation),
            1 => (IntentKind::Maintenance, None),
            _ => (IntentKind::Clear, None),
        };
        if intent == IntentKind::Evict {
            self.oracle.evicted(self.now_ms, key.clone());
        }
        let until = until.filter(|_| intent != IntentKind::Clear);
        self.append_intent(key, intent, incarnation, until)
    }

    /// An instance that an operator could have read of, with its incarnation; or one with an intent.
    fn registered_instance(&mut self) -> Option<(Key, Option<muster_schemas::Incarnation>)> {
        let catalog = self.broker.stream.as_ref().filter(|_| self.broker.up && self.is_led())?.catalog.clone();
        let mut known = Vec::new();
        for (service, held) in catalog.services() {
            for instance in held.instances() {
                let key = (service.clone(), instance.id().clone());
                known.push((key, Some(instance.vouching().incarnation)));
            }
        }
        self.random.pick(&known)
    }

    fn append_intent(
        &mut self,
        key: Key,
        intent: IntentKind,
        incarnation: Option<muster_schemas::Incarnation>,
        until: Option<Timestamp>,
    ) -> bool {
        let who = OperatorName::new("ada").expect("a name");
        let why = String::new();
        let (service, instance) = key.clone();
        let data =
            EventData::Intent(IntentSet { service, instance, intent, who: who.clone(), why, until, incarnation });
        let event = Event { id: format!("intent-{}", self.happened), source: Source::Operator(who), time: None, data };
        let payload = event.encode(self.subjects.namespace()).expect("a sound event");
        let subject = event.subject(&self.subjects);
        self.tell(|| format!("{}", String::from_utf8_lossy(&payload)));
        if intent == IntentKind::Clear {
            self.oracle.maintained.remove(&key);
        }
        let is_stored = self.append(subject, Bytes::from(payload)).is_some();
        if intent == IntentKind::Maintenance && self.holds_maintenance(&key) {
            self.oracle.maintained.insert(key, until);
        }
        is_stored
    }

    fn holds_maintenance(&self, key: &Key) -> bool {
        let catalog = self.broker.stream.as_ref().map(|stream| &stream.catalog);
        catalog.is_some_and(|catalog| {
            catalog.intents_of(&key.0, &key.1).any(|intent| intent.intent == IntentKind::Maintenance)
        })
    }

    /// An operator's word that was stored is in force until it ends, or another one ends it. A log that broke is another matter.
    pub(crate) fn judge_intents(&mut self) {
        let Some(stream) = self.broker.stream.as_ref().filter(|_| self.oracle.logs_broken == 0) else { return };
        let stream_time = stream.catalog.stream_time();
        let in_force = |until: &Option<Timestamp>| until.is_none_or(|until| until > stream_time);
        let lost = self.oracle.maintained.iter().find(|(key, until)| in_force(until) && !self.holds_maintenance(key));
        if let Some(((service, instance), _)) = lost {
            self.fail(format!("I6: {service}/{instance} was put into maintenance, and is not any more"));
        }
    }

    /// Ends all evictions, as the operator whose doing they were.
    pub(crate) fn clear_evictions(&mut self) {
        let Some(stream) = &self.broker.stream else { return };
        let catalog = stream.catalog.clone();
        let is_evicted =
            |key: &Key| catalog.intents_of(&key.0, &key.1).any(|intent| intent.intent == IntentKind::Evict);
        for key in self.oracle.evicted_ones().filter(is_evicted).collect::<Vec<_>>() {
            self.append_intent(key, IntentKind::Clear, None, None);
        }
    }

    /// A message of an agent, or a proposal, that some buffer held back reaches the stream once more.
    pub(crate) fn repeat_event(&mut self) -> bool {
        let Some(stream) = self.broker.stream.as_ref().filter(|_| self.broker.up && self.is_led()) else {
            return false;
        };
        let repeatable = |subject: &str| {
            let kinds = [".event.register.", ".event.health.", ".event.deregister.", ".event.expire.", ".event.lapse."];
            kinds.iter().any(|kind| subject.contains(kind))
        };
        let held: Vec<_> =
            stream.from(stream.first_sequence).filter(|stored| repeatable(&stored.subject)).cloned().collect();
        let Some(stored) = self.random.pick(&held) else { return false };
        self.tell(|| format!("event {} reaches the stream once more", stored.sequence));
        self.append(stored.subject.clone(), stored.payload.clone()).is_some()
    }
}
