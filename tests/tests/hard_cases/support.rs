//! A broker, a registry whose metrics can be read, raw messages of every kind, and runs of the programs.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use muster_schemas::agent::Notice;
use muster_schemas::query::{ErrorReply, QueryError, Reply, Status};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{MinRevision, Namespace, Prefix, Subjects};
pub(crate) use muster_tests::process::Ended;
use muster_tests::process::Line;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, free_port, http};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What anything that should happen at once may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new().prefix("muster-hard-").tempdir().expect("a temporary directory")
}

/// One of the programs, knowing nothing of the machine it runs on.
pub(crate) fn program(name: &str, directory: &TempDir) -> ProcessBuilder {
    ProcessBuilder::new(bin(name))
        .env("HOME", directory.path())
        .env("XDG_CONFIG_HOME", directory.path().join("config"))
        .current_dir(directory.path())
}

/// A broker with a registry that is ready.
pub(crate) struct World {
    pub(crate) broker: NatsServer,
    pub(crate) registry: Process,
    pub(crate) client: Client,
    pub(crate) directory: TempDir,
    http: u16,
}

impl World {
    pub(crate) async fn start() -> Self {
        let broker = NatsServer::builder().fixed_port().start().await;
        let (client, directory, http) = (broker.connect().await, directory(), free_port());
        let registry = program("muster-registry", &directory)
            .args(["--server", &broker.url(), "--replica-id", "r1", "--listen-period", "200ms"])
            .args(["--http", &format!("127.0.0.1:{http}")])
            .start();
        registry.wait_for_line("answering queries", SOON).await;
        Self { broker, registry, client, directory, http }
    }

    /// `muster`, told where the broker is.
    pub(crate) fn muster(&self, arguments: &[&str]) -> ProcessBuilder {
        program("muster", &self.directory).env("NATS_URL", self.broker.url()).args(arguments)
    }

    /// Runs `muster` to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.muster(arguments).start()).await
    }

    /// Runs it with `--json`, expects success, and reads what it printed.
    pub(crate) async fn run_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
        let ended = self.run(&arguments).await.expect_code(0);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// An agent with these flags of its own, up to `run`.
    pub(crate) fn agent(&self, flags: &[&str]) -> ProcessBuilder {
        agent(&self.directory, &self.broker.url(), flags)
    }

    /// Appends bytes to the log; answers their sequence.
    pub(crate) async fn append(&self, subject: &str, payload: impl Into<Vec<u8>>) -> u64 {
        let stored = self.client.request(subject.to_owned(), payload.into().into()).await.expect("stored");
        let stored: Value = serde_json::from_slice(&stored.payload).expect("JSON");
        stored["seq"].as_u64().unwrap_or_else(|| panic!("not stored: {stored}"))
    }

    /// The sequence of the last event in the log.
    pub(crate) async fn last_sequence(&self) -> u64 {
        let context = async_nats::jetstream::new(self.client.clone());
        let mut stream = context.get_stream(subjects().stream_name()).await.expect("the stream is there");
        stream.info().await.expect("an answer").state.last_sequence
    }

    /// Waits until the registry has folded this far.
    pub(crate) async fn until_folded(&self, sequence: u64) {
        let body = json!({ "min_revision": MinRevision(None, sequence) });
        eventually(format!("{sequence} is folded"), SOON, async || {
            self.ask("query.services", body.to_string()).await.map(|_| ()).map_err(|error| format!("{error:?}"))
        })
        .await;
    }

    /// Asks once.
    pub(crate) async fn ask(&self, what: &str, body: impl Into<Vec<u8>>) -> Result<Reply, QueryError> {
        let answer = self.client.request(format!("muster.default.{what}"), body.into().into()).await;
        read(&answer.unwrap_or_else(|error| panic!("{what}: {error}")))
    }

    /// Asks once; says what came instead of an answer.
    pub(crate) async fn try_ask(&self, what: &str, body: impl Into<Vec<u8>>) -> Result<Reply, String> {
        let answer = self.client.request(format!("muster.default.{what}"), body.into().into()).await;
        read(&answer.map_err(|error| error.to_string())?).map_err(|error| format!("{error:?}"))
    }

    /// What the registry says of itself.
    pub(crate) async fn status(&self) -> Status {
        let answer = self.client.request(subjects().query(&Query::Status), "".into()).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("a status")
    }

    /// How many events had this outcome, as the registry says of itself.
    pub(crate) async fn outcome(&self, outcome: &str) -> u64 {
        self.status().await.outcomes.get(outcome).copied().unwrap_or(0)
    }

    /// One of the registry's metrics, with its labels; 0 while there is none.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let page = http::get(self.http, "/metrics").await;
        let page = page.unwrap_or_else(|error| panic!("/metrics: {error}"));
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
    }

    /// Waits until a metric has this value.
    pub(crate) async fn until_metric(&self, name: &str, value: u64) {
        eventually(format!("{name} is {value}"), SOON, async || match self.metric(name).await {
            found if found == value => Ok(()),
            found => Err(format!("it is {found}")),
        })
        .await;
    }

    /// Waits until a metric has grown above this value.
    pub(crate) async fn until_above(&self, name: &str, value: u64) {
        eventually(format!("{name} is above {value}"), SOON, async || match self.metric(name).await {
            found if found > value => Ok(()),
            found => Err(format!("it is {found}")),
        })
        .await;
    }

    /// What is said to an agent from now on.
    pub(crate) async fn notices(&self, agent: &str) -> Subscriber {
        let subject = subjects().to_agent(&agent.parse().expect("a name"), Verb::Notice);
        let notices = self.client.subscribe(subject).await.expect("subscribed");
        // A round trip: the broker knows of the subscription.
        let _ = self.status().await;
        notices
    }
}

/// An agent with these flags of its own, up to `run`.
pub(crate) fn agent(directory: &TempDir, server: &str, flags: &[&str]) -> ProcessBuilder {
    program("muster-agent", directory)
        .args(["--server", server, "--advertise", "127.0.0.1", "--node", "web1", "--state-dir", "state"])
        .args(["--heartbeat-interval", "200ms"])
        .args(flags)
        .arg("run")
}

/// What a reply says: services, or an error.
pub(crate) fn read(message: &Message) -> Result<Reply, QueryError> {
    if let Ok(ErrorReply { error }) = serde_json::from_slice(&message.payload) {
        let headers = message.headers.as_ref().expect("an error comes with headers");
        let code = headers.get("Nats-Service-Error-Code").expect("the service error header");
        assert_eq!(code.as_str(), error.code.number().to_string());
        return Err(error);
    }
    Ok(serde_json::from_slice(&message.payload)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&message.payload))))
}

/// The next notice.
pub(crate) async fn next_notice(notices: &mut Subscriber) -> Notice {
    let message = tokio::time::timeout(SOON, notices.next()).await.expect("a notice in time").expect("connected");
    serde_json::from_slice(&message.payload).expect("a notice")
}

/// A JSON array at a path of the golden payloads.
pub(crate) fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The lines, for messages of failed assertions.
pub(crate) fn texts(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("\n    {}", line.text)).collect()
}
