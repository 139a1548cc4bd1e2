//! The pure core: no runtime, no broker, no clock; time and randomness are arguments.

pub mod io;
pub mod catalog;
pub mod leases;
pub mod replica;
