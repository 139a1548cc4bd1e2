//! A broker, a registry, instances in the log, and runs of `muster`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use muster_schemas::agent::{ProbeReply, instance_key};
use muster_schemas::event::{Event, EventData, Sender};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{MinRevision, Namespace, Prefix, Registration, Subjects};
pub(crate) use muster_tests::process::Ended;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Who vouches for every instance.
const AGENT: &str = "web1";

/// What anything that should happen may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

/// `muster` with these arguments, knowing nothing of the machine it runs on.
pub(crate) fn muster(home: &TempDir, arguments: &[&str]) -> ProcessBuilder {
    ProcessBuilder::new(bin("muster"))
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("USER", "alice")
        .args(arguments)
}

pub(crate) fn home() -> TempDir {
    tempfile::Builder::new().prefix("muster-cli-").tempdir().expect("a temporary directory")
}

/// Runs `muster` to its end.
pub(crate) async fn run(home: &TempDir, arguments: &[&str]) -> Ended {
    Ended::of(&mut muster(home, arguments).start()).await
}

/// A broker with a registry that is ready.
pub(crate) struct World {
    pub(crate) broker: NatsServer,
    _registry: Process,
    pub(crate) client: Client,
    pub(crate) home: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::on(NatsServer::builder().fixed_port().start().await).await
    }

    pub(crate) async fn on(broker: NatsServer) -> Self {
        let client = broker.connect().await;
        let registry = ProcessBuilder::new(bin("muster-registry"))
            .args(["--server", &broker.url(), "--replica-id", "r1", "--listen-period", "200ms"])
            .start();
        registry.wait_for_line("answering queries", SOON).await;
        Self { broker, _registry: registry, client, home: home() }
    }

    /// `muster`, told where the broker is.
    pub(crate) fn muster(&self, arguments: &[&str]) -> ProcessBuilder {
        muster(&self.home, arguments).env("NATS_URL", self.broker.url())
    }

    /// Runs `muster` to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.muster(arguments).start()).await
    }

    /// Runs it, expects success, and reads its JSON.
    pub(crate) async fn run_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
        self.run(&arguments).await.expect_code(0).json()
    }

    /// Appends a registration; answers its sequence once the registry has folded it.
    pub(crate) async fn register(&self, registration: &Registration) -> u64 {
        self.append(EventData::Register(registration.clone())).await
    }

    /// Appends what the agent of all instances says; answers its sequence once the registry has folded it.
    pub(crate) async fn append(&self, data: EventData) -> u64 {
        static COUNTER: AtomicU64 = AtomicU64::new(1);
        let id = format!("event-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let source = Sender::Agent(AGENT.parse().expect("a name"));
        let event = Event { id, source, time: None, data };
        let bytes = event.encode(subjects().namespace()).expect("small enough");
        let stored = self.client.request(event.subject(&subjects()), bytes.into()).await.expect("stored");
        let stored: Value = serde_json::from_slice(&stored.payload).expect("JSON");
        let sequence = stored["seq"].as_u64().unwrap_or_else(|| panic!("not stored: {stored}"));
        let request = json!({ "min_revision": MinRevision(None, sequence) });
        eventually("the registration is folded", SOON, async || {
            let subject = subjects().query(&Query::Services);
            let answer = self.client.request(subject, request.to_string().into()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            if text.contains("\"error\"") { Err(text) } else { Ok(()) }
        })
        .await;
        sequence
    }

    /// Lets an agent answer probes: it vouches for this, and lives.
    pub(crate) async fn answer_probes(&self, registration: &Registration) {
        let vouching = registration.vouching.clone();
        let subject = subjects().to_agent(&vouching.agent, Verb::Probe);
        let mut probes = self.client.subscribe(subject).await.expect("subscribed");
        let client = self.client.clone();
        let key = instance_key(&vouching.service, &vouching.instance);
        let incarnations = [(key, vouching.order())].into();
        let reply = ProbeReply { session: vouching.session, incarnations };
        let reply = serde_json::to_vec(&reply).expect("plain data");
        tokio::spawn(async move {
            while let Some(probe) = probes.next().await {
                if let Some(to) = probe.reply {
                    let _ = client.publish(to, reply.clone().into()).await;
                }
            }
        });
        // A round trip: the broker knows of the subscription.
        self.client.flush().await.expect("connected");
        let _ = self.client.request("$JS.API.INFO", "".into()).await;
    }
}

/// An instance without lease.
pub(crate) fn instance(service: &str, id: &str, tags: &[&str]) -> Registration {
    let value = json!({
        "service": service, "instance": id, "agent": AGENT, "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": 1, "ttl_ms": 0,
        "version": "1.4.2", "tags": tags,
        "endpoints": [{ "name": "http", "scheme": "http", "host": "10.0.0.1", "port": 8080 }],
        "health": { "status": "passing" },
    });
    let mut registration: Registration = serde_json::from_value(value).expect("a registration");
    // The same host and port twice would be a conflict.
    registration.endpoints[0].host =
        Some(format!("{}.example", id.bytes().map(|byte| format!("{byte:x}")).collect::<String>()).into());
    registration
}

/// The same with a lease of the shortest kind; nobody sends heartbeats for it.
pub(crate) fn leased(service: &str, id: &str) -> Registration {
    Registration { ttl_ms: 1_000, linger_ms: 1_000, ..instance(service, id, &[]) }
}
