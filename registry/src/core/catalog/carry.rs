//! Entries that come over from a lost log into the one that follows it.

use std::sync::Arc;

use muster_schemas::entry::{Entry, Intent, IntentKind, Tombstone};
use muster_schemas::event::CarriedOver;
use muster_schemas::{Cause, Instance, Registration};

use super::outcome::{Folded, Reason};
use super::service::Held;
use super::write::{Doing, Ending, intent_key};
use super::{CARRY_MS, Catalog, INTENTS_MAX};

impl Catalog {
    /// Whether entries of a lost log may still be carried over, as far as stream time is known.
    #[must_use]
    pub fn accepts_carry(&self) -> bool {
        self.epoch.is_some_and(|epoch| {
            let age_ms = self.stream_time.as_ms().saturating_sub(epoch.began_at.as_ms());
            epoch.previous.is_some() && age_ms <= CARRY_MS
        })
    }

    /// What a `carry` of an entry would lack here: an entry of a set-aside catalog that is not held already, in this form
    /// or a later one.
    #[must_use]
    pub fn lacks(&self, entry: &Entry) -> bool {
        let is_fenced = |instance: &Instance| self.fence(instance.vouching()) >= Some(instance.vouching().incarnation);
        self.is_above(entry) && !matches!(entry, Entry::Instance(instance) if is_fenced(instance))
    }

    /// Above what is held, whatever an operator said.
    fn is_above(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Instance(instance) => self
                .held(instance.service(), instance.id())
                .is_none_or(|held| instance.vouching().order() > held.order()),
            Entry::Tombstone(tombstone) => self.lacks_tombstone(tombstone),
            Entry::Intent(intent) => self.lacks_intent(intent),
        }
    }

    pub(super) fn fold_carry(&mut self, doing: Doing<'_>, carried: &CarriedOver) -> Folded {
        if !self.is_in_force(carried.epoch) {
            return Folded::ignored(Reason::WrongEpoch);
        }
        if !self.accepts_carry() {
            return Folded::ignored(Reason::CarryClosed);
        }
        if !self.is_above(&carried.entry) {
            return Folded::ignored(Reason::Stale);
        }
        match &carried.entry {
            Entry::Instance(instance) => self.carry_instance(doing, instance.registration.clone()),
            Entry::Tombstone(tombstone) => self.carry_tombstone(doing, tombstone),
            Entry::Intent(intent) => self.carry_intent(doing, intent),
        }
    }

    fn carry_instance(&mut self, doing: Doing<'_>, registration: Registration) -> Folded {
        let vouching = &registration.vouching;
        match self.fence(vouching) {
            Some(fenced) if fenced == vouching.incarnation => return Folded::ignored(Reason::Fenced),
            Some(fenced) if fenced > vouching.incarnation => return Folded::ignored(Reason::Stale),
            _ => self.end_fence_below(vouching),
        }
        self.set(doing, registration, Cause::CarriedOver)
    }

    /// By (incarnation, generation); at a tie the tombstone wins. But an expiry that the lost log said ends nobody who was
    /// registered or carried over as living since: its reason may have gone, and if it has not, the lease ends as always, for a
    /// fresh one. Incarnations cannot tell, for a clock that was set back makes the later life's the smaller one.
    fn lacks_tombstone(&self, tombstone: &Tombstone) -> bool {
        let order = tombstone.vouching.order();
        match self.held(&tombstone.vouching.service, &tombstone.vouching.instance) {
            None => true,
            Some(Held::Live(_)) if tombstone.cause == Cause::Expired => false,
            Some(Held::Live(instance)) => order >= instance.vouching().order(),
            Some(Held::Gone(held)) => order > held.vouching.order(),
        }
    }

    /// It keeps its cause and its age, and takes its revision in this log.
    fn carry_tombstone(&mut self, doing: Doing<'_>, tombstone: &Tombstone) -> Folded {
        if !matches!(tombstone.cause, Cause::Deregistered | Cause::Expired | Cause::Evicted) {
            return Folded::ignored(Reason::Malformed);
        }
        let at = tombstone.at.min(self.stream_time);
        let ending = Ending {
            vouching: tombstone.vouching.clone(),
            cause: tombstone.cause,
            evidence: tombstone.evidence.clone(),
        };
        let folded = self.bury(doing, ending);
        let kept = Tombstone { actor: tombstone.actor.clone(), revision: doing.sequence, at, ..tombstone.clone() };
        self.put(Held::Gone(Arc::new(kept)), doing.sequence, None);
        folded
    }

    /// One that was set in this log already is the operators' later word; one that has ended would only lapse, and be carried
    /// over again.
    fn lacks_intent(&self, intent: &Intent) -> bool {
        let overtaken = intent.intent == IntentKind::Evict
            && self
                .held(&intent.service, &intent.instance)
                .is_some_and(|held| Some(held.vouching().incarnation) > intent.incarnation);
        let ended = intent.until.is_some_and(|until| until <= self.stream_time());
        !overtaken && !ended && !self.intents.contains_key(&intent_key(intent))
    }

    fn carry_intent(&mut self, doing: Doing<'_>, intent: &Intent) -> Folded {
        let is_whole = match intent.intent {
            IntentKind::Maintenance => true,
            IntentKind::Evict => intent.incarnation.is_some(),
            IntentKind::Clear => false,
        };
        if !is_whole {
            return Folded::ignored(Reason::Malformed);
        }
        if self.intents.len() >= INTENTS_MAX {
            return Folded::ignored(Reason::TooManyIntents);
        }
        self.put_intent(Arc::new(Intent { sequence: doing.sequence, ..intent.clone() }));
        let held = self.instance(&intent.service, &intent.instance);
        let fenced = held.filter(|held| Some(held.vouching().incarnation) <= intent.incarnation);
        match (intent.intent, fenced) {
            // It registered again before anybody told it that it is fenced.
            (IntentKind::Evict, Some(fenced)) => {
                let ended = fenced.vouching().clone();
                self.evict(doing, ended, &intent.why)
            }
            _ => self.apply_maintenance(doing, &intent.service, &intent.instance, Cause::CarriedOver),
        }
    }
}
