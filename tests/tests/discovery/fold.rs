//! Views of the consumer library against the registry's own fold, in virtual time: seeded events of every kind, changes and
//! pulses over a channel that loses, repeats and shuffles. Whatever a view shows was so in the log, and when it calls itself
//! verified, is so.

use std::collections::BTreeMap;

use muster_discovery::core::io::{Ask, AskFailure, Effect, Input, Scope};
use muster_discovery::core::view::{TICK_MS, View};
use muster_registry::core::catalog::Catalog;
use muster_registry::core::io::Record;
use muster_schemas::entry::IntentKind;
use muster_schemas::event::{
    CarriedOver, DeregisterReason, Deregistration, EpochBegan, Event, EventData, Expiry, ExpiryCause, HealthReport,
    IntentSet, Recovered, Source,
};
use muster_schemas::pulse::{BUCKETS, Pulse, bucket};
use muster_schemas::query::{Reply, ServiceReply};
use muster_schemas::{
    EpochId, Health, HealthStatus, Incarnation, InstanceId, Registration, ServiceName, Timestamp, Vouching,
};
use serde_json::json;

use crate::support::subjects;

const SEEDS: u64 = 40;
const EVENTS: u64 = 300;
const SERVICES: [&str; 3] = ["orders", "users", "user.rpc"];

#[test]
fn every_view_of_one_service_agrees_with_the_fold() {
    (0..SEEDS).for_each(|seed| History::new(Scope::Service("orders".parse().expect("a name")), seed).run());
}

#[test]
fn every_view_of_all_services_agrees_with_the_fold() {
    (0..SEEDS).for_each(|seed| History::new(Scope::Everything, seed).run());
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX constants; the low bits are poor, the high ones good enough for a choice.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("small")]
    }
}

struct History {
    seed: u64,
    random: Random,
    now_ms: u64,
    catalog: Catalog,
    /// The catalog at every revision, for what views claim; and at every moment, for pulses and replicas that lag.
    at_revision: BTreeMap<(EpochId, u64), Catalog>,
    at_moment: BTreeMap<u64, Catalog>,
    scope: Scope,
    view: View,
    on_the_way: BTreeMap<(u64, u64), Input>,
    sent: u64,
    harm: bool,
    pulses_at_ms: u64,
    accepted: u64,
}

impl History {
    fn new(scope: Scope, seed: u64) -> Self {
        let now_ms = 1_000_000;
        let mut history = Self {
            seed,
            random: Random(seed),
            now_ms,
            catalog: Catalog::default(),
            at_revision: BTreeMap::new(),
            at_moment: BTreeMap::new(),
            view: View::new(now_ms, scope.clone(), seed, None),
            scope,
            on_the_way: BTreeMap::new(),
            sent: 0,
            harm: true,
            pulses_at_ms: now_ms + 900,
            accepted: 0,
        };
        history.begin_epoch(1);
        history.step(Input::Connected);
        history
    }

    fn run(mut self) {
        for number in 0..EVENTS {
            if number == EVENTS / 2 && self.random.below(2) == 0 {
                self.lose_the_log();
            } else {
                let data = self.any_event();
                self.append(data);
            }
            let pause_ms = self.random.below(120);
            self.pass(pause_ms);
        }
        self.harm = false;
        self.append(EventData::Recovered(Recovered { epoch: self.catalog.epoch().expect("an epoch") }));
        self.pass(12_000);
        assert!(self.view.snapshot().is_verified(), "seed {}: {}", self.seed, self.view.snapshot().state());
        let catalog = self.catalog.clone();
        self.agrees_with(&catalog, catalog.revision());
        assert!(self.accepted > EVENTS / 4, "seed {}: only {} events did anything", self.seed, self.accepted);
    }

    fn begin_epoch(&mut self, number: u64) {
        let previous_epoch = self.catalog.epoch();
        self.append(EventData::Epoch(EpochBegan {
            epoch: EpochId::from_parts(number, 0),
            previous_epoch,
            namespace: "default".parse().expect("a namespace"),
            datacenter: None,
            fold_version: muster_schemas::FOLD_VERSION,
        }));
    }

    /// A new log, into which most of the old catalog is carried.
    fn lose_the_log(&mut self) {
        let old = self.catalog.clone();
        self.begin_epoch(2);
        let epoch = self.catalog.epoch().expect("an epoch");
        for kept in old.entries() {
            if self.random.below(5) > 0 {
                self.append(EventData::Carry(CarriedOver { epoch, entry: kept.entry }));
            }
            self.pass(5);
        }
    }

