//! What operators want of an instance: maintenance, eviction, and the end of both.

use std::sync::Arc;

use muster_schemas::entry::{Evidence, Intent, IntentKind};
use muster_schemas::event::IntentSet;
use muster_schemas::{Cause, InstanceId, ServiceName, Timestamp};

use super::Catalog;
use super::outcome::{Folded, Reason};
use super::write::{Doing, Ending};

/// Intents in force at the same time, in number; a further one is refused. They outlive the instances that they are about,
/// so unlike those they could pile up.
pub const INTENTS_MAX: usize = 100_000;

impl Catalog {
    /// All intents in force, by (service, instance, kind).
    pub fn intents(&self) -> impl Iterator<Item = &Arc<Intent>> {
        self.intents.values()
    }

    /// An instance's intents in force: at most one of each kind.
    pub fn intents_of(&self, service: &ServiceName, instance: &InstanceId) -> impl Iterator<Item = &Arc<Intent>> {
        let key = |kind| (service.clone(), instance.clone(), kind);
        let kinds = [IntentKind::Maintenance, IntentKind::Evict];
        kinds.into_iter().filter_map(move |kind| self.intents.get(&key(kind)))
    }

    /// When the next timed intent ends, as stream time goes.
    #[must_use]
    pub fn next_intent_end(&self) -> Option<Timestamp> {
        self.ends.get_min().map(|((until, _), _)| *until)
    }

    /// Timed intents whose end is not after `time`, the earliest first: what a `lapse` is to be proposed for.
    pub fn intents_ended_by(&self, time: Timestamp) -> impl Iterator<Item = &Arc<Intent>> {
        let ended = self.ends.range((Timestamp::from_ms(i64::MIN), 0)..=(time, u64::MAX));
        ended.filter_map(|(_, key)| self.intents.get(key))
    }

    pub(super) fn fold_intent(&mut self, doing: Doing<'_>, wanted: &IntentSet) -> Folded {
        match wanted.intent {
            IntentKind::Maintenance => self.fold_maintenance(doing, wanted),
            IntentKind::Evict => self.fold_evict(doing, wanted),
            IntentKind::Clear => self.fold_clear(doing, wanted),
        }
    }

    /// Also for an instance that is not there: it holds from its registration on.
    fn fold_maintenance(&mut self, doing: Doing<'_>, wanted: &IntentSet) -> Folded {
        if !self.has_room_for(wanted) {
            return Folded::ignored(Reason::TooManyIntents);
        }
        self.put_intent(intent(doing, wanted));
        self.apply_maintenance(doing, &wanted.service, &wanted.instance, Cause::Maintenance)
    }

    fn fold_evict(&mut self, doing: Doing<'_>, wanted: &IntentSet) -> Folded {
        let Some(held) = self.held(&wanted.service, &wanted.instance) else {
            return Folded::ignored(Reason::UnknownInstance);
        };
        if Some(held.vouching().incarnation) != wanted.incarnation {
            return Folded::ignored(Reason::Stale);
        }
        if !self.has_room_for(wanted) {
            return Folded::ignored(Reason::TooManyIntents);
        }
        let ended = held.vouching().clone();
        self.put_intent(intent(doing, wanted));
        self.evict(doing, ended, &wanted.why)
    }

    /// Puts out the vouching in force, also if it has just gone by itself: an operator's word outlasts a flap.
    pub(super) fn evict(&mut self, doing: Doing<'_>, ended: muster_schemas::Vouching, why: &str) -> Folded {
        let evidence = Evidence {
            reason: Some("evicted".to_owned()),
            detail: (!why.is_empty()).then(|| why.to_owned()),
            ..Evidence::default()
        };
        let ending = Ending { vouching: ended.clone(), cause: Cause::Evicted, evidence: Some(evidence) };
        let mut folded = self.bury(doing, ending);
        if folded.change.is_some() {
            folded.notices.push(self.evicted_notice(&ended, why));
        }
        folded
    }

    fn fold_clear(&mut self, doing: Doing<'_>, wanted: &IntentSet) -> Folded {
        let key = |kind| (wanted.service.clone(), wanted.instance.clone(), kind);
        let maintenance = self.take_intent(&key(IntentKind::Maintenance));
        let fence = self.take_intent(&key(IntentKind::Evict));
        if maintenance.is_none() && fence.is_none() {
            self.move_last_sequence(doing, &wanted.service, &wanted.instance);
            return Folded::no_op(doing.kind);
        }
        self.apply_maintenance(doing, &wanted.service, &wanted.instance, Cause::Maintenance)
    }

    fn has_room_for(&self, wanted: &IntentSet) -> bool {
        let key = (wanted.service.clone(), wanted.instance.clone(), wanted.intent);
        self.intents.len() < INTENTS_MAX || self.intents.contains_key(&key)
    }
}

fn intent(doing: Doing<'_>, wanted: &IntentSet) -> Arc<Intent> {
    Arc::new(Intent {
        service: wanted.service.clone(),
        instance: wanted.instance.clone(),
        intent: wanted.intent,
        incarnation: wanted.incarnation.filter(|_| wanted.intent == IntentKind::Evict),
        who: wanted.who.clone(),
        why: wanted.why.clone(),
        until: wanted.until,
        sequence: doing.sequence,
    })
}
