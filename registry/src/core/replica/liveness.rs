//! From a silence to an `expire`: whose time is used up is probed first, and every decision rests on what is so when it is
//! sent.

use std::collections::{BTreeMap, VecDeque};

use muster_schemas::agent::{Notice, NoticeCode};
use muster_schemas::alarm::AlarmKind;
use muster_schemas::entry::{Evidence, ProbeResult};
use muster_schemas::event::{Expiry, ExpiryCause};
use muster_schemas::subject::BeatFrom;
use muster_schemas::{AgentId, EventData};

use super::announcing::Announcing;
use super::probing::{Convinced, Probing, REACHED_BEFORE_MS};
use super::proposals::BATCH_MAX;
use super::{Replica, ReplicaSettings};
use crate::core::catalog::Catalog;
use crate::core::io::{Effect, Effects, ProbeOutcome};
use crate::core::leases::{Beat, Due, DueInstance, Heard, Leases, Unheard, Verdict};

/// Probes under way at once; whoever is due beyond that waits.
const PROBES_MAX: usize = 256;
/// Agents that wait for their probe while an older replica has the first word; whoever is due beyond that comes again.
pub(super) const WAITING_MAX: usize = 10_000;
/// Alarms of the same kind are not raised more often than this.
const ALARM_AGAIN_MS: u64 = 10_000;
/// A fifth of the fleet due within this time, the default TTL, is a storm.
const STORM_MS: u64 = 10_000;
/// So few instances are no storm, however small the fleet.
const STORM_MIN: u64 = 10;

/// Who was heard, who is being asked, and who is given up.
#[derive(Debug)]
pub(super) struct Liveness {
    pub(super) leases: Leases,
    pub(super) announcing: Announcing,
    listening_since_ms: u64,
    /// Agents that are due, and when this replica may probe them: (due since, agent).
    pub(super) waiting: VecDeque<(u64, Due)>,
    /// Agents to be asked once more, and since when they are due; bounded by the probes.
    pub(super) again: VecDeque<(u64, Due)>,
    pub(super) probes: BTreeMap<u64, Probing>,
    last_probe: u64,
    /// Given up if their broker servers are heard now; bounded by the rate of expiries.
    pub(super) unconfirmed: Vec<Convinced>,
    /// Given up, to be proposed with the next batch; bounded by the probes.
    pub(super) convinced: Vec<Convinced>,
    /// Agents of the batch under way.
    proposing: Vec<AgentId>,
    /// What fell due within the last [`STORM_MS`]: (when, how much of it, how many leases there were). Bounded by the rate of
    /// expiries.
    fallen_due: VecDeque<(u64, u64, u64)>,
    storm_alarm_ms: Option<u64>,
    deaf_alarm_ms: Option<u64>,
}

impl Liveness {
    pub(super) fn new(now_ms: u64, settings: &ReplicaSettings) -> Self {
        let mut leases = Leases::new(settings.subjects.clone(), &settings.replica);
        leases.keep_unreachable_for(settings.timing.unreachable_limit_ms);
        Self {
            leases,
            announcing: Announcing::default(),
            listening_since_ms: now_ms,
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            probes: BTreeMap::new(),
            last_probe: 0,
            unconfirmed: Vec::new(),
            convinced: Vec::new(),
            proposing: Vec::new(),
            fallen_due: VecDeque::new(),
            storm_alarm_ms: None,
            deaf_alarm_ms: None,
        }
    }

    /// Heartbeats may have been missed.
    pub(super) fn gap(&mut self, now_ms: u64) {
        self.leases.gap();
        self.listening_since_ms = now_ms;
    }

