//! What was sent, and what the replicas hold.

use muster_schemas::Change;
use muster_schemas::pulse::{CatalogState, Pulse};

use super::world::{Sent, World};
use crate::core::io::OutgoingKind;

impl World {
    pub(super) fn of_kind(&self, kind: OutgoingKind) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| sent.message.kind == kind)
    }

    /// All changes that were published: when, by whom, what.
    pub(super) fn changes(&self) -> Vec<(u64, usize, Change)> {
        self.of_kind(OutgoingKind::Change)
            .map(|sent| (sent.ms, sent.by, serde_json::from_slice(&sent.message.payload).unwrap()))
            .collect()
    }

    pub(super) fn pulses(&self) -> Vec<(u64, usize, Pulse)> {
        self.of_kind(OutgoingKind::Pulse)
            .map(|sent| (sent.ms, sent.by, serde_json::from_slice(&sent.message.payload).unwrap()))
            .collect()
    }

    pub(super) fn all_are(&self, state: CatalogState) -> bool {
        self.nodes.iter().filter(|node| !node.stopped).all(|node| node.replica.status(self.now_ms).state == state)
    }

    /// All running replicas hold the same, bit for bit.
    pub(super) fn assert_agreement(&self) {
        let mut catalogs = self.nodes.iter().filter(|node| !node.stopped).map(|node| {
            let snapshot = node.replica.snapshot();
            (snapshot.epoch, snapshot.revision, snapshot.catalog.digest())
        });
        let first = catalogs.next();
        for other in catalogs {
            assert_eq!(Some(other), first);
        }
    }
}
