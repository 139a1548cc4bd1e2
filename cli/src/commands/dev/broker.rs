//! The nats-server of `muster dev`: a child that ends with us, however we end.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_agent::process::child::{self, ChildEvent, Group, Launch};
use muster_agent::process::core::supervision::ChildEnd;
use muster_agent::process::guard::Guard;
use muster_schemas::subject::DISCONNECT_ADVISORIES;
use nix::sys::signal::Signal;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::find::NatsServer;
use super::leftovers;
use crate::error::CommandError;

const LOG_FILE: &str = "nats-server.log";
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that has not ended by then is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How much of its log is shown where the server ends by itself.
const LOG_LINES_SHOWN: usize = 5;

/// Where the broker keeps everything.
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Removed with us, unless a directory was named.
    _temporary: Option<TempDir>,
    /// Held, not read: two brokers in one directory would spoil it.
    _lock: File,
}

impl DataDirectory {
    /// The named directory, created if need be, or a temporary one.
    pub(super) fn open(named: Option<&Path>) -> Result<Self, CommandError> {
        let (path, temporary) = match named {
            Some(path) => {
                let created = fs::create_dir_all(path).and_then(|()| path.canonicalize());
                (created.map_err(|error| unusable(path, &error))?, None)
            }
            None => {
                leftovers::clear(&std::env::temp_dir());
                let directory = tempfile::Builder::new().prefix(leftovers::PREFIX).tempdir();
                let directory = directory.map_err(|error| unusable(&std::env::temp_dir(), &error))?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let lock = File::create(path.join(leftovers::LOCK_FILE)).map_err(|error| unusable(&path, &error))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Err(CommandError::Configuration(format!(
                "--data {}: another `muster dev` uses it; name another directory",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
            Ok(()) => Ok(Self { path, _temporary: temporary, _lock: lock }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::Configuration(format!("{}: {error}; name a directory that you may write with --data", path.display()))
}

/// What is known of the child.
#[derive(Default)]
struct Life {
    group: Option<Group>,
    /// In words.
    ended: Option<String>,
    gone: bool,
}

/// A running nats-server.
pub(super) struct Broker {
    group: Group,
    life: watch::Receiver<Life>,
    url: String,
}

impl Broker {
    /// Starts it and waits until it accepts connections. Port 0 takes a free one.
    ///
    /// # Errors
    /// The port is in use, or the server does not start; then nothing is left running.
    pub(super) async fn start(server: &NatsServer, data: &DataDirectory, port: u16) -> Result<Self, CommandError> {
        check_port(port)?;
        let failed = |error: std::io::Error| CommandError::Failed(format!("cannot start the broker: {error}"));
        let configuration = data.path.join("nats-server.conf");
        fs::write(&configuration, configuration_text(&data.path, port)).map_err(failed)?;
        let guard = Guard::start().map_err(failed)?;
        let (told, mut life) = watch::channel(Life::default());
        let launch = Launch {
            command: vec![server.path.clone().into(), "--config".into(), configuration.into()],
            directory: None,
        };
        child::start(launch, Some(guard.announcement()), move |event| {
            told.send_modify(|life| life.note(&guard, event));
        });
        let begun = life.wait_for(|life| life.group.is_some() || life.ended.is_some()).await;
        let group = begun.map_err(|error| CommandError::Failed(error.to_string()))?.group.clone();
        let Some(group) = group else {
            return Err(ended_early(&life, data));
        };
        let url = String::new();
        let mut broker = Self { group, life, url };
        match broker.listens_at(data).await {
            Ok(url) => {
                broker.url = url;
                Ok(broker)
            }
            Err(error) => {
                broker.stop().await;
                Err(error)
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn process(&self) -> u32 {
        self.group.id()
    }

    /// Waits until it has ended by itself, and says how.
    pub(super) async fn ended(&self, data: &DataDirectory) -> CommandError {
        let mut life = self.life.clone();
        // An error means that nobody will tell any more: the end as well.
        let _ = life.wait_for(|life| life.ended.is_some()).await;
        ended_early(&self.life, data)
    }

    /// Asks it to stop, and waits until it is gone.
    pub(super) async fn stop(mut self) {
        self.group.signal_all(Signal::SIGTERM);
        let gone = timeout(STOP_TIMEOUT, self.life.wait_for(|life| life.gone)).await.is_ok();
        if !gone {
            self.group.signal_all(Signal::SIGKILL);
            let _ = timeout(STOP_TIMEOUT, self.life.wait_for(|life| life.gone)).await;
        }
    }

    /// What the server writes down once it listens.
    async fn listens_at(&self, data: &DataDirectory) -> Result<String, CommandError> {
        #[derive(Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let file = data.path.join(format!("nats-server_{}.ports", self.group.id()));
        let look = async {
            loop {
                let ports = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Ports>(&text).ok());
                if let Some(url) = ports.and_then(|ports| ports.nats.into_iter().next()) {
                    return url;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            error = self.ended(data) => Err(error),
            url = timeout(START_TIMEOUT, look) => url.map_err(|_| {
                let seconds = START_TIMEOUT.as_secs();
                CommandError::Failed(format!("nats-server does not listen after {seconds} s{}", last_lines(data)))
            }),
        }
    }
}

impl Life {
    fn note(&mut self, guard: &Guard, event: ChildEvent) {
        match event {
            ChildEvent::Started(group) => {
                guard.watch(group.id());
                self.group = Some(group);
            }
            ChildEvent::NotStarted(error) => {
                guard.forget_announced();
                self.ended = Some(error.to_string());
                self.gone = true;
            }
            ChildEvent::Exited(end, _) => {
                self.ended = Some(match end {
                    ChildEnd::Code(code) => format!("nats-server ended with code {code}"),
                    ChildEnd::Signal(number) => format!("nats-server was ended by signal {number}"),
                });
            }
            ChildEvent::GroupGone => {
                if let Some(group) = &self.group {
                    guard.forget(group.id());
                }
                self.gone = true;
            }
        }
    }
}

fn ended_early(life: &watch::Receiver<Life>, data: &DataDirectory) -> CommandError {
    let how = life.borrow().ended.clone().unwrap_or_else(|| "nats-server ended".into());
    CommandError::Failed(format!("{how}{}", last_lines(data)))
}

fn last_lines(data: &DataDirectory) -> String {
    let log = fs::read_to_string(data.log_file()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if shown.is_empty() { String::new() } else { format!("; it said last:\n  {}", shown.join("\n  ")) }
}

/// The server would say it less clearly, and later.
fn check_port(port: u16) -> Result<(), CommandError> {
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return Ok(());
    };
    let next = if port == u16::MAX { 0 } else { port + 1 };
    let reason = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "is in use on 127.0.0.1, perhaps by a nats-server or another `muster dev`; take another (--port {next}, or \
             --port 0 for any that is free), or use the broker that runs there: muster-registry --server \
             nats://127.0.0.1:{port}"
        ),
        _ => format!("cannot be used on 127.0.0.1 ({error}); take another, as in --port 4222"),
    };
    Err(CommandError::Configuration(format!("--port {port} {reason}")))
}

/// Frozen clients are noticed within three seconds; nobody but this machine can connect.
fn configuration_text(directory: &Path, port: u16) -> String {
    let port = if port == 0 { "-1".to_owned() } else { port.to_string() };
    let own_advisories = DISCONNECT_ADVISORIES.replace('*', "MUSTER");
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        "# Written by `muster dev`, at every start.\n\
         server_name: \"muster-dev\"\n\
         host: \"127.0.0.1\"\n\
         port: {port}\n\
         jetstream {{ store_dir: {} }}\n\
         ping_interval: \"1s\"\n\
         ping_max: 2\n\
         # The registry hears from the broker which connections are gone.\n\
         system_account: SYS\n\
         no_auth_user: muster\n\
         accounts {{\n\
         \x20 SYS {{ exports: [ {{ stream: \"{DISCONNECT_ADVISORIES}\", accounts: [ MUSTER ] }} ] }}\n\
         \x20 MUSTER {{\n\
         \x20   jetstream: enabled\n\
         \x20   users: [ {{ user: muster, password: muster }} ]\n\
         \x20   imports: [ {{ stream: {{ account: SYS, subject: \"{own_advisories}\" }} }} ]\n\
         \x20 }}\n\
         }}\n\
         log_file: {}\n\
         ports_file_dir: {}\n",
        quoted(&directory.join("jetstream")),
        quoted(&directory.join(LOG_FILE)),
        quoted(directory),
    )
}
