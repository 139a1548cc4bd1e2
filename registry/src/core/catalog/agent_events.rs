//! What agents say of their own instances: register, deregister, health.

use std::sync::Arc;

use muster_schemas::entry::{Evidence, IntentKind};
use muster_schemas::event::{Deregistration, HealthReport};
use muster_schemas::limits::INCARNATION_AHEAD_MS_MAX;
use muster_schemas::{Cause, Incarnation, Instance, Registration, Vouching};

use super::outcome::{Folded, Reason};
use super::service::Held;
use super::write::{Doing, Ending};
use super::{Catalog, IntentKey};

impl Catalog {
    pub(super) fn fold_register(&mut self, doing: Doing<'_>, mut registration: Registration) -> Folded {
        let vouching = &registration.vouching;
        if let Err(reason) = self.check_incarnation(vouching) {
            return Folded::ignored(reason);
        }
        let held = self.held(&vouching.service, &vouching.instance).cloned();
        let Some(held) = held else {
            self.end_fence_below(vouching);
            return self.set(doing, registration, Cause::Registered);
        };
        if let Err(reason) = may_return(&held, vouching) {
            return Folded::ignored(reason);
        }
        match held {
            Held::Gone(_) => {
                self.end_fence_below(vouching);
                self.set(doing, registration, Cause::Registered)
            }
            Held::Live(before) => {
                let generation =
                    std::mem::replace(&mut registration.vouching.generation, before.registration.vouching.generation);
                if registration == before.registration {
                    return self.touch(doing, &before, generation);
                }
                registration.vouching.generation = generation;
                let mut folded = self.set(doing, registration, Cause::Updated);
                folded.notices.extend(self.displaced_notice(&before));
                folded
            }
        }
    }

    pub(super) fn fold_deregister(&mut self, doing: Doing<'_>, deregistration: &Deregistration) -> Folded {
        let vouching = &deregistration.vouching;
        if let Err(reason) = self.check_incarnation(vouching) {
            return Folded::ignored(reason);
        }
        if let Some(held) = self.held(&vouching.service, &vouching.instance) {
            if held.vouching().agent != vouching.agent {
                return Folded::ignored(Reason::IdentityMismatch);
            }
            if vouching.order() <= held.order() {
                return Folded::ignored(Reason::Stale);
            }
        }
        let evidence = Evidence {
            reason: Some(deregistration.reason.as_str().to_owned()),
            detail: deregistration.detail.clone(),
            ..Evidence::default()
        };
        let ending = Ending { vouching: vouching.clone(), cause: Cause::Deregistered, evidence: Some(evidence) };
        self.bury(doing, ending)
    }

    pub(super) fn fold_health(&mut self, doing: Doing<'_>, report: &HealthReport) -> Folded {
        let vouching = &report.vouching;
        if let Err(reason) = self.check_incarnation(vouching) {
            return Folded::ignored(reason);
        }
        let before = match self.held(&vouching.service, &vouching.instance) {
            None => return Folded::ignored(Reason::UnknownInstance),
            Some(held) if vouching.order() <= held.order() => return Folded::ignored(Reason::Stale),
            Some(Held::Gone(_)) => return Folded::ignored(Reason::UnknownInstance),
            Some(Held::Live(instance)) => Arc::clone(instance),
        };
        if before.vouching().agent != vouching.agent {
            return Folded::ignored(Reason::IdentityMismatch);
        }
        if before.vouching().incarnation != vouching.incarnation {
            // A vouching whose registration is not in the log: its health says nothing of the one that is.
            return Folded::ignored(Reason::UnknownInstance);
        }
        if report.registered_generation.is_some_and(|registered| registered > before.vouching().generation) {
            // The log was told more of the instance than it holds, and has lost that: it is to be told again.
            return Folded::ignored(Reason::UnknownInstance);
        }
        if before.registration.health == report.health {
            return self.touch(doing, &before, vouching.generation);
        }
        let mut registration = Instance::clone(&before).registration;
        registration.vouching.generation = vouching.generation;
        registration.health = report.health.clone();
        self.set(doing, registration, Cause::Health)
    }

    /// An incarnation from the future would keep everybody else out; a fenced one is kept out.
    fn check_incarnation(&self, vouching: &Vouching) -> Result<(), Reason> {
        let minted_ms = i64::try_from(vouching.incarnation.time_ms()).unwrap_or(i64::MAX);
        if minted_ms > self.stream_time.as_ms().saturating_add(INCARNATION_AHEAD_MS_MAX) {
            return Err(Reason::FutureIncarnation);
        }
        match self.fence(vouching) {
            Some(fenced) if fenced == vouching.incarnation => Err(Reason::Fenced),
            Some(fenced) if fenced > vouching.incarnation => Err(Reason::Stale),
            _ => Ok(()),
        }
    }

    /// The incarnation of the instance that an operator evicted, while that is in force.
    pub(super) fn fence(&self, vouching: &Vouching) -> Option<Incarnation> {
        self.intents.get(&fence_key(vouching))?.incarnation
    }

    /// A larger incarnation has come: an operator's eviction was of the one before.
    pub(super) fn end_fence_below(&mut self, vouching: &Vouching) {
        if self.fence(vouching).is_some_and(|fenced| fenced < vouching.incarnation) {
            self.take_intent(&fence_key(vouching));
        }
    }
}

fn fence_key(vouching: &Vouching) -> IntentKey {
    (vouching.service.clone(), vouching.instance.clone(), IntentKind::Evict)
}

/// Whether a registration may take the place of what is held.
fn may_return(held: &Held, vouching: &Vouching) -> Result<(), Reason> {
    if vouching.incarnation == held.vouching().incarnation {
        if vouching.agent != held.vouching().agent {
            return Err(Reason::IdentityMismatch);
        }
        // Whoever took it back, or put it out, meant this vouching; whoever only thought it gone may have been wrong.
        let ended_for_good = matches!(held, Held::Gone(tombstone) if tombstone.cause != Cause::Expired);
        if ended_for_good {
            return Err(Reason::Stale);
        }
    }
    if vouching.order() > held.order() { Ok(()) } else { Err(Reason::Stale) }
}
