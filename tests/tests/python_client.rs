//! A client in another language, written from `schemas/asyncapi.yaml` alone, does everything that Muster asks of one.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use muster_schemas::agent::ProbeReply;
use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, Source};
use muster_schemas::query::Status;
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{
    AgentId, Incarnation, InstanceId, Namespace, Prefix, Registration, ServiceName, SessionId, Subjects, Vouching,
};
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, tools};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// Four of ten changes of `orders` are lost between the registry and whoever listens.
const LOSSY: &str = r#"mappings = { "muster.default.change.orders": [ { destination: "muster.default.change.orders", weight: 60% } ] }"#;

struct Python {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last_answer: Value,
}

impl Python {
    fn start(url: &str, service: &str, instance: &str, watched: &str) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/client.py");
        let mut child = Command::new(tools::python())
            .args([program, url, service, instance, watched])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { _child: child, input, output, last_answer: Value::Null }
    }

    /// Reads on until a line satisfies the condition.
    async fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut lines = Vec::new();
        let found = async {
            while let Some(line) = self.output.next_line().await.expect("readable") {
                let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                lines.push(line);
                if value.get("answer").is_some() {
                    self.last_answer = value.clone();
                }
                if condition(&value) {
                    return Some(value);
                }
            }
            None
        };
        match timeout(SOON, found).await {
            Ok(Some(value)) => value,
            other => panic!("waited for: {what}\n  {other:?}; it said:\n{}", lines.join("\n")),
        }
    }

    async fn until_answer(&mut self, answer: &str, instances: &[&str]) {
        if self.last_answer["answer"] == answer && self.last_answer["instances"] == json!(instances) {
            return;
        }
        let what = format!("{answer} {instances:?}");
        self.until(&what, |line| line["answer"] == answer && line["instances"] == json!(instances)).await;
    }
}

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

/// Registers or deregisters static instances of `orders`, as somebody else would.
struct Other {
    client: Client,
    session: SessionId,
    generation: u64,
}

impl Other {
    async fn append(&mut self, instance: &str, is_there: bool) {
        self.generation += 1;
        let service: ServiceName = "orders".parse().expect("a name");
        let instance: InstanceId = instance.parse().expect("a name");
        let agent: AgentId = "other".parse().expect("a name");
        let vouching = Vouching {
            service,
            instance,
            agent: agent.clone(),
            session: self.session,
            incarnation: Incarnation::from_parts(1_000_000, u128::from(self.generation)),
            generation: 1,
        };
        let data = if is_there {
            let registration = json!({ "ttl_ms": 0, "service": vouching.service, "instance": vouching.instance,
                "agent": agent, "session": vouching.session, "incarnation": vouching.incarnation, "generation": 1 });
            EventData::Register(serde_json::from_value::<Registration>(registration).expect("a registration"))
        } else {
            EventData::Deregister(Deregistration { vouching, reason: DeregisterReason::Stopped, detail: None })
        };
        let id = format!("other-{}", self.generation);
        let event = Event { id, source: Source::Agent(agent), time: None, data };
        let payload = event.encode(&Namespace::default()).expect("an event");
        let answer = self.client.request(event.subject(&subjects()), payload.into()).await.expect("stored");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(answer["seq"].is_u64(), "{answer}");
    }
}

async fn start_registry(broker: &NatsServer) -> Process {
    let arguments = ["--server", &broker.url(), "--replica-id", "r1", "--listen-period", "400ms"];
    let registry = ProcessBuilder::new(bin("muster-registry")).args(arguments).start();
    until_ready(broker).await;
    registry
}

