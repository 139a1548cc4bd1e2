//! What is around the core: a log, agents that beat every two seconds, and time.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use muster_registry::core::io::{
    Effect, Effects, Input, Inspection, LogFacts, OutgoingKind, ProbeOutcome, ProposedEvent, Record,
};
use muster_registry::core::replica::{Replica, ReplicaSettings, Timing};
use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, Source};
use muster_schemas::heartbeat::Heartbeat;
use muster_schemas::{AgentId, Digest, ReplicaId, Timestamp};

use super::INSTANCES_EACH;
use crate::payload::{SESSION, Subject, agent, registration, subjects};

pub(super) const TICK_MS: u64 = 20;
const HEARTBEAT_MS: u64 = 2_000;
const TTL_MS: u64 = 10_000;
/// The host's clock at time zero.
const WALL_MS: i64 = 1_800_000_000_000;
/// What the log keeps for those who look at it.
const KEPT: usize = 100_000;
const SERVICES: usize = 2_000;

struct Stored {
    sequence: u64,
    at: Timestamp,
    subject: String,
    payload: Bytes,
}

impl Stored {
    fn record(&self) -> Record<'_> {
        Record { sequence: self.sequence, at: self.at, subject: &self.subject, payload: &self.payload }
    }
}

/// Something on its way to the core.
enum Post {
    Heartbeat(String, Bytes),
    Probed(u64, bool),
    Announced(u64),
    Proposed(u64),
    Listed(u64),
    Saved(u64),
    Trimmed,
}

/// One that beats. Its bytes are written once, and the counter in them anew each time.
struct Agent {
    subject: String,
    heartbeat: Heartbeat,
    is_alive: bool,
    generation: u64,
}

pub(super) struct World {
    pub(super) now_ms: u64,
    /// Real time that the core has worked.
    pub(super) spent: Duration,
    /// Heartbeats sent.
    pub(super) beats: u64,
    replica: Replica,
    effects: Effects,
    log: VecDeque<Stored>,
    epoch: Option<Stored>,
    last_sequence: u64,
    created: bool,
    reader: Option<(u64, u64)>,
    posts: VecDeque<Post>,
    agents: Vec<Agent>,
    serving: bool,
    /// How many instances there were at each tick of the last second, the oldest first.
    last_second: VecDeque<u64>,
    pace: u64,
    names: Vec<String>,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        let settings = ReplicaSettings {
            subjects: subjects(),
            replica: ReplicaId::new("r1")?,
            started_at: wall(0),
            datacenter: None,
            software_version: "bench".into(),
            timing: Timing { listen_ms: 200, tick_ms: TICK_MS, ..Timing::default() },
        };
        let mut world = Self {
            now_ms: 0,
            spent: Duration::ZERO,
            beats: 0,
            replica: Replica::new(settings, 0),
            effects: Effects::new(),
            log: VecDeque::new(),
            epoch: None,
            last_sequence: 0,
            created: false,
            reader: None,
            posts: VecDeque::new(),
            agents: Vec::new(),
            serving: false,
            last_second: VecDeque::new(),
            pace: 0,
            names: (0..SERVICES).map(|number| format!("service-{number:04}")).collect(),
        };
        world.step(Input::LogConnected(true));
        world.step(Input::PublishConnected(true));
        Ok(world)
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    pub(super) fn instances(&self) -> u64 {
        self.replica.status(self.now_ms).instances
    }

    pub(super) fn changes_published(&self) -> u64 {
        self.replica.counters().changes_published
    }

    /// Roughly what this world itself holds.
    pub(super) fn own_bytes(&self) -> usize {
        let log: usize = self.log.iter().map(|stored| stored.payload.len() + stored.subject.len() + 120).sum();
        log + self.agents.len() * (size_of::<Agent>() + 64)
    }

    /// The most that were removed within any second since the last look.
    pub(super) fn pace(&self) -> u64 {
        self.pace
    }

