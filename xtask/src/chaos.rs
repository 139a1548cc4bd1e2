//! `cargo xtask chaos`: builds the programs, and becomes the run, which is a program of its own.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::{run, setup, workspace};

/// How to harm, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What the schedule of faults follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long faults are injected; fifteen have at least 300 of them.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Where the figures go as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Only returns if it does not get as far as the run.
pub(crate) fn chaos(options: &Options) -> Result<bool> {
    setup::compiler_is_there()?;
    let server = setup::pinned_nats_server()?;
    say!("Building the programs (the first time this takes some minutes)");
    if !run::shown_through(workspace::cargo().args(["build", "--workspace", "--bins"]))? {
        bail!("the programs were not built; cargo's output is above");
    }
    let mut command = command(options.seed, options.minutes);
    command.arg("--nats-server").arg(server);
    if let Some(path) = &options.json {
        command.arg("--json").arg(path);
    }
    // Ctrl-C, standard output and exit code are the run's own from here on.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// A run of the programs as they were built.
pub(crate) fn command(seed: u64, minutes: u64) -> Command {
    let mut command = Command::new(workspace::target().join("debug").join("muster-chaos"));
    command.args(["--seed", &seed.to_string(), "--minutes", &minutes.to_string(), "--logs"]);
    command.arg(workspace::target().join("chaos-logs"));
    command
}
