//! The registry's daemon: settings, log, exit codes; the work is the library's.

use std::process::ExitCode;

use muster_registry::{RegistryError, RegistrySettings};
use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::logging::LogSettings;
use muster_runtime::settings::{Check, Program, Settings};
use muster_runtime::stop::Stop;

/// A catalog is millions of small pieces: nothing is kept beside each, and what one thread frees another may take.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Folds the log of a namespace into a catalog, publishes its changes and answers queries from it.
#[derive(Debug, clap::Parser)]
#[command(name = "muster-registry")]
struct ProgramSettings {
    #[command(flatten)]
    registry: RegistrySettings,
    #[command(flatten)]
    log: LogSettings,
}

impl Settings for ProgramSettings {
    fn check(&mut self, check: &mut Check) {
        self.registry.check(check);
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let loaded = Program::new("registry").metrics(muster_registry::metric_docs).load_or_exit::<ProgramSettings>();
    loaded.settings.log.start();
    loaded.log_warnings();
    match run(loaded.settings.registry).await {
        Ok(()) => Exit::Success.into(),
        Err(error) => error.exit().report("muster-registry", error),
    }
}

async fn run(settings: RegistrySettings) -> Result<(), RegistryError> {
    let stop = Stop::on_signals().unwrap_or_else(|error| {
        tracing::warn!(%error, "signals are not handled: the process ends without saying goodbye");
        Stop::new()
    });
    muster_registry::run(settings, stop).await
}
