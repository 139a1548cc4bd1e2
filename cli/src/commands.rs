//! The commands, each in a file of its own.

mod deregister;
mod dev;
mod doctor;
mod export;
mod history;
mod import;
mod instances;
mod intent;
mod register;
mod services;
mod snapshot;
mod status;
mod watch;
mod why;

use muster_agent::process::guard;
use muster_runtime::output::{Shell, print_completions};
use muster_runtime::settings::Program;

use crate::error::CommandError;
use crate::session::Session;
use crate::settings::CliSettings;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start a broker and a registry on this machine, to try things
    Dev(dev::Dev),
    /// List the services that are registered
    Services(services::Services),
    /// List the instances of a service
    Instances(instances::Instances),
    /// Follow services: the list first, then every change as it happens
    Watch(watch::WatchCommand),
    /// Print everything that is registered, at one revision
    Snapshot(snapshot::Snapshot),
    /// List what happened to a service or an instance, event by event, as consumers were told
    History(history::HistoryCommand),
    /// Say what happened to a service or an instance, in plain words
    Why(why::Why),
    /// Register an instance, and vouch for it until Ctrl-C
    Register(Box<register::Register>),
    /// Take back a static instance, or one whose agent is gone
    Deregister(deregister::Deregister),
    /// Keep an instance from being used, or allow it again
    Maintenance(intent::MaintenanceCommand),
    /// Take an instance out and keep this incarnation out
    Evict(intent::Evict),
    /// Write everything that the log says into a file
    Export(export::Export),
    /// Make a log of what `export` wrote; no registry may run meanwhile
    Import(import::Import),
    /// Say what a registry says of itself
    Status(status::StatusCommand),
    /// Find out what is wrong, and what to do
    Doctor(doctor::Doctor),
    /// Print the completion script for a shell
    #[command(after_help = "Example:\n  muster completions bash > /etc/bash_completion.d/muster")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Ends what `dev` has started when it was killed; started by `dev` itself
    #[command(name = guard::COMMAND, hide = true)]
    Guard,
}

impl Command {
    /// Talks to a broker that the settings name.
    pub(crate) fn needs_broker(&self) -> bool {
        !matches!(self, Self::Dev(_) | Self::Completions { .. } | Self::Guard)
    }
}

/// Runs the command that the settings name.
pub(crate) async fn run(program: &Program, settings: CliSettings) -> Result<(), CommandError> {
    let CliSettings { broker, json, command, .. } = settings;
    let connect = |name| Session::connect(&broker, json, name);
    match command {
        Command::Dev(arguments) => arguments.run(&broker, json).await,
        Command::Guard => {
            guard::run();
            Ok(())
        }
        Command::Services(arguments) => arguments.run(&connect("services").await?).await,
        Command::Instances(arguments) => arguments.run(&connect("instances").await?).await,
        Command::Watch(arguments) => arguments.run(&connect("watch").await?).await,
        Command::Snapshot(arguments) => arguments.run(&connect("snapshot").await?).await,
        Command::Why(arguments) => arguments.run(&connect("why").await?).await,
        Command::Register(arguments) => arguments.run(&broker, json).await,
        Command::Deregister(arguments) => arguments.run(&connect("deregister").await?).await,
        Command::Maintenance(arguments) => arguments.run(&connect("maintenance").await?).await,
        Command::Evict(arguments) => arguments.run(&connect("evict").await?).await,
        Command::History(arguments) => arguments.run(&connect("history").await?).await,
        Command::Export(arguments) => arguments.run(&connect("export").await?).await,
        Command::Import(arguments) => arguments.run(&connect("import").await?).await,
        Command::Status(arguments) => arguments.run(&connect("status").await?).await,
        Command::Doctor(arguments) => arguments.run(&broker, json).await,
        Command::Completions { shell } => {
            print_completions(&mut program.command::<CliSettings>(), shell);
            Ok(())
        }
    }
}

/// A new id for an event.
fn event_id() -> String {
    let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
    muster_schemas::Incarnation::from_parts(now_ms, rand::random()).to_string()
}
