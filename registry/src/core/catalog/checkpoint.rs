//! A catalog as bytes, whole: what a replica can begin from instead of the beginning of its log.
//!
//! The bytes are: the line `muster checkpoint 1`; frames, each a length (four bytes, big-endian) and so many bytes; the
//! SHA-256 of all before it. The first frame is the header, JSON, which says how many follow: first services whose
//! revision does not follow from their instances (`["<service>",<revision>]`), then all entries in canonical order, each as
//! its last sequence (eight bytes, big-endian) and its canonical bytes. The same catalog always gives the same bytes.

mod gathering;
mod reading;
mod restore;
mod stretch;
mod write;

use muster_schemas::pulse::CatalogState;
use muster_schemas::{Digest, EpochId, Revision, Timestamp};
use serde::{Deserialize, Serialize};

pub use reading::{Batch, ReadBatch, Readers};
pub use restore::Restoring;
pub use write::Written;

use super::Catalog;
use super::vouched::{AllVouched, Vouched};

/// The only format that this software writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What the bytes begin with; the format's version and a line feed follow.
const MAGIC: &str = "muster checkpoint ";
/// The largest frame that is read; the largest entry is far below it.
const FRAME_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;
/// Bytes before an entry, for its last sequence.
const SEQUENCE_BYTES: usize = 8;

/// A catalog with what must be kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    catalog: Catalog,
    revision: Revision,
    stream_created_at: Option<Timestamp>,
    /// Known after reading; of none if it was not read.
    vouched: AllVouched,
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    epoch: EpochId,
    previous_epoch: Option<EpochId>,
    epoch_began_at: Timestamp,
    state: CatalogState,
    fold_version: u32,
    revision: u64,
    stream_time: Timestamp,
    last_event_id: Option<String>,
    last_event_at: Timestamp,
    /// When the stream was created that held the log, if that is known.
    stream_created_at: Option<Timestamp>,
    digest: Digest,
    services: u64,
    entries: u64,
}

/// Why bytes are no checkpoint that can be begun from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They do not begin as a checkpoint does.
    #[error("not a checkpoint: it does not begin with `muster checkpoint`")]
    NotACheckpoint,
    /// Another software wrote it.
    #[error("its format is version {found}, and this software reads version {FORMAT_VERSION} only")]
    OtherFormat {
        /// The version that it names, cut to 16 characters.
        found: String,
    },
    /// It holds what another fold made.
    #[error("its fold version is {found}, which this software does not have: upgrade it")]
    OtherFold {
        /// The version.
        found: u32,
    },
    /// It ends before its end.
    #[error("it ends after {bytes} bytes, in the middle: it was cut off while it was written")]
    CutOff {
        /// So many bytes there are.
        bytes: u64,
    },
    /// Its bytes are not those that were written.
    #[error("it is corrupt: {reason}")]
    Corrupt {
        /// What does not fit.
        reason: String,
    },
}

impl CheckpointError {
    /// Another version of this software could read it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::OtherFormat { .. } | Self::OtherFold { .. })
    }

    fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into() }
    }
}

impl Checkpoint {
    /// Of a catalog; `None` while no log is in force, or before its first event. `stream_created_at`: when the stream was
    /// created that holds its log.
    #[must_use]
    pub fn of(catalog: &Catalog, stream_created_at: Option<Timestamp>) -> Option<Self> {
        let revision = catalog.position()?;
        catalog.last_event()?;
        Some(Self { catalog: catalog.clone(), revision, stream_created_at, vouched: AllVouched::default() })
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Its position: what the checkpoint is called by.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What leases need of its instances, in their order, as far as that is known from reading it: of all or of none.
    pub(crate) fn vouched(&self) -> impl Iterator<Item = Vouched> {
        let of_all = u64::try_from(self.vouched.count()) == Ok(self.catalog.instances_count());
        self.vouched.iter().take(if of_all { usize::MAX } else { 0 })
    }

    /// When the stream was created that held its log, if that is known.
    #[must_use]
    pub fn stream_created_at(&self) -> Option<Timestamp> {
        self.stream_created_at
    }
}

/// The name of a checkpoint: the epoch and the zero-padded sequence, so that names are in the order of revisions.
#[must_use]
pub fn name(revision: Revision) -> String {
    format!("{}-{:020}", revision.epoch(), revision.sequence())
}

/// The revision that a name stands for; `None` if it is not the name of a checkpoint.
#[must_use]
pub fn revision_of(checkpoint_name: &str) -> Option<Revision> {
    let (epoch, sequence) = checkpoint_name.split_once('-')?;
    let revision = Revision(epoch.parse().ok()?, sequence.parse().ok()?);
    (name(revision) == checkpoint_name).then_some(revision)
}