    pub(super) fn forget_pace(&mut self) {
        self.pace = 0;
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.tick();
        }
    }

    pub(super) fn until(&mut self, what: &str, deadline_ms: u64, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let end_ms = self.now_ms + deadline_ms;
        while !is_so(self) {
            if self.now_ms >= end_ms {
                bail!("not within {deadline_ms} ms of virtual time: {what}; {:?}", self.replica.status(self.now_ms));
            }
            self.tick();
        }
        Ok(())
    }

    /// New agents, with all that they vouch for.
    pub(super) fn register(&mut self, numbers: Range<usize>) -> Result<()> {
        for number in numbers {
            let mut digest = Digest::ZERO;
            for index in 0..INSTANCES_EACH {
                let data = EventData::Register(registration(self.subject(number, index, 1)));
                digest = digest.plus(self.append_event(number, data)?);
            }
            let id: AgentId = agent(number).parse()?;
            let heartbeat = Heartbeat {
                v: muster_schemas::WIRE_VERSION,
                session: SESSION.parse()?,
                counter: 0,
                instances: INSTANCES_EACH as u32,
                digest,
                acked: None,
                conn: None,
            };
            let subject = subjects().heartbeat(&id);
            self.agents.push(Agent { subject, heartbeat, is_alive: true, generation: 1 });
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, numbers: Range<usize>) {
        self.agents[numbers].iter_mut().for_each(|agent| agent.is_alive = false);
    }

    /// All that these agents vouch for ends and begins anew.
    pub(super) fn restart(&mut self, numbers: Range<usize>) -> Result<()> {
        for number in numbers {
            let generation = self.agents[number].generation;
            let mut digest = Digest::ZERO;
            for index in 0..INSTANCES_EACH {
                let mut before = registration(self.subject(number, index, generation)).vouching;
                before.generation += 1;
                let gone = Deregistration { vouching: before, reason: DeregisterReason::Stopped, detail: None };
                self.append_event(number, EventData::Deregister(gone))?;
                let mut after = registration(self.subject(number, index, generation + 2));
                after.vouching.incarnation = after.vouching.incarnation.next();
                digest = digest.plus(self.append_event(number, EventData::Register(after))?);
            }
            let agent = &mut self.agents[number];
            agent.generation += 2;
            agent.heartbeat.digest = digest;
        }
        Ok(())
    }

    fn subject(&self, number: usize, index: usize, generation: u64) -> Subject<'_> {
        let instance = number * INSTANCES_EACH + index;
        let service = &self.names[instance % SERVICES];
        Subject { service, instance, agent: number, generation, number: instance, ttl_ms: TTL_MS }
    }

    /// The part of what it vouches for.
    fn append_event(&mut self, number: usize, data: EventData) -> Result<Digest> {
        let digest = data.vouching().map_or(Digest::ZERO, |vouching| {
            Digest::of_vouching(&vouching.service, &vouching.instance, vouching.incarnation, vouching.generation)
        });
        let source = Source::Agent(agent(number).parse()?);
        let event = Event { id: format!("event-{}", self.last_sequence), source, time: None, data };
        let subjects = subjects();
        let payload = event.encode(subjects.namespace())?;
        self.append(event.subject(&subjects), payload.into());
        Ok(digest)
    }

    fn append(&mut self, subject: String, payload: Bytes) {
        self.last_sequence += 1;
        let stored = Stored { sequence: self.last_sequence, at: wall(self.now_ms), subject, payload };
        if stored.subject.contains(".event.epoch.") {
            let Stored { sequence, at, subject, payload } = &stored;
            let (subject, payload) = (subject.clone(), payload.clone());
            self.epoch = Some(Stored { sequence: *sequence, at: *at, subject, payload });
        }
        self.log.push_back(stored);
    }

    /// Twenty milliseconds: heartbeats whose turn it is, what is on its way, the log's new events, and a tick.
    pub(super) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.beat();
        for post in std::mem::take(&mut self.posts) {
            self.deliver(post);
        }
        self.read_log();
        let random = u128::from(self.now_ms).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let wall = wall(self.now_ms);
        self.step(Input::Tick { wall, random });
        while self.log.len() > KEPT && self.reader.is_none_or(|(_, next)| self.log[0].sequence < next) {
            self.log.pop_front();
        }
        self.look();
    }

    fn look(&mut self) {
        let now = self.instances();
        self.last_second.push_back(now);
        if self.last_second.len() as u64 > 1_000 / TICK_MS {
            self.last_second.pop_front();
        }
        self.pace = self.pace.max(self.last_second[0].saturating_sub(now));
    }

    fn beat(&mut self) {
        let slots = HEARTBEAT_MS / TICK_MS;
        let slot = usize::try_from(self.now_ms / TICK_MS % slots).unwrap_or(0);
        let due = self.agents.iter_mut().skip(slot).step_by(slots as usize).filter(|agent| agent.is_alive);
        let ready: Vec<(String, Vec<u8>)> = due
            .map(|agent| {
                agent.heartbeat.counter += 1;
                (agent.subject.clone(), serde_json::to_vec(&agent.heartbeat).expect("plain data"))
            })
            .collect();
        self.beats += ready.len() as u64;
        let began = Instant::now();
        for (subject, payload) in &ready {
            self.replica.step(self.now_ms, Input::Heartbeat { subject, payload }, &mut self.effects);
        }
        self.spent += began.elapsed();
        self.perform();
    }

    fn read_log(&mut self) {
        let Some((reader, next)) = self.reader else { return };
        let skipped = self.log.partition_point(|stored| stored.sequence < next);
        let began = Instant::now();
        for stored in self.log.range(skipped..) {
            self.replica.step(self.now_ms, Input::Record { reader, record: stored.record() }, &mut self.effects);
        }
        self.spent += began.elapsed();
        self.reader = Some((reader, self.last_sequence + 1));
        self.perform();
    }

    fn deliver(&mut self, post: Post) {
        match post {
            Post::Heartbeat(subject, payload) => {
                self.step(Input::Heartbeat { subject: &subject, payload: &payload });
            }
            // Nobody asks the living; if somebody did, no answer would prove anything.
            Post::Probed(probe, alive) => {
                let outcome = if alive { ProbeOutcome::Failed } else { ProbeOutcome::NoResponders };
                self.step(Input::Probed { probe, outcome });
            }
            Post::Announced(request) => self.step(Input::Announced { request, instances: None }),
            Post::Proposed(batch) => self.step(Input::Proposed { batch, acknowledged: true }),
            Post::Listed(list) => self.step(Input::CheckpointsListed { list, checkpoints: Some(&[]) }),
            Post::Saved(save) => self.step(Input::CheckpointSaved { save, bytes: Some(1) }),
            Post::Trimmed => self.step(Input::LogTrimmed { events: Some(0) }),
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let began = Instant::now();
        self.replica.step(self.now_ms, input, &mut self.effects);
        self.spent += began.elapsed();
        self.perform();
    }

    fn perform(&mut self) {
        let mut inspections = Vec::new();
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::InspectLog { check, epochs, own, .. } => inspections.push((check, epochs, own)),
                Effect::CreateStream => self.created = true,
                Effect::ReadLog { reader, from_sequence } => self.reader = Some((reader, from_sequence)),
                Effect::Publish(message) if message.kind == OutgoingKind::Mark => {
                    self.posts.push_back(Post::Heartbeat(message.subject, message.payload));
                }
                Effect::Probe { probe, agent } => {
                    let alive = self.is_alive(&agent);
                    self.posts.push_back(Post::Probed(probe, alive));
                }
                Effect::Announce { request, .. } => self.posts.push_back(Post::Announced(request)),
                Effect::Propose { batch, events } => {
                    for ProposedEvent { subject, payload } in events {
                        self.append(subject, payload);
                    }
                    self.posts.push_back(Post::Proposed(batch));
                }
                Effect::ListCheckpoints { list } => self.posts.push_back(Post::Listed(list)),
                Effect::SaveCheckpoint { save, .. } => self.posts.push_back(Post::Saved(save)),
                Effect::TrimLog(_) => self.posts.push_back(Post::Trimmed),
                Effect::Serve(serving) => self.serving = serving,
                _ => {}
            }
        }
        for (check, epochs, own) in inspections {
            self.inspect(check, epochs, own);
        }
    }

    fn inspect(&mut self, check: u64, epochs: bool, own: Option<u64>) {
        let found = if self.created {
            Inspection::Present(LogFacts {
                created_at: wall(0),
                first_sequence: 1,
                last_sequence: self.last_sequence,
                replicas: 1,
                servers: &[],
                epochs: self.epoch.iter().filter(|_| epochs).map(Stored::record).collect(),
                own: own.and_then(|own| {
                    let index = self.log.binary_search_by_key(&own, |stored| stored.sequence).ok()?;
                    Some(self.log[index].record())
                }),
            })
        } else {
            Inspection::Missing
        };
        let began = Instant::now();
        self.replica.step(self.now_ms, Input::LogInspected { check, found }, &mut self.effects);
        self.spent += began.elapsed();
        self.perform();
    }

    fn is_alive(&self, id: &AgentId) -> bool {
        let number = id.as_str().rsplit('-').next().and_then(|text| text.parse::<usize>().ok());
        number.and_then(|number| self.agents.get(number)).is_some_and(|agent| agent.is_alive)
    }
}

fn wall(now_ms: u64) -> Timestamp {
    Timestamp::from_ms(WALL_MS.saturating_add_unsigned(now_ms))
}
