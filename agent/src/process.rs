//! Supervision of services: children, checks, the advertised address, the agent's own name.

pub mod advertise;
pub mod check;
pub mod child;
pub mod core;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
pub mod guard;
pub mod identity;
#[cfg(target_os = "linux")]
mod linux;
pub mod meters;
pub mod plan;
pub mod route;
mod say;
pub mod service;
pub mod settings;
