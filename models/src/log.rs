//! Facts as models write them down, the events that say them, and the real catalog that folds those.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use muster_registry::core::catalog::{Catalog, News};
use muster_registry::core::io::Record;
use muster_schemas::entry::{Entry, Evidence, IntentKind};
use muster_schemas::event::{
    CarriedOver, DeregisterReason, Deregistration, EpochBegan, Expiry, ExpiryCause, HealthReport, IntentSet, Recovered,
    Sender,
};
use muster_schemas::{
    AgentId, EpochId, Event, EventData, FOLD_VERSION, Health, Incarnation, InstanceId, Namespace, Prefix, Registration,
    ServiceName, SessionId, Subjects, Timestamp, Vouching,
};

/// Stream time at the beginning: 2026-11-21.
const BEGIN_MS: i64 = 1_795_000_000_000;

/// (incarnation, generation) of an event.
pub(crate) type Order = (u64, u64);

/// What an event says. Instances are named by a letter; each has an agent of the same name, whose sessions have the
/// numbers of their incarnations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fact {
    Epoch { number: u64, previous: Option<u64> },
    Register(char, Order),
    Health(char, Order),
    Deregister(char, Order),
    Expire { instance: char, incarnation: u64, epoch: u64, observed: u64 },
    Maintenance(char),
    Carry { epoch: u64, entry: Carried },
    Recovered { epoch: u64 },
}

/// An entry on its way into another log; equal if its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried(pub(crate) Entry);

impl Hash for Carried {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.canonical_bytes().hash(state);
    }
}

impl PartialOrd for Carried {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Carried {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.canonical_bytes().cmp(&other.0.canonical_bytes())
    }
}

/// A message of the stream. `stamp` is unlike that of any other message ever stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) fact: Fact,
    stamp: u64,
    /// Of this message and all before it: equal if the logs are.
    lineage: u64,
}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lineage.hash(state);
    }
}

impl Stored {
    /// The message after `last`.
    pub(crate) fn after(last: Option<&Self>, stamp: u64, fact: Fact) -> Self {
        let mut hasher = DefaultHasher::new();
        (last.map(|last| last.lineage), stamp, &fact).hash(&mut hasher);
        Self { fact, stamp, lineage: hasher.finish() }
    }
}

/// What identifies a catalog among those of all logs: the log in force, and the lineage that the id of its last event shows.
pub(crate) fn identity(catalog: &Catalog) -> Identity {
    (catalog.epoch(), catalog.last_event().and_then(|event| event.id.clone()))
}

/// Whether a catalog finds its own last event in a message at its revision.
pub(crate) fn is_own(catalog: &Catalog, stored: &Stored) -> bool {
    let key = (identity(catalog), stored.lineage);
    if let Some(known) = OWN.with_borrow(|known| known.get(&key).copied()) {
        return known;
    }
    let is_own = with_record(stored, catalog.revision(), |record| catalog.folded_last(record));
    OWN.with_borrow_mut(|known| known.insert(key, is_own));
    is_own
}

/// Hands a stored message to what takes records, as the one at `sequence`.
fn with_record<T>(stored: &Stored, sequence: u64, take: impl FnOnce(&Record<'_>) -> T) -> T {
    let (source, data) = event_data(&stored.fact);
    let event = Event { id: format!("event-{:x}", stored.lineage), source, time: None, data };
    let payload = event.encode(&Namespace::default()).expect("a model's event is within its limits");
    let at = Timestamp::from_ms(BEGIN_MS.saturating_add_unsigned(stored.stamp));
    take(&Record { sequence, at, subject: &event.subject(&subjects()), payload: &payload })
}

/// What folding came to.
#[derive(Debug, Clone)]
pub(crate) struct After {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) accepted: bool,
    pub(crate) began_epoch: bool,
}

type Identity = (Option<EpochId>, Option<Arc<str>>);
type Folds = HashMap<(Identity, u64, u64), After>;

thread_local! {
    /// A search comes by the same fold many times.
    static FOLDS: RefCell<Folds> = RefCell::default();
    static OWN: RefCell<HashMap<(Identity, u64), bool>> = RefCell::default();
}

