//! How long to wait before the next attempt to connect: nothing at first, then longer, always with jitter.

use std::time::Duration;

/// Before an attempt that must not come: so long that the runtime has ended by then.
pub(super) const NEVER: Duration = Duration::MAX;

/// The longest wait.
const WAIT_MAX_MS: u64 = 4_000;
/// What the second attempt waits at most; doubled by each further one.
const WAIT_FIRST_MS: u64 = 100;

/// Before attempt number `attempt` (counted from 1 since the last success).
///
/// The first is immediate, so that an agent whose connection alone broke is back within milliseconds. From the second
/// on the wait is anywhere between a quarter and the whole of a limit that doubles: a thousand clients of a broker that
/// restarts come back spread over seconds.
pub(super) fn wait(attempt: usize) -> Duration {
    let limit = limit_ms(attempt);
    Duration::from_millis(if limit == 0 { 0 } else { rand::random_range(limit / 4..=limit) })
}

fn limit_ms(attempt: usize) -> u64 {
    match attempt {
        0 | 1 => 0,
        _ => WAIT_FIRST_MS.saturating_mul(1 << (attempt - 2).min(16)).min(WAIT_MAX_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_immediate_and_later_ones_are_bounded() {
        assert_eq!((wait(0), wait(1)), (Duration::ZERO, Duration::ZERO));
        assert_eq!([2, 3, 4, 8, usize::MAX].map(limit_ms), [100, 200, 400, 4_000, 4_000]);
        for attempt in 2..40 {
            let waited = wait(attempt).as_millis() as u64;
            assert!((limit_ms(attempt) / 4..=limit_ms(attempt)).contains(&waited), "attempt {attempt}: {waited} ms");
        }
    }

    #[test]
    fn waits_differ_from_the_second_attempt_on() {
        let waits: std::collections::BTreeSet<Duration> = (0..50).map(|_| wait(8)).collect();
        assert!(waits.len() > 10, "50 waits had only {} values", waits.len());
    }
}
