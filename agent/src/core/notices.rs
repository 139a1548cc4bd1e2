//! What registries say became of our events. A notice can be late, doubled or lost, so each is held against what is known.

use muster_schemas::agent::{Notice, NoticeCode};

use super::Voucher;
use super::claim::{Doing, Unsaid, Why};
use super::io::{ClaimId, Effects, Now};
use super::schedule::backoff_ms;
use super::status::{Pending, Status};

impl Voucher {
    pub(super) fn noticed(&mut self, now: Now, notice: Notice, effects: &mut Effects) {
        if notice.code == NoticeCode::Displaced && notice.service.is_none() {
            if let (Some(other), Some(session)) = (notice.session, self.session())
                && other > session
            {
                self.supersede(other, effects);
            }
            return;
        }
        let Some(id) = self.claim_of(&notice) else { return };
        if self.claims.get(&id).is_some_and(|claim| claim.ending.is_some()) {
            self.noticed_while_ending(id, &notice);
            return;
        }
        match notice.code {
            NoticeCode::Stale => self.stale(now, id, &notice),
            NoticeCode::FutureIncarnation => self.minted_in_future(now, id, &notice, effects),
            NoticeCode::Malformed | NoticeCode::Oversize | NoticeCode::IdentityMismatch => {
                self.refuse(id, notice, effects);
            }
            NoticeCode::UnknownKind => self.not_understood(now, id, notice.help, effects),
            NoticeCode::UnknownInstance => self.register_anew(id, now.ms, effects),
            NoticeCode::Fenced => self.fenced(now, id, notice, effects),
            NoticeCode::Displaced => self.displacement(now, id, &notice),
            NoticeCode::Conflict => self.conflict(id, notice.help, effects),
            NoticeCode::Expired => self.expired(now, id, &notice, effects),
        }
    }

    /// The claim that a notice is about, if it is about the present: of an event only the last one counts.
    fn claim_of(&self, notice: &Notice) -> Option<ClaimId> {
        let is_last = |id: &ClaimId| {
            let sent = self.claims.get(id).and_then(|claim| claim.sent.as_ref());
            sent.map(|sent| &sent.event_id) == notice.event_id.as_ref()
        };
        match (notice.service.clone(), notice.instance.clone()) {
            (Some(service), Some(instance)) => {
                self.named(&(service, instance)).filter(|id| notice.event_id.is_none() || is_last(id))
            }
            // The registry could not read whom it is about.
            _ if notice.event_id.is_some() => self.claims.keys().copied().find(is_last),
            _ => None,
        }
    }

    /// A registry's answer tells what became of it; the owner is told the reason if that does not come.
    fn noticed_while_ending(&mut self, id: ClaimId, notice: &Notice) {
        let is_refusal = matches!(
            notice.code,
            NoticeCode::Malformed | NoticeCode::Oversize | NoticeCode::IdentityMismatch | NoticeCode::UnknownKind
        );
        if let Some(ending) = self.claims.get_mut(&id).and_then(|claim| claim.ending.as_mut())
            && is_refusal
        {
            ending.problem.clone_from(&notice.help);
        }
    }

    fn stale(&mut self, now: Now, id: ClaimId, notice: &Notice) {
        self.set_logged(id, None);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.unsaid = Unsaid::Whole;
        }
        self.plan(id, Doing::Looking(Why::Stale(notice.in_force)), now.ms);
    }

    /// Our clock is far ahead: ids are minted from the stream's from now on.
    fn minted_in_future(&mut self, now: Now, id: ClaimId, notice: &Notice, effects: &mut Effects) {
        let stream_ms = notice.stream_time.and_then(|time| u64::try_from(time.as_ms()).ok());
        let Some(stream_ms) = stream_ms else {
            return self.not_understood(now, id, notice.help.clone(), effects);
        };
        self.stream_clock = Some((stream_ms, now.ms));
        self.last_minted = None;
        self.set_logged(id, None);
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.incarnation = None;
        claim.generation = 0;
        claim.confirmed = None;
        claim.largest_known = notice.in_force.map(|(incarnation, _)| incarnation);
        claim.unsaid = Unsaid::Whole;
        let problem = notice.help.clone();
        self.set_pending(id, Pending::Retrying { problem }, effects);
        self.again_later(now, id, Doing::Publishing);
    }

    /// The registries are older than we are, for instance: that changes by itself, but not soon.
    fn not_understood(&mut self, now: Now, id: ClaimId, problem: String, effects: &mut Effects) {
        let confirmed = self.claims.get(&id).and_then(|claim| claim.confirmed);
        self.set_logged(id, confirmed);
        self.set_pending(id, Pending::Retrying { problem }, effects);
        self.after_a_fence(now, id);
    }

    fn fenced(&mut self, now: Now, id: ClaimId, notice: Notice, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let fenced = notice.in_force.map(|(incarnation, _)| incarnation);
        if notice.event_id.is_none() && fenced != claim.incarnation {
            return;
        }
        claim.confirmed = None;
        self.set_logged(id, None);
        self.set_status(id, Status::Fenced(notice), effects);
        self.after_a_fence(now, id);
    }

    /// Asks again with the same incarnation, so that the fence holds until it is cleared.
    fn after_a_fence(&mut self, now: Now, id: ClaimId) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let fenced = claim.fenced;
        claim.fenced = fenced.saturating_add(1);
        claim.unsaid = Unsaid::Whole;
        let at_ms = now.ms + self.fenced_wait_ms(fenced);
        self.plan(id, Doing::Publishing, at_ms);
    }

    fn displacement(&mut self, now: Now, id: ClaimId, notice: &Notice) {
        let Some(claim) = self.claims.get(&id) else { return };
        let is_above = notice.in_force.is_some_and(|(incarnation, _)| Some(incarnation) > claim.incarnation);
        if is_above && notice.session != self.session() {
            self.set_logged(id, None);
            self.plan(id, Doing::Looking(Why::Displaced), now.ms);
        }
    }

    fn conflict(&mut self, id: ClaimId, help: String, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.conflict = Some(help.clone());
        if let Status::Registered { revision, .. } = claim.status {
            let conflict = Some(help);
            self.set_status(id, Status::Registered { revision, conflict }, effects);
        }
    }

    /// It lives: it is registered again. What was sent after the expiry did that already.
    fn expired(&mut self, now: Now, id: ClaimId, notice: &Notice, effects: &mut Effects) {
        let Some(claim) = self.claims.get(&id) else { return };
        let own = claim.incarnation.map(|incarnation| (incarnation, claim.generation));
        if notice.in_force.is_some_and(|in_force| own != Some(in_force)) {
            return;
        }
        // Many expired at once come back over a moment.
        let wait_ms = self.random.up_to(u64::try_from(self.claims.len()).unwrap_or(u64::MAX) - 1);
        self.register_anew(id, now.ms + wait_ms.min(1_000), effects);
    }

    /// How long a fenced claim, or one that is not understood, waits before it asks again.
    fn fenced_wait_ms(&mut self, fenced: u32) -> u64 {
        let timing = &self.settings.timing;
        let wait_ms = backoff_ms(timing.fenced_first_ms, timing.fenced_max_ms, fenced);
        self.jitter(wait_ms)
    }
}
