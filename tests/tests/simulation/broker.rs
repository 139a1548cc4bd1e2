//! The broker: one stream, subjects, queue groups, requests without responders.

use std::rc::Rc;

use bytes::Bytes;
use muster_schemas::Timestamp;
use muster_schemas::subject::{Query, Subject};

use super::link::{Link, LinkId, NodeId, Role};
use super::stream::{Stored, Stream};
use super::wire::{Answered, Facts, Found, Packet, Work};
use super::world::{Event, World};

/// The broker, without its connections.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) up: bool,
    pub(crate) stream: Option<Stream>,
    /// Copies of the disk, for a later restart with one of them.
    pub(crate) copies: Vec<Stream>,
    pub(crate) checkpoints: super::checkpoints::Store,
    /// How far its host's clock is off.
    pub(crate) clock_ms: i64,
    created: i64,
}

impl Default for Broker {
    fn default() -> Self {
        Self { up: true, stream: None, copies: Vec::new(), checkpoints: Default::default(), clock_ms: 0, created: 0 }
    }
}

/// The first half of an inspection.
#[derive(Debug)]
pub(crate) struct Inspected {
    check: u64,
    fresh: bool,
    epochs: Vec<Rc<Stored>>,
    own: Option<Rc<Stored>>,
}

impl World {
    pub(crate) fn broker_time(&self) -> Timestamp {
        self.wall(self.broker.clock_ms)
    }

    pub(crate) fn at_broker(&mut self, link: LinkId, packet: Packet) {
        let node = self.links[link.0].node;
        let has_stream = self.has_stream(link);
        match packet {
            Packet::Publish { subject, payload, reply } => self.route(link, subject, payload, reply),
            Packet::ReadLog { reader, .. } if !has_stream => self.deliver(link, Work::ReaderStopped { reader }),
            // Nobody who could answer hears it.
            Packet::Inspect { .. } | Packet::CreateStream if !has_stream => {}
            Packet::Listen => self.set_listening(node, true),
            Packet::Serve(joined) => {
                if let NodeId::Registry(index) = node {
                    self.registries[index].joined = joined;
                }
            }
            Packet::Inspect { check, epochs, own, fresh } => self.inspect(link, check, epochs, own, fresh),
            Packet::CreateStream => self.create_stream(),
            Packet::ReadLog { reader, from_sequence } => self.read_log(link, node, reader, from_sequence),
        }
    }

    fn inspect(&mut self, link: LinkId, check: u64, epochs: bool, own: Option<u64>, fresh: bool) {
        let stream = self.broker.stream.as_ref();
        let inspected = Inspected {
            check,
            fresh,
            epochs: stream.filter(|_| epochs).map(Stream::epochs).unwrap_or_default(),
            own: own.and_then(|own| stream?.get(own)),
        };
        let at_ms = self.now_ms + self.random.up_to(8);
        let life = self.links[link.0].life;
        self.schedule(at_ms, Event::Numbers { link, life, inspected });
    }

    pub(crate) fn tell_numbers(&mut self, link: LinkId, inspected: Inspected) {
        if !self.has_stream(link) {
            return;
        }
        let Inspected { check, fresh, epochs, own } = inspected;
        let found = match &self.broker.stream {
            None => Found::Missing,
            Some(stream) => Found::Present(Facts {
                created_at: stream.created_at,
                first_sequence: stream.first_sequence,
                last_sequence: stream.last_sequence,
                servers: self.servers.of_cluster(),
                epochs,
                own,
            }),
        };
        let work = Work::Inspected { check, found };
        if fresh {
            // Over a connection of its own, which nothing holds up.
            let node = self.links[link.0].node;
            self.remind(node, self.now_ms + 2, work);
        } else {
            self.deliver(link, work);
        }
    }

    fn create_stream(&mut self) {
        if self.broker.stream.is_none() {
            self.broker.created += 1;
            let created_at = Timestamp::from_ms(self.broker_time().as_ms() + self.broker.created);
            self.broker.stream = Some(Stream::new(created_at));
            self.truth.forget_ends();
            self.say(|| "the stream is created".to_owned());
        }
    }

