//! When what is due: claims by their time, requests by their number, and no more requests at once than the broker likes.

use super::Voucher;
use super::claim::{Claim, Doing, Why};
use super::io::{Answer, ClaimId, Effect, Effects, Now, RequestId};

/// Requests of claims under way at once; further claims wait for their turn.
pub(super) const UNDER_WAY_MAX: usize = 64;

impl Voucher {
    /// Does `doing` at `at_ms`, whatever was under way.
    pub(super) fn plan(&mut self, id: ClaimId, doing: Doing, at_ms: u64) {
        self.set_down(id);
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.doing = doing;
        claim.at_ms = Some(at_ms);
        self.put_in_line(id);
    }

    /// Nothing is to be done any more.
    pub(super) fn rest(&mut self, id: ClaimId) {
        self.set_down(id);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.doing = Doing::Rest;
            claim.at_ms = None;
        }
        self.put_in_line(id);
    }

    /// The same again after a wait that doubles with each attempt.
    pub(super) fn again_later(&mut self, now: Now, id: ClaimId, doing: Doing) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let attempts = claim.attempts;
        claim.attempts = attempts.saturating_add(1);
        let timing = &self.settings.timing;
        let wait_ms = backoff_ms(timing.retry_first_ms, timing.retry_max_ms, attempts);
        let at_ms = now.ms + self.jitter(wait_ms);
        self.plan(id, doing, at_ms);
    }

    /// Half of it to all of it.
    pub(super) fn jitter(&mut self, wait_ms: u64) -> u64 {
        wait_ms / 2 + self.random.up_to(wait_ms - wait_ms / 2)
    }

    /// Whatever was under way or in line is forgotten; its answer will not be looked at.
    pub(super) fn set_down(&mut self, id: ClaimId) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if let Some(request) = claim.request.take() {
            self.requests.remove(&request);
        }
        if let Some(due_ms) = due_ms(claim) {
            self.due.remove(&(due_ms, id));
        }
    }

    fn put_in_line(&mut self, id: ClaimId) {
        if let Some(due_ms) = self.claims.get(&id).and_then(due_ms) {
            self.due.insert((due_ms, id));
        }
    }

    /// After a change of what decides when a claim is due.
    pub(super) fn change_due(&mut self, id: ClaimId, change: impl FnOnce(&mut Claim)) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if let Some(due_ms) = due_ms(claim) {
            self.due.remove(&(due_ms, id));
        }
        change(claim);
        self.put_in_line(id);
    }

    /// Everything is in line again.
    pub(super) fn line_up(&mut self) {
        self.waiting.clear();
        let entries = self.claims.iter().filter_map(|(id, claim)| Some((due_ms(claim)?, *id)));
        self.due = entries.collect();
    }

    /// Does what is due.
    pub(super) fn work(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(due_ms, id)) = self.due.first()
            && due_ms <= now.ms
        {
            self.due.pop_first();
            let Some(claim) = self.claims.get(&id) else { continue };
            if claim.by_ms().is_some_and(|by_ms| by_ms <= now.ms) {
                self.out_of_patience(id, effects);
            } else if self.link.is_none() || self.session().is_none() {
                // Lined up again once the session lives; only the end of an owner's patience comes before that.
                if let Some(by_ms) = claim.by_ms() {
                    self.due.insert((by_ms, id));
                }
            } else if claim.at_ms.is_none_or(|at_ms| at_ms > now.ms) {
                self.put_in_line(id);
            } else if claim.request.is_some() {
                self.overdue(now, id, effects);
            } else if self.requests.len() >= UNDER_WAY_MAX {
                if let Some(by_ms) = claim.by_ms() {
                    self.due.insert((by_ms, id));
                }
                self.waiting.push_back(id);
            } else {
                self.begin(now, id, effects);
            }
        }
        while self.requests.len() < UNDER_WAY_MAX
            && let Some(id) = self.waiting.pop_front()
        {
            let is_due = |claim: &Claim| claim.request.is_none() && claim.at_ms.is_some_and(|at_ms| at_ms <= now.ms);
            if self.link.is_some() && self.session().is_some() && self.claims.get(&id).is_some_and(is_due) {
                self.begin(now, id, effects);
            }
        }
    }

    fn begin(&mut self, now: Now, id: ClaimId, effects: &mut Effects) {
        let Some(claim) = self.claims.get(&id) else { return };
        match claim.doing.clone() {
            Doing::Rest => {}
            Doing::Publishing => self.publish(now, id, effects),
            Doing::Confirming { sequence, .. } => self.ask(now, id, Some(sequence), effects),
            Doing::Looking(_) => self.ask(now, id, None, effects),
            Doing::Probing { holder, .. } => self.probe(now, id, &holder, effects),
        }
    }

    fn overdue(&mut self, now: Now, id: ClaimId, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if let Some(request) = claim.request.take() {
            self.requests.remove(&request);
        }
        claim.at_ms = None;
        self.answered_claim(now, id, None, effects);
    }

    /// Sends a request for a claim, and gives it up at `deadline_ms`.
    pub(super) fn request(
        &mut self,
        id: ClaimId,
        (subject, payload): (String, Vec<u8>),
        deadline_ms: u64,
        effects: &mut Effects,
    ) {
        let request = self.number();
        self.requests.insert(request, id);
        self.change_due(id, |claim| {
            claim.request = Some(request);
            claim.at_ms = Some(deadline_ms);
        });
        effects.push(Effect::Request { request, subject, payload });
    }

    pub(super) fn number(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(super) fn answered(&mut self, now: Now, request: RequestId, answer: Answer<'_>, effects: &mut Effects) {
        if self.self_check.as_ref().is_some_and(|check| check.request == request) {
            return self.self_checked(now, answer, effects);
        }
        let Some(id) = self.requests.get(&request).copied() else { return };
        // Our own answer to a question that another session of our agent should answer: it may come later.
        if self.is_own_word(id, answer) {
            return;
        }
        self.requests.remove(&request);
        self.change_due(id, |claim| {
            claim.request = None;
            claim.at_ms = None;
        });
        self.answered_claim(now, id, Some(answer), effects);
    }

    /// None: nothing was answered in time.
    fn answered_claim(&mut self, now: Now, id: ClaimId, answer: Option<Answer<'_>>, effects: &mut Effects) {
        let Some(claim) = self.claims.get(&id) else { return };
        match claim.doing.clone() {
            Doing::Rest => {}
            Doing::Publishing => self.acknowledged(now, id, answer, effects),
            Doing::Confirming { sequence, since_ms } => {
                self.shown_after(now, id, (sequence, since_ms), answer, effects);
            }
            Doing::Looking(why) => self.shown(now, id, why, answer, effects),
            Doing::Probing { holder, absent } => self.probed(now, id, (holder, absent), answer, effects),
        }
    }

    /// Everything under way came to nothing: what it did is done again, once there is a connection.
    pub(super) fn break_off(&mut self, now: Now) {
        self.requests.clear();
        self.waiting.clear();
        for claim in self.claims.values_mut().filter(|claim| claim.request.is_some()) {
            claim.request = None;
            claim.at_ms = Some(now.ms);
            if claim.doing == Doing::Publishing {
                let said = claim.sent.as_ref().map(|sent| sent.said);
                claim.unsaid = claim.unsaid.max(said.unwrap_or(claim.unsaid));
            }
            if claim.doing == Doing::Looking(Why::Rechecking) {
                claim.doing = Doing::Rest;
                claim.at_ms = None;
            }
        }
        self.line_up();
    }
}

/// Doubled with each attempt.
pub(super) fn backoff_ms(first_ms: u64, max_ms: u64, attempts: u32) -> u64 {
    first_ms.saturating_mul(1 << attempts.min(16)).min(max_ms)
}

fn due_ms(claim: &Claim) -> Option<u64> {
    [claim.at_ms, claim.by_ms()].into_iter().flatten().min()
}
