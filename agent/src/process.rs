//! Supervision of services: children, checks, the advertised address, the agent's own name.
//!
//! [`launch`] brings an agent up from its [`settings`]; [`agent`] runs its services side by side; each [`service`]
//! performs what [`core::supervision`] decides, with [`child`] and [`check`] as its hands, and [`vouch`] is the seam to
//! the vouching.

pub mod plan;
pub mod settings;

pub mod advertise;
pub mod identity;
pub mod route;

pub mod agent;
pub mod launch;
pub mod signals;

pub mod core;
pub mod meters;
mod say;
pub mod service;
pub mod vouch;
pub mod vouching;

pub mod check;
pub mod child;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
pub mod guard;
#[cfg(target_os = "linux")]
mod linux;
