//! The life of the session: its begin, its heartbeats, and its end when another process runs under the same agent id.

use muster_schemas::agent::{Notice, NoticeCode, ProbeReply};
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_schemas::subject::Verb;
use muster_schemas::{SessionId, WIRE_VERSION};

use super::Voucher;
use super::claim::{Doing, Unsaid, Why};
use super::io::{Answer, ClaimId, Effect, Effects, Now, RequestId, Severity};
use super::status::{Pending, Status};

/// How long another process under our agent id gets to answer.
const OTHER_ANSWERS_MS: u64 = 500;
/// No step for so long: this process was frozen, or starved.
const FREEZE_MS: u64 = 1_500;
/// Heartbeats come no faster than this, however short a TTL is.
const HEARTBEAT_MS_MIN: u64 = 50;
/// A fifth of a TTL: four heartbeats may be lost.
const HEARTBEATS_PER_TTL: u64 = 5;
/// How many registrations that were lost with an old session go out in a millisecond.
const RENEWED_PER_MS: u64 = 1;

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// No connection yet.
    Unborn,
    /// Finding out whether another process runs under our agent id.
    Asking,
    /// Its session.
    Living(SessionId),
    /// Another process has taken over.
    Superseded,
}

/// A question to whoever else may run under our agent id.
#[derive(Debug)]
pub(super) struct SelfCheck {
    pub(super) request: RequestId,
    until_ms: u64,
}

impl Voucher {
    pub(super) fn connected(&mut self, now: Now, connection: Connection, effects: &mut Effects) {
        self.link = Some(connection);
        match self.life {
            Life::Unborn | Life::Asking => {
                self.life = Life::Asking;
                self.check_self(now, effects);
            }
            Life::Living(_) => self.resume(now, true),
            Life::Superseded => {}
        }
        self.line_up();
    }

    pub(super) fn disconnected(&mut self, now: Now, effects: &mut Effects) {
        self.link = None;
        self.self_check = None;
        self.break_off(now);
        for id in self.claims.keys().copied().collect::<Vec<_>>() {
            self.set_pending(id, Pending::Disconnected, effects);
        }
    }

    /// A process that was frozen may have missed its own expiry, and its replacement by another.
    pub(super) fn notice_freeze(&mut self, now: Now) {
        let gap_ms = now.ms.saturating_sub(self.stepped_ms);
        self.stepped_ms = now.ms;
        if gap_ms > FREEZE_MS && self.link.is_some() && self.session().is_some() {
            self.resume(now, false);
        }
    }

    /// After an absence: a heartbeat at once, and everything is looked at once more.
    fn resume(&mut self, now: Now, reconnected: bool) {
        self.heartbeat_due_ms = now.ms;
        let timing = &self.settings.timing;
        let (window_ms, check_ms) = (timing.recheck_window_ms, timing.self_check_ms);
        self.self_check_due_ms = Some(now.ms + check_ms);
        for id in self.claims.keys().copied().collect::<Vec<_>>() {
            let at_ms = now.ms + window_ms / 4 + self.random.up_to(window_ms);
            let Some(claim) = self.claims.get(&id) else { continue };
            if claim.is_resting() && claim.confirmed.is_some() {
                self.plan(id, Doing::Looking(Why::Rechecking), at_ms);
            } else if reconnected && claim.at_ms.is_some_and(|at_ms| at_ms <= now.ms) && claim.attempts > 0 {
                // Whoever had no luck before the break does not come back with everybody else at once.
                let at_ms = now.ms + self.random.up_to(self.settings.timing.retry_first_ms);
                let doing = claim.doing.clone();
                self.plan(id, doing, at_ms);
            }
        }
    }

    fn check_self(&mut self, now: Now, effects: &mut Effects) {
        let request = self.number();
        let until_ms = now.ms + OTHER_ANSWERS_MS;
        self.self_check = Some(SelfCheck { request, until_ms });
        let subject = self.settings.subjects.to_agent(&self.settings.agent, Verb::Probe);
        let payload = Vec::new();
        effects.push(Effect::Request { request, subject, payload });
    }

