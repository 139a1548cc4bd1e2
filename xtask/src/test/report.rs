//! What each step came to, and the table that says so.

use std::time::Duration;

/// How many of the slowest tests are listed, and from when on a test is slow.
const SLOWEST_SHOWN: usize = 10;
const SLOW: Duration = Duration::from_secs(5);

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ran. A check counts as one test.
    Ran(Tests),
    /// It did not run, and why.
    Skipped(String),
}

/// The tests of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) counts: Counts,
    pub(super) failures: Vec<String>,
    /// With their reasons.
    pub(super) skipped: Vec<String>,
    /// How long each took, where that was told.
    pub(super) times: Vec<(Duration, String)>,
}

/// How many tests came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Outcome {
    pub(super) fn check(passed: bool) -> Self {
        let counts = Counts { passed: passed.into(), failed: (!passed).into(), skipped: 0 };
        Self::Ran(Tests { counts, ..Tests::default() })
    }

    /// A check that failed, and what to do or to look at.
    pub(super) fn failed_check(why: &str) -> Self {
        let counts = Counts { failed: 1, ..Counts::default() };
        Self::Ran(Tests { counts, failures: vec![why.to_owned()], ..Tests::default() })
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Ran(tests) => tests.counts,
            Self::Skipped(_) => Counts { skipped: 1, ..Counts::default() },
        }
    }

    fn failed(&self) -> bool {
        self.counts().failed > 0
    }
}

#[derive(Default)]
pub(super) struct Report {
    steps: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration) {
        self.steps.push((name, outcome, took));
    }

    pub(super) fn failed_step(&self, name: &str) -> bool {
        self.steps.iter().any(|(step, outcome, _)| *step == name && outcome.failed())
    }

    pub(super) fn all_passed(&self) -> bool {
        self.steps.iter().all(|(_, outcome, _)| !outcome.failed())
    }

    pub(super) fn print(&self) {
        print!("\n{}", self.text());
    }

    fn text(&self) -> String {
        let mut text = format!("{:<12} {:<8} {:>9}\n", "step", "result", "time");
        for (name, outcome, took) in &self.steps {
            let (result, detail) = described(outcome);
            let line = format!("{name:<12} {result:<8} {:>7.1} s  {detail}", took.as_secs_f64());
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for (name, outcome, _) in &self.steps {
            if let Outcome::Ran(Tests { failures, skipped, .. }) = outcome {
                skipped.iter().for_each(|test| text.push_str(&format!("skipped in {name}: {test}\n")));
                failures.iter().for_each(|test| text.push_str(&format!("failed in {name}: {test}\n")));
            }
        }
        text.push_str(&self.slowest());
        let took = self.steps.iter().map(|(_, _, took)| took.as_secs()).sum::<u64>();
        text.push_str(&format!("{} min {} s in all\n", took / 60, took % 60));
        let total =
            self.steps.iter().map(|(_, outcome, _)| outcome.counts()).fold(Counts::default(), |sum, counts| Counts {
                passed: sum.passed + counts.passed,
                failed: sum.failed + counts.failed,
                skipped: sum.skipped + counts.skipped,
            });
        text + &format!("{} passed, {} failed, {} skipped\n", total.passed, total.failed, total.skipped)
    }
}

impl Report {
    /// The tests that took longest, where their times were told.
    fn slowest(&self) -> String {
        let tests = self.steps.iter().filter_map(|(step, outcome, _)| match outcome {
            Outcome::Ran(tests) => Some((step, &tests.times)),
            Outcome::Skipped(_) => None,
        });
        let mut times: Vec<_> =
            tests.flat_map(|(step, times)| times.iter().map(move |(took, test)| (took, step, test))).collect();
        times.sort_by(|left, right| right.cmp(left));
        let lines = times.iter().take(SLOWEST_SHOWN).filter(|(took, ..)| **took >= SLOW);
        lines.map(|(took, step, test)| format!("slow in {step}: {test}: {:.1} s\n", took.as_secs_f64())).collect()
    }
}

fn described(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Skipped(why) => ("skipped", why.clone()),
        Outcome::Ran(Tests { counts, .. }) => {
            let result = if outcome.failed() { "FAILED" } else { "passed" };
            let several = counts.passed + counts.failed + counts.skipped > 1;
            let detail = format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
            (result, if several { detail } else { String::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_sums_checks_tests_and_skipped_steps() {
        let mut report = Report::default();
        report.add("format", Outcome::check(true), Duration::from_millis(300));
        let counts = Counts { passed: 40, failed: 1, skipped: 2 };
        let failures = vec!["fold::an_expiry_is_conditional".to_owned()];
        report.add(
            "unit",
            Outcome::Ran(Tests {
                counts,
                failures,
                skipped: vec!["signals: needs root".to_owned()],
                times: [1, 12, 7].map(|seconds| (Duration::from_secs(seconds), format!("takes_{seconds}"))).into(),
            }),
            Duration::from_secs(61),
        );
        report.add("advisories", Outcome::Skipped("not reachable".into()), Duration::ZERO);
        let text = report.text();
        assert_eq!(text.lines().last(), Some("41 passed, 1 failed, 3 skipped"));
        assert!(text.contains("failed in unit: fold::an_expiry_is_conditional"), "{text}");
        assert!(text.contains("advisories   skipped      0.0 s  not reachable"), "{text}");
        assert!(text.contains("slow in unit: takes_12: 12.0 s\nslow in unit: takes_7: 7.0 s\n"), "{text}");
        assert!(!text.contains("takes_1:") && text.contains("1 min 1 s in all"), "{text}");
        assert!(!report.all_passed() && report.failed_step("unit") && !report.failed_step("format"));
    }

    #[test]
    fn a_failed_check_alone_fails_the_whole() {
        let mut report = Report::default();
        report.add("clippy", Outcome::check(false), Duration::ZERO);
        assert!(!report.all_passed());
        assert_eq!(report.text().lines().last(), Some("0 passed, 1 failed, 0 skipped"));
    }
}
