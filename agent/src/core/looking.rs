//! Judging what registries show: is it ours, an earlier life's, or somebody else's?

use muster_schemas::subject::Query;
use muster_schemas::{Incarnation, MinRevision, Revision, Vouching};

use super::Voucher;
use super::claim::{Doing, Unsaid, Why};
use super::io::{Answer, ClaimId, Effects, Now};
use super::show::{Show, question};
use super::status::{DeregisterOutcome, Holder, Pending, Status};

/// Tries of a look that only makes sure; heartbeats do that too.
const RECHECKS: u32 = 3;

impl Voucher {
    /// Asks a registry about a claim, at the sequence or later if one is given.
    pub(super) fn ask(&mut self, now: Now, id: ClaimId, min_sequence: Option<u64>, effects: &mut Effects) {
        let Some(claim) = self.claims.get(&id) else { return };
        let (service, instance) = claim.name();
        let subject = self.settings.subjects.query(&Query::Instance(service, instance));
        let deadline_ms = now.ms + self.settings.timing.answer_ms;
        self.request(id, (subject, question(min_sequence)), deadline_ms, effects);
    }

    fn read(&self, id: ClaimId, answer: Option<Answer<'_>>) -> Option<Show> {
        let claim = self.claims.get(&id)?;
        Some(Show::read(answer, &claim.spec.service, &claim.spec.instance))
    }

    /// What a registry shows after an acknowledged event.
    pub(super) fn shown_after(
        &mut self,
        now: Now,
        id: ClaimId,
        (sequence, since_ms): (u64, u64),
        answer: Option<Answer<'_>>,
        effects: &mut Effects,
    ) {
        let Some(show) = self.read(id, answer) else { return };
        let Some(claim) = self.claims.get(&id) else { return };
        let (own, ends) = (claim.incarnation, claim.ending.is_some());
        match show {
            Show::Nothing { problem, is_behind } => {
                let waited_ms = now.ms.saturating_sub(since_ms);
                if is_behind && waited_ms >= self.settings.timing.behind_limit_ms {
                    // An answering registry does not get there: the log that acknowledged is gone, perhaps.
                    return self.publish_again(now, id, problem, effects);
                }
                if let Some(ending) = self.claims.get_mut(&id).and_then(|claim| claim.ending.as_mut()) {
                    ending.problem.clone_from(&problem);
                }
                let problem = Some(problem);
                self.set_pending(id, Pending::Confirming { problem }, effects);
                self.again_later(now, id, Doing::Confirming { sequence, since_ms });
            }
            Show::There { vouching, .. } if ends && Some(vouching.incarnation) == own => {
                let problem = "a registry did not accept the deregistration".to_owned();
                self.publish_again(now, id, problem, effects);
            }
            Show::There { .. } | Show::Absent if ends => {
                self.finish(id, DeregisterOutcome::Removed { sequence }, effects);
            }
            Show::There { epoch, vouching, conflict } if self.is_ours(id, &vouching) => {
                let at = Revision(epoch, sequence);
                self.confirm(now, id, at, (vouching.generation, conflict), effects);
            }
            Show::There { vouching, .. } if Some(vouching.incarnation) > own => {
                self.contest(now, id, &vouching, effects);
            }
            Show::There { .. } | Show::Absent => self.not_accepted(now, id, effects),
        }
    }

    /// Shows at least what was sent last.
    fn is_ours(&self, id: ClaimId, vouching: &Vouching) -> bool {
        let Some(claim) = self.claims.get(&id) else { return false };
        vouching.agent == self.settings.agent
            && Some(vouching.session) == self.session()
            && Some(vouching.incarnation) == claim.incarnation
            && vouching.generation >= claim.generation
    }

    fn confirm(
        &mut self,
        now: Now,
        id: ClaimId,
        at: Revision,
        (generation, conflict): (u64, Option<String>),
        effects: &mut Effects,
    ) {
        if self.acked == Some(MinRevision(None, at.sequence())) {
            self.acked = Some(at.into());
        }
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.generation = generation;
        claim.attempts = 0;
        claim.fenced = 0;
        claim.conflict.clone_from(&conflict);
        let order = claim.sent.as_ref().map(|sent| sent.order);
        claim.confirmed = order;
        self.set_logged(id, order);
        let revision = at;
        self.set_status(id, Status::Registered { revision, conflict }, effects);
        self.rest(id);
        self.say_if_resting(now, id);
    }

    /// A registry has read our event and does not show it. Why comes by a notice, unless that gets lost.
    fn not_accepted(&mut self, now: Now, id: ClaimId, effects: &mut Effects) {
        self.set_logged(id, None);
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.confirmed = None;
        claim.unsaid = Unsaid::Whole;
        let problem = "a registry did not accept the registration".to_owned();
        self.set_pending(id, Pending::Retrying { problem }, effects);
        self.again_later(now, id, Doing::Publishing);
    }

