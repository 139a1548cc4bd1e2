//! A registry's process: the real core, and in place of its shell what performs effects on the simulated broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_registry::core::io::{
    Effect, Effects, Input, Inspection, LogFacts, OutgoingKind, ProbeOutcome, ProposedEvent,
};
use muster_registry::core::replica::{Replica, ReplicaSettings, Snapshot, Timing};
use muster_schemas::agent::{AnnounceReply, ProbeReply};
use muster_schemas::subject::Verb;
use muster_schemas::{AgentId, ReplicaId};

use super::link::{LinkId, NodeId, Role};
use super::queries::Desk;
use super::wire::{Answered, Facts, Found, Packet, Work};
use super::world::{Process, World};

/// The connections of a registry.
pub(crate) const ROLES: [Role; 4] = [Role::Log, Role::Output, Role::Queries, Role::Proposals];

/// A registry's process.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) id: ReplicaId,
    pub(crate) process: Process,
    pub(crate) replica: Replica,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) desk: Desk,
    links: [LinkId; 4],
    timing: Timing,
    /// How far its host's clock is off.
    pub(crate) clock_ms: i64,
    /// At the broker: the log reader, and whether it is in the queue group.
    pub(crate) reader: Option<u64>,
    pub(crate) joined: bool,
    /// Since when it has run, unfrozen and well connected.
    pub(crate) well_since_ms: Option<u64>,
    /// In the process.
    serving: bool,
    /// When it last began to answer, or stopped.
    pub(crate) served_ms: u64,
    inspecting: Option<u64>,
    requests: BTreeMap<u64, Purpose>,
    last_request: u64,
    batch: Option<Batch>,
}

/// What a request of a registry is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Probe(u64),
    Announce(u64),
    Proposal(u64),
}

/// A batch of proposals under way.
#[derive(Debug)]
struct Batch {
    batch: u64,
    left: usize,
}

/// How long an unreachable server keeps what its agents vouch for.
pub(crate) const UNREACHABLE_LIMIT_MS: u64 = 8_000;

/// Durations of the registries: the contract's, but for the longest waits.
pub(crate) fn timing() -> Timing {
    Timing {
        tick_ms: 50,
        // Longer than an agent takes to try once more what was stored before there was an epoch.
        recover_ms: 9_000,
        unreachable_limit_ms: UNREACHABLE_LIMIT_MS,
        verify_replicated_ms: Timing::default().verify_ms,
        announce_again_ms: 8_000,
        announced_settle_ms: 3_000,
        checkpoint_ms: 4_000,
        checkpoint_retry_ms: 2_000,
        ..Timing::default()
    }
}

impl Registry {
    pub(crate) fn link(&self, role: Role) -> LinkId {
        let index = ROLES.iter().position(|known| *known == role).unwrap_or(0);
        self.links[index]
    }
}

impl World {
    pub(crate) fn add_registry(&mut self) {
        let index = self.registries.len();
        let node = NodeId::Registry(index);
        let links = ROLES.map(|role| self.new_link(node, role));
        let id = ReplicaId::new(&format!("r{index}")).expect("a name");
        let replica = self.new_replica(&id, 0);
        let registry = Registry {
            desk: Desk::new(&self.subjects, &id),
            id,
            process: Process::default(),
            snapshot: replica.snapshot(),
            replica,
            links,
            timing: timing(),
            clock_ms: 0,
            reader: None,
            joined: false,
            well_since_ms: None,
            serving: false,
            served_ms: 0,
            inspecting: None,
            requests: BTreeMap::new(),
            last_request: 0,
            batch: None,
        };
        self.registries.push(registry);
        self.start_registry(index);
    }

    fn new_replica(&self, id: &ReplicaId, clock_ms: i64) -> Replica {
        let settings = ReplicaSettings {
            subjects: self.subjects.clone(),
            replica: id.clone(),
            started_at: self.wall(clock_ms),
            datacenter: None,
            software_version: "simulated".to_owned(),
            timing: timing(),
        };
        Replica::new(settings, self.now_ms)
    }

    /// A process that knows nothing.
    pub(crate) fn start_registry(&mut self, index: usize) {
        if self.registries[index].process.running {
            return;
        }
        let (id, clock_ms) = (self.registries[index].id.clone(), self.registries[index].clock_ms);
        let replica = self.new_replica(&id, clock_ms);
        let registry = &mut self.registries[index];
        registry.process.start();
        registry.snapshot = replica.snapshot();
        registry.replica = replica;
        registry.desk = Desk::new(&self.subjects, &id);
        registry.serving = false;
        registry.inspecting = None;
        registry.requests.clear();
        registry.batch = None;
        for link in registry.links {
            self.connect(link);
        }
        let at_ms = self.now_ms + self.random.up_to(30);
        self.remind(NodeId::Registry(index), at_ms, Work::Tick);
        self.oracle.registry_disturbed(self.now_ms);
    }

