//! One service: what is held of each of its instances, and the sums over them.

use std::sync::Arc;

use imbl::OrdMap;
use muster_schemas::entry::{Entry, Tombstone};
use muster_schemas::{Digest, Incarnation, Instance, InstanceId};

/// What is held under one instance id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The instance.
    Live(Arc<Instance>),
    /// What is kept of a gone one.
    Gone(Arc<Tombstone>),
}

impl Held {
    /// The (incarnation, generation) in force.
    #[must_use]
    pub fn order(&self) -> (Incarnation, u64) {
        self.vouching().order()
    }

    /// The vouching in force, or the one that ended.
    #[must_use]
    pub fn vouching(&self) -> &muster_schemas::Vouching {
        match self {
            Self::Live(instance) => instance.vouching(),
            Self::Gone(tombstone) => &tombstone.vouching,
        }
    }

    /// As an entry of the catalog.
    #[must_use]
    pub fn entry(&self) -> Entry {
        match self {
            Self::Live(instance) => Entry::Instance(Arc::clone(instance)),
            Self::Gone(tombstone) => Entry::Tombstone(Arc::clone(tombstone)),
        }
    }

    /// The instance, if it is there.
    #[must_use]
    pub fn live(&self) -> Option<&Arc<Instance>> {
        match self {
            Self::Live(instance) => Some(instance),
            Self::Gone(_) => None,
        }
    }
}

/// One place in a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) held: Held,
    /// Sequence of the last accepted event, no-ops included; what an `expire` must have observed.
    pub(super) last_sequence: u64,
    /// The entry's share of the catalog's digest, kept so that it can be taken out again without writing the entry.
    pub(super) digest: Digest,
}

impl Slot {
    pub(super) fn new(held: Held, last_sequence: u64) -> Self {
        let digest = held.entry().digest();
        Self { held, last_sequence, digest }
    }
}

/// A service as held by a catalog. Cloning one costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    pub(super) slots: OrdMap<InstanceId, Slot>,
    pub(super) revision: u64,
    pub(super) digest: Digest,
    pub(super) live: u32,
    pub(super) routable: u32,
}

impl Service {
    /// Sequence of its last change; kept as long as a tombstone is. 0 if it never had one.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Digest over its instances; [`Digest::ZERO`] if there are none.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many instances it has; 0 while only tombstones are left.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.live
    }

    /// How many of them are routable.
    #[must_use]
    pub fn routable(&self) -> u32 {
        self.routable
    }

    /// Its instances, in byte order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.slots.values().filter_map(|slot| slot.held.live())
    }

    /// Its instances with ids above `after`, in byte order: where a chunk ended, the next one begins.
    pub fn instances_after(&self, after: &InstanceId) -> impl Iterator<Item = &Arc<Instance>> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.slots.range::<_, InstanceId>((Excluded(after.clone()), Unbounded)).filter_map(|(_, slot)| slot.held.live())
    }

    /// Whether this is the other one, unchanged; in constant time, and never true by mistake: while somebody holds the
    /// one, a change makes another. May be false for equal ones.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.revision == other.revision && self.slots.ptr_eq(&other.slots)
    }

    /// What is held under an id: an instance or a tombstone.
    #[must_use]
    pub fn held(&self, instance: &InstanceId) -> Option<&Held> {
        self.slots.get(instance).map(|slot| &slot.held)
    }

    /// Its tombstones, in byte order of the instances' ids.
    pub fn tombstones(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.slots.values().filter_map(|slot| match &slot.held {
            Held::Gone(tombstone) => Some(tombstone),
            Held::Live(_) => None,
        })
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.slots.is_empty()
    }
}
