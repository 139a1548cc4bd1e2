//! Several replicas on one simulated broker, in virtual time.

mod agents;
mod beginnings;
mod breaks;
mod broker_words;
mod checkpoints;
mod divergence;
mod duplicates;
mod evidence;
mod liveness;
mod publishing;
mod seen;
mod state;
mod store;
mod storms;
mod versions;
mod world;
