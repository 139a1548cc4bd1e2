//! Several replicas on one simulated broker, in virtual time.

mod agents;
mod beginnings;
mod breaks;
mod liveness;
mod publishing;
mod world;
