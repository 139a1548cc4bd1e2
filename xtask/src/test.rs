//! `cargo xtask test`: every check and every test, one step after the other, and a table at the end.
//!
//! All test steps build with `--workspace` and pick their targets by name: another choice of packages would mean other
//! features for the dependencies, and building them again.

mod deny;
mod instructions;
mod report;
mod runner;
mod targets;

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{bench, chaos, docs, run, schemas, setup, tidy, workspace};
use report::{Outcome, Report};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these steps, in their usual order; all by default.
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Print the names of the steps and what they do.
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Outcome>,
    /// Steps whose failure makes this one pointless.
    after: &'static [&'static str],
}

/// Cheap ones first, so that a slip is told soon; what waits for a broker last.
const STEPS: &[Step] = &[
    Step { name: "machine", about: "what this machine must have", run: machine, after: &[] },
    Step { name: "format", about: "cargo fmt --check", run: format, after: &[] },
    Step { name: "tidy", about: "style that a program can check", run: tidy_up, after: &[] },
    Step { name: "setup", about: "pinned tools", run: run_setup, after: &["machine"] },
    Step { name: "deny", about: "licences, bans and sources of dependencies", run: deny::policy, after: &["setup"] },
    Step { name: "advisories", about: "known weaknesses of dependencies", run: deny::advisories, after: &["setup"] },
    Step { name: "clippy", about: "clippy on all targets, warnings are errors", run: clippy, after: &["machine"] },
    Step { name: "schemas", about: "JSON Schemas are those of the types", run: fresh_schemas, after: &["machine"] },
    Step { name: "build", about: "all binaries and tests", run: build, after: &["machine"] },
    Step { name: "docs", about: "reference pages say what the programs say", run: fresh_docs, after: &["build"] },
    Step { name: "rustdoc", about: "documentation of the code, warnings are errors", run: rustdoc, after: &["build"] },
    Step { name: "unit", about: "unit and property tests", run: unit, after: &["build"] },
    Step { name: "integration", about: "golden payloads, command lines", run: integration, after: &["build"] },
    Step { name: "doc", about: "examples in the documentation", run: doc, after: &["build"] },
    Step {
        name: "simulation",
        about: "seeded histories of the whole in virtual time",
        run: simulation,
        after: &["build"],
    },
    Step {
        name: "instructions",
        about: "what the hot paths cost, counted in instructions",
        run: instructions::check,
        after: &["build"],
    },
    Step { name: "scenarios", about: "the whole on a real nats-server", run: scenarios, after: &["setup", "build"] },
    Step { name: "demo", about: "what `cargo xtask demo` promises", run: demo, after: &["setup", "build"] },
    Step { name: "chaos", about: "three minutes of `cargo xtask chaos`", run: chaos, after: &["setup", "build"] },
];

/// Whether everything passed.
pub(crate) fn test(options: &Options) -> Result<bool> {
    if options.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.about);
        }
        return Ok(true);
    }
    let chosen = chosen(&options.steps)?;
    let mut report = Report::default();
    for (index, step) in chosen.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, chosen.len(), step.name, step.about);
        let started = Instant::now();
        let outcome = match step.after.iter().find(|needed| report.failed_step(needed)) {
            Some(needed) => Outcome::Skipped(format!("the step `{needed}` failed")),
            None => (step.run)().unwrap_or_else(|error| {
                let error = format!("{error:#}");
                println!("error: {error}");
                Outcome::failed_check(error.lines().next().unwrap_or_default())
            }),
        };
        report.add(step.name, outcome, started.elapsed());
    }
    report.print();
    Ok(report.all_passed())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let known: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

fn machine() -> Result<Outcome> {
    setup::everything_is_there()?;
    Ok(Outcome::check(true))
}

fn run_setup() -> Result<Outcome> {
    setup::setup()?;
    Ok(Outcome::check(true))
}

