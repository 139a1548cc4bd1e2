//! Somebody else holds the instance with a larger incarnation: does it live?

use muster_schemas::agent::{ProbeReply, instance_key};
use muster_schemas::subject::Verb;

use super::Voucher;
use super::claim::{Doing, Why};
use super::io::{Answer, ClaimId, Effects, Now};
use super::status::{Holder, Status};

/// Nobody at a holder's subject, twice in a row, so far apart: it does not just reconnect.
const ABSENT_AGAIN_MS: u64 = 1_000;
/// How often nobody must have been there.
const ABSENT_TIMES: u32 = 2;

impl Voucher {
    /// Asks the holder of a larger incarnation whether it lives.
    pub(super) fn probe(&mut self, now: Now, id: ClaimId, holder: &Holder, effects: &mut Effects) {
        let subject = self.settings.subjects.to_agent(&holder.agent, Verb::Probe);
        let deadline_ms = now.ms + self.settings.timing.answer_ms;
        self.request(id, (subject, Vec::new()), deadline_ms, effects);
    }

    /// Our own answer to a probe that another session of our agent should answer.
    pub(super) fn is_own_word(&self, id: ClaimId, answer: Answer<'_>) -> bool {
        let is_probe = |doing: &Doing| matches!(doing, Doing::Probing { .. });
        if !self.claims.get(&id).is_some_and(|claim| is_probe(&claim.doing)) {
            return false;
        }
        let Answer::Message(payload) = answer else { return false };
        let reply: Result<ProbeReply, _> = serde_json::from_slice(payload);
        reply.is_ok_and(|reply| Some(reply.session) == self.session())
    }

    /// What the holder said; none: nothing in time.
    pub(super) fn probed(
        &mut self,
        now: Now,
        id: ClaimId,
        (holder, absent): (Holder, u32),
        answer: Option<Answer<'_>>,
        effects: &mut Effects,
    ) {
        let is_own_agent = holder.agent == self.settings.agent;
        let Some(claim) = self.claims.get(&id) else { return };
        let reply: Option<ProbeReply> = match answer {
            Some(Answer::Message(payload)) => serde_json::from_slice(payload).ok(),
            _ => None,
        };
        match (reply, answer) {
            // Another process under our agent id.
            (Some(reply), _) if is_own_agent && Some(reply.session) > self.session() => {
                self.supersede(reply.session, effects);
            }
            (Some(reply), _) => {
                let key = instance_key(&claim.spec.service, &claim.spec.instance);
                if reply.incarnations.contains_key(&key) && !is_own_agent {
                    self.wait_for(now, id, holder, effects);
                } else {
                    self.take_over(now, id, effects);
                }
            }
            // An earlier life of ours: nobody but ourselves is there any more.
            (None, _) if is_own_agent => {
                self.rise_above(now, holder.session);
                self.take_over(now, id, effects);
            }
            (None, Some(Answer::NoResponders)) if absent + 1 >= ABSENT_TIMES => self.take_over(now, id, effects),
            (None, Some(Answer::NoResponders)) => {
                let absent = absent + 1;
                self.plan(id, Doing::Probing { holder, absent }, now.ms + ABSENT_AGAIN_MS);
            }
            // Silence proves nothing: it may be frozen, or we may not be permitted to ask. It goes by its lease.
            (None, _) => self.wait_for(now, id, holder, effects),
        }
    }

    /// The holder lives, or may live: that is for people to sort out, or for its lease.
    fn wait_for(&mut self, now: Now, id: ClaimId, holder: Holder, effects: &mut Effects) {
        self.set_status(id, Status::Duplicate { holder }, effects);
        let wait_ms = self.settings.timing.duplicate_ms;
        let at_ms = now.ms + self.jitter(wait_ms);
        self.plan(id, Doing::Looking(Why::Waiting), at_ms);
    }
}