    pub(crate) fn stop_registry(&mut self, index: usize) {
        for link in self.registries[index].links {
            self.cut(link);
        }
        self.registries[index].process.end();
        self.forget_tail();
        self.oracle.registry_disturbed(self.now_ms);
    }

    pub(crate) fn registry_works(&mut self, index: usize, work: Work) {
        let mut effects = Effects::new();
        match work {
            Work::Tick => {
                let (wall, random) = (self.wall(self.registries[index].clock_ms), self.random.bits());
                self.step_replica(index, Input::Tick { wall, random }, &mut effects);
                let tick_ms = self.registries[index].timing.tick_ms;
                self.remind(NodeId::Registry(index), self.now_ms + tick_ms, Work::Tick);
            }
            Work::Connected(Role::Log) => {
                self.tell_servers(index, &mut effects);
                self.step_replica(index, Input::LogConnected(true), &mut effects);
            }
            Work::Connected(Role::Output) => {
                self.tell_servers(index, &mut effects);
                self.step_replica(index, Input::PublishConnected(true), &mut effects);
            }
            Work::Connected(Role::Queries) => {
                let (link, serving) = (self.registries[index].link(Role::Queries), self.registries[index].serving);
                self.send(link, Packet::Serve(serving));
            }
            Work::Disconnected(role) => self.registry_lost(index, role, &mut effects),
            Work::Heartbeat(subject, payload) => {
                self.step_replica(index, Input::Heartbeat { subject: &subject, payload: &payload }, &mut effects);
            }
            Work::Advisory(payload) => self.step_replica(index, Input::Advisory(&payload), &mut effects),
            Work::ServerAnswered(payload) => self.step_replica(index, Input::ServerAnswered(&payload), &mut effects),
            Work::HeartbeatsLost => self.step_replica(index, Input::HeartbeatsLost, &mut effects),
            Work::Change(payload, _) => self.step_replica(index, Input::ChangeHeard(&payload), &mut effects),
            Work::Pulse(payload, _) => self.step_replica(index, Input::PulseHeard(&payload), &mut effects),
            Work::Beacon(payload) => self.step_replica(index, Input::BeaconHeard(&payload), &mut effects),
            Work::Record { reader, stored } => {
                let record = stored.record();
                self.step_replica(index, Input::Record { reader, record }, &mut effects);
            }
            Work::ReaderStopped { reader } => {
                self.step_replica(index, Input::ReaderStopped { reader, reason: "the consumer is gone" }, &mut effects);
            }
            Work::Inspected { check, found } => self.registry_inspected(index, check, &found, &mut effects),
            Work::InspectDeadline(check) => self.registry_inspected(index, check, &Found::Unreachable, &mut effects),
            Work::Answer { request, answered } => self.registry_answered(index, request, &answered, &mut effects),
            Work::Deadline(request) => self.registry_waited(index, request, &mut effects),
            Work::Query { subject, payload, reply } => self.question(index, &subject, &payload, reply),
            Work::QueryDeadline => self.give_up_questions(index),
            Work::FromStore(answered) => self.store_answered(index, &answered, &mut effects),
            Work::Connected(_) | Work::Heard { .. } | Work::SlowConsumer | Work::Wake(_) => {}
        }
        self.settle_registry(index, &mut effects);
    }

    fn tell_servers(&mut self, index: usize, effects: &mut Effects) {
        let [log, output] = self.names_of_servers(index);
        let is_cluster = self.servers.is_cluster;
        self.step_replica(index, Input::ConnectedTo { servers: &[&log, &output], is_cluster }, effects);
    }

    pub(crate) fn step_replica(&mut self, index: usize, input: Input<'_>, effects: &mut Effects) {
        self.registries[index].replica.step(self.now_ms, input, effects);
    }

    /// Shows what the core knows now, then does what it asks for.
    fn settle_registry(&mut self, index: usize, effects: &mut Effects) {
        if self.registries[index].replica.snapshot_changed() {
            self.registries[index].snapshot = self.registries[index].replica.snapshot();
            self.judge_replica(index);
            self.answer_waiting_questions(index);
        }
        for effect in effects.drain() {
            self.perform_for_registry(index, effect);
        }
    }

