//! A real nats-server for one test: its own port, its own store, and everything that can happen to it.

mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Process, ProcessBuilder, eventually, free_port, tools};

pub use store::StoreCopy;

const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How a server will be started.
#[derive(Clone, Debug)]
pub struct NatsServerBuilder {
    binary: Option<PathBuf>,
    jetstream: bool,
    fixed_port: bool,
    settings: String,
}

impl NatsServerBuilder {
    /// Another binary than the pinned one: an older version, say.
    #[must_use]
    pub fn binary(mut self, binary: impl AsRef<Path>) -> Self {
        self.binary = Some(binary.as_ref().to_path_buf());
        self
    }

    /// A server that stores nothing.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// A port that stays reserved while the server is down: needed for [`NatsServer::restart`].
    #[must_use]
    pub fn fixed_port(mut self) -> Self {
        self.fixed_port = true;
        self
    }

    /// How soon the server notices a frozen client: after about `interval_seconds` × (`unanswered` + 1).
    #[must_use]
    pub fn pings(self, interval_seconds: u32, unanswered: u32) -> Self {
        self.settings(&format!("ping_interval: \"{interval_seconds}s\"\nping_max: {unanswered}"))
    }

    /// The broker tells its clients' account which of its connections are gone.
    #[must_use]
    pub fn advisories(self) -> Self {
        self.settings(
            "system_account: SYS\nno_auth_user: muster\naccounts {\n\
             SYS { exports: [ { stream: \"$SYS.ACCOUNT.*.DISCONNECT\", accounts: [ MUSTER ] } ] }\n\
             MUSTER { jetstream: enabled, users: [ { user: muster, password: muster } ]\n\
             imports: [ { stream: { account: SYS, subject: \"$SYS.ACCOUNT.MUSTER.DISCONNECT\" } } ] }\n}",
        )
    }

    /// Adds text to the server's configuration file: users, accounts, limits. Port, address and store are set already.
    #[must_use]
    pub fn settings(mut self, text: &str) -> Self {
        self.settings.push_str(text);
        self.settings.push('\n');
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Panics
    /// If it does not start, with what it printed.
    pub async fn start(self) -> NatsServer {
        let directory = tempfile::Builder::new().prefix("muster-nats-").tempdir().expect("a temporary directory");
        let port = self.fixed_port.then(free_port);
        let mut server = NatsServer { builder: self, directory, port, process: None };
        server.write_configuration();
        server.launch().await;
        server
    }
}

/// A running or stopped nats-server on the loopback interface. Dropping it kills it and removes its store.
#[derive(Debug)]
pub struct NatsServer {
    builder: NatsServerBuilder,
    directory: TempDir,
    port: Option<u16>,
    process: Option<Process>,
}

impl NatsServer {
    /// A server with JetStream, without authentication, on a port that it chose.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server with JetStream unless told otherwise.
    #[must_use]
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder { binary: None, jetstream: true, fixed_port: false, settings: String::new() }
    }