    fn read_log(&mut self, link: LinkId, node: NodeId, reader: u64, from_sequence: u64) {
        let NodeId::Registry(index) = node else { return };
        let Some(stream) = &self.broker.stream else {
            return self.deliver(link, Work::ReaderStopped { reader });
        };
        let events: Vec<Rc<Stored>> = stream.from(from_sequence).cloned().collect();
        self.registries[index].reader = Some(reader);
        for stored in events {
            self.deliver(link, Work::Record { reader, stored });
        }
    }

    /// Consumers of the stream are gone with it; their clients find out sooner or later.
    pub(crate) fn end_readers(&mut self, of: impl Fn(&Link) -> bool) {
        for index in 0..self.registries.len() {
            let link = self.registries[index].link(Role::Log);
            if !of(&self.links[link.0]) {
                continue;
            }
            if let Some(reader) = self.registries[index].reader.take() {
                let at_ms = self.now_ms + self.random.between(1, 3_000);
                let (life, link_life) = (self.registries[index].process.life, self.links[link.0].life);
                let (node, work) = (NodeId::Registry(index), Work::ReaderStopped { reader });
                self.schedule(at_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
            }
        }
    }

    /// Appends to the stream; none if there is no stream.
    pub(crate) fn append(&mut self, subject: String, payload: Bytes) -> Option<u64> {
        let at = self.broker_time();
        let stream = self.broker.stream.as_mut()?;
        let (stored, folded) = stream.append(&self.subjects, at, subject, payload);
        let catalog = stream.catalog.clone();
        self.truth.learn(self.now_ms, &catalog, folded.change.clone());
        let sequence = stored.sequence;
        self.say(|| format!("log {sequence}: {} {}", stored.subject, folded.outcome.as_str()));
        self.judge_event(&stored, &folded);
        for index in 0..self.registries.len() {
            if let Some(reader) = self.registries[index].reader {
                let link = self.registries[index].link(Role::Log);
                self.deliver(link, Work::Record { reader, stored: stored.clone() });
            }
        }
        Some(sequence)
    }

    /// A message goes to whoever it is for.
    pub(crate) fn route(&mut self, from: LinkId, subject: String, payload: Bytes, reply: Option<String>) {
        if let Some(inbox) = subject.strip_prefix("_INBOX.") {
            return self.route_reply(Some(from), inbox, Answered::Message(payload));
        }
        let area = subject.split('.').nth(2).unwrap_or_default();
        match area {
            "event" if !self.has_stream(from) => {
                // Whoever leads no longer stores it, or nobody leads: it is lost, and the sender may be told.
                if let Some(reply) = reply.filter(|_| self.random.chance(50)) {
                    self.answer(&reply, Answered::NoResponders);
                }
            }
            "event" => {
                let sequence = self.append(subject, payload);
                let Some(reply) = reply else { return };
                let answered = match sequence {
                    Some(sequence) => {
                        let stream = self.subjects.stream_name();
                        let acknowledgement = format!(r#"{{"stream":"{stream}","seq":{sequence}}}"#);
                        Answered::Message(acknowledgement.into())
                    }
                    None => Answered::NoResponders,
                };
                self.answer(&reply, answered);
            }
            "heartbeat" => self.route_heartbeat(from, &subject, &payload),
            "change" | "pulse" | "beacon" => self.route_broadcast(from, &subject, &payload),
            "query" => self.route_query(from, subject, payload, reply),
            "agent" => self.route_to_agents(from, &subject, &payload, reply),
            _ => self.say(|| format!("{subject}: {}", String::from_utf8_lossy(&payload))),
        }
    }

    /// To a reply subject, as whoever answers would publish it.
    pub(crate) fn answer(&mut self, reply: &str, answered: Answered) {
        if let Some(inbox) = reply.strip_prefix("_INBOX.") {
            self.route_reply(None, inbox, answered);
        }
    }

    fn route_reply(&mut self, from: Option<LinkId>, inbox: &str, answered: Answered) {
        let numbers =
            inbox.split_once('.').and_then(|(link, request)| Some((link.parse().ok()?, request.parse().ok()?)));
        let Some((link, request)) = numbers else { return };
        let link = LinkId(link);
        if from.is_some_and(|from| !self.reaches(from, link)) {
            return;
        }
        let work = Work::Answer { request, answered };
        if matches!(self.links[link.0].node, NodeId::Consumer(_)) {
            self.broadcast(link, work);
        } else {
            self.deliver(link, work);
        }
    }

    fn route_heartbeat(&mut self, from: LinkId, subject: &str, payload: &Bytes) {
        if let NodeId::Agent(index) = self.links[from.0].node
            && self.agents[index].heartbeats_lost > 0
        {
            self.agents[index].heartbeats_lost -= 1;
            return;
        }
        let subject: Rc<str> = subject.into();
        for index in 0..self.registries.len() {
            let link = self.registries[index].link(Role::Log);
            if self.reaches(from, link) {
                self.broadcast(link, Work::Heartbeat(subject.clone(), payload.clone()));
            }
        }
    }

    fn route_broadcast(&mut self, from: LinkId, subject: &str, payload: &Bytes) {
        let work = match subject.split('.').nth(2) {
            Some("change") => {
                let Ok(change) = serde_json::from_slice(payload) else {
                    return self.fail("a change is not understood");
                };
                self.judge_published_change(&change, payload);
                Work::Change(payload.clone(), Rc::new(change))
            }
            Some("pulse") => {
                let Ok(pulse) = serde_json::from_slice(payload) else { return self.fail("a pulse is not understood") };
                self.judge_published_pulse(&pulse);
                Work::Pulse(payload.clone(), Rc::new(pulse))
            }
            _ => Work::Beacon(payload.clone()),
        };
        for index in 0..self.registries.len() {
            let link = self.registries[index].link(Role::Output);
            if from != link && self.reaches(from, link) {
                self.broadcast(link, work.clone());
            }
        }
        if matches!(work, Work::Beacon(_)) {
            return;
        }
        for index in 0..self.consumers.len() {
            let link = self.consumers[index].link;
            if self.consumers[index].subscribes(subject) && self.reaches(from, link) {
                self.broadcast(link, work.clone());
            }
        }
    }

    fn route_query(&mut self, from: LinkId, subject: String, payload: Bytes, reply: Option<String>) {
        let Some(reply) = reply else { return };
        let serves = |world: &Self, index: &usize| {
            let registry = &world.registries[*index];
            let link = registry.link(Role::Queries);
            world.links[link.0].up && registry.joined && world.reaches(from, link)
        };
        let mut serving: Vec<usize> = (0..self.registries.len()).filter(|index| serves(self, index)).collect();
        if let Ok(Subject::Query(Query::Next(replica, _))) = self.subjects.parse(&subject) {
            serving.retain(|index| self.registries[*index].id == replica);
        }
        match self.random.pick(&serving) {
            Some(index) => {
                let link = self.registries[index].link(Role::Queries);
                self.deliver(link, Work::Query { subject, payload, reply });
            }
            None => self.answer(&reply, Answered::NoResponders),
        }
    }

    fn route_to_agents(&mut self, from: LinkId, subject: &str, payload: &Bytes, reply: Option<String>) {
        let Ok(Subject::Agent(agent, verb)) = self.subjects.parse(subject) else { return };
        self.say(|| format!("{subject} {}", String::from_utf8_lossy(payload)));
        let hears = |world: &Self, index: &usize| {
            let process = &world.agents[*index];
            process.id == agent
                && process.listening
                && world.links[process.link.0].up
                && world.reaches(from, process.link)
        };
        let listening: Vec<usize> = (0..self.agents.len()).filter(|index| hears(self, index)).collect();
        if listening.is_empty()
            && let Some(reply) = &reply
        {
            self.answer(reply, Answered::NoResponders);
        }
        for index in listening {
            let link = self.agents[index].link;
            self.deliver(link, Work::Heard { verb, payload: payload.clone(), reply: reply.clone() });
        }
    }

    fn set_listening(&mut self, node: NodeId, listening: bool) {
        if let NodeId::Agent(index) = node {
            self.agents[index].listening = listening;
        }
    }

    /// What a broken connection was subscribed to.
    pub(crate) fn forget_subscriptions(&mut self, node: NodeId, role: Role) {
        self.set_listening(node, false);
        if let NodeId::Registry(index) = node {
            match role {
                Role::Log => self.registries[index].reader = None,
                Role::Queries => self.registries[index].joined = false,
                _ => {}
            }
        }
    }
}
