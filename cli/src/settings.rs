//! What every `muster` command shares: the broker, the form of the output, and the list of commands.

use muster_runtime::broker::BrokerSettings;
use muster_runtime::logging::LogSettings;
use muster_runtime::settings::{Check, Settings};

use crate::commands::Command;

/// Look at, watch and operate the services that are registered in a namespace.
#[derive(clap::Parser)]
#[command(
    name = "muster",
    after_help = "Examples:\n  muster dev                        a broker and a registry on this machine, to try things\n  \
                  muster services                   what is registered\n  muster watch orders               every change of a service, as it happens\n  \
                  muster why orders web1-8080       what happened to an instance, in plain words\n  \
                  muster doctor                     what is wrong, and what to do\n\n\
                  Exit codes: 0 done, 1 failed, 64 usage, 69 no usable broker, 77 permission, 78 configuration"
)]
pub(crate) struct CliSettings {
    #[command(flatten)]
    pub(crate) broker: BrokerSettings,
    #[command(flatten)]
    pub(crate) log: LogSettings,
    /// Print JSON for programs instead of tables for people
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Settings for CliSettings {
    fn check(&mut self, check: &mut Check) {
        if self.command.needs_broker() {
            self.broker.check(check);
        }
    }
}
