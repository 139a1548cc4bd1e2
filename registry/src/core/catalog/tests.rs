//! What a fold must do, sentence by sentence. The bench below writes events as their senders would.

mod carry;
mod changes;
mod checkpoints;
mod epochs;
mod expiry;
mod forgetting;
mod intents;
mod notices;
mod order;
mod outcomes;
mod properties;

use std::sync::Arc;

use muster_schemas::agent::NoticeCode;
use muster_schemas::entry::{Entry, Evidence, IntentKind};
use muster_schemas::event::{
    CarriedOver, DeregisterReason, Deregistration, EpochBegan, Expiry, ExpiryCause, HealthReport, IntentSet, Lapse,
    Recovered, Sender, SettingChanged,
};
use muster_schemas::instance::Endpoint;
use muster_schemas::{
    Digest, EpochId, Event, EventData, Health, HealthStatus, Incarnation, Instance, InstanceId, Namespace, Prefix,
    Registration, ServiceName, SessionId, Subjects, Timestamp, Vouching,
};

use super::{Catalog, Folded, Outcome, Reason};
use crate::core::io::Record;

/// Stream time at the beginning of every bench: 2026-11-21.
pub(super) const BEGIN_MS: i64 = 1_795_000_000_000;

pub(super) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

pub(super) fn epoch_id(number: u64) -> EpochId {
    EpochId::from_parts(BEGIN_MS.unsigned_abs(), u128::from(number))
}

pub(super) fn incarnation(number: u64) -> Incarnation {
    Incarnation::from_parts(BEGIN_MS.unsigned_abs(), u128::from(number))
}

/// `<agent>` vouches for `orders/<instance>`, in the session with the incarnation's number.
pub(super) fn vouching(agent: &str, instance: &str, incarnation_number: u64, generation: u64) -> Vouching {
    Vouching {
        service: ServiceName::new("orders").unwrap(),
        instance: InstanceId::new(instance).unwrap(),
        agent: agent.parse().unwrap(),
        session: SessionId::from_parts(BEGIN_MS.unsigned_abs(), u128::from(incarnation_number)),
        incarnation: incarnation(incarnation_number),
        generation,
    }
}

pub(super) fn registration(vouching: Vouching) -> Registration {
    Registration::bare(vouching, 10_000, 2_000)
}

pub(super) fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        name: format!("http-{port}").into(),
        scheme: "http".into(),
        host: Some(host.into()),
        port: Some(port),
        subject: None,
        extra: Default::default(),
    }
}

pub(super) fn health(status: HealthStatus) -> Health {
    Health { status, ..Health::default() }
}

fn agent(name: &str) -> Sender {
    Sender::Agent(name.parse().unwrap())
}

fn registry() -> Sender {
    Sender::Registry("r1".parse().unwrap())
}

/// A catalog and the end of the log that it folds.
pub(super) struct Bench {
    pub(super) catalog: Catalog,
    pub(super) now_ms: i64,
    pub(super) sequence: u64,
}

impl Bench {
    /// Before any epoch.
    pub(super) fn empty() -> Self {
        Self { catalog: Catalog::default(), now_ms: BEGIN_MS, sequence: 0 }
    }

    /// In a first epoch, ready.
    pub(super) fn ready() -> Self {
        let mut bench = Self::empty();
        let folded = bench.begin(1, None);
        assert_eq!(folded.outcome.as_str(), "accepted");
        bench
    }

    /// In an epoch that follows another one.
    pub(super) fn recovering() -> Self {
        let mut bench = Self::empty();
        bench.begin(2, Some(1));
        bench
    }

    pub(super) fn raw(&mut self, subject: &str, payload: &[u8]) -> Folded {
        self.sequence += 1;
        self.now_ms += 1;
        let record = Record { sequence: self.sequence, at: Timestamp::from_ms(self.now_ms), subject, payload };
        let folded = self.catalog.fold(&subjects(), &record);
        self.check();
        folded
    }

