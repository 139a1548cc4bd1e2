//! The hot paths, one at a time and so often as is asked, to count what instructions they take: `hot-paths <path> <times>`.
//!
//! All preparations are the same whatever `times` is, so the difference between two runs is that of the path alone.

use std::hint::black_box;

use muster_discovery::core::io::{Effect, Input, Scope};
use muster_discovery::core::view::View;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::io::Record;
use muster_registry::core::leases::{Heard, Leases};
use muster_schemas::event::{EpochBegan, Event, EventData, Source};
use muster_schemas::heartbeat::Heartbeat;
use muster_schemas::query::{Reply, ServiceReply};
use muster_schemas::{
    Change, Digest, EpochId, FOLD_VERSION, Namespace, Prefix, Registration, ReplicaId, Subjects, Timestamp,
    WIRE_VERSION,
};
use serde_json::json;

/// What is prepared, at least as many as are asked for.
const PREPARED: usize = 200;
const INSTANCES: usize = 100;
const ULID: &str = "01J00000000000000000000001";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let usage = "hot-paths fold|heartbeat|encode|apply <times, at most 200>";
    let times = arguments.get(2).and_then(|text| text.parse().ok()).filter(|times| *times <= PREPARED).expect(usage);
    let mut world = World::new();
    match arguments[1].as_str() {
        "fold" => world.fold_registrations(times),
        "heartbeat" => world.hear(times),
        "encode" => world.encode(times),
        "apply" => world.apply(times),
        _ => panic!("{usage}"),
    }
}

