//! Many histories, on as many threads as there are cores: how far it is, what they met, and which broke something.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::coverage::{self, Coverage};
use super::history::{self, Broken};
use super::plan::Plan;
use super::shrink::shrink;
use super::world::Trace;

/// How many histories are run, unless `MUSTER_SIMULATION_HISTORIES` says otherwise.
const HISTORIES: u64 = 300;
/// After so many that broke something no more are run.
const BROKEN_MAX: usize = 10;
/// So many of them are shrunk to a story.
const STORIES_MAX: usize = 2;
/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(20);

/// What the environment wants.
pub(crate) enum Orders {
    Replay(Plan),
    Many(Range),
}

/// Which histories.
pub(crate) struct Range {
    first: u64,
    /// As many as there is time for if there is none.
    histories: Option<u64>,
    until: Option<Instant>,
    /// Where to write the outcome for a program.
    report: Option<std::path::PathBuf>,
}

impl Orders {
    pub(crate) fn from_surroundings() -> Self {
        if let Some(seed) = number("MUSTER_SIMULATION_SEED") {
            let parts = std::env::var("MUSTER_SIMULATION_PARTS").ok();
            let plan = parts.map(|parts| Plan::parse(seed, &parts).unwrap_or_else(|error| panic!("{error}")));
            return Self::Replay(plan.unwrap_or_else(|| Plan::whole(seed)));
        }
        let minutes = number("MUSTER_SIMULATION_MINUTES");
        let histories = number("MUSTER_SIMULATION_HISTORIES");
        Self::Many(Range {
            first: number("MUSTER_SIMULATION_FIRST").unwrap_or(0),
            histories: histories.or(minutes.is_none().then_some(HISTORIES)),
            until: minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes)),
            report: std::env::var_os("MUSTER_SIMULATION_REPORT").map(Into::into),
        })
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and must be a number")))
}

/// Past the test's own capture of output: this is to be seen of a test that passes, too.
fn tell(words: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading.
    let _ = writeln!(out, "{words}").and_then(|()| out.flush());
}

/// What the threads share.
struct Shared {
    next: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
    broken: Mutex<Vec<Broken>>,
    begun: Instant,
    /// When it last said how far it is.
    said: Mutex<Instant>,
}

/// Runs them.
///
/// # Panics
/// If one broke something, or too few met some kind of fault.
pub(crate) fn many(range: &Range) {
    let begun = Instant::now();
    let shared = Shared {
        next: AtomicU64::new(range.first),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        broken: Mutex::default(),
        begun,
        said: Mutex::new(begun),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let coverage = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(range, &shared))).collect();
        let mut all = Coverage::default();
        for thread in running {
            all.merge(&thread.join().expect("panics of histories are caught"));
        }
        all
    });
    let mut broken = shared.broken.into_inner().expect("nobody panics with it");
    broken.sort_by_key(|broken| broken.plan.seed);
    tell(&format!("{coverage}in {} s on {threads} threads", begun.elapsed().as_secs()));
    let broken: Vec<Broken> =
        broken.into_iter().enumerate().map(|(index, broken)| tell_broken(index, broken)).collect();
    let lacking = coverage.lacking();
    if let Some(path) = &range.report {
        let written = std::fs::write(path, report(range, &coverage, &broken, begun.elapsed()).to_string());
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    assert!(broken.is_empty(), "{} histories broke an invariant; see above", broken.len());
    assert!(lacking.is_empty(), "in fewer than {} % of the histories: {}", coverage::PERCENT_MIN, lacking.join(", "));
}

fn work(range: &Range, shared: &Shared) -> Coverage {
    let mut coverage = Coverage::default();
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        let is_over = range.histories.is_some_and(|histories| seed - range.first >= histories)
            || range.until.is_some_and(|until| Instant::now() >= until);
        if is_over || shared.stop.load(Ordering::Relaxed) {
            return coverage;
        }
        match history::try_run(&Plan::whole(seed), Trace::Off) {
            Ok(history) => coverage.add(&history),
            Err(broken) => {
                tell(&format!("seed {seed}: {}", broken.failure));
                let mut all = shared.broken.lock().expect("nobody panics with it");
                all.push(broken);
                if all.len() >= BROKEN_MAX {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        let done = shared.done.fetch_add(1, Ordering::Relaxed) + 1;
        say_how_far(range, shared, done);
    }
}

fn say_how_far(range: &Range, shared: &Shared, done: u64) {
    let Ok(mut said) = shared.said.try_lock() else { return };
    if said.elapsed() >= PROGRESS {
        *said = Instant::now();
        let rate = done * 1_000 / u64::try_from(shared.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let of = range.histories.map(|histories| format!(" of {histories}")).unwrap_or_default();
        let broken = shared.broken.lock().map_or(0, |broken| broken.len());
        tell(&format!("{done}{of} histories, {rate} a second, {broken} broke an invariant"));
    }
}

/// Shrinks the first ones, and shows what is left of them.
fn tell_broken(index: usize, broken: Broken) -> Broken {
    if index >= STORIES_MAX {
        return broken;
    }
    let shrunk = shrink(broken);
    let Err(shown) = history::try_run(&shrunk.plan, Trace::kept()) else { return shrunk };
    tell(&format!("\nseed {}, what is done in it:\n{}", shown.plan.seed, shown.story.join("\n")));
    tell(&format!("and what happens last:\n{}", shown.last.join("\n")));
    tell(&format!("{}\nreplay it with {}\n", shown.failure, replay(&shown)));
    shown
}

fn replay(broken: &Broken) -> String {
    format!("cargo xtask simulate --seed {} --parts {}", broken.plan.seed, broken.plan)
}

fn report(range: &Range, coverage: &Coverage, broken: &[Broken], took: Duration) -> serde_json::Value {
    let broken: Vec<_> = broken
        .iter()
        .map(|broken| {
            json!({
                "seed": broken.plan.seed,
                "failure": broken.failure,
                "parts": broken.plan.to_string(),
                "story": broken.story,
            })
        })
        .collect();
    json!({
        "first_seed": range.first,
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "coverage": coverage.json(),
        "lacking": coverage.lacking(),
        "broken": broken,
    })
}
