//! Waiting for a condition, with a deadline that says what it last saw.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Asks `probe` every 10 ms until it answers `Ok`, and returns what it answered.
///
/// # Panics
/// At the deadline, with `what` was waited for and the last `Err`: what was there instead. A probe that hangs is cut
/// off at the deadline too.
#[track_caller]
pub fn eventually<T, E, P>(what: impl Into<String>, deadline: Duration, mut probe: P) -> impl Future<Output = T>
where
    E: Display,
    P: AsyncFnMut() -> Result<T, E>,
{
    let (what, caller) = (what.into(), Location::caller());
    async move {
        let end = Instant::now() + deadline;
        let mut ticks = ticks();
        let mut last_seen = "nothing, the first look did not end".to_owned();
        let mut looks = 0_u64;
        loop {
            ticks.tick().await;
            match timeout_at(end, probe()).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(seen)) => last_seen = seen.to_string(),
                Err(_) => last_seen = format!("a look that did not end; before it: {last_seen}"),
            }
            looks += 1;
            assert!(
                Instant::now() < end,
                "not within {deadline:?}: {what}\n  last saw: {last_seen}\n  looked {looks} times, waited at {caller}"
            );
        }
    }
}

/// Asks `probe` every 10 ms for the whole `duration`.
///
/// # Panics
/// As soon as it answers `Err`, with that answer and how long the condition had held.
#[track_caller]
pub fn throughout<E, P>(what: impl Into<String>, duration: Duration, mut probe: P) -> impl Future<Output = ()>
where
    E: Display,
    P: AsyncFnMut() -> Result<(), E>,
{
    let (what, caller) = (what.into(), Location::caller());
    async move {
        let start = Instant::now();
        let mut ticks = ticks();
        while start.elapsed() < duration {
            ticks.tick().await;
            if let Err(seen) = probe().await {
                panic!("no longer true after {:?}: {what}\n  saw: {seen}\n  asserted at {caller}", start.elapsed());
            }
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests;
