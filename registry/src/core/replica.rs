//! One registry replica, pure: what it knows, and what it does about what happens.

mod timing;

pub use timing::Timing;
