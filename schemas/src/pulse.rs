//! The publishing replica's word to consumers: "complete up to here".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::EpochId;
use crate::name::ServiceName;

/// How many pulse subjects there are.
pub const BUCKETS: u8 = 64;

/// The bucket of a service: FNV-1a-32 of the name's bytes, modulo 64.
///
/// FNV-1a as in <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>, the hash of the server's `partition` mapping.
#[must_use]
pub fn bucket(service: &ServiceName) -> u8 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in service.as_str().bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    u8::try_from(hash % u32::from(BUCKETS)).unwrap_or(0)
}

/// State of a replica's catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CatalogState {
    /// Folding towards the end of the log; answers only `query.status`.
    Warming,
    /// A new log after a lost one: absence proves nothing yet.
    Recovering,
    /// Absence means absent.
    Ready,
}

/// All changes of a bucket's services in `(from, to]` have been sent, and these are the services that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Pulse {
    /// Wire version.
    pub v: u32,
    /// The log.
    pub epoch: EpochId,
    /// Which services: see [`bucket`].
    pub bucket: u8,
    /// Exclusive start of the range.
    pub from: u64,
    /// Inclusive end of the range.
    pub to: u64,
    /// The services that changed in the range, each with its revision at `to`.
    pub services: BTreeMap<ServiceName, u64>,
    /// Milliseconds since the log was last known to end at `to` or before.
    pub head_age_ms: u64,
    /// `recovering` or `ready`.
    pub state: CatalogState,
}
