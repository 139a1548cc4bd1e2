//! Vouches for service instances: registers them, heartbeats, answers for them, takes them back.

#[cfg(feature = "process")]
pub mod process;
