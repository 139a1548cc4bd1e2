//! The `muster` command: look at, watch and operate the registry of a namespace.

mod ask;
mod at;
mod columns;
mod commands;
mod error;
mod session;
mod settings;
mod show;
mod story;

use std::process::ExitCode;

use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::settings::Program;

use crate::settings::CliSettings;

#[tokio::main]
async fn main() -> ExitCode {
    let program = Program::new("cli");
    let loaded = program.load_or_exit::<CliSettings>();
    loaded.settings.log.start_at("warn");
    loaded.log_warnings();
    match commands::run(&program, loaded.settings).await {
        Ok(()) => Exit::Success.into(),
        Err(error) => error.exit().report("muster", error),
    }
}
