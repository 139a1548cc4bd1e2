//! Runs `cargo test`, shows its output as it comes, and counts what the test binaries report.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result};

use super::report::{Counts, Outcome};
use crate::workspace;

pub(super) fn cargo_test(targets: &[&str], threads: Option<usize>) -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(targets);
    command.env("MUSTER_TEST_NATS_SERVER", workspace::nats_server());
    if let Some(threads) = threads
        && std::env::var_os("RUST_TEST_THREADS").is_none()
    {
        command.env("RUST_TEST_THREADS", threads.to_string());
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut tally = Tally::default();
    show(child.stdout.take().expect("stdout is piped"), &mut tally)?;
    let succeeded = child.wait()?.success();
    Ok(tally.outcome(succeeded))
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
    counts: Counts,
    failures: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.add_summary(rest);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        } else if let Some((name, reason)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            let reason = reason.trim_start_matches(", ");
            self.skipped.push(format!("{name}: {}", if reason.is_empty() { "no reason given" } else { reason }));
        }
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
                "passed" => self.counts.passed += number,
                "failed" => self.counts.failed += number,
                "ignored" => self.counts.skipped += number,
                _ => {}
            }
        }
    }

    /// A run that failed although no test did (it did not build, or a binary crashed) counts as one failure.
    fn outcome(mut self, succeeded: bool) -> Outcome {
        if !succeeded && self.counts.failed == 0 {
            self.counts.failed = 1;
            self.failures.push("a test binary did not build or did not end properly; see above".into());
        }
        Outcome::Ran { counts: self.counts, failures: self.failures, skipped: self.skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str, succeeded: bool) -> (Counts, Vec<String>, Vec<String>) {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        match tally.outcome(succeeded) {
            Outcome::Ran { counts, failures, skipped } => (counts, failures, skipped),
            Outcome::Skipped(why) => panic!("{why}"),
        }
    }

    #[test]
    fn counts_of_several_binaries_are_summed_and_failures_and_skipped_tests_named() {
        let text = "test a::works ... ok\ntest b::breaks ... FAILED\ntest c::root ... ignored, needs root\n\
            test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.69s\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let (counts, failures, skipped) = tally(text, false);
        assert_eq!(counts, Counts { passed: 15, failed: 1, skipped: 2 });
        assert_eq!(failures, ["b::breaks"]);
        assert_eq!(skipped, ["c::root: needs root"]);
    }

    #[test]
    fn a_crashed_or_unbuilt_binary_is_a_failure_although_no_test_failed() {
        let (counts, failures, _) = tally("running 3 tests", false);
        assert_eq!((counts.failed, failures.len()), (1, 1));
    }
}