    /// Takes what is due from the leases, to wait for its turn.
    fn take_due(&mut self, now_ms: u64, catalog: &Catalog) {
        while self.waiting.len() < WAITING_MAX {
            let Some(due) = self.leases.next_due(now_ms, catalog) else {
                break;
            };
            let fleet = self.leases.leases_count() as u64;
            self.fallen_due.push_back((now_ms, due.instances.len() as u64, fleet));
            self.waiting.push_back((now_ms, due));
        }
        let is_old = |(ms, _, _): &mut (u64, u64, u64)| now_ms.saturating_sub(*ms) > STORM_MS;
        while self.fallen_due.pop_front_if(is_old).is_some() {}
    }

    /// How many instances of how many, if that is so much that something else than they may be the cause.
    fn storm(&self) -> Option<(u64, u64)> {
        let due = self.fallen_due.iter().map(|(_, due, _)| due).sum();
        let fleet = self.fallen_due.iter().map(|(_, _, fleet)| *fleet).max()?;
        (due >= STORM_MIN.max(fleet / 5)).then_some((due, fleet))
    }

    /// Another replica decides, or this one did not run: whatever was begun is dropped, and comes again if it has to.
    pub(super) fn stand_back(&mut self) {
        let waiting = self.waiting.drain(..).chain(self.again.drain(..)).map(|(_, due)| due.agent);
        let probed = std::mem::take(&mut self.probes).into_values().map(|probing| probing.agent);
        let convinced = self
            .unconfirmed
            .drain(..)
            .chain(self.convinced.drain(..))
            .map(|convinced| convinced.instance.vouching().agent.clone());
        let agents: Vec<_> = waiting.chain(probed).chain(convinced).collect();
        for agent in agents {
            self.leases.retry(&agent);
        }
    }

    /// Whether a decision waits for the word of a broker server.
    pub(super) fn waits_for_servers(&self) -> bool {
        !self.unconfirmed.is_empty() || self.probes.values().any(|probing| !probing.within_reach)
    }

    /// A batch of proposals was answered. What failed is decided anew.
    pub(super) fn proposed(&mut self, acknowledged: bool) {
        for agent in std::mem::take(&mut self.proposing) {
            if !acknowledged {
                self.leases.retry(&agent);
            }
        }
    }
}

impl Replica {
    pub(super) fn heartbeat(&mut self, subject: &str, payload: &[u8], effects: &mut Effects) {
        if payload.is_empty() {
            // A permission check of somebody who starts.
            return;
        }
        let position = self.catalog.position();
        // For evidence: by the clock that also dates events, whatever this host's clock says.
        let wall = self.stream_time();
        let leases = &mut self.liveness.leases;
        match leases.hear(self.now_ms, wall, position, subject, payload) {
            Heard::Beat(beat) => {
                self.counters.heartbeats += 1;
                self.take_beat(&beat);
                self.look_for_duplicates(&beat.agent, effects);
            }
            Heard::OwnMark { charged_ms } => {
                self.counters.marks += 1;
                self.counters.marks_charged += u64::from(charged_ms.is_some());
                self.counters.charged_ms = self.liveness.leases.charged_total_ms();
                self.wishes.charged(charged_ms.unwrap_or(0));
                self.decide_at_once(effects);
            }
            Heard::OthersMark => {}
            Heard::Unheard(unheard) => {
                self.counters.heartbeats_refused += 1;
                if unheard == Unheard::Displaced {
                    self.tell_displaced(subject, effects);
                }
            }
        }
    }

    /// Of two processes under one agent id the one of the larger session stays, and the other has to learn of it.
    fn tell_displaced(&mut self, subject: &str, effects: &mut Effects) {
        let Some(BeatFrom::Agent(token)) = self.settings.subjects.beat_from(subject) else { return };
        let Ok(agent) = AgentId::from_token(token) else { return };
        let session = self.liveness.leases.agent(&agent).and_then(|known| known.session());
        if !self.is_first_to_propose() || session.is_none() {
            return;
        }
        let notice = Notice {
            event_id: None,
            code: NoticeCode::Displaced,
            service: None,
            instance: None,
            in_force: None,
            session,
            stream_time: None,
            help: format!("another process runs as agent {agent}: give each its own agent id"),
        };
        self.send_notice(&agent, &notice, effects);
    }

