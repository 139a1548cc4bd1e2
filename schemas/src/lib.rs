//! What Muster says on the wire, and nothing else: names, subjects, events, heartbeats, changes, pulses, queries, digests.
//!
//! Everything here is plain data: no clock, no runtime, no broker. A name or id is parsed once, at the edge, and trusted
//! from then on. Whoever stores a value keeps the fields that it does not know (`extra`), so that an older registry
//! passes on what a newer agent says.

// Names and moments.
pub mod name;
pub mod id;
pub mod revision;
pub mod timestamp;
pub mod text;
pub mod labels;
pub mod extra;
mod object;
mod shared;
mod tight;
mod wide;
pub mod limits;
pub mod refusal;
pub mod subject;

// What is in the log, and what a catalog makes of it.
pub mod event;
pub mod encode;
pub mod instance;
pub mod health;
pub mod entry;
pub mod digest;

// What is said beside the log.
pub mod change;
pub mod pulse;
pub mod query;
pub mod history;
pub mod heartbeat;
pub mod agent;
pub mod beacon;
pub mod alarm;

#[cfg(feature = "json-schema")]
pub mod json_schema;

pub use change::{Cause, Change, ChangeKind};
pub use digest::Digest;
pub use event::{Event, EventData, EventKind, Source};
pub use extra::Extra;
pub use health::{Health, HealthStatus};
pub use id::{EpochId, Incarnation, SessionId};
pub use instance::{Instance, Registration, Vouching};
pub use labels::Labels;
pub use name::{AgentId, InstanceId, Namespace, OperatorName, Prefix, ReplicaId, ServiceName};
pub use revision::{MinRevision, Revision};
pub use subject::Subjects;
pub use text::Text;
pub use timestamp::Timestamp;

/// Version of the wire format (`v` in heartbeats, changes, pulses, beacons and replies).
pub const WIRE_VERSION: u32 = 1;

/// Version of the fold that a new log starts with: which events are accepted, and what they do.
pub const FOLD_VERSION: u32 = 1;
