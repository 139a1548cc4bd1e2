//! Supervision of services: children, checks, the advertised address, the agent's own name.

pub mod check;
pub mod child;
pub mod core;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
pub mod guard;
pub mod identity;
#[cfg(target_os = "linux")]
mod linux;
pub mod plan;
pub mod route;
pub mod settings;