    /// Where clients connect: `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// The port for clients.
    ///
    /// # Panics
    /// Never after a start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.expect("a started server has a port")
    }

    /// The server's process, for its log lines and number.
    ///
    /// # Panics
    /// If the server is stopped.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the server is running")
    }

    /// A client's connection.
    ///
    /// # Panics
    /// If the server does not accept one.
    pub async fn connect(&self) -> async_nats::Client {
        self.connect_with(async_nats::ConnectOptions::new()).await
    }

    /// A client's connection with these options: a user, an inbox prefix, a name.
    ///
    /// # Panics
    /// If the server does not accept it.
    pub async fn connect_with(&self, options: async_nats::ConnectOptions) -> async_nats::Client {
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, options.connect(self.url())).await;
        let connected = connecting.unwrap_or_else(|_| panic!("{} does not answer in {CONNECT_DEADLINE:?}", self.url()));
        connected.unwrap_or_else(|error| panic!("{} refuses the connection: {error}", self.url()))
    }

    /// Kills it (SIGKILL), as a crash would.
    ///
    /// # Panics
    /// If the server is stopped.
    pub fn kill(&mut self) {
        self.process.take().expect("the server is running").kill();
    }

    /// Stops it cleanly (SIGTERM).
    ///
    /// # Panics
    /// If the server is stopped, or does not stop.
    pub async fn stop(&mut self) {
        self.process.take().expect("the server is running").stop(STOP_DEADLINE).await;
    }

    /// Starts it again with the same port and what is in the store.
    ///
    /// # Panics
    /// If the server is running, has no fixed port, or does not start.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the server is running: kill() or stop() it first");
        assert!(self.builder.fixed_port, "only a server built with fixed_port() can come back on its port");
        self.launch().await;
    }

    /// Stops it in its tracks (SIGSTOP), its connections open and silent. On return it stands still.
    ///
    /// # Panics
    /// If the server is stopped.
    pub fn freeze(&self) {
        self.process().freeze();
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Panics
    /// If the server is stopped.
    pub fn thaw(&self) {
        self.process().thaw();
    }

    /// Replaces the configuration text given to the builder; takes effect at the next restart.
    pub fn set_settings(&mut self, text: &str) {
        self.builder.settings = format!("{text}\n");
        self.write_configuration();
    }

    /// Empties its disk.
    ///
    /// # Panics
    /// If the server is running.
    pub fn wipe_store(&mut self) {
        store::remove(&self.stopped_store());
    }

    /// A backup of its disk.
    ///
    /// # Panics
    /// If the server is running.
    #[must_use]
    pub fn copy_store(&self) -> StoreCopy {
        StoreCopy::of(&self.stopped_store())
    }

    /// Replaces its disk by an earlier copy of it.
    ///
    /// # Panics
    /// If the server is running.
    pub fn restore_store(&mut self, copy: &StoreCopy) {
        let store = self.stopped_store();
        store::remove(&store);
        copy.put_at(&store);
    }

    fn stopped_store(&self) -> PathBuf {
        assert!(self.process.is_none(), "the server is running: kill() or stop() it first");
        self.directory.path().join("store")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("server.conf")
    }

    fn write_configuration(&self) {
        let mut text = String::new();
        if self.builder.jetstream {
            let store = self.directory.path().join("store");
            text.push_str(&format!("jetstream: {{ store_dir: \"{}\" }}\n", store.display()));
        }
        text.push_str(&self.builder.settings);
        fs::write(self.configuration(), text).expect("the temporary directory is writable");
    }

    async fn launch(&mut self) {
        let binary = self.builder.binary.clone().unwrap_or_else(tools::nats_server);
        let port = self.port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let mut process = ProcessBuilder::new(binary)
            .args(["-a", "127.0.0.1", "-p", &port, "--config"])
            .arg(self.configuration())
            .arg("--ports_file_dir")
            .arg(self.directory.path())
            .start();
        let ports = self.directory.path().join(format!("nats-server_{}.ports", process.pid()));
        let accepting = eventually("nats-server accepts connections", START_DEADLINE, async || {
            if process.exit().is_some() {
                let status = process.wait_exit(STOP_DEADLINE).await;
                let lines: Vec<String> = process.lines().into_iter().map(|line| line.text).collect();
                panic!("nats-server ended at once ({status}):\n{}", lines.join("\n"));
            }
            // Written after the listener is up; until it is whole it does not parse.
            let text = fs::read(&ports).map_err(|error| format!("{}: {error}", ports.display()))?;
            client_port(&text).ok_or_else(|| format!("a ports file: {}", String::from_utf8_lossy(&text)))
        });
        self.port = Some(accepting.await);
        self.process = Some(process);
    }
}

/// The port of the first URL for clients in the server's ports file.
fn client_port(text: &[u8]) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
