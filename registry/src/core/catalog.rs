//! The catalog: what the log says, folded. Pure and closed: an event, its sequence, the largest stream timestamp so far
//! and the catalog itself are all that decides, so every replica holds the same at the same revision, bit for bit.
//!
//! `fold` takes one message of the stream; everything else reads. A clone costs nothing and stays as it is for ever, so a
//! reader holds a snapshot by cloning.

mod agent_events;
mod carry;
pub mod checkpoint;
mod conflicts;
mod fold;
mod forget;
mod intents;
mod notices;
mod outcome;
mod registry_events;
mod service;
mod vouched;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

// Persistent B-trees: clones share all nodes, a write copies one path, iteration is in byte order. `imbl` is maintained,
// and unlike HAMTs it needs no hasher whose order could differ between replicas. (MPL-2.0, used unchanged.)
use imbl::OrdMap;
use muster_schemas::entry::{Entry, Intent, IntentKind, Tombstone};
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Digest, EpochId, Event, Instance, InstanceId, Revision, ServiceName, Timestamp};

use super::io::Record;

pub use conflicts::{CONFLICTS_PER_CHANGE_MAX, Claims};
pub use intents::INTENTS_MAX;
pub use outcome::{Folded, News, Outcome, Reason};
pub use registry_events::FOLD_VERSION_SETTING;
pub use service::{Held, Service};
pub(crate) use vouched::{Vouched, name_hash, vouching_digest};

/// The fold versions that this software has.
pub const FOLD_VERSIONS: [u32; 1] = [muster_schemas::FOLD_VERSION];

/// How long what is kept of the gone is kept, in milliseconds of stream time.
pub const KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// How long after the beginning of an epoch entries may be carried over into it, in milliseconds of stream time.
pub const CARRY_MS: i64 = 10 * 60 * 1_000;

/// What the log says, folded up to a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    epoch: Option<Epoch>,
    revision: u64,
    stream_time: Timestamp,
    last_event: Option<EventMark>,
    services: OrdMap<ServiceName, Service>,
    intents: OrdMap<IntentKey, Arc<Intent>>,
    /// Timed intents by (end, sequence).
    ends: OrdMap<(Timestamp, u64), IntentKey>,
    /// Tombstones by (stream time of the end, revision): what is forgotten next comes first.
    gone: OrdMap<(Timestamp, u64), (ServiceName, InstanceId)>,
    claims: Claims,
    digest: Digest,
    /// Instances in all.
    instances: u64,
    /// Services with instances.
    services_live: u64,
}

/// The log in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch {
    id: EpochId,
    previous: Option<EpochId>,
    began_at: Timestamp,
    state: CatalogState,
    fold_version: u32,
}

/// An event's mark in the stream, by which a replica finds out that the log is still the one that it folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMark {
    /// The event's id; none if it had none that could be read.
    pub id: Option<Arc<str>>,
    /// The stream's timestamp of it.
    pub at: Timestamp,
}

impl EventMark {
    /// Whether it is the mark of this message.
    #[must_use]
    pub fn is_of(&self, record: &Record<'_>) -> bool {
        self.at == record.at && self.id.as_deref() == Event::peek_id(record.payload).as_deref()
    }
}

/// An instance may have one intent of each kind.
pub(crate) type IntentKey = (ServiceName, InstanceId, IntentKind);

/// An entry with what a checkpoint must keep beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// The entry.
    pub entry: Entry,
    /// Sequence of the last accepted event about it, no-ops included.
    pub last_sequence: u64,
}

impl Catalog {
    /// The log in force; none before its `epoch` event.
    #[must_use]
    pub fn epoch(&self) -> Option<EpochId> {
        self.epoch.map(|epoch| epoch.id)
    }

    /// The log before the one in force.
    #[must_use]
    pub fn previous_epoch(&self) -> Option<EpochId> {
        self.epoch.and_then(|epoch| epoch.previous)
    }

    /// Stream time at which the log in force began.
    #[must_use]
    pub fn epoch_began_at(&self) -> Option<Timestamp> {
        self.epoch.map(|epoch| epoch.began_at)
    }

    /// `recovering` or `ready`; `warming` while no log is in force.
    #[must_use]
    pub fn state(&self) -> CatalogState {
        self.epoch.map_or(CatalogState::Warming, |epoch| epoch.state)
    }

