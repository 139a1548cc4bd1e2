//! One registry replica, pure: what it knows, and what it does about what happens.

mod continuity;
mod peers;
mod pulses;
mod ring;
mod timing;

pub use timing::Timing;
