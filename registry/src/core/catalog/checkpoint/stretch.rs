//! Entries that follow each other in a checkpoint, put together where they are read: all that follows from them alone, for
//! it is at hand there, and others read beside.

use std::sync::Arc;

use muster_schemas::entry::{Entry, Intent};
use muster_schemas::{Digest, Instance, InstanceId, ServiceName, Timestamp};

use super::CheckpointError;
use crate::core::catalog::Vouched;
use crate::core::catalog::conflicts::ClaimList;
use crate::core::catalog::service::{Held, Service, Slot};

/// What was read of a checkpoint in one go.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) intents: Vec<Arc<Intent>>,
    /// Its instances and tombstones, in order of services and ids.
    pub(super) slots: Vec<(InstanceId, Slot)>,
    /// Their services, in the same order. The first and the last may go on outside.
    pub(super) runs: Vec<Run>,
    /// Its tombstones, by what they are forgotten by.
    pub(super) gone: Vec<((Timestamp, u64), (ServiceName, InstanceId))>,
    /// The sum over its instances and tombstones.
    pub(super) digest: Digest,
    /// Of its instances.
    pub(super) claims: ClaimList,
    pub(super) vouched: Vec<Vouched>,
}

/// Instances and tombstones of one service.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) name: ServiceName,
    /// How many slots.
    pub(super) length: usize,
    /// Counts and sums over them.
    pub(super) service: Service,
}

impl Stretch {
    /// Takes in the next entry.
    ///
    /// # Errors
    /// It is not in canonical order.
    pub(super) fn add(&mut self, entry: Entry, last_sequence: u64, digest: Digest) -> Result<(), CheckpointError> {
        let held = match entry {
            Entry::Intent(intent) => {
                self.intents.push(intent);
                return Ok(());
            }
            Entry::Instance(instance) => Held::Live(instance),
            Entry::Tombstone(tombstone) => Held::Gone(tombstone),
        };
        let vouching = held.vouching();
        let is_next = self.runs.last().is_none_or(|run| run.name != vouching.service);
        if is_next {
            self.runs.push(Run { name: vouching.service.clone(), length: 0, service: Service::default() });
        } else {
            follow(self.slots.last(), &vouching.instance)?;
        }
        let id = vouching.instance.clone();
        self.digest = self.digest.plus(digest);
        match &held {
            Held::Live(instance) => {
                self.claims.add(instance);
                self.vouched.push(Vouched::of(instance));
                self.runs.last_mut().into_iter().for_each(|run| run.count(instance));
            }
            Held::Gone(tombstone) => {
                let name = (tombstone.vouching.service.clone(), tombstone.vouching.instance.clone());
                self.gone.push(((tombstone.at, tombstone.revision), name));
            }
        }
        self.runs.last_mut().into_iter().for_each(|run| run.length += 1);
        self.slots.push((id, Slot { held, last_sequence, digest }));
        Ok(())
    }

    /// Empty, with room for as much as there was: to be filled again, for pieces that one thread takes and another frees are
    /// slow to come back.
    pub(super) fn empty(&mut self) {
        self.intents.clear();
        self.slots.clear();
        self.runs.clear();
        self.gone.clear();
        self.digest = Digest::ZERO;
        self.claims.clear();
        self.vouched.clear();
    }
}

impl Run {
    fn count(&mut self, instance: &Instance) {
        let revision = instance.modified_revision;
        self.service.revision = self.service.revision.max(revision);
        self.service.digest = self.service.digest.plus(Digest::of_instance(instance.id(), revision));
        self.service.live += 1;
        self.service.routable += u32::from(instance.is_routable());
    }

    /// Takes in the counts and sums of what follows of the same service.
    pub(super) fn append(&mut self, next: &Self) {
        let (own, more) = (&mut self.service, &next.service);
        own.revision = own.revision.max(more.revision);
        own.digest = own.digest.plus(more.digest);
        own.live += more.live;
        own.routable += more.routable;
        self.length += next.length;
    }
}

/// Whether an id may follow a slot of the same service.
pub(super) fn follow(last: Option<&(InstanceId, Slot)>, id: &InstanceId) -> Result<(), CheckpointError> {
    match last {
        Some((last, _)) if last >= id => Err(CheckpointError::corrupt("its entries are out of order")),
        _ => Ok(()),
    }
}
