//! Writing: one pass over the entries, nothing held but the frame at hand.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::{Checkpoint, FORMAT_VERSION, Header, MAGIC};
use crate::core::catalog::{Catalog, Service};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many bytes, checksum included.
    pub bytes: u64,
    /// The checksum at the end.
    pub checksum: [u8; super::CHECKSUM_BYTES],
}

impl Checkpoint {
    /// Writes the checkpoint, in small pieces: give it something that buffers.
    ///
    /// # Errors
    /// Those of `out`; what was written until then is no checkpoint.
    pub fn write(&self, out: &mut impl Write) -> io::Result<Written> {
        let mut framed = Framed { out, hash: Sha256::new(), bytes: 0 };
        framed.put(format!("{MAGIC}{FORMAT_VERSION}\n").as_bytes())?;
        let Some(header) = header(self) else {
            return Err(io::Error::other("a catalog without a log has no checkpoint"));
        };
        framed.frame(&[&serde_json::to_vec(&header)?])?;
        for (name, service) in unfollowed(&self.catalog) {
            framed.frame(&[&serde_json::to_vec(&(name, service.revision()))?])?;
        }
        for kept in self.catalog.entries() {
            framed.frame(&[&kept.last_sequence.to_be_bytes(), &kept.entry.canonical_bytes()])?;
        }
        let checksum: [u8; super::CHECKSUM_BYTES] = framed.hash.finalize().into();
        framed.out.write_all(&checksum)?;
        let bytes = framed.bytes + u64::try_from(checksum.len()).unwrap_or(0);
        Ok(Written { bytes, checksum })
    }
}

fn header(checkpoint: &Checkpoint) -> Option<Header> {
    let catalog = &checkpoint.catalog;
    let (epoch, last_event) = (catalog.epoch?, catalog.last_event()?);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Some(Header {
        epoch: epoch.id,
        previous_epoch: epoch.previous,
        epoch_began_at: epoch.began_at,
        state: epoch.state,
        fold_version: epoch.fold_version,
        revision: catalog.revision,
        stream_time: catalog.stream_time,
        last_event_id: last_event.id.as_deref().map(str::to_owned),
        last_event_at: last_event.at,
        stream_created_at: checkpoint.stream_created_at,
        digest: catalog.digest,
        services: count(unfollowed(catalog).count()),
        entries: catalog.instances_count() + count(catalog.tombstones_count()) + count(catalog.intents_count()),
    })
}

/// Services whose revision is not that of the last change of one of their instances.
fn unfollowed(catalog: &Catalog) -> impl Iterator<Item = (&muster_schemas::ServiceName, &Service)> {
    let followed = |service: &Service| service.instances().map(|instance| instance.modified_revision).max();
    catalog.services().filter(move |(_, service)| followed(service).unwrap_or(0) != service.revision())
}

struct Framed<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Framed<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        self.out.write_all(bytes)
    }

    fn frame(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(|_| io::Error::other("an entry is larger than 4 GiB"))?;
        self.put(&length.to_be_bytes())?;
        parts.iter().try_for_each(|part| self.put(part))
    }
}
