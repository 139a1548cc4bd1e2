//! What is said to the agent: probes, announcements, drains, notices.

use muster_schemas::agent::{
    AnnounceReply, AnnounceRequest, DrainReply, DrainRequest, Notice, ProbeReply, instance_key,
};
use muster_schemas::limits::QUERY_BYTES_MAX;
use muster_schemas::subject::Verb;
use serde::Serialize;

use super::Voucher;
use super::claim::{Claim, Doing, Unsaid};
use super::io::{ClaimId, Effect, Effects, Now, Severity};

/// Announced registrations are no further apart than this.
const ANNOUNCE_STEP_MS_MAX: u64 = 50;
/// Whoever asks again and again is spoken of no more often than this.
const SAID_AGAIN_MS: u64 = 10_000;

impl Voucher {
    pub(super) fn heard(&mut self, now: Now, verb: Verb, payload: &[u8], reply: Option<&str>, effects: &mut Effects) {
        if payload.len() > QUERY_BYTES_MAX || self.session().is_none() {
            return;
        }
        let reply = reply.filter(|reply| self.may_answer_to(reply));
        match verb {
            Verb::Probe => self.tell_what_is_vouched(reply, effects),
            Verb::Announce => self.announce(now, payload, reply, effects),
            Verb::Drain => self.drain(payload, reply, effects),
            Verb::Notice => {
                if let Ok(notice) = serde_json::from_slice::<Notice>(payload) {
                    self.noticed(now, notice, effects);
                }
            }
        }
    }

    /// Whoever asks chooses where the answer goes: not among Muster's own subjects, nor the broker's.
    fn may_answer_to(&self, reply: &str) -> bool {
        let first = reply.split('.').next();
        !reply.starts_with('$') && first != Some(self.settings.subjects.prefix().as_str())
    }

    fn answer(reply: Option<&str>, body: &impl Serialize, effects: &mut Effects) {
        if let Some(reply) = reply {
            effects.push(Effect::Publish {
                subject: reply.to_owned(),
                // Serialising plain data into memory cannot fail.
                payload: serde_json::to_vec(body).unwrap_or_default(),
            });
        }
    }

    fn tell_what_is_vouched(&self, reply: Option<&str>, effects: &mut Effects) {
        let Some(session) = self.session() else { return };
        let listed = self.claims.values().filter_map(|claim| {
            let key = instance_key(&claim.spec.service, &claim.spec.instance);
            Some((key, claim.vouched()?))
        });
        let incarnations = listed.collect();
        Self::answer(reply, &ProbeReply { session, incarnations }, effects);
    }

    /// Everything is registered again, one after the other.
    fn announce(&mut self, now: Now, payload: &[u8], reply: Option<&str>, effects: &mut Effects) {
        let Some(session) = self.session() else { return };
        // A body that is not understood is still a wish.
        let wish: AnnounceRequest = serde_json::from_slice(payload).unwrap_or_default();
        let announced = |(id, claim): (&ClaimId, &Claim)| claim.is_announced().then_some(*id);
        let ids: Vec<ClaimId> = self.claims.iter().filter_map(announced).collect();
        let instances = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        Self::answer(reply, &AnnounceReply { session, instances }, effects);
        self.say_announce(now, &wish.reason, instances, effects);
        let window_ms = self.settings.timing.announce_window_ms;
        let count = u64::from(instances.max(1));
        for (place, id) in (0_u64..).zip(ids) {
            let wait_ms = (place * window_ms / count).min(place * ANNOUNCE_STEP_MS_MAX);
            let Some(claim) = self.claims.get_mut(&id) else { continue };
            claim.unsaid = Unsaid::Whole;
            // What is on its way anyway is followed by this; what no registry confirms may be in a log that is gone.
            let patience_ms = self.settings.timing.answer_ms;
            if claim.is_resting() || claim.is_confirming_since(now.ms.saturating_sub(patience_ms)) {
                self.plan(id, Doing::Publishing, now.ms + wait_ms);
            }
        }
    }

    fn say_announce(&mut self, now: Now, reason: &str, instances: u32, effects: &mut Effects) {
        let is_news = self.announce_said_ms.is_none_or(|said_ms| now.ms.saturating_sub(said_ms) >= SAID_AGAIN_MS);
        if is_news {
            self.announce_said_ms = Some(now.ms);
            let why = if reason.is_empty() { "no reason given".to_owned() } else { reason.chars().take(200).collect() };
            let text = format!("a registry asked to register everything again ({why}): {instances} instances");
            effects.say(Severity::Info, text);
        }
    }

    fn drain(&self, payload: &[u8], reply: Option<&str>, effects: &mut Effects) {
        match serde_json::from_slice::<DrainRequest>(payload) {
            Ok(request) => {
                let claim = self.named(&(request.service.clone(), request.instance.clone()));
                effects.push(Effect::Drain { claim, request, reply: reply.map(str::to_owned) });
            }
            Err(error) => {
                let refused = DrainReply {
                    result: "refused".to_owned(),
                    detail: Some(format!("the request was not understood: {error}")),
                };
                Self::answer(reply, &refused, effects);
            }
        }
    }
}
