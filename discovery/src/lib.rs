//! Finds service instances by push: asks once, then is told of every change.
//!
//! * [`Discovery::instances`] answers at once, from a list that is kept up to date.
//! * [`Discovery::watch`] delivers the list, then every difference, each with its cause.
//! * There are three answers, never confused: instances; *proven empty*; *unknown since* a moment, with the last good
//!   list kept ([`Snapshot::answer`]).
//!
//! [`Registrar`] is the other side: it registers what a program itself provides, and vouches for it as long as it lives.
//!
//! Underneath, a consumer subscribes to changes and proves to itself that none is missing: every change carries its
//! service's previous revision and the digest afterwards, and a pulse says every 2 s which revisions there are. What does
//! not fit is repaired by a snapshot.

pub mod discovery;
pub mod snapshot;
pub mod watch;
pub mod change;
pub mod filter;
pub mod error;

#[cfg(feature = "registrar")]
pub mod registrar;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

// For other programs that ask registries.
pub mod hedge;

// Inside: the view decides (core), the driver does, the feed hands on.
pub mod core;
mod driver;
mod feed;
mod query;
mod signals;
mod connection;
mod cache;
mod clock;

pub use change::{Change, Update, Why};
pub use discovery::{Builder, Discovery};
pub use error::{Error, ErrorKind};
pub use filter::Filter;
pub use muster_schemas as schemas;
pub use muster_schemas::{Cause, HealthStatus, Instance};
#[cfg(feature = "registrar")]
pub use registrar::{Description, Registered, Registrar};
pub use snapshot::{Answer, Snapshot, State};
pub use watch::Watch;
