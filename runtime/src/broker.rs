//! The connection to the broker: its settings, its first attempt, its life afterwards, and what it is allowed to do.
//!
//! * [`BrokerSettings`] is flattened into every program's settings.
//! * [`BrokerSettings::connect`] answers within about a second, with a connection or with a typed reason that knows its
//!   exit code. [`BrokerSettings::connect_in_background`] never waits; [`Connection::established`] tells when and how.
//! * A [`Connection`] reconnects for ever, the first time at once, later with jitter. [`Connection::state`] always has
//!   the present state and how often it was connected; [`Connection::events`] has what happened, bounded.
//! * [`Connection::verify`] finds out which subjects the broker would silently refuse.
//! * [`Connection::close`] ends a connection and all that belongs to it, for programs that live on.

mod access;
mod backoff;
mod connect;
mod connection;
mod context;
mod credentials;
mod error;
mod link;
mod once;
mod permissions;
mod requirements;
mod settings;

pub use access::Access;
pub use connection::{Connection, Role};
pub use error::BrokerError;
pub use link::{LinkEvent, LinkPhase, LinkState, Operation, Violation};
pub use permissions::Need;
pub use requirements::{SERVER_VERSION_MIN, is_recent_enough};
pub use settings::{BrokerSettings, ServerUrl};
