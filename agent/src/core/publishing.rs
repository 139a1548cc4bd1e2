//! Events: built from present state each time, with a new generation, so that it never matters which of them was lost.

use muster_schemas::agent::{Notice, NoticeCode};
use muster_schemas::event::{Deregistration, Event, EventData, HealthReport, Sender};
use muster_schemas::refusal::{Refusal, RefusalKind};
use muster_schemas::{Incarnation, MinRevision, SessionId, Timestamp, Vouching};
use serde::Deserialize;

use super::Voucher;
use super::claim::{Claim, Doing, Order, Sent, Unsaid};
use super::io::{Answer, ClaimId, Effects, Now};
use super::status::{Pending, Status};

/// What the stream says to a publish.
#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    error: Option<StreamError>,
}

#[derive(Deserialize)]
struct StreamError {
    #[serde(default)]
    description: String,
}

impl Voucher {
    /// A new incarnation: from the clock, above everything that is known.
    pub(super) fn mint(&mut self, now: Now, id: ClaimId) -> Option<Incarnation> {
        let (wall_ms, random) = (self.wall_ms(now), self.random.bits());
        let own = Incarnation::mint(wall_ms, random, self.last_minted);
        self.last_minted = Some(own);
        let claim = self.claims.get_mut(&id)?;
        let known = claim.largest_known.max(claim.incarnation).filter(|known| *known >= own);
        let minted = known.map_or(own, |known| Incarnation::mint(wall_ms, random, Some(known)));
        claim.incarnation = Some(minted);
        claim.generation = 0;
        claim.unsaid = Unsaid::Whole;
        Some(minted)
    }

    /// Sends what is unsaid, or the deregistration.
    pub(super) fn publish(&mut self, now: Now, id: ClaimId, effects: &mut Effects) {
        let Some(session) = self.session() else { return };
        if self.claims.get(&id).is_some_and(|claim| claim.incarnation.is_none()) {
            self.mint(now, id);
        }
        let event_id = SessionId::from_parts(self.wall_ms(now), self.random.bits()).to_string();
        let agent = self.settings.agent.clone();
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let Some(incarnation) = claim.incarnation else { return };
        claim.generation += 1;
        let order = Order { session, incarnation, generation: claim.generation, is_static: claim.spec.is_static() };
        let vouching = Vouching {
            service: claim.spec.service.clone(),
            instance: claim.spec.instance.clone(),
            agent: agent.clone(),
            session,
            incarnation,
            generation: claim.generation,
        };
        let said = std::mem::replace(&mut claim.unsaid, Unsaid::Nothing);
        claim.sent = Some(Sent { event_id: event_id.clone(), order, said });
        let event = data(claim, vouching, said).and_then(|data| {
            if matches!(data, EventData::Register(_)) {
                claim.registered_generation = order.generation;
            }
            let event = Event {
                id: event_id,
                source: Sender::Agent(agent),
                time: Some(Timestamp::from_ms(i64::try_from(now.wall_ms).unwrap_or(i64::MAX))),
                data,
            };
            let payload = event.encode(self.settings.subjects.namespace())?;
            Ok((event.subject(&self.settings.subjects), payload))
        });
        match event {
            Ok(message) => {
                self.set_pending(id, Pending::Publishing, effects);
                self.request(id, message, now.ms + self.settings.timing.acknowledge_ms, effects);
            }
            Err(refusal) => self.refuse(id, notice_of(&refusal), effects),
        }
    }

    /// What the stream said to the last event; none: nothing in time.
    pub(super) fn acknowledged(&mut self, now: Now, id: ClaimId, answer: Option<Answer<'_>>, effects: &mut Effects) {
        match self.sequence(answer) {
            Ok(sequence) => {
                let had_nothing = self.instances == 0;
                let claim = self.claims.get(&id);
                let ends = claim.is_some_and(|claim| claim.ending.is_some());
                let order = claim.and_then(|claim| claim.sent.as_ref()).map(|sent| sent.order);
                self.set_logged(id, order.filter(|_| !ends));
                self.acked = Some(MinRevision(None, sequence));
                if had_nothing && self.instances > 0 {
                    self.beat_from(now.ms);
                }
                self.set_pending(id, Pending::Confirming { problem: None }, effects);
                let since_ms = now.ms;
                self.plan(id, Doing::Confirming { sequence, since_ms }, now.ms);
            }
            Err(problem) => self.publish_again(now, id, problem, effects),
        }
    }

