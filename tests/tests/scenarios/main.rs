//! What must hold under faults, shown on real processes: each scenario starts its own broker, registries, agents and an
//! observer, does something to them, and asserts what the observer, a consumer, saw.

mod observer;
mod world;

mod advisories;
mod broker;
mod consumer;
mod recovery;
mod registry;
mod service_and_agent;