    pub(super) fn send(&mut self, source: Sender, data: EventData) -> Folded {
        let event = Event { id: format!("event-{}", self.sequence + 1), source, time: None, data };
        let payload = event.encode(&Namespace::default()).unwrap();
        self.raw(&event.subject(&subjects()), &payload)
    }

    pub(super) fn begin(&mut self, number: u64, previous: Option<u64>) -> Folded {
        self.begin_with_fold(number, previous, muster_schemas::FOLD_VERSION)
    }

    pub(super) fn begin_with_fold(&mut self, number: u64, previous: Option<u64>, fold_version: u32) -> Folded {
        let began = EpochBegan {
            epoch: epoch_id(number),
            previous_epoch: previous.map(epoch_id),
            namespace: Namespace::default(),
            datacenter: None,
            fold_version,
        };
        self.send(registry(), EventData::Epoch(began))
    }

    pub(super) fn register(&mut self, name: &str, instance: &str, incarnation: u64, generation: u64) -> Folded {
        self.register_with(vouching(name, instance, incarnation, generation), |_| {})
    }

    pub(super) fn register_with(&mut self, vouching: Vouching, edit: impl FnOnce(&mut Registration)) -> Folded {
        let sender = Sender::Agent(vouching.agent.clone());
        let mut registration = registration(vouching);
        edit(&mut registration);
        self.send(sender, EventData::Register(registration))
    }

    pub(super) fn deregister(&mut self, name: &str, instance: &str, incarnation: u64, generation: u64) -> Folded {
        let data = Deregistration {
            vouching: vouching(name, instance, incarnation, generation),
            reason: DeregisterReason::Stopped,
            detail: Some("asked to stop".into()),
        };
        self.send(agent(name), EventData::Deregister(data))
    }

    pub(super) fn health(&mut self, name: &str, instance: &str, order: (u64, u64), status: HealthStatus) -> Folded {
        self.health_of(name, instance, order, None, status)
    }

    /// `registered`: generation of the registration whose health it is.
    pub(super) fn health_of(
        &mut self,
        name: &str,
        instance: &str,
        order: (u64, u64),
        registered: Option<u64>,
        status: HealthStatus,
    ) -> Folded {
        let data = HealthReport {
            vouching: vouching(name, instance, order.0, order.1),
            registered_generation: registered,
            health: health(status),
        };
        self.send(agent(name), EventData::Health(data))
    }

    /// Proposes to expire what is held now.
    pub(super) fn expire(&mut self, instance: &str) -> Folded {
        let observed = self.last_sequence(instance);
        self.expire_observed(instance, 1, observed)
    }

    pub(super) fn expire_observed(&mut self, instance: &str, epoch: u64, observed_sequence: u64) -> Folded {
        let held = self.catalog.held(&orders(), &id(instance)).cloned();
        let data = Expiry {
            vouching: held.map_or_else(|| vouching("a", instance, 1, 1), |held| held.vouching().clone()),
            epoch: epoch_id(epoch),
            observed_sequence,
            cause: ExpiryCause::Silent,
            evidence: Evidence { charged_ms: Some(10_000), ..Evidence::default() },
        };
        self.send(registry(), EventData::Expire(data))
    }

    pub(super) fn intent(&mut self, instance: &str, intent: IntentKind, until_ms: Option<i64>) -> Folded {
        let held = self.catalog.held(&orders(), &id(instance));
        let incarnation = held.map_or(incarnation(1), |held| held.vouching().incarnation);
        self.intent_of(instance, intent, until_ms, incarnation)
    }

    pub(super) fn intent_of(
        &mut self,
        instance: &str,
        intent: IntentKind,
        until_ms: Option<i64>,
        incarnation: Incarnation,
    ) -> Folded {
        let data = IntentSet {
            service: orders(),
            instance: id(instance),
            intent,
            who: "ann".parse().unwrap(),
            why: "disk".into(),
            until: until_ms.map(Timestamp::from_ms),
            incarnation: (intent == IntentKind::Evict).then_some(incarnation),
        };
        self.send(Sender::Operator("ann".parse().unwrap()), EventData::Intent(data))
    }

