//! A broker with one stream, replicas on it, and faults; time moves in steps of ten milliseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use muster_schemas::agent::{AnnounceRequest, ProbeReply};
use muster_schemas::beacon::Beacon;
use muster_schemas::entry::IntentKind;
use muster_schemas::event::IntentSet;
use muster_schemas::{
    AgentId, Event, EventData, InstanceId, Namespace, OperatorName, Prefix, ReplicaId, ServiceName, Source, Subjects,
    Timestamp,
};

use super::agents::SimulatedAgent;
use super::store::{self, Answer, Store};
use crate::core::io::{
    Effect, Effects, Input, Inspection, LogFacts, Outgoing, OutgoingKind, ProbeOutcome, ProposedEvent, Record, Severity,
};
use crate::core::replica::{Replica, ReplicaSettings, Timing};

pub(super) const STEP_MS: u64 = 10;
/// The host's clock at time zero.
pub(super) const WALL_MS: i64 = 1_800_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) subject: String,
    pub(super) payload: Vec<u8>,
}

impl Stored {
    fn record(&self) -> Record<'_> {
        Record { sequence: self.sequence, at: self.at, subject: &self.subject, payload: &self.payload }
    }
}

/// The one stream. Its sequences begin at 1.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) created_at: Timestamp,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) events: Vec<Stored>,
}

impl Stream {
    fn new(created_at: Timestamp) -> Self {
        Self { created_at, first_sequence: 1, last_sequence: 0, events: Vec::new() }
    }

    pub(super) fn purge_below(&mut self, sequence: u64) {
        self.first_sequence = sequence;
        self.events.retain(|event| event.sequence >= sequence);
    }
}

/// An input on its way to a replica.
pub(super) enum Post {
    LogConnected(bool),
    PublishConnected(bool),
    Inspected { check: u64, stream: Option<Box<Stream>>, own: Option<u64>, epochs: bool },
    Heartbeat(String, Bytes),
    ConnectedTo(bool),
    Advisory(Bytes),
    ServerAnswered(Bytes),
    Change(Bytes),
    Pulse(Bytes),
    Beacon(Bytes),
    Probed(u64, Option<ProbeReply>),
    ProbeTimedOut(u64),
    Announced(u64, Option<u32>),
    Proposed(u64, bool),
    Store(Answer),
}

pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) frozen: bool,
    pub(super) stopped: bool,
    /// Proposals are swallowed, and reported as failed.
    pub(super) proposals_fail: bool,
    /// The stream does not answer its inspections.
    pub(super) inspections_fail: bool,
    /// Nothing of the log reaches it.
    pub(super) reads_nothing: bool,
    /// Its own marks do not come back.
    pub(super) marks_lost: bool,
    /// They do not from the moment on when it sends a probe.
    pub(super) deaf_once_it_probes: bool,
    /// Its probes get no answer at all.
    pub(super) probes_unanswered: bool,
    /// Broker servers of which nothing reaches it, and that nothing of it reaches.
    pub(super) cut_from: BTreeSet<String>,
    /// How often it asked the broker's servers whether they are there.
    pub(super) servers_asked: Vec<u64>,
    pub(super) serving: bool,
    pub(super) reports: Vec<(Severity, String)>,
    publish_connected: bool,
    log_connected: bool,
    reader: Option<(u64, u64)>,
    pub(super) inbox: VecDeque<Post>,
}

/// What was sent, when, by which replica.
pub(super) struct Sent {
    pub(super) ms: u64,
    pub(super) by: usize,
    pub(super) message: Outgoing,
}

pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) stream: Option<Stream>,
    pub(super) store: Store,
    pub(super) nodes: Vec<Node>,
    pub(super) agents: BTreeMap<AgentId, SimulatedAgent>,
    pub(super) sent: Vec<Sent>,
    pub(super) proposed: Vec<(u64, usize, ProposedEvent)>,
    pub(super) probes: Vec<(u64, AgentId)>,
    pub(super) announces: Vec<(u64, AgentId)>,
    /// Batches that reach the stream at the end of the step: (by, batch, events).
    /// This agent lives again and registers just before a proposal to expire it reaches the stream.
    pub(super) returns_before_its_expiry: Option<AgentId>,
    /// How far the hosts' clocks are ahead of the broker's.
    pub(super) host_clock_ahead_ms: i64,
    on_their_way: Vec<(usize, u64, Vec<ProposedEvent>)>,
    /// Proposals do not get through for now.
    pub(super) proposals_stall: bool,
    streams_created: i64,
    random: u128,
}