fn format() -> Result<Outcome> {
    let (status, output) = run::captured(workspace::cargo().args(["fmt", "--all", "--", "--check", "-l"]))?;
    if status.success() {
        return Ok(Outcome::check(true));
    }
    println!("{}", output.trim_end());
    Ok(Outcome::failed_check("run `cargo fmt --all`"))
}

fn tidy_up() -> Result<Outcome> {
    tidy::tidy()?;
    Ok(Outcome::check(true))
}

fn clippy() -> Result<Outcome> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Ok(Outcome::check(run::shown_through(workspace::cargo().args(arguments))?))
}

fn build() -> Result<Outcome> {
    Ok(Outcome::check(run::shown_through(workspace::cargo().args(["build", "--workspace", "--all-targets"]))?))
}

fn fresh_schemas() -> Result<Outcome> {
    if schemas::check()? {
        return Ok(Outcome::check(true));
    }
    Ok(Outcome::failed_check("run `cargo xtask schemas` and commit what it writes"))
}

fn fresh_docs() -> Result<Outcome> {
    docs::check()?;
    bench::check()?;
    Ok(Outcome::check(true))
}

fn rustdoc() -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    Ok(Outcome::check(run::shown_through(&mut command)?))
}

/// With the broker that tests use. Nothing else runs beside it: what it promises has a time.
fn demo() -> Result<Outcome> {
    let mut command = Command::new(workspace::target().join("debug").join("muster-demo"));
    command.arg("--nats-server").arg(workspace::nats_server());
    if run::shown_through(&mut command)? {
        return Ok(Outcome::check(true));
    }
    Ok(Outcome::failed_check("a promise was broken; see its table above"))
}

/// The schedule of faults that everybody must pass, and for how long.
const CHAOS_SEED: u64 = 1;
const CHAOS_MINUTES: u64 = 3;

fn chaos() -> Result<Outcome> {
    let mut command = chaos::command(CHAOS_SEED, CHAOS_MINUTES);
    command.arg("--nats-server").arg(workspace::nats_server());
    if run::shown_through(&mut command)? {
        return Ok(Outcome::check(true));
    }
    Ok(Outcome::failed_check("a promise was broken; see the end of its table above, and target/chaos-logs"))
}

fn unit() -> Result<Outcome> {
    runner::cargo_test(&["--lib", "--bins"], None)
}

fn doc() -> Result<Outcome> {
    runner::cargo_test(&["--doc"], None)
}

fn integration() -> Result<Outcome> {
    run_named(&targets::integration()?, None)
}

/// How many histories are enough to pass.
const HISTORIES: &str = "100000";

/// Optimised, or it would take an hour.
fn simulation() -> Result<Outcome> {
    let targets = ["--profile", "simulation", "--test", targets::SIMULATION];
    runner::cargo_test_told(&targets, None, &[("MUSTER_SIMULATION_HISTORIES", HISTORIES)])
}

/// Scenarios mostly wait: twice as many at a time as there are cores.
fn scenarios() -> Result<Outcome> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    run_named(&targets::scenarios()?, Some(2 * cores))
}

fn run_named(targets: &[String], threads: Option<usize>) -> Result<Outcome> {
    if targets.is_empty() {
        return Ok(Outcome::Skipped("there are none".into()));
    }
    let arguments: Vec<&str> = targets.iter().flat_map(|target| ["--test", target]).collect();
    runner::cargo_test(&arguments, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_exist_is_refused_with_those_that_do() {
        let Err(error) = chosen(&["clipy".into()]) else { panic!("it was accepted") };
        assert!(error.to_string().contains("`clipy`") && error.to_string().contains("clippy"), "{error}");
    }

    #[test]
    fn steps_run_in_their_usual_order_and_after_what_they_need() {
        let names: Vec<_> = chosen(&["unit".into(), "format".into()]).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["format", "unit"]);
        for (index, step) in STEPS.iter().enumerate() {
            assert!(step.after.iter().all(|needed| STEPS[..index].iter().any(|earlier| earlier.name == *needed)));
        }
    }
}
