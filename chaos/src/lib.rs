//! A whole Muster on three brokers, harmed at random by a seed, and an observer of its own that decides who is alive from
//! the faults that were injected, never from what Muster says.
//!
//! `cargo xtask chaos` builds this and runs it.

pub mod kind;
pub mod plan;
pub mod time;
mod pace;
pub mod report;
pub mod truth;
pub mod lines;
mod links;
mod log;
mod load;
mod views;
mod deaths;
pub mod takeovers;
mod judge;
mod stage;
mod faults;
mod broker_faults;
mod checkpoint;
mod clock_step;
pub mod run;
