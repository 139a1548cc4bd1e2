//! At most one line per key and interval, with the number of those left out; a bounded number of keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys that are told apart; those beyond share one place, so that a flood of keys is limited as well.
const KEYS_MAX: usize = 256;

/// Decides which lines may be written. Time is an argument.
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    keys: HashMap<String, Place>,
    others: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    written: Instant,
    suppressed: u64,
}

impl LogLimit {
    /// One line per key in `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, keys: HashMap::new(), others: None }
    }

    /// `Some` if a line may be written at `now`, with the number of lines left out since the last one.
    pub fn allow(&mut self, key: &str, now: Instant) -> Option<u64> {
        if let Some(place) = self.keys.get_mut(key) {
            return place.allow(now, self.interval);
        }
        if self.keys.len() >= KEYS_MAX {
            let interval = self.interval;
            self.keys.retain(|_, place| now.saturating_duration_since(place.written) < interval);
        }
        let fresh = Place { written: now, suppressed: 0 };
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(key.to_owned(), fresh);
            return Some(0);
        }
        match &mut self.others {
            Some(place) => place.allow(now, self.interval),
            none => {
                *none = Some(fresh);
                Some(0)
            }
        }
    }
}

impl Place {
    fn allow(&mut self, now: Instant, interval: Duration) -> Option<u64> {
        if now.saturating_duration_since(self.written) < interval {
            self.suppressed += 1;
            return None;
        }
        self.written = now;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn one_line_per_key_and_interval_with_the_number_left_out() {
        let (mut limit, start) = (LogLimit::new(INTERVAL), Instant::now());
        assert_eq!(limit.allow("a", start), Some(0));
        assert_eq!(limit.allow("b", start), Some(0));
        assert_eq!(limit.allow("a", start + Duration::from_secs(1)), None);
        assert_eq!(limit.allow("a", start + Duration::from_millis(9_999)), None);
        assert_eq!(limit.allow("a", start + INTERVAL), Some(2));
        assert_eq!(limit.allow("a", start + INTERVAL * 2), Some(0));
    }

    #[test]
    fn a_flood_of_keys_is_limited_and_old_keys_make_room() {
        let (mut limit, start) = (LogLimit::new(INTERVAL), Instant::now());
        let written = (0..10_000).filter(|key| limit.allow(&key.to_string(), start).is_some()).count();
        assert_eq!(written, KEYS_MAX + 1);
        assert_eq!(limit.keys.len(), KEYS_MAX);
        assert_eq!(limit.allow("later", start + INTERVAL), Some(0));
        assert_eq!(limit.keys.len(), 1);
    }
}
