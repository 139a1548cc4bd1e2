//! `muster dev`: a broker and a registry on this machine, for trying things out.

mod broker;
mod find;
mod leftovers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use muster_registry::RegistrySettings;
use muster_runtime::broker::BrokerSettings;
use muster_runtime::output::print_line;
use muster_runtime::stop::Stop;
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::Status;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::error::CommandError;
use crate::session::{Session, print_json};
use broker::{Broker, DataDirectory};
use find::NatsServer;

/// How long the registry may take: a log of an earlier time is read first.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the registry may take to end in an orderly way.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

const HELP: &str = "\
Examples:
  muster dev                       a broker on port 4222 and a registry; forgets everything when it ends
  muster dev --data ~/muster-dev   the same, and remembers
  muster dev --port 0 --json       on any free port; prints one line with its url when ready
  muster dev --nats-server ./nats-server

Ends with Ctrl-C, and takes the broker along. For production run nats-server and two muster-registry instead.";

/// Start a broker and a registry on this machine, to try things.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Dev {
    /// Port of the broker on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    port: u16,
    /// Directory for everything that is to be remembered [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The nats-server to start [default: the one on PATH, else that of a checkout's `cargo xtask setup`]
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
}

/// The registry's settings, with its own defaults.
#[derive(Parser)]
struct InProcess {
    #[command(flatten)]
    registry: RegistrySettings,
}

/// The broker, and what it runs on.
struct Running {
    server: NatsServer,
    data: DataDirectory,
    broker: Broker,
}

/// What `--json` prints when all is ready.
#[derive(Serialize)]
struct Ready<'a> {
    state: &'static str,
    url: &'a str,
    namespace: &'a str,
    prefix: &'a str,
    epoch: Option<String>,
    revision: u64,
    nats_server: &'a Path,
    nats_server_version: &'a str,
    nats_server_process: u32,
    nats_server_log: PathBuf,
    data: &'a Path,
}

impl Running {
    fn ready<'a>(&'a self, given: &'a BrokerSettings, status: &Status) -> Ready<'a> {
        Ready {
            state: "ready",
            url: self.broker.url(),
            namespace: given.namespace.as_str(),
            prefix: given.prefix.as_str(),
            epoch: status.epoch.map(|epoch| epoch.to_string()),
            revision: status.revision,
            nats_server: &self.server.path,
            nats_server_version: &self.server.version,
            nats_server_process: self.broker.process(),
            nats_server_log: self.data.log_file(),
            data: self.data.path(),
        }
    }
}

impl Dev {
    pub(crate) async fn run(&self, given: &BrokerSettings, json: bool) -> Result<(), CommandError> {
        let stop = Stop::on_signals().map_err(|error| CommandError::Failed(error.to_string()))?;
        let server = find::find(self.nats_server.as_deref())?;
        let data = DataDirectory::open(self.data.as_deref())?;
        let broker = Broker::start(&server, &data, self.port).await?;
        let running = Running { server, data, broker };
        let outcome = self.with_broker(given, json, &running, &stop).await;
        running.broker.stop().await;
        outcome
    }

    async fn with_broker(
        &self,
        given: &BrokerSettings,
        json: bool,
        running: &Running,
        stop: &Stop,
    ) -> Result<(), CommandError> {
        let settings = registry_settings(given, running.broker.url())?;
        let for_questions = settings.broker.clone();
        let ending = Stop::new();
        let mut registry = tokio::spawn(muster_registry::run(settings, ending.clone()));
        let present = async {
            let status = wait_until_ready(&for_questions).await?;
            let ready = running.ready(given, &status);
            if json {
                print_json(&ready);
            } else {
                print_line(&self.people(&ready));
            }
            stop.requested().await;
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = present => outcome,
            () = stop.requested() => Ok(()),
            error = running.broker.ended(&running.data) => Err(error),
            ended = &mut registry => Err(match ended {
                Ok(Ok(())) => CommandError::Failed("the registry ended by itself".into()),
                Ok(Err(error)) => CommandError::Registry(error),
                Err(error) => CommandError::Failed(format!("the registry failed: {error}")),
            }),
        };
        ending.request();
        if !registry.is_finished() {
            // It was asked to end, and the broker goes anyway.
            let _ = timeout(STOP_TIMEOUT, registry).await;
        }
        outcome
    }

    fn people(&self, ready: &Ready<'_>) -> String {
        let (muster, agent) = (as_called("muster"), as_called("muster-agent"));
        let keeps = match &self.data {
            Some(_) => format!("What is registered is kept in {}.", ready.data.display()),
            None => "What is registered is then forgotten; --data DIR would keep it.".to_owned(),
        };
        let mut exports = format!("  export NATS_URL={}", ready.url);
        if ready.namespace != "default" {
            exports.push_str(&format!("\n  export MUSTER_NAMESPACE={}", ready.namespace));
        }
        if ready.prefix != "muster" {
            exports.push_str(&format!("\n  export MUSTER_PREFIX={}", ready.prefix));
        }
        format!(
            "A broker and a registry run on this machine. Ctrl-C ends both. {keeps}\n\n  \
             broker    {} (nats-server {}, {})\n  \
             registry  namespace {}, ready at revision {}\n  \
             log       {}\n\n\
             Watch from another terminal:\n\n{exports}\n  {muster} watch\n\n\
             Register something from a third:\n\n{exports}\n  \
             {muster} register hello --port http=8000 --advertise 127.0.0.1\n\n\
             or let an agent start, check and register it:\n\n  \
             {agent} run --service hello --port http=8000 --allow-loopback -- python3 -m http.server 8000\n\n\
             Then: {muster} services, {muster} instances hello, {muster} why hello, {muster} doctor",
            ready.url,
            ready.nats_server_version,
            ready.nats_server.display(),
            ready.namespace,
            ready.revision,
            ready.nats_server_log.display(),
        )
    }
}

/// The registry for this broker; of what was given for others, namespace and prefix count.
fn registry_settings(given: &BrokerSettings, url: &str) -> Result<RegistrySettings, CommandError> {
    let arguments = [
        "muster-registry",
        "--server",
        url,
        "--namespace",
        given.namespace.as_str(),
        "--prefix",
        given.prefix.as_str(),
        "--replica-id",
        "dev",
    ];
    let parsed = InProcess::try_parse_from(arguments).map_err(|error| CommandError::Usage(error.to_string()))?;
    Ok(parsed.registry)
}

async fn wait_until_ready(broker: &BrokerSettings) -> Result<Status, CommandError> {
    let session = Session::connect(broker, false, "dev").await?;
    let ready = async {
        loop {
            match session.status().await {
                Ok(status) if status.state != CatalogState::Warming => return Ok(status),
                Ok(_) | Err(CommandError::NoRegistry { .. }) => sleep(LOOK_AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    };
    match timeout(READY_TIMEOUT, ready).await {
        Ok(status) => status,
        Err(_) => {
            let seconds = READY_TIMEOUT.as_secs();
            Err(CommandError::Failed(format!("the registry is not ready after {seconds} s")))
        }
    }
}

/// A program of ours as the user has to type it: beside this one, if this one was called by its path.
fn as_called(name: &str) -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    match called.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => directory.join(name).display().to_string(),
        None => name.to_owned(),
    }
}
