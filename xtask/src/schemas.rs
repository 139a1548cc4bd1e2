//! `cargo xtask schemas`: the JSON Schemas below `schemas/json`, from the Rust types.

use anyhow::Result;

use crate::{run, workspace};

/// Write or compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a schema is not what it should be.
    #[arg(long)]
    check: bool,
}

/// Whether all went well; the generator tells what did not.
pub(crate) fn schemas(options: &Options) -> Result<bool> {
    let mut command = workspace::cargo();
    command.args(["run", "-p", "muster-schemas", "--features", "json-schema", "--example", "json-schemas", "--"]);
    command.args(options.check.then_some("--check"));
    run::shown_through(&mut command)
}

/// The same as `cargo xtask schemas --check`.
pub(crate) fn check() -> Result<bool> {
    schemas(&Options { check: true })
}