impl World {
    /// No stream, no replicas, no agents.
    pub(super) fn new() -> Self {
        Self {
            now_ms: 0,
            subjects: Subjects::new(Prefix::default(), Namespace::default()),
            timing: Timing::default(),
            stream: None,
            store: Store::default(),
            nodes: Vec::new(),
            agents: BTreeMap::new(),
            sent: Vec::new(),
            proposed: Vec::new(),
            probes: Vec::new(),
            announces: Vec::new(),
            returns_before_its_expiry: None,
            host_clock_ahead_ms: 0,
            on_their_way: Vec::new(),
            proposals_stall: false,
            streams_created: 0,
            random: 1,
        }
    }

    /// Whether a proposal is on its way.
    pub(super) fn has_proposed(&self) -> bool {
        !self.on_their_way.is_empty()
    }

    /// So many replicas, the first the oldest, with a log begun and everybody at its end.
    pub(super) fn settled(replicas: usize) -> Self {
        let mut world = Self::new();
        for _ in 0..replicas {
            world.start_replica();
        }
        world.until(10_000, "all replicas serve", |world| world.nodes.iter().all(|node| node.serving));
        world.run(1_000);
        world.sent.clear();
        world
    }

    pub(super) fn start_replica(&mut self) -> usize {
        let index = self.nodes.len();
        let settings = ReplicaSettings {
            subjects: self.subjects.clone(),
            replica: ReplicaId::new(&format!("r{index}")).unwrap(),
            started_at: self.wall(),
            datacenter: None,
            software_version: "test".to_owned(),
            timing: self.timing.clone(),
        };
        let mut node = Node {
            replica: Replica::new(settings, self.now_ms),
            frozen: false,
            stopped: false,
            proposals_fail: false,
            reads_nothing: false,
            inspections_fail: false,
            marks_lost: false,
            deaf_once_it_probes: false,
            probes_unanswered: false,
            cut_from: BTreeSet::new(),
            servers_asked: Vec::new(),
            serving: false,
            reports: Vec::new(),
            publish_connected: false,
            log_connected: false,
            reader: None,
            inbox: VecDeque::new(),
        };
        set_connected(&mut node, true);
        self.nodes.push(node);
        index
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_ms(WALL_MS.saturating_add_unsigned(self.now_ms))
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    pub(super) fn set_connected(&mut self, index: usize, connected: bool) {
        set_connected(&mut self.nodes[index], connected);
    }

    /// Appends an event as any publisher would; its sequence.
    pub(super) fn append(&mut self, subject: String, payload: Vec<u8>) -> u64 {
        let at = self.wall();
        let stream = self.stream.as_mut().expect("a stream");
        stream.last_sequence += 1;
        stream.events.push(Stored { sequence: stream.last_sequence, at, subject, payload });
        stream.last_sequence
    }

    pub(super) fn append_event(&mut self, source: Source, data: EventData) -> u64 {
        let event = Event { id: format!("event-{}", self.now_ms), source, time: None, data };
        let payload = event.encode(&Namespace::default()).unwrap();
        self.append(event.subject(&self.subjects), payload)
    }

    /// Everybody hears a replica's last beacon once more, with something changed.
    pub(super) fn forge_beacon(&mut self, by: usize, change: impl Fn(&mut Beacon)) {
        let by_replica = |sent: &&Sent| sent.by == by;
        let last = self.of_kind(OutgoingKind::Beacon).filter(by_replica).last().expect("a beacon");
        let mut beacon = serde_json::from_slice(&last.message.payload).unwrap();
        change(&mut beacon);
        let payload = Bytes::from(serde_json::to_vec(&beacon).unwrap());
        for node in &mut self.nodes {
            node.inbox.push_back(Post::Beacon(payload.clone()));
        }
    }

    /// An operator puts an instance into maintenance.
    pub(super) fn set_maintenance(&mut self, service_name: &str, instance: &str, until: Option<Timestamp>) {
        let who = OperatorName::new("ada").unwrap();
        let data = EventData::Intent(IntentSet {
            service: service(service_name),
            instance: InstanceId::new(instance).unwrap(),
            intent: IntentKind::Maintenance,
            who: who.clone(),
            why: String::new(),
            until,
            incarnation: None,
        });
        self.append_event(Source::Operator(who), data);
    }

    pub(super) fn create_stream(&mut self) {
        self.streams_created += 1;
        let created_at = Timestamp::from_ms(self.wall().as_ms() + self.streams_created);
        self.stream = Some(Stream::new(created_at));
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.step();
        }
    }

