//! What must hold under faults, shown on real processes: each scenario starts its own broker, registries, agents and an
//! observer, does something to them, and asserts what the observer, a consumer, saw.

mod stalls;
mod changes;
#[path = "../discovery/relay.rs"]
mod relay;
mod observer;
mod world;

mod service_and_agent;
mod deaths;
mod advisories;
mod registry;
mod publishing;
mod recovery;
mod intents;
mod broker;
mod proposals;
mod losses;
mod crowd;
mod refusals;
mod consumer;
mod clocks;
