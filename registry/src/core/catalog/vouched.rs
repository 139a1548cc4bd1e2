//! What leases need to know of instances and what takes time to compute, from each instance alone: whoever reads a whole
//! catalog does it beside the reading, on as many threads.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;

use muster_schemas::{Digest, Instance, InstanceId, ServiceName};

/// Of one instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vouched {
    /// Its share of the digest in its agent's heartbeats.
    pub(crate) digest: Digest,
    /// By which its lease is found.
    pub(crate) name_hash: u64,
}

impl Vouched {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self { digest: vouching_digest(instance), name_hash: name_hash(instance.service(), instance.id()) }
    }
}

/// An instance's share of the digest in its agent's heartbeats.
pub(crate) fn vouching_digest(instance: &Instance) -> Digest {
    let vouching = instance.vouching();
    Digest::of_vouching(&vouching.service, &vouching.instance, vouching.incarnation, vouching.generation)
}

/// The hash of an instance's names. The hasher is fixed, so that a replayed history takes the same course.
pub(crate) fn name_hash(service: &ServiceName, instance: &InstanceId) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((service, instance))
}

/// Of all instances of a catalog, in its order; or of none.
#[derive(Debug, Clone, Default)]
pub(super) struct AllVouched(Arc<Vec<Vouched>>);

impl AllVouched {
    pub(super) fn of(all: Vec<Vouched>) -> Self {
        Self(Arc::new(all))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Vouched> {
        self.0.iter().copied()
    }
}

/// It follows from the catalog beside it.
impl PartialEq for AllVouched {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for AllVouched {}
