//! `cargo xtask simulate`: histories of the simulation, as many as wanted or for hours; or one, step by step.

use std::fs;
use std::io;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::{run, setup, workspace};

/// The test that runs histories.
const TEST: &str = "nobody_who_lives_is_removed_and_no_verified_view_is_wrong";

/// Which histories.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many; 10000 unless --hours is given.
    #[arg(long, value_name = "NUMBER")]
    histories: Option<u64>,
    /// For so long: 0.5 is half an hour.
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    hours: Option<f64>,
    /// The seed of the first one; the others follow.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// Only this one, every line of it.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["histories", "hours", "first", "json"])]
    seed: Option<u64>,
    /// Of that one only these parts: what a shrunk history says of itself.
    #[arg(long, value_name = "PARTS", requires = "seed")]
    parts: Option<String>,
    /// Print the outcome as JSON, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
}

fn hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| format!("{text:?} is no number of hours"))?;
    if (0.01..=10_000.0).contains(&hours) { Ok(hours) } else { Err("must be from 0.01 to 10000".to_owned()) }
}

/// Whether none broke anything, and all kinds of fault were met often enough.
pub(crate) fn simulate(options: &Options) -> Result<bool> {
    setup::compiler_is_there()?;
    let mut command = workspace::cargo();
    command.args(["test", "--profile", "simulation", "--workspace", "--test", "simulation"]);
    command.args(["--", "--nocapture", "--exact", TEST]);
    for name in ["HISTORIES", "FIRST", "SEED", "PARTS", "MINUTES", "REPORT"] {
        command.env_remove(format!("MUSTER_SIMULATION_{name}"));
    }
    if let Some(seed) = options.seed {
        command.env("MUSTER_SIMULATION_SEED", seed.to_string());
        command.envs(options.parts.iter().map(|parts| ("MUSTER_SIMULATION_PARTS", parts)));
        return run::shown_through(&mut command);
    }
    command.env("MUSTER_SIMULATION_FIRST", options.first.to_string());
    if let Some(hours) = options.hours {
        let minutes = (hours * 60.0).ceil();
        command.env("MUSTER_SIMULATION_MINUTES", format!("{minutes:.0}"));
    }
    if options.histories.is_some() || options.hours.is_none() {
        command.env("MUSTER_SIMULATION_HISTORIES", options.histories.unwrap_or(10_000).to_string());
    }
    if !options.json {
        return run::shown_through(&mut command);
    }
    let report = workspace::target().join(format!("simulation-{}.json", std::process::id()));
    command.env("MUSTER_SIMULATION_REPORT", &report).stdout(Stdio::from(io::stderr()));
    let passed = run::shown_through(&mut command)?;
    let outcome = fs::read_to_string(&report).context("the simulation told no outcome; what it said is above")?;
    // Scratch space below `target`.
    let _ = fs::remove_file(&report);
    println!("{outcome}");
    Ok(passed)
}