    fn any_event(&mut self) -> EventData {
        let service: ServiceName = self.random.one_of(&SERVICES).parse().expect("a name");
        let instance: InstanceId = self.random.one_of(&["a", "b", "c"]).parse().expect("a name");
        let in_force = self.catalog.held(&service, &instance).map(|held| held.vouching().clone());
        let incarnation = Incarnation::from_parts(1, u128::from(self.random.below(1_000_000)) + u128::from(self.sent));
        let fresh = Vouching {
            service: service.clone(),
            instance: instance.clone(),
            agent: "agent-1".parse().expect("a name"),
            session: "01J00000000000000000000001".parse().expect("an id"),
            incarnation: in_force.as_ref().map_or(incarnation, |held| held.incarnation.next()),
            generation: 1,
        };
        let mut next = in_force.clone().unwrap_or_else(|| fresh.clone());
        next.generation += 1;
        match self.random.below(20) {
            0..5 => EventData::Register(self.registration(fresh)),
            5..8 => EventData::Register(self.registration(next)),
            8..11 => {
                EventData::Health(HealthReport { vouching: next, registered_generation: None, health: self.health() })
            }
            11..13 => self.deregistration(next),
            13 => self.deregistration(in_force.unwrap_or(fresh)),
            14..16 => EventData::Expire(Expiry {
                epoch: self.catalog.epoch().expect("an epoch"),
                observed_sequence: self.catalog.last_sequence(&service, &instance).unwrap_or(1),
                vouching: in_force.unwrap_or(fresh),
                cause: ExpiryCause::Silent,
                evidence: muster_schemas::entry::Evidence::default(),
            }),
            _ => EventData::Intent(IntentSet {
                intent: *self.random.one_of(&[&IntentKind::Maintenance, &IntentKind::Evict, &IntentKind::Clear]),
                service,
                instance,
                who: "ann".parse().expect("a name"),
                why: String::new(),
                until: None,
                incarnation: in_force.map(|held| held.incarnation),
            }),
        }
    }

    fn health(&mut self) -> Health {
        let status = *self.random.one_of(&[&HealthStatus::Passing, &HealthStatus::Critical]);
        Health { status, ..Health::default() }
    }

    fn registration(&mut self, vouching: Vouching) -> Registration {
        let version = self.random.below(5).to_string();
        let mut value = serde_json::to_value(vouching).expect("plain data");
        value["ttl_ms"] = json!(10_000);
        value["version"] = json!(version);
        serde_json::from_value(value).expect("a registration")
    }

    fn deregistration(&mut self, vouching: Vouching) -> EventData {
        EventData::Deregister(Deregistration { vouching, reason: DeregisterReason::Stopped, detail: None })
    }

    /// Into the log, and what it changed onto the channel.
    fn append(&mut self, data: EventData) {
        let name = "ann".parse().expect("a name");
        let source = match &data {
            EventData::Intent(_) => Source::Operator(name),
            EventData::Register(_) | EventData::Deregister(_) | EventData::Health(_) => {
                Source::Agent("agent-1".parse().expect("a name"))
            }
            _ => Source::Registry("r1".parse().expect("a name")),
        };
        let event = Event { id: self.sent.to_string(), source, time: None, data };
        let subject = event.subject(&subjects());
        let payload = event.encode(subjects().namespace()).expect("small enough");
        let record = Record {
            sequence: self.catalog.revision() + 1,
            at: Timestamp::from_ms(i64::try_from(self.now_ms).expect("small")),
            subject: &subject,
            payload: &payload,
        };
        let folded = self.catalog.fold(&subjects(), &record);
        self.sent += 1;
        if let Some(epoch) = self.catalog.epoch() {
            self.at_revision.insert((epoch, self.catalog.revision()), self.catalog.clone());
        }
        self.at_moment.insert(self.now_ms, self.catalog.clone());
        if let Some(change) = folded.change {
            self.accepted += 1;
            self.pulses_at_ms = self.pulses_at_ms.min(self.now_ms + 50);
            self.send(&Input::Change(Box::new(muster_schemas::Change::clone(&change))));
        }
    }

    fn send(&mut self, input: &Input) {
        let copies = match self.random.below(5) {
            0 if self.harm => 0,
            1 if self.harm => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay_ms = if self.harm && self.random.below(2) == 0 { self.random.below(400) } else { 1 };
            self.sent += 1;
            self.on_the_way.insert((self.now_ms + delay_ms, self.sent), input.clone());
        }
    }