    pub(super) fn self_checked(&mut self, now: Now, answer: Answer<'_>, effects: &mut Effects) {
        let other = match answer {
            // Nobody is there. While we live that would be ourselves: our subscription has not spread yet.
            Answer::NoResponders => None,
            Answer::NotSent(_) => return,
            Answer::Message(payload) => match serde_json::from_slice::<ProbeReply>(payload) {
                Ok(reply) if Some(reply.session) == self.session() => return,
                Ok(reply) => Some(reply.session),
                Err(_) => return,
            },
        };
        match (self.life, other) {
            (Life::Asking, other) => self.begin_session(now, other, effects),
            (Life::Living(session), Some(other)) if other > session => self.supersede(other, effects),
            (Life::Living(session), Some(_)) => self.tell_other(session, effects),
            _ => {}
        }
    }

    fn begin_session(&mut self, now: Now, other: Option<SessionId>, effects: &mut Effects) {
        let random = self.random.bits();
        let session = SessionId::mint(self.wall_ms(now), random, other);
        self.life = Life::Living(session);
        self.self_check = None;
        self.self_check_due_ms = Some(now.ms + self.settings.timing.self_check_ms);
        self.heartbeat_due_ms = now.ms;
        effects.push(Effect::Listen);
        if other.is_some() {
            self.tell_other(session, effects);
        }
        for id in self.claims.keys().copied().collect::<Vec<_>>() {
            self.set_pending(id, Pending::Publishing, effects);
        }
        self.line_up();
        self.work(now, effects);
    }

    /// The larger session wins, and the other one has to learn of it.
    fn tell_other(&self, session: SessionId, effects: &mut Effects) {
        let agent = &self.settings.agent;
        effects.say(
            Severity::Warn,
            format!("another process runs as agent {agent:?}: it is told to end; give each its own agent id"),
        );
        let notice = Notice {
            event_id: None,
            code: NoticeCode::Displaced,
            service: None,
            instance: None,
            in_force: None,
            session: Some(session),
            stream_time: None,
            help: format!("another process runs as agent {agent}: give each its own agent id"),
        };
        // Serialising plain data into memory cannot fail.
        let payload = serde_json::to_vec(&notice).unwrap_or_default();
        let subject = self.settings.subjects.to_agent(agent, Verb::Notice);
        effects.push(Effect::Publish { subject, payload });
    }

    /// Another process runs under our agent id, with a larger session: everything ends here.
    pub(super) fn supersede(&mut self, other: SessionId, effects: &mut Effects) {
        self.life = Life::Superseded;
        self.self_check = None;
        for id in self.claims.keys().copied().collect::<Vec<_>>() {
            self.remove(id, Status::Superseded, effects);
        }
        self.waiting.clear();
        effects.push(Effect::Superseded(other));
    }