    fn take_beat(&mut self, beat: &Beat) {
        if let Some(acked) = beat.acked {
            self.learn_position(acked.epoch(), acked.sequence());
        }
        let asks = beat.verdict == Verdict::Differs && self.asks_agents();
        let announcing = &mut self.liveness.announcing;
        match beat.verdict {
            Verdict::Same => announcing.agrees(&beat.agent),
            Verdict::Differs if asks => {
                announcing.differs(self.now_ms, &beat.agent, beat.claimed, &self.settings.timing);
            }
            Verdict::Differs | Verdict::Unsettled => {}
        }
        if self.liveness.proposing.contains(&beat.agent) {
            // It is back, and its expiry may still be on its way: that is void once the agent says anew what it vouches for.
            announcing.differs(self.now_ms, &beat.agent, beat.claimed, &self.settings.timing);
        }
    }

    /// Something was heard that a decision may have waited for: the next tick need not be waited for as well.
    pub(super) fn decide_at_once(&mut self, effects: &mut Effects) {
        if self.liveness.leases.any_lingering() || self.liveness.waits_for_servers() {
            self.look_after_leases(effects);
            self.propose(effects);
        }
    }

    /// Takes the next steps with those whose time is used up, if it is this replica's turn.
    pub(super) fn look_after_leases(&mut self, effects: &mut Effects) {
        self.notice_astray();
        self.raise_alarms(effects);
        let Some(delay_ms) = self.expiring_delay_ms() else {
            self.liveness.stand_back();
            return;
        };
        self.liveness.drop_lost_probes(self.now_ms, &self.settings.timing);
        self.liveness.confirm(self.now_ms, &self.settings.timing);
        self.liveness.take_due(self.now_ms, &self.catalog);
        let (now_ms, probes) = (self.now_ms, self.counters.probes);
        while self.liveness.probes.len() < PROBES_MAX {
            let Some((since_ms, due)) = self.liveness.again.pop_front() else {
                break;
            };
            // Its server has just been heard.
            self.probe_if_still_due(since_ms, due, true, effects);
        }
        while self.liveness.probes.len() < PROBES_MAX {
            let is_ready = |(since_ms, _): &mut (u64, Due)| now_ms >= *since_ms + delay_ms;
            let Some((since_ms, due)) = self.liveness.waiting.pop_front_if(is_ready) else {
                break;
            };
            let within_reach = self.liveness.leases.server_heard_within(&due.agent, now_ms, REACHED_BEFORE_MS);
            self.probe_if_still_due(since_ms, due, within_reach, effects);
        }
        if self.counters.probes > probes {
            // What shows that the broker was there after the probes left.
            self.send_mark_now(effects);
        }
        while self.liveness.probes.len() < PROBES_MAX {
            let Some(agent) = self.liveness.announcing.next_to_probe() else {
                break;
            };
            self.probe(agent, Vec::new(), true, effects);
        }
    }

    /// Lease clock or not: none while this replica may give up nobody.
    fn expiring_delay_ms(&self) -> Option<u64> {
        self.proposing_delay_ms().filter(|_| self.decides() && !self.is_deaf() && self.publish_connected)
    }

    fn is_deaf(&self) -> bool {
        let liveness = &self.liveness;
        let uncharged_ms = liveness.leases.uncharged_ms(self.now_ms, liveness.listening_since_ms);
        uncharged_ms >= self.settings.timing.deaf_ms
    }

    fn probe_if_still_due(&mut self, since_ms: u64, mut due: Due, within_reach: bool, effects: &mut Effects) {
        let heard_ms = self.liveness.leases.agent(&due.agent).and_then(|view| view.heard_ms());
        if heard_ms.is_some_and(|heard_ms| heard_ms >= since_ms) {
            return;
        }
        due.instances.retain(|due| {
            let name = due.instance.vouching();
            self.catalog.last_sequence(&name.service, &name.instance) == Some(due.observed_sequence)
        });
        if !due.instances.is_empty() {
            self.probe(due.agent, due.instances, within_reach, effects);
        }
    }

