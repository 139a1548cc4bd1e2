//! Entries in canonical order become a catalog, service by service: cheaper than putting one after the other in place, and
//! the trees are filled to the brim.

use std::sync::Arc;

use muster_schemas::Digest;
use muster_schemas::entry::Entry;

use super::CheckpointError;
use super::reading::ReadEntry;
use crate::core::catalog::Catalog;
use crate::core::catalog::conflicts::ClaimList;
use crate::core::catalog::service::{Held, Service, Slot};
use crate::core::catalog::write::filled;

/// A catalog that comes into being.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    catalog: Catalog,
    /// What is held of the service that comes now, in order of the instances' ids.
    slots: Vec<Slot>,
    service: Service,
    claims: ClaimList,
}

impl Gathering {
    /// Takes in the next entry.
    ///
    /// # Errors
    /// Entries are not in canonical order.
    pub(super) fn put(&mut self, read: ReadEntry) -> Result<(), CheckpointError> {
        let held = match read.entry {
            Entry::Intent(intent) => {
                self.catalog.put_intent(intent);
                return Ok(());
            }
            Entry::Instance(instance) => Held::Live(instance),
            Entry::Tombstone(tombstone) => Held::Gone(tombstone),
        };
        let mut slot = Slot { held, last_sequence: read.last_sequence, digest: read.digest };
        if let Some(last) = self.slots.last() {
            let (last, own) = (last.held.vouching(), slot.held.vouching());
            if last.service != own.service {
                self.end_service()?;
            } else if last.instance >= own.instance {
                return Err(CheckpointError::corrupt("its entries are out of order"));
            }
        }
        if let (Held::Live(instance), Some(first)) = (&mut slot.held, self.slots.first())
            && let Some(instance) = Arc::get_mut(instance)
        {
            // Threads that read know nothing of each other: the name of one service is held once.
            instance.registration.vouching.service = first.held.vouching().service.clone();
        }
        self.count(&slot, read.service_digest);
        self.slots.push(slot);
        Ok(())
    }

    fn count(&mut self, slot: &Slot, service_digest: Digest) {
        let vouching = slot.held.vouching();
        self.catalog.digest = self.catalog.digest.plus(slot.digest);
        match &slot.held {
            Held::Live(instance) => {
                self.catalog.instances += 1;
                self.service.revision = self.service.revision.max(instance.modified_revision);
                self.service.digest = self.service.digest.plus(service_digest);
                self.service.live += 1;
                self.service.routable += u32::from(instance.is_routable());
                self.claims.add(instance);
            }
            Held::Gone(tombstone) => {
                let name = (vouching.service.clone(), vouching.instance.clone());
                self.catalog.gone.insert((tombstone.at, tombstone.revision), name);
            }
        }
    }

    fn end_service(&mut self) -> Result<(), CheckpointError> {
        let mut service = std::mem::take(&mut self.service);
        let slots = std::mem::take(&mut self.slots);
        let Some(name) = slots.first().map(|slot| slot.held.vouching().service.clone()) else {
            return Ok(());
        };
        if self.catalog.services.get_max().is_some_and(|(last, _)| *last >= name) {
            return Err(CheckpointError::corrupt("its services are out of order"));
        }
        self.catalog.services_live += u64::from(service.live > 0);
        service.slots = filled(slots.into_iter().map(|slot| (slot.held.vouching().instance.clone(), slot)).collect());
        self.catalog.services.insert(name, service);
        Ok(())
    }

    /// All entries were put in.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn finish(mut self) -> Result<Catalog, CheckpointError> {
        self.end_service()?;
        self.catalog.claims = self.claims.into_claims();
        Ok(self.catalog)
    }
}