    /// An earlier life of ours had a larger session, because the clock was set back: heartbeats of a smaller one would be
    /// taken for late ones. What was registered under ours is registered again.
    pub(super) fn rise_above(&mut self, now: Now, other: SessionId) {
        let Some(session) = self.session().filter(|session| *session <= other) else { return };
        let random = self.random.bits();
        self.life = Life::Living(SessionId::mint(self.wall_ms(now), random, Some(other.max(session))));
        self.heartbeat_due_ms = now.ms;
        for (place, id) in self.claims.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
            self.set_logged(id, None);
            let Some(claim) = self.claims.get_mut(&id) else { continue };
            claim.confirmed = None;
            if claim.sent.is_some() && claim.is_resting() && claim.is_announced() {
                claim.unsaid = Unsaid::Whole;
                let wait_ms = u64::try_from(place).unwrap_or(u64::MAX) / RENEWED_PER_MS;
                self.plan(id, Doing::Publishing, now.ms.saturating_add(wait_ms));
            }
        }
    }

    /// What the session itself has to do by now.
    pub(super) fn attend_session(&mut self, now: Now, effects: &mut Effects) {
        if self.link.is_none() {
            return;
        }
        if self.self_check.as_ref().is_some_and(|check| check.until_ms <= now.ms) {
            self.self_check = None;
            if self.life == Life::Asking {
                self.begin_session(now, None, effects);
            }
        }
        let Some(session) = self.session() else { return };
        if self.self_check_due_ms.is_some_and(|due_ms| due_ms <= now.ms) {
            self.self_check_due_ms = None;
            self.check_self(now, effects);
        }
        if self.beats() && self.heartbeat_due_ms <= now.ms {
            self.beat(now, session, effects);
        }
    }

    /// Whoever never had anything to answer for is silent.
    fn beats(&self) -> bool {
        self.instances > 0 || self.owes_beat || (self.acked.is_some() && !self.claims.is_empty())
    }

    /// An instance is another agent's by now. That both live can only be known if this one is heard afterwards, also if it
    /// has nothing else to answer for.
    pub(super) fn show_life(&mut self) {
        self.owes_beat = true;
        self.heartbeat_due_ms = self.heartbeat_due_ms.min(self.stepped_ms);
    }

    fn beat(&mut self, now: Now, session: SessionId, effects: &mut Effects) {
        let period_ms = self.heartbeat_ms();
        // Kept to the beat; after an absence from now on.
        let next_ms = self.heartbeat_due_ms + period_ms;
        self.heartbeat_due_ms = if next_ms > now.ms { next_ms } else { now.ms + period_ms };
        self.counter += 1;
        self.owes_beat = false;
        let heartbeat = Heartbeat {
            v: WIRE_VERSION,
            session,
            counter: self.counter,
            instances: self.instances,
            digest: self.digest,
            acked: self.acked,
            conn: self.link.clone(),
        };
        // Serialising plain data into memory cannot fail.
        let payload = serde_json::to_vec(&heartbeat).unwrap_or_default();
        let subject = self.settings.subjects.heartbeat(&self.settings.agent);
        effects.push(Effect::Publish { subject, payload });
    }

    /// From one heartbeat to the next, in milliseconds.
    fn heartbeat_ms(&self) -> u64 {
        let leased = self.claims.values().map(|claim| claim.spec.ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
        let fifth_ms = leased.min().map_or(u64::MAX, |ttl_ms| ttl_ms / HEARTBEATS_PER_TTL);
        self.settings.timing.heartbeat_ms.min(fifth_ms).max(HEARTBEAT_MS_MIN)
    }

    /// The first heartbeat that answers for anything, and with it the beat.
    pub(super) fn beat_from(&mut self, due_ms: u64) {
        self.heartbeat_due_ms = due_ms;
    }

    /// A claim with a shorter TTL than all others wants heartbeats earlier than planned.
    pub(super) fn keep_pace(&mut self, now: Now) {
        self.heartbeat_due_ms = self.heartbeat_due_ms.min(now.ms + self.heartbeat_ms());
    }

    pub(super) fn session_due_ms(&self) -> Option<u64> {
        self.link.as_ref()?;
        let heartbeat = self.session().filter(|_| self.beats()).map(|_| self.heartbeat_due_ms);
        let check = self.self_check.as_ref().map(|check| check.until_ms);
        let check_due = self.self_check_due_ms.filter(|_| self.session().is_some());
        [heartbeat, check, check_due].into_iter().flatten().min()
    }

    /// Milliseconds since 1970, from which ids are minted.
    pub(super) fn wall_ms(&self, now: Now) -> u64 {
        match self.stream_clock {
            Some((stream_ms, learnt_ms)) => stream_ms + now.ms.saturating_sub(learnt_ms),
            None => now.wall_ms,
        }
    }

    /// The claim's place in the names, for words that name an instance.
    pub(super) fn named(&self, name: &(muster_schemas::ServiceName, muster_schemas::InstanceId)) -> Option<ClaimId> {
        self.by_name.get(name).copied()
    }
}