    fn probe(&mut self, agent: AgentId, due: Vec<DueInstance>, within_reach: bool, effects: &mut Effects) {
        let view = self.liveness.leases.agent(&agent);
        let held = view.iter().flat_map(|view| view.instances()).filter_map(|instance| {
            let sequence = self.catalog.last_sequence(instance.service(), instance.id())?;
            let key = (instance.service().clone(), instance.id().clone());
            Some((key, (instance.vouching().incarnation, sequence)))
        });
        let held = held.collect();
        let (sent_ms, sent_mark) = (self.now_ms, self.mark_counter);
        let probing = Probing { agent: agent.clone(), sent_ms, sent_mark, within_reach, due, held };
        self.liveness.last_probe += 1;
        let probe = self.liveness.last_probe;
        self.liveness.probes.insert(probe, probing);
        self.counters.probes += 1;
        effects.push(Effect::Probe { probe, agent });
    }

    pub(super) fn probed(&mut self, probe: u64, outcome: &ProbeOutcome<'_>, effects: &mut Effects) {
        let Some(probing) = self.liveness.probes.remove(&probe) else {
            return;
        };
        match outcome {
            ProbeOutcome::Failed => self.liveness.leases.retry(&probing.agent),
            ProbeOutcome::NoResponders => self.give_up(probing, ProbeResult::NoResponders),
            ProbeOutcome::Timeout => self.give_up(probing, ProbeResult::Timeout),
            ProbeOutcome::Answered(reply) => {
                let unlisted = self.liveness.leases.vouched(&probing.agent, reply);
                let due = unlisted.into_iter().filter_map(|instance| probing.was_held(instance)).collect();
                let probing = Probing { due, ..probing };
                if self.disowns(&probing.agent, probing.due.is_empty()) {
                    self.give_up(probing, ProbeResult::Unlisted);
                }
            }
        }
        self.liveness.confirm(self.now_ms, &self.settings.timing);
        self.propose(effects);
    }

    /// A silence is believed once the agent's broker server was heard after the probe was sent, if it was within reach then. That somebody still listens
    /// and does not answer says nothing about a broken connection: such a one is given up for its silence, or not at all.
    fn give_up(&mut self, probing: Probing, result: ProbeResult) {
        let own = &self.settings.replica;
        for due in probing.due {
            if due.cause == ExpiryCause::Disconnected && result == ProbeResult::Timeout {
                self.liveness.leases.retry(&probing.agent);
                continue;
            }
            let evidence = Evidence {
                heard_by: due.evidence.last_heartbeat_at.map(|_| own.clone()),
                probe: Some(result),
                replica: Some(own.clone()),
                ..due.evidence
            };
            let given_up = Convinced {
                instance: due.instance,
                observed_sequence: due.observed_sequence,
                cause: due.cause,
                evidence,
                asked_ms: probing.sent_ms,
                asked_mark: probing.sent_mark,
                within_reach: probing.within_reach,
                decided_ms: self.now_ms,
            };
            match given_up.cause {
                ExpiryCause::Silent | ExpiryCause::Disconnected => self.liveness.unconfirmed.push(given_up),
                ExpiryCause::Disowned | ExpiryCause::Unreachable => self.liveness.convinced.push(given_up),
            }
        }
    }

    /// Whether what an agent's answer leaves out is disowned: only after it was asked to announce itself.
    fn disowns(&mut self, agent: &AgentId, all_listed: bool) -> bool {
        let timing = &self.settings.timing;
        let announcing = &mut self.liveness.announcing;
        if all_listed || announcing.has_announced(self.now_ms, agent, timing) {
            return !all_listed;
        }
        announcing.unlisted(self.now_ms, agent, timing);
        self.liveness.leases.retry(agent);
        false
    }

