//! The view of a consumer as a pure state machine: no clock, no connection, no runtime; time and randomness come in.
//!
//! Public for simulations; programs use [`crate::Discovery`]. It may change with every version.

mod asking;
mod coverage;
mod gaps;
pub mod io;
mod random;
pub mod view;
