//! What owners want: register, change, take back.

use muster_schemas::Health;
use muster_schemas::limits::TEXT_BYTES_MAX;

use super::Voucher;
use super::claim::{Claim, Doing, Ending, Unsaid};
use super::io::{ClaimId, Effect, Effects, Now, Withdrawal};
use super::session::Life;
use super::spec::InstanceSpec;
use super::status::{DeregisterOutcome, Pending, Status};

/// Deregistrations that are still tried though nobody waits for them; a further one is left to its lease.
pub(super) const LEFT_MAX: usize = 1_000;

impl Voucher {
    pub(super) fn register(&mut self, now: Now, id: ClaimId, spec: InstanceSpec, effects: &mut Effects) {
        if self.life == Life::Superseded {
            effects.push(Effect::Status(id, Status::Superseded));
            return;
        }
        let mut claim = Claim::new(spec, now.ms);
        if let Some(known) = self.named(&claim.name()) {
            if !self.claims.get(&known).is_some_and(Claim::is_left) {
                // The handles keep this from happening; two claims of one instance would displace each other for ever.
                effects.push(Effect::Status(id, Status::Stopped));
                return;
            }
            // What an earlier vouching left in the log is this one's to replace, or to take back.
            claim.sent = self.claims.get_mut(&known).and_then(|left| left.sent.take());
            self.remove(known, Status::Stopped, effects);
        }
        self.by_name.insert(claim.name(), id);
        self.claims.insert(id, claim);
        self.change_due(id, |_| {});
        if self.session().is_some() {
            self.set_pending(id, Pending::Publishing, effects);
        }
        self.keep_pace(now);
    }

    pub(super) fn update(&mut self, now: Now, id: ClaimId, spec: InstanceSpec, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if claim.spec == spec {
            return;
        }
        claim.spec = spec;
        claim.unsaid = Unsaid::Whole;
        if matches!(claim.status, Status::Refused(_)) {
            claim.attempts = 0;
            self.set_status(id, Status::Pending(Pending::Publishing), effects);
        }
        self.say_if_resting(now, id);
        self.keep_pace(now);
    }

    pub(super) fn health(&mut self, now: Now, id: ClaimId, health: Health) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if claim.spec.health == health {
            return;
        }
        claim.spec.health = health;
        claim.unsaid = claim.unsaid.max(Unsaid::Health);
        // A refused registration goes nowhere by a change of its health.
        if !matches!(claim.status, Status::Refused(_)) {
            self.say_if_resting(now, id);
        }
    }

    /// What is under way, or waits for its time, is followed by what is unsaid then.
    pub(super) fn say_if_resting(&mut self, now: Now, id: ClaimId) {
        let is_resting = |claim: &Claim| claim.is_resting() && claim.ending.is_none() && claim.unsaid > Unsaid::Nothing;
        if self.claims.get(&id).is_some_and(is_resting) {
            self.plan(id, Doing::Publishing, now.ms);
        }
    }

    pub(super) fn deregister(&mut self, now: Now, id: ClaimId, withdrawal: Withdrawal, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if claim.is_absent_from_log() {
            return self.finish(id, DeregisterOutcome::NothingToRemove, effects);
        }
        let ending = Ending {
            reason: withdrawal.reason,
            detail: withdrawal.detail.map(cut),
            by_ms: Some(now.ms.saturating_add(withdrawal.within_ms)),
            problem: "nothing was answered in time".to_owned(),
        };
        claim.attempts = 0;
        self.set_down(id);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.ending = Some(ending);
        }
        self.set_status(id, Status::Deregistering, effects);
        self.plan(id, Doing::Publishing, now.ms);
    }

    /// The owner waits no longer. The deregistration goes out all the same, as soon as it can: without it a static instance
    /// would stay for ever, and another one until its lease ends.
    pub(super) fn out_of_patience(&mut self, id: ClaimId, effects: &mut Effects) {
        let is_full = self.claims.values().filter(|claim| claim.is_left()).count() >= LEFT_MAX;
        let ending = self.claims.get(&id).and_then(|claim| claim.ending.as_ref());
        let Some(problem) = ending.map(|ending| ending.problem.clone()) else { return };
        let outcome = DeregisterOutcome::Unconfirmed { problem };
        if is_full {
            return self.finish(id, outcome, effects);
        }
        self.set_status(id, Status::Deregistered(outcome), effects);
        self.change_due(id, |claim| {
            if let Some(ending) = &mut claim.ending {
                ending.by_ms = None;
            }
        });
    }

    /// A deregistration is over, one way or the other.
    pub(super) fn finish(&mut self, id: ClaimId, outcome: DeregisterOutcome, effects: &mut Effects) {
        self.remove(id, Status::Deregistered(outcome), effects);
    }

    pub(super) fn forget(&mut self, id: ClaimId, effects: &mut Effects) {
        self.remove(id, Status::Stopped, effects);
    }
}

/// As much of a text as an event may hold.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