    fn sequence(&self, answer: Option<Answer<'_>>) -> Result<u64, String> {
        let payload = match answer {
            None => return Err("the stream did not acknowledge in time".to_owned()),
            Some(Answer::NoResponders) => {
                return Err(
                    "there is no stream for it yet: does a registry run, and has the broker JetStream?".to_owned()
                );
            }
            Some(Answer::NotSent(problem)) => return Err(problem.to_owned()),
            Some(Answer::Message(payload)) => payload,
        };
        let acknowledgement: Acknowledgement = serde_json::from_slice(payload)
            .map_err(|error| format!("the stream's acknowledgement is not understood: {error}"))?;
        if let Some(error) = acknowledgement.error {
            return Err(format!("the stream refused it: {}", error.description));
        }
        let own = self.settings.subjects.stream_name();
        match (acknowledgement.stream, acknowledgement.seq) {
            (Some(stream), Some(sequence)) if stream == own => Ok(sequence),
            (Some(stream), Some(_)) => {
                Err(format!("stream {stream:?} took it instead of {own:?}: remove its subjects"))
            }
            _ => Err("the stream's acknowledgement names no sequence".to_owned()),
        }
    }

    /// The last event came to nothing, as far as is known: the same again, later.
    pub(super) fn publish_again(&mut self, now: Now, id: ClaimId, problem: String, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let said = claim.sent.as_ref().map_or(Unsaid::Whole, |sent| sent.said);
        claim.unsaid = claim.unsaid.max(said);
        if let Some(ending) = &mut claim.ending {
            ending.problem.clone_from(&problem);
        }
        self.set_pending(id, Pending::Retrying { problem }, effects);
        self.again_later(now, id, Doing::Publishing);
    }

    /// Nothing of it counts as registered any more; it is registered again at `at_ms`.
    pub(super) fn register_anew(&mut self, id: ClaimId, at_ms: u64, effects: &mut Effects) {
        self.set_logged(id, None);
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.confirmed = None;
        claim.unsaid = Unsaid::Whole;
        self.set_pending(id, Pending::Publishing, effects);
        self.plan(id, Doing::Publishing, at_ms);
    }

    /// It will not be accepted as it is. What was accepted before stays.
    pub(super) fn refuse(&mut self, id: ClaimId, notice: Notice, effects: &mut Effects) {
        let confirmed = self.claims.get(&id).and_then(|claim| claim.confirmed);
        self.set_logged(id, confirmed);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.unsaid = Unsaid::Nothing;
        }
        self.set_status(id, Status::Refused(notice), effects);
        self.rest(id);
    }
}

fn data(claim: &Claim, vouching: Vouching, said: Unsaid) -> Result<EventData, Refusal> {
    if let Some(ending) = &claim.ending {
        return Ok(EventData::Deregister(Deregistration {
            vouching,
            reason: ending.reason,
            detail: ending.detail.clone(),
        }));
    }
    let is_held = |order: &Order| order.session == vouching.session && order.incarnation == vouching.incarnation;
    if said == Unsaid::Health && claim.confirmed.as_ref().is_some_and(is_held) {
        claim.spec.health.validate()?;
        let health = claim.spec.health.clone();
        let registered_generation = Some(claim.registered_generation);
        return Ok(EventData::Health(HealthReport { vouching, registered_generation, health }));
    }
    let registration = claim.spec.registration(vouching);
    registration.validate()?;
    Ok(EventData::Register(registration))
}

/// What a registry would have said to it.
fn notice_of(refusal: &Refusal) -> Notice {
    Notice {
        event_id: None,
        code: match refusal.kind {
            RefusalKind::Oversize => NoticeCode::Oversize,
            _ => NoticeCode::Malformed,
        },
        service: None,
        instance: None,
        in_force: None,
        session: None,
        stream_time: None,
        help: refusal.to_string(),
    }
}
