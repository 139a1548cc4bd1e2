//! Muster on a cluster of three brokers with a replicated stream, shown on real processes: elections, and brokers that are cut
//! off together with their agents and consumers.

#[path = "../scenarios/observer.rs"]
#[allow(dead_code)] // the reason: it is shared with the scenarios on one broker, and not all of it is needed here
mod observer;
mod world;

mod elections;
mod partitions;
mod replicas;