    /// Lets time pass until something is so; how long that took.
    pub(super) fn until(&mut self, deadline_ms: u64, what: &str, is_so: impl Fn(&Self) -> bool) -> u64 {
        let start_ms = self.now_ms;
        while !is_so(self) {
            let seen = || -> Vec<_> {
                let status = |node: &Node| node.replica.status(self.now_ms);
                self.nodes.iter().map(|node| (status(node), node.reports.clone())).collect()
            };
            assert!(
                self.now_ms < start_ms + deadline_ms,
                "not within {deadline_ms} ms: {what}; replicas: {:#?}",
                seen()
            );
            self.step();
        }
        self.now_ms - start_ms
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        self.step_agents();
        for index in 0..self.nodes.len() {
            if !self.nodes[index].frozen && !self.nodes[index].stopped {
                self.step_node(index);
            }
        }
        let arrived = if self.proposals_stall { Vec::new() } else { std::mem::take(&mut self.on_their_way) };
        for (index, batch, events) in arrived {
            let fails = self.nodes[index].proposals_fail || self.stream.is_none();
            if events.iter().any(|event| event.subject.contains(".event.expire."))
                && let Some(agent) = self.returns_before_its_expiry.take()
            {
                self.agent(&agent).alive = true;
                self.announce(&agent);
            }
            for event in events {
                self.proposed.push((self.now_ms, index, event.clone()));
                if !fails {
                    self.append(event.subject, event.payload.to_vec());
                }
            }
            self.nodes[index].inbox.push_back(Post::Proposed(batch, !fails));
        }
    }