    fn perform_for_registry(&mut self, index: usize, effect: Effect) {
        let registry = &self.registries[index];
        let (log, output) = (registry.link(Role::Log), registry.link(Role::Output));
        match effect {
            Effect::InspectLog { check, epochs, own, fresh_connection } => {
                self.begin_inspection(index, Packet::Inspect { check, epochs, own, fresh: fresh_connection }, check);
            }
            Effect::CreateStream => self.send(log, Packet::CreateStream),
            Effect::ReadLog { reader, from_sequence } => self.send(log, Packet::ReadLog { reader, from_sequence }),
            Effect::Publish(outgoing) => {
                if matches!(outgoing.kind, OutgoingKind::Change | OutgoingKind::Notice) {
                    let words = || format!("r{index} sends {}", String::from_utf8_lossy(&outgoing.payload));
                    self.say(words);
                }
                if outgoing.kind == OutgoingKind::Pulse {
                    self.judge_pulse_age(index, &outgoing.payload);
                }
                let (subject, payload) = (outgoing.subject, outgoing.payload);
                self.send(output, Packet::Publish { subject, payload, reply: None });
            }
            Effect::Probe { probe, agent } => {
                self.ask_agent(index, Purpose::Probe(probe), &agent, Verb::Probe, bytes::Bytes::new());
            }
            Effect::AskServers => self.ask_servers(index),
            Effect::Announce { request, agent, payload } => {
                self.ask_agent(index, Purpose::Announce(request), &agent, Verb::Announce, payload);
            }
            Effect::Propose { batch, events } => self.propose(index, batch, events),
            Effect::Serve(serving) => {
                let link = self.registries[index].link(Role::Queries);
                self.registries[index].serving = serving;
                self.registries[index].served_ms = self.now_ms;
                self.send(link, Packet::Serve(serving));
                self.say(|| format!("r{index} {} queries", if serving { "answers" } else { "does not answer" }));
            }
            Effect::Report(_, text) => self.say(|| format!("r{index}: {text}")),
            in_store => self.perform_in_store(index, in_store),
        }
    }

    fn begin_inspection(&mut self, index: usize, packet: Packet, check: u64) {
        let log = self.registries[index].link(Role::Log);
        let node = NodeId::Registry(index);
        self.registries[index].inspecting = Some(check);
        if !self.links[log.0].up {
            let found = Found::Unreachable;
            return self.remind(node, self.now_ms + 1, Work::Inspected { check, found });
        }
        let deadline_ms = self.now_ms + self.registries[index].timing.inspect_timeout_ms;
        self.remind(node, deadline_ms, Work::InspectDeadline(check));
        if matches!(packet, Packet::Inspect { fresh: true, .. }) {
            let life = self.links[log.0].life;
            self.schedule(self.now_ms + 4, super::world::Event::AtBroker { link: log, life, packet });
        } else {
            self.send(log, packet);
        }
    }

    fn registry_inspected(&mut self, index: usize, check: u64, found: &Found, effects: &mut Effects) {
        if self.registries[index].inspecting.take_if(|inspecting| *inspecting == check).is_none() {
            return;
        }
        let found = match found {
            Found::Unreachable => Inspection::Unreachable("no answer"),
            Found::Missing => Inspection::Missing,
            Found::Present(facts) => Inspection::Present(log_facts(facts)),
        };
        self.step_replica(index, Input::LogInspected { check, found }, effects);
    }

    fn new_request(&mut self, index: usize, purpose: Purpose) -> u64 {
        let registry = &mut self.registries[index];
        registry.last_request += 1;
        registry.requests.insert(registry.last_request, purpose);
        registry.last_request
    }

    fn ask_agent(&mut self, index: usize, purpose: Purpose, agent: &AgentId, verb: Verb, payload: bytes::Bytes) {
        let request = self.new_request(index, purpose);
        let output = self.registries[index].link(Role::Output);
        let node = NodeId::Registry(index);
        if !self.links[output.0].up {
            return self.remind(node, self.now_ms + 1, Work::Answer { request, answered: Answered::Failed });
        }
        let reply = Some(format!("_INBOX.{}.{request}", output.0));
        let subject = self.subjects.to_agent(agent, verb);
        self.send(output, Packet::Publish { subject, payload, reply });
        let deadline_ms = self.now_ms + self.registries[index].timing.probe_timeout_ms;
        self.remind(node, deadline_ms, Work::Deadline(request));
    }

    fn propose(&mut self, index: usize, batch: u64, events: Vec<ProposedEvent>) {
        let link = self.registries[index].link(Role::Proposals);
        let node = NodeId::Registry(index);
        self.registries[index].batch = Some(Batch { batch, left: events.len() });
        if !self.links[link.0].up {
            let request = self.new_request(index, Purpose::Proposal(batch));
            return self.remind(node, self.now_ms + 1, Work::Answer { request, answered: Answered::Failed });
        }
        for (place, event) in events.into_iter().enumerate() {
            let request = self.new_request(index, Purpose::Proposal(batch));
            let ProposedEvent { subject, payload } = event;
            self.say(|| format!("r{index} proposes {}", String::from_utf8_lossy(&payload)));
            let reply = Some(format!("_INBOX.{}.{request}", link.0));
            self.send(link, Packet::Publish { subject, payload, reply });
            if place == 0 {
                let deadline_ms = self.now_ms + self.registries[index].timing.propose_timeout_ms;
                self.remind(node, deadline_ms, Work::Deadline(request));
            }
        }
    }

