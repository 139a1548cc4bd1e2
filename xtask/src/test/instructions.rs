//! What the hot paths cost, in instructions: counted, not timed, so that a busy machine says the same as an idle one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::report::Outcome;
use crate::{run, workspace};

/// Path of the example, and what it stands for.
const PATHS: [(&str, &str); 4] = [
    ("fold", "fold one registration"),
    ("heartbeat", "take in one heartbeat"),
    ("encode", "encode one change"),
    ("apply", "read and apply one change"),
];
const PROGRAM: &str = "hot-paths";
/// The difference between a run of so many and one of twice as many is what so many cost.
const TIMES: u64 = 100;
/// Percent by which a path may cost more than it did, by the compiler that it was counted with.
const TOLERANCE: f64 = 10.0;
/// The same by another release of the compiler, whose library is another one, too.
const TOLERANCE_OTHER_COMPILER: f64 = 35.0;
/// Set to write down what is counted now as what is expected from now on.
const ACCEPT: &str = "MUSTER_ACCEPT_INSTRUCTIONS";

/// What is expected: counts, and the release of the compiler that they are of.
#[derive(Debug, Serialize, Deserialize)]
struct Expected {
    compiler: String,
    instructions: BTreeMap<String, u64>,
}

fn expected_file() -> PathBuf {
    workspace::root().join("xtask/instructions.json")
}

/// Skipped where valgrind is absent or made for another processor.
pub(super) fn check() -> Result<Outcome> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(Outcome::Skipped("the expected counts are those of x86-64".into()));
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(Outcome::Skipped("valgrind is not installed (Debian: apt install valgrind)".into()));
    }
    // Where output is kept while it is captured; absent on a fresh clone.
    std::fs::create_dir_all(workspace::tools())?;
    let program = build()?;
    let mut counted = BTreeMap::new();
    for (path, _) in PATHS {
        let (once, twice) = (count(&program, path, TIMES)?, count(&program, path, 2 * TIMES)?);
        counted.insert(path.to_owned(), twice.saturating_sub(once) / TIMES);
    }
    let compiler = compiler()?;
    if std::env::var_os(ACCEPT).is_some() {
        let expected = Expected { compiler: compiler.clone(), instructions: counted.clone() };
        std::fs::write(expected_file(), format!("{}\n", serde_json::to_string_pretty(&expected)?))?;
    }
    let text = std::fs::read_to_string(expected_file()).context("xtask/instructions.json")?;
    let expected: Expected = serde_json::from_str(&text).context("xtask/instructions.json")?;
    let tolerance = if expected.compiler == compiler {
        TOLERANCE
    } else {
        println!(
            "  expected by {}, counted by {compiler}: {TOLERANCE_OTHER_COMPILER} % are allowed",
            expected.compiler
        );
        TOLERANCE_OTHER_COMPILER
    };
    Ok(compare(&expected.instructions, &counted, tolerance))
}

/// Name and release of the compiler, without patch level: `rustc 1.95`.
fn compiler() -> Result<String> {
    let printed = run::quietly(Command::new("rustc").arg("--version"))?;
    let release = printed.split_whitespace().nth(1).context("rustc says no version")?;
    Ok(format!("rustc {}", release.rsplit_once('.').map_or(release, |(minor, _)| minor)))
}

fn build() -> Result<PathBuf> {
    // As the step before built it: not optimised, which counts more of everything, and more of what has become more.
    let arguments = ["build", "--workspace", "--example", PROGRAM];
    if !run::shown_through(workspace::cargo().args(arguments))? {
        bail!("the example was not built");
    }
    Ok(workspace::target().join("debug").join("examples").join(PROGRAM))
}

fn count(program: &PathBuf, path: &str, times: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([path, &times.to_string()]);
    let printed = run::quietly(&mut valgrind)?;
    let line = printed.lines().find_map(|line| line.split_once("Collected :")).context("callgrind counted nothing")?;
    Ok(line.1.trim().parse()?)
}

fn compare(expected: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>, tolerance: f64) -> Outcome {
    let mut dearer = Vec::new();
    for (path, about) in PATHS {
        let (now, before) = (counted.get(path).copied().unwrap_or(0), expected.get(path).copied().unwrap_or(0));
        let percent = (now as f64 / before as f64 - 1.0) * 100.0;
        println!("  {about:<28} {now:>8} instructions, {percent:+.1} % against {before}");
        if now == 0 || before == 0 || percent > tolerance {
            dearer.push(format!("{about}: {now} instead of {before}"));
        } else if percent < -tolerance {
            println!("  {:<28} cheaper than expected: keep it with {ACCEPT}=1 cargo xtask test instructions", "");
        }
    }
    if dearer.is_empty() {
        return Outcome::check(true);
    }
    println!("If that is meant: {ACCEPT}=1 cargo xtask test instructions, and say why in the commit");
    Outcome::failed_check(&dearer.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: [u64; 4]) -> BTreeMap<String, u64> {
        PATHS.iter().zip(of).map(|((path, _), count)| ((*path).to_owned(), count)).collect()
    }

    #[test]
    fn a_path_that_costs_a_fifth_more_fails_and_one_that_costs_less_does_not() {
        let expected = counts([1_000, 1_000, 1_000, 1_000]);
        let passed = Outcome::check(true);
        let compare = |of| compare(&expected, &counts(of), TOLERANCE);
        assert_eq!(compare([1_050, 500, 1_000, 999]), passed);
        assert_ne!(compare([1_000, 1_200, 1_000, 1_000]), passed);
        assert_ne!(compare([0, 1_000, 1_000, 1_000]), passed);
    }
}
