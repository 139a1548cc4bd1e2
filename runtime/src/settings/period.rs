//! A span of time as people write it: `500ms`, `2s`, `5m`, `24h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time in whole milliseconds, for settings; at most about 292 million years, so arithmetic is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

/// Units and their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Period {
    /// This many milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// This many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a whole number and a unit (ms, s, m, h, d), for instance 500ms, 2s or 5m")]
pub struct PeriodError;

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(PeriodError)?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| PeriodError)?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or(PeriodError)?;
        number.checked_mul(*unit_ms).map(Self).ok_or(PeriodError)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().find(|(_, unit_ms)| self.0 >= *unit_ms && self.0.is_multiple_of(*unit_ms));
        let (name, unit_ms) = fits.unwrap_or(&("ms", 1));
        write!(f, "{}{name}", self.0 / unit_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_and_shown_in_its_largest_whole_unit() {
        for (text, ms, shown) in [
            ("500ms", 500, "500ms"),
            ("2s", 2_000, "2s"),
            ("120s", 120_000, "2m"),
            ("1d", 86_400_000, "1d"),
            ("0s", 0, "0ms"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.as_ms(), period.to_string().as_str()), (ms, shown), "{text}");
        }
    }

    #[test]
    fn a_number_without_unit_a_fraction_and_an_overflow_are_refused() {
        for text in ["10", "1.5s", "", "s", "10 parsecs", "99999999999999999999s", "18446744073709551615d", "-1s"] {
            assert_eq!(text.parse::<Period>(), Err(PeriodError), "{text}");
        }
    }
}
