//! Several replicas on one simulated broker, in virtual time.

mod agents;
mod beginnings;
mod breaks;
mod checkpoints;
mod liveness;
mod publishing;
mod state;
mod store;
mod world;
