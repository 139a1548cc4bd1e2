//! Stretches in canonical order become a catalog, service by service: cheaper than putting one entry after the other in
//! place, and the trees are filled to the brim.

use muster_schemas::InstanceId;

use super::CheckpointError;
use super::stretch::{Run, Stretch, follow};
use crate::core::catalog::Catalog;
use crate::core::catalog::conflicts::ClaimList;
use crate::core::catalog::service::Slot;
use crate::core::catalog::vouched::{AllVouched, Vouched};
use crate::core::catalog::write::filled;

/// Room is made for no more entries before they come.
const EXPECTED_MAX: usize = 4_000_000;

/// A catalog that comes into being.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    catalog: Catalog,
    /// The service that comes now.
    run: Option<Run>,
    /// What is held of it.
    slots: Vec<(InstanceId, Slot)>,
    claims: ClaimList,
    vouched: Vec<Vouched>,
}

/// What has become of it.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Without claims.
    pub(super) catalog: Catalog,
    pub(super) claims: ClaimList,
    pub(super) vouched: AllVouched,
}

impl Gathering {
    /// So many entries will come, if what says so is to be believed.
    pub(super) fn expect(&mut self, entries: u64) {
        let entries = usize::try_from(entries).unwrap_or(usize::MAX).min(EXPECTED_MAX);
        self.vouched.reserve_exact(entries);
        self.claims.expect(entries);
    }

    /// Takes in what comes next, and leaves it to be emptied.
    ///
    /// # Errors
    /// Entries are not in canonical order.
    pub(super) fn take(&mut self, stretch: &mut Stretch) -> Result<(), CheckpointError> {
        stretch.intents.drain(..).for_each(|intent| self.catalog.put_intent(intent));
        self.catalog.gone.extend(stretch.gone.drain(..));
        self.catalog.digest = self.catalog.digest.plus(stretch.digest);
        self.claims.append(&mut stretch.claims);
        self.vouched.append(&mut stretch.vouched);
        let mut slots = stretch.slots.drain(..);
        for next in stretch.runs.drain(..) {
            let length = next.length;
            match &mut self.run {
                Some(run) if run.name == next.name => {
                    slots.as_slice().first().map_or(Ok(()), |(id, _)| follow(self.slots.last(), id))?;
                    run.append(&next);
                }
                run => {
                    let whole = run.replace(next);
                    self.end_service(whole)?;
                }
            }
            self.slots.extend(slots.by_ref().take(length));
        }
        Ok(())
    }

    fn end_service(&mut self, whole: Option<Run>) -> Result<(), CheckpointError> {
        let Some(Run { name, mut service, .. }) = whole else {
            return Ok(());
        };
        if self.catalog.services.get_max().is_some_and(|(last, _)| *last >= name) {
            return Err(CheckpointError::corrupt("its services are out of order"));
        }
        self.catalog.instances += u64::from(service.live);
        self.catalog.services_live += u64::from(service.live > 0);
        service.slots = filled(self.slots.drain(..));
        self.catalog.services.insert(name, service);
        Ok(())
    }

    /// All were taken in.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn finish(mut self) -> Result<Gathered, CheckpointError> {
        let last = self.run.take();
        self.end_service(last)?;
        Ok(Gathered { catalog: self.catalog, claims: self.claims, vouched: AllVouched::of(self.vouched) })
    }
}