    fn registry_answered(&mut self, index: usize, request: u64, answered: &Answered, effects: &mut Effects) {
        let Some(purpose) = self.registries[index].requests.remove(&request) else { return };
        let now_ms = self.now_ms;
        let registry = &mut self.registries[index];
        match purpose {
            Purpose::Probe(probe) => {
                let reply: Option<ProbeReply> = match answered {
                    Answered::Message(payload) => serde_json::from_slice(payload).ok(),
                    _ => None,
                };
                let outcome = match (&reply, answered) {
                    (Some(reply), _) => ProbeOutcome::Answered(reply),
                    (None, Answered::NoResponders) => ProbeOutcome::NoResponders,
                    (None, _) => ProbeOutcome::Failed,
                };
                registry.replica.step(now_ms, Input::Probed { probe, outcome }, effects);
            }
            Purpose::Announce(request) => {
                let reply: Option<AnnounceReply> = match answered {
                    Answered::Message(payload) => serde_json::from_slice(payload).ok(),
                    _ => None,
                };
                let instances = reply.map(|reply| reply.instances);
                registry.replica.step(now_ms, Input::Announced { request, instances }, effects);
            }
            Purpose::Proposal(number) => {
                let Some(batch) = registry.batch.as_mut().filter(|batch| batch.batch == number) else { return };
                batch.left -= 1;
                let acknowledged = matches!(answered, Answered::Message(_));
                if !acknowledged || batch.left == 0 {
                    self.end_batch(index, number, acknowledged, effects);
                }
            }
        }
    }

    /// A failure closes the connection: what was still on its way does not arrive.
    fn end_batch(&mut self, index: usize, batch: u64, acknowledged: bool, effects: &mut Effects) {
        let registry = &mut self.registries[index];
        registry.batch = None;
        registry.requests.retain(|_, purpose| !matches!(purpose, Purpose::Proposal(_)));
        let link = registry.link(Role::Proposals);
        self.step_replica(index, Input::Proposed { batch, acknowledged }, effects);
        if !acknowledged {
            self.cut(link);
            self.connect(link);
        }
    }

    fn registry_waited(&mut self, index: usize, request: u64, effects: &mut Effects) {
        let purpose = self.registries[index].requests.get(&request).copied();
        match purpose {
            Some(Purpose::Probe(probe)) => {
                self.registries[index].requests.remove(&request);
                self.step_replica(index, Input::Probed { probe, outcome: ProbeOutcome::Timeout }, effects);
            }
            Some(Purpose::Announce(announce)) => {
                self.registries[index].requests.remove(&request);
                self.step_replica(index, Input::Announced { request: announce, instances: None }, effects);
            }
            Some(Purpose::Proposal(batch)) => {
                self.end_batch(index, batch, false, effects);
            }
            None => {}
        }
    }

    fn registry_lost(&mut self, index: usize, role: Role, effects: &mut Effects) {
        match role {
            Role::Log => {
                self.step_replica(index, Input::LogConnected(false), effects);
                if let Some(check) = self.registries[index].inspecting {
                    self.registry_inspected(index, check, &Found::Unreachable, effects);
                }
            }
            Role::Output => {
                self.step_replica(index, Input::PublishConnected(false), effects);
                let of_agents = |purpose: &Purpose| !matches!(purpose, Purpose::Proposal(_));
                let requests = self.registries[index].requests.iter();
                let lost: Vec<u64> = requests.filter(|(_, of)| of_agents(of)).map(|(request, _)| *request).collect();
                for request in lost {
                    self.registry_answered(index, request, &Answered::Failed, effects);
                }
            }
            Role::Proposals => {
                if let Some(batch) = self.registries[index].batch.as_ref().map(|batch| batch.batch) {
                    self.end_batch(index, batch, false, effects);
                }
            }
            Role::Queries | Role::Everything => {}
        }
    }
}

fn log_facts(facts: &Facts) -> LogFacts<'_> {
    LogFacts {
        created_at: facts.created_at,
        first_sequence: facts.first_sequence,
        last_sequence: facts.last_sequence,
        replicas: facts.servers.len().max(1),
        servers: &facts.servers,
        epochs: facts.epochs.iter().map(|stored| stored.record()).collect(),
        own: facts.own.as_ref().map(|stored| stored.record()),
    }
}
