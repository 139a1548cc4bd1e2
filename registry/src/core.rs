//! The pure core: no runtime, no broker, no clock; time and randomness are arguments.

pub mod catalog;
pub mod io;
pub mod leases;
pub mod replica;