/// A log that has begun, with a hundred instances of one service.
struct World {
    subjects: Subjects,
    catalog: Catalog,
    leases: Leases,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let replica = ReplicaId::new("r1").expect("a name");
        let leases = Leases::new(subjects.clone(), &replica);
        let mut world = Self { subjects, catalog: Catalog::default(), leases, sequence: 0 };
        let began = EpochBegan {
            epoch: EpochId::from_parts(1, 1),
            previous_epoch: None,
            namespace: Namespace::default(),
            datacenter: None,
            fold_version: FOLD_VERSION,
        };
        let source = Source::Registry(replica);
        let event = Event { id: "1".into(), source, time: None, data: EventData::Epoch(began) };
        let bytes = event.encode(world.subjects.namespace()).expect("small enough");
        world.fold(&event.subject(&world.subjects), &bytes);
        for number in 0..INSTANCES {
            let (subject, bytes) = world.event(number);
            world.fold(&subject, &bytes);
        }
        world
    }

    fn event(&self, number: usize) -> (String, Vec<u8>) {
        let event = Event {
            id: format!("event-{number}"),
            source: Source::Agent("web1".parse().expect("a name")),
            time: None,
            data: EventData::Register(registration(number)),
        };
        (event.subject(&self.subjects), event.encode(self.subjects.namespace()).expect("small enough"))
    }

    fn fold(&mut self, subject: &str, payload: &[u8]) -> Option<Change> {
        self.sequence += 1;
        let record = Record { sequence: self.sequence, at: Timestamp::from_ms(1_790_000_000_000), subject, payload };
        let folded = self.catalog.fold(&self.subjects, &record);
        self.leases.folded(&self.catalog, &folded);
        folded.change.map(|change| Change::clone(&change))
    }

    fn updates(&self) -> Vec<(String, Vec<u8>)> {
        (INSTANCES..INSTANCES + PREPARED).map(|number| self.event(number)).collect()
    }

    fn changes(&mut self) -> Vec<Change> {
        let updates = self.updates();
        updates.iter().map(|(subject, bytes)| self.fold(subject, bytes).expect("a change")).collect()
    }

    fn fold_registrations(&mut self, times: usize) {
        let updates = self.updates();
        for (subject, bytes) in &updates[..times] {
            self.sequence += 1;
            let at = Timestamp::from_ms(1_790_000_000_000);
            let record = Record { sequence: self.sequence, at, subject, payload: bytes };
            let folded = self.catalog.fold(&self.subjects, &record);
            assert!(folded.change.is_some(), "a registration made no change");
            self.leases.folded(&self.catalog, &folded);
        }
    }

    fn hear(&mut self, times: usize) {
        let subject = self.subjects.heartbeat(&"web1".parse().expect("a name"));
        let beat = |counter| Heartbeat {
            v: WIRE_VERSION,
            session: ULID.parse().expect("a session"),
            counter,
            instances: 100,
            digest: Digest::ZERO,
            acked: None,
            conn: None,
        };
        let beats: Vec<Vec<u8>> =
            (1..=PREPARED as u64).map(|counter| serde_json::to_vec(&beat(counter)).expect("plain data")).collect();
        let position = self.catalog.position();
        for payload in &beats[..times] {
            let heard = self.leases.hear(1_000, Timestamp::from_ms(1), position, &subject, payload);
            assert!(matches!(heard, Heard::Beat(_)), "{heard:?}");
        }
    }

    fn encode(&mut self, times: usize) {
        let with_value = |change: Change| {
            let value = serde_json::to_vec(&change.value).expect("plain data");
            (change, value)
        };
        let changes: Vec<(Change, Vec<u8>)> = self.changes().into_iter().map(with_value).collect();
        for (change, value) in &changes[..times] {
            black_box(change.encode(Some(value)));
        }
    }

    fn apply(&mut self, times: usize) {
        let mut view = self.view();
        let changes: Vec<Vec<u8>> =
            self.changes().iter().map(|change| serde_json::to_vec(change).expect("plain data")).collect();
        let mut effects = Vec::new();
        for bytes in &changes[..times] {
            let change: Change = serde_json::from_slice(bytes).expect("a change");
            view.step(1, Input::Change(Box::new(change)), &mut effects);
            assert!(matches!(effects.pop(), Some(Effect::Changed(_))), "a change was not applied");
            effects.clear();
        }
    }

    /// A consumer's view that stands where the catalog does.
    fn view(&self) -> View {
        let name = "orders".parse().expect("a name");
        let service = self.catalog.service(&name).expect("it is registered");
        let mut view = View::new(0, Scope::Service(name.clone()), 1, None);
        let mut effects = Vec::new();
        view.step(0, Input::Connected, &mut effects);
        view.step(1, Input::Tick, &mut effects);
        let ticket = effects.iter().find_map(|effect| match effect {
            Effect::Ask(ask) => Some(ask.ticket),
            _ => None,
        });
        let reply = Reply {
            v: WIRE_VERSION,
            epoch: self.catalog.epoch().expect("a log is in force"),
            revision: self.catalog.revision(),
            state: self.catalog.state(),
            head_age_ms: 0,
            next: None,
            services: vec![ServiceReply {
                service: name,
                revision: service.revision(),
                digest: service.digest(),
                total: service.total(),
                routable: service.routable(),
                instances: service.instances().cloned().collect(),
                conflicts: Default::default(),
            }],
        };
        view.step(1, Input::Answer(ticket.expect("it asks"), reply), &mut effects);
        view
    }
}

fn registration(number: usize) -> Registration {
    let instance = number % INSTANCES;
    let value = json!({
        "service": "orders", "instance": format!("orders-{instance:03}"), "agent": "web1", "session": ULID,
        "incarnation": ULID, "generation": number / INSTANCES + 1, "ttl_ms": 10_000, "linger_ms": 2_000, "version": "2.7.1",
        "endpoints": [
            { "name": "http", "scheme": "http", "host": "10.0.0.1", "port": 8_000 + 2 * instance },
            { "name": "grpc", "scheme": "grpc", "host": "10.0.0.1", "port": 8_001 + 2 * instance },
        ],
        "tags": ["primary", "canary"],
        "metadata": { "n": format!("{number:010}"), "team": "payments", "tier": "gold" },
        "locality": { "region": "eu-central", "zone": "eu-central-1a" },
        "node": { "name": "web1", "address": "10.0.0.1" },
        "health": { "status": "passing", "checks": [{ "id": "http", "kind": "http", "status": "passing" }] },
    });
    serde_json::from_value(value).expect("a registration")
}
