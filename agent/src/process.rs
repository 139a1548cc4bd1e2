//! Supervision of services: children, checks, the advertised address, the agent's own name.

pub mod core;