    /// What a registry shows, without an event of ours to wait for.
    pub(super) fn shown(&mut self, now: Now, id: ClaimId, why: Why, answer: Option<Answer<'_>>, effects: &mut Effects) {
        let Some(show) = self.read(id, answer) else { return };
        match (why, show) {
            (Why::Beginning, show) => self.begin_vouching(now, id, show, effects),
            (Why::Rechecking, show) => self.recheck(now, id, show, effects),
            (Why::Displaced, Show::There { vouching, .. }) => self.contest(now, id, &vouching, effects),
            (Why::Displaced, Show::Absent | Show::Nothing { .. }) => self.displaced(id, None, effects),
            (Why::Stale(in_force), Show::Absent) => {
                self.know(id, in_force.map(|(incarnation, _)| incarnation));
                self.take_over(now, id, effects);
            }
            (Why::Waiting, Show::Absent) => self.take_over(now, id, effects),
            (Why::Stale(_) | Why::Waiting, Show::There { vouching, .. }) => self.contest(now, id, &vouching, effects),
            (Why::Waiting, Show::Nothing { .. }) => {
                self.plan(id, Doing::Looking(Why::Waiting), now.ms + self.settings.timing.duplicate_ms);
            }
            (why @ Why::Stale(_), Show::Nothing { problem, .. }) => {
                self.set_pending(id, Pending::Retrying { problem }, effects);
                self.again_later(now, id, Doing::Looking(why));
            }
        }
    }

    fn know(&mut self, id: ClaimId, incarnation: Option<Incarnation>) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.largest_known = claim.largest_known.max(incarnation);
        }
    }

    /// The vouching begins; an earlier life of this agent is taken over, with whatever its clock said.
    fn begin_vouching(&mut self, now: Now, id: ClaimId, show: Show, effects: &mut Effects) {
        if let Show::There { vouching, .. } = &show
            && vouching.agent == self.settings.agent
        {
            self.know(id, Some(vouching.incarnation));
            self.rise_above(now, vouching.session);
        }
        let minted = self.mint(now, id);
        match show {
            Show::There { vouching, .. } if minted <= Some(vouching.incarnation) => {
                self.contest(now, id, &vouching, effects);
            }
            _ => self.plan(id, Doing::Publishing, now.ms),
        }
    }

    /// After an absence: is it still there?
    fn recheck(&mut self, now: Now, id: ClaimId, show: Show, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let own = claim.incarnation;
        match show {
            Show::Nothing { .. } if claim.attempts >= RECHECKS => {
                claim.attempts = 0;
                self.rest(id);
                self.say_if_resting(now, id);
            }
            Show::Nothing { .. } => self.again_later(now, id, Doing::Looking(Why::Rechecking)),
            Show::There { vouching, .. } if self.is_ours(id, &vouching) => {
                if let Some(claim) = self.claims.get_mut(&id) {
                    claim.attempts = 0;
                }
                self.rest(id);
                self.say_if_resting(now, id);
            }
            Show::There { vouching, .. } if Some(vouching.incarnation) > own => {
                self.contest(now, id, &vouching, effects);
            }
            Show::There { .. } | Show::Absent => self.register_anew(id, now.ms, effects),
        }
    }

    /// Something is in force that is not what was sent last.
    pub(super) fn contest(&mut self, now: Now, id: ClaimId, vouching: &Vouching, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let is_own_agent = vouching.agent == self.settings.agent;
        if Some(vouching.incarnation) == claim.incarnation && is_own_agent {
            // Ours, with a generation that we do not know of: an operator's hand, or a clone of us.
            claim.generation = claim.generation.max(vouching.generation);
            return self.register_anew(id, now.ms, effects);
        }
        if Some(vouching.incarnation) < claim.incarnation {
            // An older one: a registration of ours goes above it by itself.
            return self.register_anew(id, now.ms, effects);
        }
        let was_ours = claim.confirmed.is_some();
        self.know(id, Some(vouching.incarnation));
        self.set_logged(id, None);
        let holder =
            Holder { agent: vouching.agent.clone(), session: vouching.session, incarnation: vouching.incarnation };
        if is_own_agent && Some(vouching.session) == self.session() {
            return self.take_over(now, id, effects);
        }
        if was_ours && !is_own_agent {
            return self.displaced(id, Some(holder), effects);
        }
        self.plan(id, Doing::Probing { holder, absent: 0 }, now.ms);
    }

    /// Registers with an incarnation above all known ones.
    pub(super) fn take_over(&mut self, now: Now, id: ClaimId, effects: &mut Effects) {
        self.mint(now, id);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.attempts = 0;
        }
        self.register_anew(id, now.ms, effects);
    }

    /// Somebody else's by now: nothing more is claimed.
    pub(super) fn displaced(&mut self, id: ClaimId, by: Option<Holder>, effects: &mut Effects) {
        self.remove(id, Status::Displaced { by }, effects);
        self.show_life();
    }
}