async fn until_ready(broker: &NatsServer) {
    let client = broker.connect().await;
    eventually("the registry is ready", SOON, async || {
        let message = client.request(subjects().query(&Query::Status), "".into()).await.map_err(|e| e.to_string())?;
        let status: Value = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if status["state"] == "ready" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[test]
fn the_client_is_shorter_than_120_lines_and_uses_only_nats_py() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/python/client.py")).expect("readable");
    assert!(text.lines().count() < 120, "{} lines", text.lines().count());
    let imports: Vec<&str> =
        text.lines().filter(|line| line.starts_with("import ") || line.starts_with("from ")).collect();
    let standard = ["asyncio", "functools", "hashlib", "json", "os", "random", "sys", "time", "nats"];
    for module in imports.iter().flat_map(|line| line.trim_start_matches("import ").split(", ")) {
        assert!(standard.contains(&module), "{module} is neither nats-py nor of the standard library");
    }
}

#[tokio::test]
async fn a_client_in_python_registers_answers_and_watches_through_losses_duplicates_and_a_broker_restart() {
    let mut broker = NatsServer::builder().fixed_port().settings(LOSSY).start().await;
    let _registry = start_registry(&broker).await;
    let mut python = Python::start(&broker.url(), "users", "py", "orders");
    python.until("its registration is confirmed", |line| line["registered"].is_u64()).await;
    python.until_answer("empty", &[]).await;

    // Every change is sent a second time by somebody who cannot know whether the first arrived.
    let client = broker.connect().await;
    let mut changes = client.subscribe(subjects().all_changes()).await.expect("subscribed");
    let echo = client.clone();
    let duplicates = tokio::spawn(async move {
        while let Some(message) = changes.next().await {
            let duplicate = String::from_utf8_lossy(&message.payload).replacen('{', "{ ", 1);
            // Marked by its white space, so that it is not sent a third time.
            if !message.payload.starts_with(b"{ ") {
                let _ = echo.publish(message.subject, duplicate.into()).await;
            }
        }
    });

    let mut other = Other { client: client.clone(), session: SessionId::from_parts(1, 1), generation: 0 };
    let names: Vec<String> = (0..20).map(|number| format!("i{number:02}")).collect();
    for name in &names {
        other.append(name, true).await;
    }
    for name in &names[5..] {
        other.append(name, false).await;
    }
    let left: Vec<&str> = names[..5].iter().map(String::as_str).collect();
    python.until_answer("instances", &left).await;
    for name in &left {
        other.append(name, false).await;
    }
    python.until_answer("empty", &[]).await;
    duplicates.abort();

    other.append("i00", true).await;
    python.until_answer("instances", &["i00"]).await;
    broker.stop().await;
    python.until("it says that it does not know", |line| line["answer"] == "unknown").await;
    broker.restart().await;
    python.until_answer("instances", &["i00"]).await;

    answers_probe_and_announce(&broker, &mut python).await;
    outlives_its_ttl(&broker).await;
    python.input.write_all(b"\n").await.expect("it listens");
    python.until("it took itself back", |line| line["deregistered"].is_u64()).await;
    eventually("no registry shows it", SOON, async || match vouched(&broker).await {
        (false, _) => Ok(()),
        shown => Err(format!("{shown:?}")),
    })
    .await;
}

async fn answers_probe_and_announce(broker: &NatsServer, python: &mut Python) {
    let client = broker.connect().await;
    let agent: AgentId = "py-py".parse().expect("a name");
    let ask = async |verb: Verb| {
        let answer =
            timeout(SOON, client.request(subjects().to_agent(&agent, verb), "{}".into())).await.expect("in time");
        answer.expect("an answer").payload
    };
    let before: ProbeReply = serde_json::from_slice(&ask(Verb::Probe).await).expect("an answer to a probe");
    let key: BTreeSet<_> = before.incarnations.keys().cloned().collect();
    assert_eq!(key, BTreeSet::from(["users/py".to_owned()]));
    let announced: Value = serde_json::from_slice(&ask(Verb::Announce).await).expect("an answer to announce");
    assert_eq!(announced["instances"], 1);
    python.until("it registered again", |line| line["registered"].is_u64()).await;
    let after: ProbeReply = serde_json::from_slice(&ask(Verb::Probe).await).expect("an answer to a probe");
    assert!(after.incarnations["users/py"].1 > before.incarnations["users/py"].1, "with a higher generation");
}

/// Its lease is renewed by heartbeats that the registry finds right: nothing was asked to be announced.
async fn outlives_its_ttl(broker: &NatsServer) {
    muster_tests::throughout("it stays registered", Duration::from_secs(5), async || match vouched(broker).await {
        (true, _) => Ok(()),
        shown => Err(format!("{shown:?}")),
    })
    .await;
}

async fn vouched(broker: &NatsServer) -> (bool, String) {
    let client = broker.connect().await;
    let query = Query::Service("users".parse().expect("a name"));
    let answer = client.request(subjects().query(&query), "".into()).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    (text.contains("\"instance\":\"py\""), text)
}

#[tokio::test]
async fn a_broken_client_is_found_out() {
    // The same as above with a client that never answers probes and sends no heartbeats: it expires.
    let broker = NatsServer::start().await;
    let _registry = start_registry(&broker).await;
    let client = broker.connect().await;
    let python = Python::start(&broker.url(), "users", "py", "orders");
    eventually("it is registered", SOON, async || match vouched(&broker).await {
        (true, _) => Ok(()),
        shown => Err(format!("{shown:?}")),
    })
    .await;
    drop(python);
    eventually("it expires", SOON, async || match vouched(&broker).await {
        (false, _) => Ok(()),
        shown => Err(format!("{shown:?}")),
    })
    .await;
    let status = client.request(subjects().query(&Query::Status), "".into()).await.expect("an answer");
    let status: Status = serde_json::from_slice(&status.payload).expect("a status");
    assert!(status.tombstones >= 1, "{status:?}");
}
