//! What the supervision of a service decides, and nothing that does it: time is an argument, effects are data.

pub mod address;
pub mod backoff;
pub mod supervision;
pub mod thresholds;
