//! Finds service instances by push: asks once, then is told of every change.
//!
//! * [`Discovery::instances`] answers at once, from a list that is kept up to date.
//! * [`Discovery::watch`] delivers the list, then every difference, each with its cause.
//! * There are three answers, never confused: instances; *proven empty*; *unknown since* a moment, with the last good
//!   list kept ([`Snapshot::answer`]).
//!
//! Underneath, a consumer subscribes to changes and proves to itself that none is missing: every change carries its
//! service's previous revision and the digest afterwards, and a pulse says every 2 s which revisions there are. What does
//! not fit is repaired by a snapshot.

mod cache;
pub mod change;
mod clock;
pub mod core;
pub mod discovery;
mod driver;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod feed;
pub mod filter;
mod query;
mod signals;
pub mod snapshot;
pub mod watch;

pub use change::{Change, Update, Why};
pub use discovery::{Builder, Discovery};
pub use error::{Error, ErrorKind};
pub use filter::Filter;
pub use muster_schemas as schemas;
pub use muster_schemas::{Cause, HealthStatus, Instance};
pub use snapshot::{Answer, Snapshot, State};
pub use watch::Watch;