    /// In a cluster a replica's connections may be on both sides of a cut: whom it does not hear may have moved to the other one,
    /// where its proposals go. Only a replica that was seen at the log's end after it asked is on the side that counts.
    fn end_confirmed_since(&self, asked_ms: u64) -> bool {
        let confirmed_ms = self.continuity.end_confirmed_ms();
        !self.liveness.leases.is_cluster() || confirmed_ms.is_some_and(|confirmed_ms| confirmed_ms >= asked_ms)
    }

    /// Decided so long ago that it has to be decided anew.
    fn is_outdated(&self, given_up: &Convinced) -> bool {
        let timing = &self.settings.timing;
        self.now_ms.saturating_sub(given_up.decided_ms) > timing.probe_timeout_ms + timing.propose_rank_ms
    }

    /// The expiries for the next batch: those whose reason still stands.
    pub(super) fn expiries(&mut self, room: usize) -> Vec<EventData> {
        let Some(epoch) = self.catalog.epoch() else {
            return Vec::new();
        };
        let mut expiries = Vec::new();
        let taken = self.liveness.convinced.len().min(room.min(BATCH_MAX));
        let convinced: Vec<_> = self.liveness.convinced.drain(..taken).collect();
        for given_up in convinced {
            if !self.end_confirmed_since(given_up.asked_ms) && !self.is_outdated(&given_up) {
                self.continuity.hurry(self.now_ms);
                self.liveness.convinced.push(given_up);
                continue;
            }
            let vouching = given_up.instance.vouching();
            let last_sequence = self.catalog.last_sequence(&vouching.service, &vouching.instance);
            let heard_ms = self.liveness.leases.agent(&vouching.agent).and_then(|view| view.heard_ms());
            let was_heard = heard_ms.is_some_and(|heard_ms| heard_ms >= given_up.asked_ms);
            let contradicted = given_up.cause != ExpiryCause::Disowned && was_heard;
            let is_old = self.is_outdated(&given_up) || self.is_heard_again(&given_up);
            if last_sequence != Some(given_up.observed_sequence) || contradicted {
                continue;
            }
            if is_old {
                self.liveness.leases.retry(&vouching.agent);
                continue;
            }
            self.liveness.proposing.push(vouching.agent.clone());
            expiries.push(EventData::Expire(Expiry {
                vouching: vouching.clone(),
                epoch,
                observed_sequence: given_up.observed_sequence,
                cause: given_up.cause,
                evidence: given_up.evidence,
            }));
        }
        expiries
    }

    /// Whether the server that was unreachable is there again: what was decided because of it is decided anew.
    fn is_heard_again(&self, given_up: &Convinced) -> bool {
        let agent = &given_up.instance.vouching().agent;
        given_up.cause == ExpiryCause::Unreachable
            && self.liveness.leases.server_heard_since(agent, given_up.asked_ms, given_up.asked_mark)
    }

    fn raise_alarms(&mut self, effects: &mut Effects) {
        let again =
            |raised_ms: Option<u64>| raised_ms.is_none_or(|ms| self.now_ms.saturating_sub(ms) >= ALARM_AGAIN_MS);
        let storm = self.liveness.storm().filter(|_| again(self.liveness.storm_alarm_ms));
        if let Some((due, fleet)) = storm {
            self.liveness.storm_alarm_ms = Some(self.now_ms);
            let text = format!(
                "{due} of {fleet} leases were used up within {STORM_MS} ms: look at the network before the services"
            );
            self.alarm(AlarmKind::MassExpiry, text, effects);
        } else if self.continuity.is_connected() && self.is_deaf() && again(self.liveness.deaf_alarm_ms) {
            self.liveness.deaf_alarm_ms = Some(self.now_ms);
            let text = format!(
                "no mark came back in time for {} ms: this replica gives up nobody until one does",
                self.settings.timing.deaf_ms
            );
            self.alarm(AlarmKind::Deaf, text, effects);
        }
    }
}