/// The catalog one message later.
pub(crate) fn fold(catalog: &Catalog, stored: &Stored, sequence: u64) -> After {
    let key = (identity(catalog), stored.lineage, sequence);
    if let Some(known) = FOLDS.with_borrow(|folds| folds.get(&key).cloned()) {
        return known;
    }
    let mut catalog = catalog.clone();
    let folded = with_record(stored, sequence, |record| catalog.fold(&subjects(), record));
    let began_epoch = matches!(folded.news, News::EpochBegan(_));
    let after = After { catalog: Arc::new(catalog), accepted: !folded.outcome.is_ignored(), began_epoch };
    FOLDS.with_borrow_mut(|folds| folds.insert(key, after.clone()));
    after
}

fn event_data(fact: &Fact) -> (Sender, EventData) {
    match fact {
        Fact::Epoch { number, previous } => (
            registry(),
            EventData::Epoch(EpochBegan {
                epoch: epoch_id(*number),
                previous_epoch: previous.map(epoch_id),
                namespace: Namespace::default(),
                datacenter: None,
                fold_version: FOLD_VERSION,
            }),
        ),
        Fact::Register(instance, order) => {
            (Sender::Agent(agent(*instance)), EventData::Register(registration(*instance, *order)))
        }
        Fact::Health(instance, order) => {
            let report = HealthReport {
                vouching: vouching(*instance, *order),
                registered_generation: None,
                health: Health::default(),
            };
            (Sender::Agent(agent(*instance)), EventData::Health(report))
        }
        Fact::Deregister(instance, order) => {
            let vouching = vouching(*instance, *order);
            let data = Deregistration { vouching, reason: DeregisterReason::Stopped, detail: None };
            (Sender::Agent(agent(*instance)), EventData::Deregister(data))
        }
        Fact::Expire { instance, incarnation, epoch, observed } => (
            registry(),
            EventData::Expire(Expiry {
                vouching: vouching(*instance, (*incarnation, 1)),
                epoch: epoch_id(*epoch),
                observed_sequence: *observed,
                cause: ExpiryCause::Silent,
                evidence: Evidence::default(),
            }),
        ),
        Fact::Maintenance(instance) => (
            Sender::Operator("ada".parse().expect("a name")),
            EventData::Intent(IntentSet {
                service: service(),
                instance: id(*instance),
                intent: IntentKind::Maintenance,
                who: "ada".parse().expect("a name"),
                why: "disk".to_owned(),
                until: None,
                incarnation: None,
            }),
        ),
        Fact::Carry { epoch, entry } => {
            (registry(), EventData::Carry(CarriedOver { epoch: epoch_id(*epoch), entry: entry.0.clone() }))
        }
        Fact::Recovered { epoch } => (registry(), EventData::Recovered(Recovered { epoch: epoch_id(*epoch) })),
    }
}

fn registration(instance: char, order: Order) -> Registration {
    Registration::bare(vouching(instance, order), 10_000, 2_000)
}

fn vouching(instance: char, (incarnation, generation): Order) -> Vouching {
    let time_ms = BEGIN_MS.unsigned_abs();
    Vouching {
        service: service(),
        instance: id(instance),
        agent: agent(instance),
        session: SessionId::from_parts(time_ms, u128::from(incarnation)),
        incarnation: Incarnation::from_parts(time_ms, u128::from(incarnation)),
        generation,
    }
}

/// (incarnation, generation) as a model counts them.
pub(crate) fn order_of(vouching: &Vouching) -> Order {
    let number =
        |incarnation: Incarnation| (1..100).find(|number| self::vouching('a', (*number, 1)).incarnation == incarnation);
    (number(vouching.incarnation).expect("a model's incarnation"), vouching.generation)
}

pub(crate) fn epoch_id(number: u64) -> EpochId {
    EpochId::from_parts(BEGIN_MS.unsigned_abs(), u128::from(number))
}

pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

pub(crate) fn service() -> ServiceName {
    ServiceName::new("orders").expect("a name")
}

pub(crate) fn id(instance: char) -> InstanceId {
    InstanceId::new(&instance.to_string()).expect("a name")
}

fn agent(instance: char) -> AgentId {
    instance.to_string().parse().expect("a name")
}

fn registry() -> Sender {
    Sender::Registry("r1".parse().expect("a name"))
}
