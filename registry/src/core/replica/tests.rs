//! Several replicas on one simulated broker, in virtual time.

mod agents;
mod beginnings;
mod breaks;
mod broker_words;
mod checkpoints;
mod divergence;
mod evidence;
mod liveness;
mod publishing;
mod state;
mod store;
mod versions;
mod world;
