//! Damps a check: its verdict changes only after enough results in a row that say otherwise.

use muster_schemas::HealthStatus;

/// How many results in a row it takes to change a verdict; 0 counts as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Critical results until the verdict is critical.
    pub failures: u32,
    /// Results that are not critical until the verdict is the last of them.
    pub successes: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { failures: 3, successes: 2 }
    }
}

/// A check's damped status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    status: HealthStatus,
    /// Results in a row that speak against the status, all critical or all not.
    against: u32,
    against_is_critical: bool,
}

impl Verdict {
    /// The first result stands as it is.
    #[must_use]
    pub fn new(first: HealthStatus) -> Self {
        Self { status: first, against: 0, against_is_critical: false }
    }

    /// The status in force.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.status
    }

    /// Takes one result; true if it changed the status.
    pub fn observe(&mut self, result: HealthStatus, thresholds: Thresholds) -> bool {
        if result == self.status {
            self.against = 0;
            return false;
        }
        let is_critical = result == HealthStatus::Critical;
        if self.against_is_critical != is_critical {
            self.against_is_critical = is_critical;
            self.against = 0;
        }
        self.against = self.against.saturating_add(1);
        let needed = if is_critical { thresholds.failures } else { thresholds.successes };
        if self.against < needed {
            return false;
        }
        self.status = result;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use HealthStatus::{Critical, Passing, Warning};

    fn statuses(first: HealthStatus, results: &[HealthStatus]) -> Vec<HealthStatus> {
        let mut verdict = Verdict::new(first);
        let after = |result: &HealthStatus| {
            verdict.observe(*result, Thresholds::default());
            verdict.status()
        };
        results.iter().map(after).collect()
    }

    #[test]
    fn three_failures_in_a_row_make_it_critical_and_two_successes_bring_it_back() {
        let seen = statuses(Passing, &[Critical, Critical, Critical, Passing, Passing]);
        assert_eq!(seen, [Passing, Passing, Critical, Critical, Passing]);
    }

    #[test]
    fn a_single_failure_changes_nothing() {
        let seen = statuses(Passing, &[Critical, Critical, Passing, Critical, Critical, Passing]);
        assert!(seen.iter().all(|status| *status == Passing), "{seen:?}");
    }

    #[test]
    fn a_service_that_flaps_at_every_check_is_held_on_either_side() {
        let flapping: Vec<HealthStatus> = [Critical, Passing].into_iter().cycle().take(1_000).collect();
        assert!(statuses(Passing, &flapping).iter().all(|status| *status == Passing));
        assert!(statuses(Critical, &flapping).iter().all(|status| *status == Critical));
    }

    #[test]
    fn warnings_and_successes_together_end_a_critical_verdict() {
        assert_eq!(statuses(Critical, &[Warning, Passing]), [Critical, Passing]);
        assert_eq!(statuses(Critical, &[Passing, Warning]), [Critical, Warning]);
    }

    #[test]
    fn warnings_do_not_count_as_failures() {
        assert_eq!(statuses(Passing, &[Critical, Critical, Warning, Critical]), [Passing; 4]);
    }

    proptest! {
        #[test]
        fn a_verdict_turns_critical_only_after_as_many_failures_in_a_row(
            results in proptest::collection::vec(prop_oneof![Just(Passing), Just(Warning), Just(Critical)], 0..60),
            failures in 1_u32..6,
            successes in 1_u32..6,
        ) {
            let thresholds = Thresholds { failures, successes };
            let mut verdict = Verdict::new(Passing);
            let mut in_a_row = 0;
            for result in results {
                in_a_row = if result == Critical { in_a_row + 1 } else { 0 };
                let before = verdict.status();
                verdict.observe(result, thresholds);
                if before != Critical && verdict.status() == Critical {
                    prop_assert_eq!(in_a_row, failures);
                }
                prop_assert!(in_a_row < failures || verdict.status() == Critical);
            }
        }
    }
}
