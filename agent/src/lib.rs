//! Vouches for service instances: registers them, heartbeats for them, answers for them, takes them back.
//!
//! [`vouch`] is the whole of it over a NATS connection, and [`core`] decides; the supervision of processes stands on
//! top, behind the feature `process`.

pub mod vouch;
pub mod core;

#[cfg(feature = "process")]
pub mod process;