    fn send_pulses(&mut self) {
        let before = self.at_moment.range(..self.now_ms.saturating_sub(6_000)).next_back();
        let before = before.filter(|(_, catalog)| catalog.epoch() == self.catalog.epoch());
        let from = before.map_or(0, |(_, catalog)| catalog.revision());
        for number in 0..BUCKETS {
            let changed =
                self.catalog.services().filter(|(name, held)| bucket(name) == number && held.revision() > from);
            let pulse = Pulse {
                v: 1,
                epoch: self.catalog.epoch().expect("an epoch"),
                bucket: number,
                from,
                to: self.catalog.revision(),
                services: changed.map(|(name, held)| (name.clone(), held.revision())).collect(),
                head_age_ms: 0,
                state: self.catalog.state(),
            };
            self.send(&Input::Pulse(pulse));
        }
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            let arrival_ms = self.on_the_way.first_key_value().map_or(u64::MAX, |((at_ms, _), _)| *at_ms);
            let tick_ms = (self.now_ms / TICK_MS + 1) * TICK_MS;
            let next_ms = arrival_ms.min(tick_ms).min(self.pulses_at_ms).max(self.now_ms);
            self.now_ms = next_ms.min(end_ms);
            if next_ms > end_ms {
                return;
            }
            if next_ms >= self.pulses_at_ms {
                self.pulses_at_ms = next_ms + 2_000;
                self.send_pulses();
            } else if arrival_ms <= next_ms {
                let (_, input) = self.on_the_way.pop_first().expect("an arrival");
                self.step(input);
            } else {
                self.step(Input::Tick);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.view.step(self.now_ms, input, &mut effects);
        for effect in effects {
            if let Effect::Ask(ask) = effect {
                self.answer(ask);
            }
        }
        self.check();
    }

    /// By a replica that is up to 200 ms behind.
    fn answer(&mut self, ask: Ask) {
        let at_ms = self.now_ms - self.random.below(200);
        let replica = self.at_moment.range(..=at_ms).next_back().map_or(&self.catalog, |(_, catalog)| catalog);
        let is_behind = ask.min_revision.is_some_and(|min| {
            let known = replica.epoch();
            min.epoch() > known || min.epoch() == known && min.sequence() > replica.revision()
        });
        let input = if is_behind {
            Input::AskFailed(ask.ticket, AskFailure::Behind)
        } else {
            Input::Answer(ask.ticket, reply(replica, &ask.target))
        };
        self.sent += 1;
        self.on_the_way.insert((self.now_ms + 2, self.sent), input);
    }

    fn check(&self) {
        let snapshot = self.view.snapshot();
        let Some(revision) = snapshot.revision() else { return };
        for name in snapshot.services() {
            if let Some((digest, changed)) = snapshot.digest(name.as_str()) {
                let folded = self.at_revision[&(revision.epoch(), changed)].service(name).expect("it was there");
                assert_eq!(digest, folded.digest(), "seed {}: {name} at {changed}", self.seed);
            }
        }
        if snapshot.is_verified()
            && let Some(catalog) = self.at_revision.get(&(revision.epoch(), revision.sequence()))
        {
            self.agrees_with(catalog, revision.sequence());
        }
    }

    /// What the view shows of each service is what the catalog holds, or newer than that.
    fn agrees_with(&self, catalog: &Catalog, through: u64) {
        let snapshot = self.view.snapshot();
        for name in SERVICES.map(|name| name.parse::<ServiceName>().expect("a name")) {
            let shown = snapshot.digest(name.as_str());
            let is_ahead = shown.is_some_and(|(_, changed)| changed > through);
            if !self.scope.covers(&name) || is_ahead {
                continue;
            }
            let held = catalog.service(&name).filter(|held| held.total() > 0);
            // In a view of all services, a list that has become empty since then shows no revision any more.
            let is_comparable = self.scope != Scope::Everything || catalog.revision() == self.catalog.revision();
            if shown.is_some() || is_comparable {
                let held = held.map(|held| (held.digest(), held.revision()));
                assert_eq!(shown, held, "seed {}: {name} through {through}", self.seed);
            }
        }
    }
}

fn reply(catalog: &Catalog, target: &Scope) -> Reply {
    let services = catalog.services().filter(|(name, _)| target.covers(name));
    Reply {
        v: 1,
        epoch: catalog.epoch().expect("an epoch"),
        revision: catalog.revision(),
        state: catalog.state(),
        head_age_ms: 0,
        next: None,
        services: services
            .map(|(name, held)| ServiceReply {
                service: name.clone(),
                revision: held.revision(),
                digest: held.digest(),
                total: held.total(),
                routable: held.routable(),
                instances: held.instances().cloned().collect(),
                conflicts: BTreeMap::new(),
            })
            .collect(),
    }
}
