//! Seeded histories in virtual time: agents, registries and consumers as they are, on a simulated broker, with every kind of
//! fault; after every step nobody who lives is missing, and no view that calls itself verified is wrong.

mod agents;
mod broker;
mod checkpoints;
mod consumers;
mod coverage;
mod faults;
mod history;
mod link;
mod operators;
mod oracle;
mod outages;
mod plan;
mod queries;
mod random;
mod registries;
mod run;
mod servers;
mod shrink;
mod stream;
mod truth;
mod views;
mod wire;
mod world;

use plan::Plan;
use run::Orders;
use world::Trace;

/// The registry's own. A seventh of a history was spent in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn nobody_who_lives_is_removed_and_no_verified_view_is_wrong() {
    match Orders::from_surroundings() {
        Orders::Replay(plan) => replay(&plan),
        Orders::Many(range) => run::many(&range),
    }
}

/// Every line of one history.
fn replay(plan: &Plan) {
    match history::try_run(plan, Trace::Printed) {
        Ok(coverage) => println!("seed {} breaks nothing\n{coverage}", plan.seed),
        Err(broken) => panic!("seed {}: {}", plan.seed, broken.failure),
    }
}

#[test]
fn a_history_is_the_same_each_time() {
    for seed in 0..3 {
        let counts = || {
            let coverage = history::try_run(&Plan::whole(seed), Trace::Off);
            coverage.map(|coverage| (coverage.events, coverage.virtual_ms, coverage.appended))
        };
        assert_eq!(counts().ok(), counts().ok(), "seed {seed}");
    }
}