    fn step_node(&mut self, index: usize) {
        let host_ms = self.wall().as_ms() + self.host_clock_ahead_ms;
        let (now_ms, wall) = (self.now_ms, Timestamp::from_ms(host_ms));
        let mut effects = Effects::new();
        let node = &mut self.nodes[index];
        let reads = node.log_connected && !node.reads_nothing;
        if let (Some((reader, next)), Some(stream), true) = (&mut node.reader, &self.stream, reads) {
            for stored in stream.events.iter().filter(|stored| stored.sequence >= *next) {
                let record = stored.record();
                let reader = *reader;
                node.replica.step(now_ms, Input::Record { reader, record }, &mut effects);
            }
            *next = (*next).max(stream.last_sequence + 1);
        }
        // After the log's events: what others did is not known before it is needed.
        while let Some(post) = node.inbox.pop_front() {
            deliver(&mut node.replica, now_ms, &post, &mut effects);
        }
        self.random += 7;
        let random = self.random;
        node.replica.step(now_ms, Input::Tick { wall, random }, &mut effects);
        let effects: Vec<_> = effects.drain().collect();
        for effect in effects {
            self.perform(index, effect);
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        let stream = self.stream.clone();
        let node = &mut self.nodes[index];
        match effect {
            Effect::InspectLog { .. } if node.inspections_fail => {}
            Effect::InspectLog { check, epochs, own, .. } => {
                node.inbox.push_back(Post::Inspected { check, stream: stream.map(Box::new), own, epochs });
            }
            Effect::CreateStream => {
                if self.stream.is_none() {
                    self.create_stream();
                }
            }
            Effect::ReadLog { reader, from_sequence } => node.reader = Some((reader, from_sequence)),
            Effect::Publish(message) => self.publish(index, message),
            Effect::Probe { probe, agent } => {
                self.probes.push((self.now_ms, agent.clone()));
                node.marks_lost |= node.deaf_once_it_probes;
                let asked = self.agents.get(&agent).filter(|agent| !node.cut_from.contains(&agent.server));
                let reply = asked.and_then(SimulatedAgent::probed);
                let hangs = asked.is_some_and(|agent| agent.hangs);
                let post = if hangs { Post::ProbeTimedOut(probe) } else { Post::Probed(probe, reply) };
                let is_answered = !node.probes_unanswered;
                self.nodes[index].inbox.extend(is_answered.then_some(post));
            }
            Effect::Announce { request, agent, payload } => {
                let _: AnnounceRequest = serde_json::from_slice(&payload).unwrap();
                self.announces.push((self.now_ms, agent.clone()));
                let instances = self.announce(&agent);
                self.nodes[index].inbox.push_back(Post::Announced(request, instances));
            }
            Effect::AskServers => self.ask_servers(index),
            Effect::Propose { batch, events } => self.on_their_way.push((index, batch, events)),
            Effect::Serve(serving) => node.serving = serving,
            Effect::Report(severity, text) => node.reports.push((severity, text)),
            other => {
                let answer = self.store.perform(index, other, self.stream.as_mut());
                self.nodes[index].inbox.extend(answer.map(Post::Store));
            }
        }
    }

    fn publish(&mut self, by: usize, message: Outgoing) {
        if !self.nodes[by].publish_connected {
            return;
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let payload = message.payload.clone();
            let (hears, post) = match message.kind {
                OutgoingKind::Change => (node.publish_connected, Post::Change(payload)),
                OutgoingKind::Pulse => (node.publish_connected, Post::Pulse(payload)),
                OutgoingKind::Beacon => (node.publish_connected, Post::Beacon(payload)),
                OutgoingKind::Mark => {
                    (node.log_connected && !node.marks_lost, Post::Heartbeat(message.subject.clone(), payload))
                }
                OutgoingKind::Notice | OutgoingKind::Alarm => continue,
            };
            let own_echo = index == by && message.kind != OutgoingKind::Mark;
            if hears && !own_echo && !node.stopped {
                node.inbox.push_back(post);
            }
        }
        let ms = self.now_ms;
        self.sent.push(Sent { ms, by, message });
    }

    /// What comes from a broker server reaches everybody who listens and is not cut off from it.
    pub(super) fn post_from(&mut self, server: &str, post: impl Fn() -> Post) {
        let hears = |node: &&mut Node| node.log_connected && !node.stopped && !node.cut_from.contains(server);
        self.nodes.iter_mut().filter(hears).for_each(|node| node.inbox.push_back(post()));
    }

    /// An agent's heartbeat reaches everybody who listens.
    pub(super) fn beat(&mut self, server: &str, subject: &str, payload: &Bytes) {
        self.post_from(server, || Post::Heartbeat(subject.to_owned(), payload.clone()));
    }
}

fn set_connected(node: &mut Node, connected: bool) {
    node.log_connected = connected;
    node.publish_connected = connected;
    node.inbox.push_back(Post::LogConnected(connected));
    node.inbox.push_back(Post::PublishConnected(connected));
}

fn deliver(replica: &mut Replica, now_ms: u64, post: &Post, effects: &mut Effects) {
    let input = match post {
        Post::LogConnected(connected) => Input::LogConnected(*connected),
        Post::PublishConnected(connected) => Input::PublishConnected(*connected),
        Post::Inspected { check, stream, own, epochs } => {
            let (check, found) = (*check, inspection(stream.as_deref(), *own, *epochs));
            Input::LogInspected { check, found }
        }
        Post::Heartbeat(subject, payload) => Input::Heartbeat { subject, payload },
        Post::ConnectedTo(is_cluster) => Input::ConnectedTo { servers: &["n1"], is_cluster: *is_cluster },
        Post::Advisory(payload) => Input::Advisory(payload),
        Post::ServerAnswered(payload) => Input::ServerAnswered(payload),
        Post::Change(payload) => Input::ChangeHeard(payload),
        Post::Pulse(payload) => Input::PulseHeard(payload),
        Post::Beacon(payload) => Input::BeaconHeard(payload),
        Post::Probed(probe, reply) => Input::Probed {
            probe: *probe,
            outcome: reply.as_ref().map_or(ProbeOutcome::NoResponders, ProbeOutcome::Answered),
        },
        Post::ProbeTimedOut(probe) => Input::Probed { probe: *probe, outcome: ProbeOutcome::Timeout },
        Post::Announced(request, instances) => Input::Announced { request: *request, instances: *instances },
        Post::Store(answer) => store::input(answer),
        Post::Proposed(batch, acknowledged) => Input::Proposed { batch: *batch, acknowledged: *acknowledged },
    };
    replica.step(now_ms, input, effects);
}

fn inspection(stream: Option<&Stream>, own: Option<u64>, epochs: bool) -> Inspection<'_> {
    let Some(stream) = stream else {
        return Inspection::Missing;
    };
    let records = stream.events.iter().map(Stored::record);
    let is_epoch = |record: &Record<'_>| epochs && record.subject.contains(".event.epoch.");
    Inspection::Present(LogFacts {
        created_at: stream.created_at,
        first_sequence: stream.first_sequence,
        last_sequence: stream.last_sequence,
        replicas: 1,
        servers: &[],
        epochs: records.clone().filter(is_epoch).collect(),
        own: records.clone().find(|record| Some(record.sequence) == own),
    })
}

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}