    pub(super) fn lapse(&mut self, instance: &str, epoch: u64, ends_sequence: u64) -> Folded {
        let data = Lapse { service: orders(), instance: id(instance), epoch: epoch_id(epoch), ends_sequence };
        self.send(registry(), EventData::Lapse(data))
    }

    pub(super) fn recovered(&mut self, epoch: u64) -> Folded {
        let data = Recovered { epoch: epoch_id(epoch) };
        self.send(registry(), EventData::Recovered(data))
    }

    pub(super) fn setting(&mut self, name: &str, value: serde_json::Value) -> Folded {
        let data = SettingChanged { name: name.into(), value };
        self.send(registry(), EventData::Setting(data))
    }

    pub(super) fn carry(&mut self, epoch: u64, entry: Entry) -> Folded {
        let data = CarriedOver { epoch: epoch_id(epoch), entry };
        self.send(registry(), EventData::Carry(data))
    }

    pub(super) fn instance(&self, instance: &str) -> Option<Arc<Instance>> {
        self.catalog.instance(&orders(), &id(instance)).cloned()
    }

    pub(super) fn last_sequence(&self, instance: &str) -> u64 {
        self.catalog.last_sequence(&orders(), &id(instance)).unwrap_or(0)
    }

    /// Whatever is kept beside the entries agrees with them, after every event.
    pub(super) fn check(&self) {
        let catalog = &self.catalog;
        assert_eq!(catalog.digest(), catalog.entries().map(|kept| kept.entry.digest()).sum());
        let mut instances = 0;
        let mut services = 0;
        let mut tombstones = 0;
        for (name, service) in catalog.services() {
            let sum: Digest = service
                .instances()
                .map(|instance| Digest::of_instance(instance.id(), instance.modified_revision))
                .sum();
            assert_eq!(service.digest(), sum, "{name}");
            assert_eq!(service.total() as usize, service.instances().count(), "{name}");
            let routable = service.instances().filter(|instance| instance.is_routable()).count();
            assert_eq!(service.routable() as usize, routable, "{name}");
            assert!(service.revision() <= catalog.revision());
            let held = service.instances().count() + service.tombstones().count();
            assert!(held > 0, "{name} is kept without anything in it");
            instances += u64::from(service.total());
            services += u64::from(service.total() > 0);
            tombstones += service.tombstones().count();
        }
        assert_eq!(catalog.instances_count(), instances);
        assert_eq!(catalog.services_count(), services);
        assert_eq!(catalog.tombstones_count(), tombstones);
        let timed = catalog.intents().filter(|intent| intent.until.is_some()).count();
        assert_eq!(catalog.intents_ended_by(Timestamp::from_ms(i64::MAX)).count(), timed);
    }
}

pub(super) fn orders() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

pub(super) fn id(instance: &str) -> InstanceId {
    InstanceId::new(instance).unwrap()
}

#[track_caller]
pub(super) fn assert_ignored(folded: &Folded, reason: Reason) {
    assert_eq!(folded.outcome, Outcome::Ignored(reason), "{:?}", folded.detail);
    assert_eq!(folded.change, None);
}

#[track_caller]
pub(super) fn assert_accepted(folded: &Folded) {
    assert!(matches!(folded.outcome, Outcome::Accepted(_)), "{folded:?}");
}

#[track_caller]
pub(super) fn assert_no_op(folded: &Folded) {
    assert!(matches!(folded.outcome, Outcome::NoOp(_)), "{folded:?}");
    assert_eq!(folded.change, None);
}

/// The codes of the notices to an agent.
pub(super) fn told(folded: &Folded, agent: &str) -> Vec<NoticeCode> {
    let to_agent = folded.notices.iter().filter(|(to, _)| to.as_str() == agent);
    to_agent.map(|(_, notice)| notice.code).collect()
}