    /// Sequence of the last event folded, ignored ones included.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// (epoch, sequence), once a log is in force.
    #[must_use]
    pub fn position(&self) -> Option<Revision> {
        self.epoch.map(|epoch| Revision(epoch.id, self.revision))
    }

    /// The largest stream timestamp since the log in force began; it never goes back.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        self.stream_time
    }

    /// The fold version in force; that of this software while no log is.
    #[must_use]
    pub fn fold_version(&self) -> u32 {
        self.epoch.map_or(muster_schemas::FOLD_VERSION, |epoch| epoch.fold_version)
    }

    /// Whether this software has the fold version in force. If not, the catalog stands still and must not be answered from.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        FOLD_VERSIONS.contains(&self.fold_version())
    }

    /// The mark of the event at the catalog's own revision.
    #[must_use]
    pub fn last_event(&self) -> Option<&EventMark> {
        self.last_event.as_ref()
    }

    /// Whether a message of the stream is the one that this catalog folded last: if the one at the same sequence is not,
    /// the log has broken.
    #[must_use]
    pub fn folded_last(&self, record: &Record<'_>) -> bool {
        self.revision == record.sequence && self.last_event.as_ref().is_some_and(|mark| mark.is_of(record))
    }

    /// All services, in byte order of their names; those of which only tombstones are left included.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &Service)> {
        self.services.iter()
    }

    /// The services with names above `after`, in byte order: where a chunk ended, the next one begins.
    pub fn services_after(&self, after: &ServiceName) -> impl Iterator<Item = (&ServiceName, &Service)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.services.range::<_, ServiceName>((Excluded(after.clone()), Unbounded))
    }

    /// One service.
    #[must_use]
    pub fn service(&self, service: &ServiceName) -> Option<&Service> {
        self.services.get(service)
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, service: &ServiceName, instance: &InstanceId) -> Option<&Arc<Instance>> {
        self.held(service, instance)?.live()
    }

    /// What is kept of one that is gone.
    #[must_use]
    pub fn tombstone(&self, service: &ServiceName, instance: &InstanceId) -> Option<&Arc<Tombstone>> {
        match self.held(service, instance)? {
            Held::Gone(tombstone) => Some(tombstone),
            Held::Live(_) => None,
        }
    }

    /// What is held under a name: an instance or a tombstone.
    #[must_use]
    pub fn held(&self, service: &ServiceName, instance: &InstanceId) -> Option<&Held> {
        self.slot(service, instance).map(|slot| &slot.held)
    }

    /// Sequence of the last accepted event about an instance, no-ops included: what an `expire` names.
    #[must_use]
    pub fn last_sequence(&self, service: &ServiceName, instance: &InstanceId) -> Option<u64> {
        self.slot(service, instance).map(|slot| slot.last_sequence)
    }

    fn slot(&self, service: &ServiceName, instance: &InstanceId) -> Option<&service::Slot> {
        self.services.get(service)?.slots.get(instance)
    }

    /// The sum over all entries, as in beacons.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many services have instances.
    #[must_use]
    pub fn services_count(&self) -> u64 {
        self.services_live
    }

    /// How many instances there are.
    #[must_use]
    pub fn instances_count(&self) -> u64 {
        self.instances
    }

    /// How many tombstones are kept.
    #[must_use]
    pub fn tombstones_count(&self) -> usize {
        self.gone.len()
    }

    /// How many intents are in force.
    #[must_use]
    pub fn intents_count(&self) -> usize {
        self.intents.len()
    }

    /// All entries in canonical order: intents by (service, instance, kind), then instances and tombstones by (service,
    /// instance). In this order they can be folded or carried into an empty catalog: an intent precedes what it is about.
    pub fn entries(&self) -> impl Iterator<Item = KeptEntry> {
        let intents = self
            .intents
            .values()
            .map(|intent| KeptEntry { entry: Entry::Intent(Arc::clone(intent)), last_sequence: intent.sequence });
        let slots = self.services.values().flat_map(|service| service.slots.values());
        intents.chain(slots.map(|slot| KeptEntry { entry: slot.held.entry(), last_sequence: slot.last_sequence }))
    }
}
