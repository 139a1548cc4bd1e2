//! How long to wait before a service that failed is started again.

/// Whether a service that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Its end is final.
    #[default]
    Never,
    /// Started again unless it ended by itself with code 0.
    OnFailure,
}

/// The first wait, in milliseconds.
pub const FIRST_MS: u64 = 1_000;
/// The longest wait, in milliseconds.
pub const LONGEST_MS: u64 = 60_000;
/// A service that lived this long starts from the first wait again, in milliseconds.
pub const FORGIVEN_AFTER_MS: u64 = 60_000;

/// Counts failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure of a service that had lived for `lived_ms`, in milliseconds: doubled each time.
    pub fn failed(&mut self, lived_ms: u64) -> u64 {
        if lived_ms >= FORGIVEN_AFTER_MS {
            self.failures = 0;
        }
        let wait_ms = FIRST_MS.checked_shl(self.failures).unwrap_or(LONGEST_MS).min(LONGEST_MS);
        // The cap keeps the shift from wrapping round; the wait is at its longest long before.
        self.failures = (self.failures + 1).min(16);
        wait_ms
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_starts_anew_after_a_long_life() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..40).map(|_| backoff.failed(10)).collect();
        assert_eq!(waits[..8], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert!(waits[8..].iter().all(|wait_ms| *wait_ms == LONGEST_MS));
        assert_eq!(backoff.failed(FORGIVEN_AFTER_MS), FIRST_MS);
    }
}
