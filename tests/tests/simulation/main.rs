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
mod queries;
mod random;
mod registries;
mod stream;
mod truth;
mod views;
mod wire;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coverage::Coverage;
use history::Broken;
use world::Trace;

/// How many histories are run, unless `MUSTER_SIMULATION_HISTORIES` says otherwise.
const HISTORIES: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and must be a number")))
}

/// Runs a history; a panic of a core is a broken invariant, too.
fn run(seed: u64, trace: Trace) -> Result<Coverage, Broken> {
    let ran = catch_unwind(AssertUnwindSafe(|| history::run(seed, trace)));
    ran.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let failure = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(Broken { seed, failure: failure.unwrap_or_else(|| "it panicked".to_owned()), last: Vec::new() })
    })
}

#[test]
fn nobody_who_lives_is_removed_and_no_verified_view_is_wrong() {
    if let Some(seed) = number("MUSTER_SIMULATION_SEED") {
        match run(seed, Trace::Printed) {
            Ok(coverage) => println!("seed {seed} breaks nothing\n{coverage}"),
            Err(broken) => panic!("seed {seed}: {}", broken.failure),
        }
        return;
    }
    let histories = number("MUSTER_SIMULATION_HISTORIES").unwrap_or(HISTORIES);
    let first = number("MUSTER_SIMULATION_FIRST").unwrap_or(0);
    let (coverage, broken) = run_all(first, histories);
    println!("{coverage}");
    if let Some(broken) = broken {
        tell(&broken);
    }
    let lacking = coverage.lacking();
    assert!(lacking.is_empty(), "in fewer than {} % of the histories: {}", coverage::PERCENT_MIN, lacking.join(", "));
}

/// On as many threads as there are cores, until one breaks something.
fn run_all(first: u64, histories: u64) -> (Coverage, Option<Broken>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories || stop.load(Ordering::Relaxed) {
                return (coverage, None);
            }
            match run(seed, Trace::Off) {
                Ok(history) => coverage.add(&history),
                Err(broken) => {
                    stop.store(true, Ordering::Relaxed);
                    return (coverage, Some(broken));
                }
            }
        }
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut all = Coverage::default();
    let mut first_broken = None;
    for (coverage, broken) in done {
        all.merge(&coverage);
        first_broken = first_broken.or(broken);
    }
    (all, first_broken)
}

/// Runs a broken history once more, and shows how it ends.
fn tell(broken: &Broken) -> ! {
    let seed = broken.seed;
    if let Err(again) = run(seed, Trace::Kept(VecDeque::new())) {
        for line in &again.last {
            println!("{line}");
        }
    }
    panic!("seed {seed}: {}\nreplay it with MUSTER_SIMULATION_SEED={seed}", broken.failure);
}

#[test]
fn a_history_is_the_same_each_time() {
    for seed in 0..3 {
        let counts = || run(seed, Trace::Off).map(|coverage| (coverage.events, coverage.virtual_ms, coverage.appended));
        assert_eq!(counts().ok(), counts().ok(), "seed {seed}");
    }
}
