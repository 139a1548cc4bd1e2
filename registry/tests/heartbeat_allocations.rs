//! The hot path: in a whole replica that follows its log, a heartbeat of a known agent allocates nothing, nor does a mark.

// Counting allocations takes an allocator of one's own, and that trait is unsafe to implement.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use muster_registry::core::io::{Effect, Effects, Input, Inspection, LogFacts, OutgoingKind, Record};
use muster_registry::core::replica::{Replica, ReplicaSettings, Timing};
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_schemas::{
    AgentId, Digest, Event, EventData, Incarnation, InstanceId, MinRevision, Namespace, Prefix, Registration,
    ReplicaId, ServiceName, SessionId, Source, Subjects, Timestamp, Vouching,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const AGENTS: u64 = 50;

/// One replica, and a log that takes whatever it proposes.
struct World {
    replica: Replica,
    subjects: Subjects,
    effects: Effects,
    now_ms: u64,
    log: Vec<(String, Vec<u8>)>,
    reader: Option<(u64, usize)>,
    marks: Vec<(String, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let settings = ReplicaSettings {
            subjects: subjects.clone(),
            replica: ReplicaId::new("r1").expect("a name"),
            started_at: wall(0),
            datacenter: None,
            software_version: String::new(),
            timing: Timing::default(),
        };
        let (log, marks) = (Vec::new(), Vec::new());
        let replica = Replica::new(settings, 0);
        let mut world = Self { replica, subjects, effects: Effects::new(), now_ms: 0, log, reader: None, marks };
        world.step(Input::LogConnected(true));
        world.step(Input::PublishConnected(true));
        world
    }

    fn step(&mut self, input: Input<'_>) {
        self.replica.step(self.now_ms, input, &mut self.effects);
    }

    /// Ten milliseconds pass; the replica's wishes come true at once.
    fn pass(&mut self) {
        self.now_ms += 10;
        self.step(Input::Tick { wall: wall(self.now_ms), random: u128::from(self.now_ms) });
        let effects: Vec<_> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::InspectLog { check, own, epochs, .. } => self.inspect(check, own, epochs),
                Effect::ReadLog { reader, from_sequence } => {
                    self.reader = Some((reader, usize::try_from(from_sequence).expect("small") - 1));
                }
                Effect::Propose { batch, events } => {
                    self.log.extend(events.into_iter().map(|event| (event.subject, event.payload.to_vec())));
                    self.step(Input::Proposed { batch, acknowledged: true });
                }
                Effect::ListCheckpoints { list } => {
                    self.step(Input::CheckpointsListed { list, checkpoints: Some(&[]) });
                }
                Effect::Publish(message) if message.kind == OutgoingKind::Mark => {
                    self.marks.push((message.subject, message.payload.to_vec()));
                }
                _ => {}
            }
        }
        let Some((reader, mut next)) = self.reader else { return };
        while let Some((subject, payload)) = self.log.get(next) {
            next += 1;
            let record = Record { sequence: next as u64, at: wall(self.now_ms), subject, payload };
            self.replica.step(self.now_ms, Input::Record { reader, record }, &mut self.effects);
        }
        self.reader = Some((reader, next));
    }

    fn inspect(&mut self, check: u64, own: Option<u64>, epochs: bool) {
        let records: Vec<_> = (1_u64..)
            .zip(&self.log)
            .map(|(sequence, (subject, payload))| Record { sequence, at: wall(0), subject, payload })
            .collect();
        let facts = LogFacts {
            created_at: wall(0),
            first_sequence: 1,
            last_sequence: records.len() as u64,
            replicas: 1,
            servers: Default::default(),
            epochs: records.iter().filter(|record| epochs && record.subject.contains(".epoch.")).copied().collect(),
            own: records.iter().find(|record| Some(record.sequence) == own).copied(),
        };
        let found = Inspection::Present(facts);
        self.replica.step(self.now_ms, Input::LogInspected { check, found }, &mut self.effects);
    }

    fn register(&mut self, vouching: &Vouching) -> u64 {
        let data = EventData::Register(Registration::bare(vouching.clone(), 10_000, 2_000));
        let event = Event { id: "e".into(), source: Source::Agent(vouching.agent.clone()), time: None, data };
        let payload = event.encode(&Namespace::default()).expect("small");
        self.log.push((event.subject(&self.subjects), payload));
        self.log.len() as u64
    }
}

fn wall(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000_i64.saturating_add_unsigned(ms))
}

fn vouching(number: u64) -> Vouching {
    Vouching {
        service: ServiceName::new("orders").expect("a name"),
        instance: InstanceId::new(&format!("i{number}")).expect("a name"),
        agent: AgentId::new(&format!("web{number}")).expect("a name"),
        session: SessionId::from_parts(1, 1),
        incarnation: Incarnation::from_parts(1, 1),
        generation: 1,
    }
}

fn heartbeat(world: &World, vouching: &Vouching, acked: u64, counter: u64) -> Vec<u8> {
    let (service, instance) = (&vouching.service, &vouching.instance);
    let heartbeat = Heartbeat {
        v: 1,
        session: vouching.session,
        counter,
        instances: 1,
        digest: Digest::of_vouching(service, instance, vouching.incarnation, vouching.generation),
        acked: Some(MinRevision(world.replica.snapshot().epoch, acked)),
        conn: Some(Connection("n1".into(), "NAWAZ".into(), 17)),
    };
    serde_json::to_vec(&heartbeat).expect("JSON")
}

#[test]
fn a_heartbeat_of_a_known_agent_and_a_mark_allocate_nothing() {
    let mut world = World::new();
    while world.replica.snapshot().epoch.is_none() {
        world.pass();
        assert!(world.now_ms < 20_000, "no log begins: {:?}", world.replica.snapshot().reason);
    }
    let agents: Vec<_> = (0..AGENTS).map(vouching).collect();
    let acked: Vec<_> = agents.iter().map(|vouching| world.register(vouching)).collect();
    world.pass();
    assert_eq!(world.replica.status(world.now_ms).instances, AGENTS);
    let messages = |world: &World, counter| -> Vec<(String, Vec<u8>)> {
        let agents = agents.iter().zip(&acked);
        agents
            .map(|(vouching, acked)| {
                (world.subjects.heartbeat(&vouching.agent), heartbeat(world, vouching, *acked, counter))
            })
            .collect()
    };
    let hear = |world: &mut World, heard: &[(String, Vec<u8>)]| {
        for (subject, payload) in heard {
            world.replica.step(world.now_ms, Input::Heartbeat { subject, payload }, &mut world.effects);
        }
    };
    // The first of each makes the agent, its server and its connection known.
    let first = messages(&world, 1);
    hear(&mut world, &first);
    let made_known = ALLOCATIONS.get();
    assert!(made_known > 0, "the allocator counts");
    for counter in 2..40 {
        let heartbeats = messages(&world, counter);
        for _ in 0..10 {
            world.pass();
        }
        let marks = std::mem::take(&mut world.marks);
        let before = ALLOCATIONS.get();
        hear(&mut world, &heartbeats);
        hear(&mut world, &marks);
        assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in round {counter}");
    }
    let counters = world.replica.counters();
    assert_eq!((counters.heartbeats, counters.heartbeats_refused), (39 * AGENTS, 0));
    assert!(counters.marks_charged > 10, "{counters:?}");
    assert_eq!(counters.announces, 0, "what is heard agrees with what is held");
}
