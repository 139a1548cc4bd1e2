//! Runs `cargo test`, shows its output as it comes, and counts what the test binaries report.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::{Counts, Outcome, Tests};
use crate::workspace;

/// Lets test programs, and them alone, tell how long each test took: an option of theirs that is not stable yet.
const RUNNER: &str = "target.'cfg(all())'.runner = ['env', 'RUSTC_BOOTSTRAP=1']";
const TIMES: [&str; 3] = ["--", "-Zunstable-options", "--report-time"];

/// Runs the tests of these targets.
pub(super) fn cargo_test(targets: &[&str], threads: Option<usize>) -> Result<Outcome> {
    cargo_test_told(targets, threads, &[])
}

/// The same, with something in the environment of the tests.
pub(super) fn cargo_test_told(targets: &[&str], threads: Option<usize>, variables: &[(&str, &str)]) -> Result<Outcome> {
    // Documentation tests are small, and run by a program that does not know the option.
    let timed = !targets.contains(&"--doc");
    let (tally, succeeded) = run(targets, threads, variables, timed)?;
    if timed && !succeeded && tally.tests.counts == Counts::default() {
        println!("No test was run; trying again without the times of the tests");
        let (tally, succeeded) = run(targets, threads, variables, false)?;
        return Ok(tally.outcome(succeeded));
    }
    Ok(tally.outcome(succeeded))
}

fn run(targets: &[&str], threads: Option<usize>, variables: &[(&str, &str)], timed: bool) -> Result<(Tally, bool)> {
    let mut command = workspace::cargo();
    if timed {
        command.args(["--config", RUNNER]);
    }
    command.args(["test", "--workspace", "--no-fail-fast"]).args(targets);
    command.args(if timed { TIMES.as_slice() } else { &[] });
    command.env("MUSTER_TEST_NATS_SERVER", workspace::nats_server());
    // What the surroundings say comes first: a seed to replay, or fewer histories.
    command.envs(variables.iter().filter(|(name, _)| std::env::var_os(name).is_none()).copied());
    if let Some(threads) = threads
        && std::env::var_os("RUST_TEST_THREADS").is_none()
    {
        command.env("RUST_TEST_THREADS", threads.to_string());
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut tally = Tally::default();
    show(child.stdout.take().expect("stdout is piped"), &mut tally)?;
    let succeeded = child.wait()?.success();
    Ok((tally, succeeded))
}

fn show(output: ChildStdout, tally: &mut Tally) -> Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let bytes = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&bytes);
        println!("{line}");
        tally.read(&line);
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    tests: Tests,
}

impl Tally {
    fn read(&mut self, line: &str) {
        let line = self.without_time(line);
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.add_summary(rest);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.tests.failures.push(name.to_owned());
        } else if let Some((name, reason)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            let reason = reason.trim_start_matches(", ");
            self.tests.skipped.push(format!("{name}: {}", if reason.is_empty() { "no reason given" } else { reason }));
        }
    }

    /// `test fold::works ... ok <0.012s>`: notes the time, and returns the line as it is without.
    fn without_time<'a>(&mut self, line: &'a str) -> &'a str {
        let parts = line.strip_suffix("s>").and_then(|rest| rest.rsplit_once(" <"));
        let Some((told, seconds)) = parts.filter(|(told, _)| told.starts_with("test ")) else { return line };
        let Ok(seconds) = seconds.parse::<f64>() else { return line };
        let name = told.trim_start_matches("test ").split(" ... ").next().unwrap_or_default();
        self.tests.times.push((Duration::try_from_secs_f64(seconds).unwrap_or_default(), name.to_owned()));
        told
    }

    /// `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.69s`
    fn add_summary(&mut self, summary: &str) {
        let (_, counted) = summary.split_once(". ").unwrap_or(("", summary));
        for part in counted.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.tests.counts.passed += number,
                "failed" => self.tests.counts.failed += number,
                "ignored" => self.tests.counts.skipped += number,
                _ => {}
            }
        }
    }

    /// A run that failed although no test did (it did not build, or a binary crashed) counts as one failure.
    fn outcome(mut self, succeeded: bool) -> Outcome {
        if !succeeded && self.tests.counts.failed == 0 {
            self.tests.counts.failed = 1;
            self.tests.failures.push("a test binary did not build or did not end properly; see above".into());
        }
        Outcome::Ran(self.tests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests_of(text: &str, succeeded: bool) -> Tests {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        match tally.outcome(succeeded) {
            Outcome::Ran(tests) => tests,
            Outcome::Skipped(why) => panic!("{why}"),
        }
    }

    #[test]
    fn counts_of_several_binaries_are_summed_and_failures_and_skipped_tests_named() {
        let text = "test a::works ... ok <1.500s>\ntest b::breaks ... FAILED <0.250s>\ntest c::root ... ignored, needs root\n\
            test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.69s\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let tests = tests_of(text, false);
        assert_eq!(tests.counts, Counts { passed: 15, failed: 1, skipped: 2 });
        assert_eq!(tests.failures, ["b::breaks"]);
        assert_eq!(tests.skipped, ["c::root: needs root"]);
        let times = [(1_500, "a::works"), (250, "b::breaks")];
        assert_eq!(tests.times, times.map(|(took_ms, name)| (Duration::from_millis(took_ms), name.to_owned())));
    }

    #[test]
    fn a_crashed_or_unbuilt_binary_is_a_failure_although_no_test_failed() {
        let tests = tests_of("running 3 tests", false);
        assert_eq!((tests.counts.failed, tests.failures.len()), (1, 1));
    }
}
