//! `muster-agent run` with a real broker and a registry: what consumers are told, and in which order.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use muster_schemas::agent::{DrainReply, DrainRequest};
use muster_schemas::change::ChangeKind;
use muster_schemas::query::{ErrorReply, Reply};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{Cause, Change, HealthStatus, Instance, Namespace, Prefix, Subjects};
use muster_tests::process::Signal;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, free_port, http};
use tempfile::TempDir;

/// How long anything may take that is expected to happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A broker, a registry, and a directory for agents.
struct Place {
    broker: NatsServer,
    _registry: Process,
    client: async_nats::Client,
    directory: TempDir,
}

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

impl Place {
    async fn new() -> Self {
        let broker = NatsServer::builder().fixed_port().start().await;
        let registry = ProcessBuilder::new(bin("muster-registry"))
            .name("r1")
            .args(["--server", &broker.url(), "--replica-id", "r1", "--listen-period", "200ms"])
            .start();
        registry.wait_for_line("answering queries", SOON).await;
        Self {
            client: broker.connect().await,
            broker,
            _registry: registry,
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn agent(&self, flags: &[&str]) -> ProcessBuilder {
        ProcessBuilder::new(bin("muster-agent"))
            .current_dir(self.directory.path())
            .args([
                "--server",
                &self.broker.url(),
                "--advertise",
                "127.0.0.1",
                "--node",
                "web1",
                "--state-dir",
                "state",
            ])
            .args(["--heartbeat-interval", "400ms"])
            .args(flags)
            .arg("run")
    }

    /// The service `orders` on `port`, checked over HTTP; not healthy while the file `unhealthy` exists.
    fn orders(&self, port: u16, agent_flags: &[&str], flags: &[&str]) -> Process {
        self.agent(agent_flags)
            .args(["--service", "orders", "--port", &format!("http={port}"), "--ttl", "2s"])
            .args(["--check", "http=/healthz interval=100ms timeout=1s failures=2 successes=2"])
            .args(flags)
            .arg("--")
            .arg(bin("muster-demo-service"))
            .args([&port.to_string(), "--unhealthy-while"])
            .arg(self.path("unhealthy"))
            .start()
    }

    /// What consumers of `orders` are told from now on.
    async fn changes(&self) -> async_nats::Subscriber {
        let changes = self.client.subscribe(subjects().change(&"orders".parse().expect("a name"))).await;
        self.client.flush().await.expect("flushed");
        changes.expect("subscribed")
    }

    /// What a registry holds of an instance of `orders`.
    async fn held(&self, instance: &str) -> Result<Option<Instance>, String> {
        let query = Query::Instance("orders".parse().expect("a name"), instance.parse().expect("a name"));
        let answer =
            self.client.request(subjects().query(&query), "".into()).await.map_err(|error| error.to_string())?;
        match serde_json::from_slice::<ErrorReply>(&answer.payload) {
            Ok(_) => Ok(None),
            Err(_) => {
                let reply: Reply = serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
                Ok(reply.services.into_iter().flat_map(|service| service.instances).next().map(|held| (*held).clone()))
            }
        }
    }

    async fn until_held(&self, instance: &str, status: HealthStatus) -> Instance {
        eventually(format!("{instance} is held as {status:?}"), SOON, async || {
            let held = self.held(instance).await?.ok_or("it is not held")?;
            let seen = held.registration.health.status;
            if seen == status { Ok(held) } else { Err(format!("it is {seen:?}")) }
        })
        .await
    }

    async fn until_gone(&self, instance: &str) {
        eventually(format!("{instance} is not held"), SOON, async || match self.held(instance).await? {
            None => Ok(()),
            Some(held) => Err(format!("{held:?}")),
        })
        .await;
    }
}

async fn next_removal(changes: &mut async_nats::Subscriber) -> Change {
    let removal = async {
        loop {
            let message = changes.next().await.expect("a change");
            let change: Change = serde_json::from_slice(&message.payload).expect("a change");
            if change.change == ChangeKind::Removed {
                return change;
            }
        }
    };
    tokio::time::timeout(SOON, removal).await.expect("a removal in time")
}

async fn code(process: &mut Process) -> Option<i32> {
    process.wait_exit(SOON).await.code()
}

#[tokio::test]
async fn a_service_is_registered_once_it_is_ready_with_everything_that_was_said_of_it() {
    let place = Place::new().await;
    let port = free_port();
    let agent_flags = ["--region", "eu", "--zone", "eu-1"];
    let flags = ["--service-version", "1.4.2", "--tag", "primary", "--metadata", "team=shop", "--weight", "7"];
    let agent = place.orders(port, &agent_flags, &flags);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    let held = place.until_held(&format!("web1-{port}"), HealthStatus::Passing).await.registration;
    assert_eq!(held.vouching.agent.as_str(), "web1");
    let endpoint = &held.endpoints[0];
    assert_eq!((endpoint.name.as_str(), endpoint.scheme.as_str()), ("http", "http"));
    assert_eq!((endpoint.host.as_deref(), endpoint.port), (Some("127.0.0.1"), Some(port)));
    assert_eq!((held.version.as_deref(), held.weight, held.tags.join(",").as_str()), (Some("1.4.2"), 7, "primary"));
    assert_eq!(&held.metadata["team"], "shop");
    assert_eq!((held.ttl_ms, held.linger_ms), (2_000, 2_000));
    let locality = held.locality.expect("a locality");
    assert_eq!((locality.region.as_deref(), locality.zone.as_deref()), (Some("eu"), Some("eu-1")));
    let node = held.node.expect("a node");
    assert_eq!((node.name.as_str(), node.address.as_deref()), ("web1", Some("127.0.0.1")));
    let kept = std::fs::read_to_string(place.path("state/node-id")).expect("a node id");
    assert_eq!(node.id.as_deref(), Some(kept.trim()));
    let check = &held.health.checks[0];
    assert_eq!((check.id.as_str(), check.kind.as_str()), ("http", "http"));
    assert_eq!(check.output.as_deref(), Some("200 OK healthy"));
}

#[tokio::test]
async fn on_stop_the_removal_is_seen_before_the_service_gets_its_signal() {
    let place = Place::new().await;
    let port = free_port();
    let mut changes = place.changes().await;
    let mut agent = place.orders(port, &[], &["--drain", "300ms"]);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    agent.signal(Signal::SIGTERM);
    let removed = next_removal(&mut changes).await;
    assert_eq!(removed.evidence.expect("evidence").reason.as_deref(), Some("stopped"));
    // Consumers that saw the removal can finish what they began.
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the service still answers");
    let order = ["stopping", "deregistered", "stop signal sent", "was ended by signal 15"];
    let mut last = None;
    for text in order {
        let line = match &last {
            None => agent.wait_for_line(text, SOON).await,
            Some(line) => agent.wait_for_line_after(line, text, SOON).await,
        };
        last = Some(line);
    }
    assert_eq!(code(&mut agent).await, Some(143));
}

#[tokio::test]
async fn failing_checks_turn_it_critical_then_deregister_it_until_it_recovers() {
    let place = Place::new().await;
    let port = free_port();
    let instance = format!("web1-{port}");
    let agent = place.orders(port, &[], &["--critical-deregister-after", "500ms"]);
    place.until_held(&instance, HealthStatus::Passing).await;
    std::fs::write(place.path("unhealthy"), "").expect("written");
    let critical = agent.wait_for_line("health changed from=\"passing\" to=\"critical\"", SOON).await;
    assert!(critical.text.contains("503 Service Unavailable unhealthy"), "{}", critical.text);
    place.until_gone(&instance).await;
    std::fs::remove_file(place.path("unhealthy")).expect("removed");
    agent.wait_for_line_after(&critical, ": registered after_ms=", SOON).await;
    place.until_held(&instance, HealthStatus::Passing).await;
}

#[tokio::test]
async fn an_exit_is_told_at_once_and_its_code_returned() {
    let place = Place::new().await;
    let mut agent = place.agent(&[]).args(["--service", "orders", "--", "sh", "-c", "read line; exit 4"]).start();
    // Standard input is closed: `read` fails at once.
    assert_eq!(code(&mut agent).await, Some(4));
    place.until_gone("web1").await;
}

#[tokio::test]
async fn a_service_that_runs_by_itself_stays_registered_while_its_agent_is_replaced() {
    let place = Place::new().await;
    let port = free_port();
    let service = ProcessBuilder::new(bin("muster-demo-service")).arg(port.to_string()).start();
    service.wait_for_line("listening", SOON).await;
    let mut changes = place.changes().await;
    let run = |flags: &[&str]| {
        place.agent(&[]).args(["--service", "orders", "--port", &format!("http={port}")]).args(flags).start()
    };
    let mut agent = run(&[]);
    let instance = format!("web1-{port}");
    let held = place.until_held(&instance, HealthStatus::Passing).await.registration;
    assert_eq!(held.linger_ms, held.ttl_ms);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    assert_eq!(agent.stop(SOON).await.code(), Some(0));
    agent.wait_for_line("left registered", SOON).await;

    let mut agent = run(&["--on-stop", "deregister"]);
    agent.wait_for_line(": registered after_ms=", SOON).await;
    let adopted = place.until_held(&instance, HealthStatus::Passing).await.registration;
    assert!(adopted.vouching.incarnation > held.vouching.incarnation);
    assert_eq!(agent.stop(SOON).await.code(), Some(0));
    place.until_gone(&instance).await;
    let removed = next_removal(&mut changes).await;
    assert_eq!(removed.cause, Cause::Deregistered, "the only removal");
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the service lives");
}

#[tokio::test]
async fn a_drain_deregisters_and_stops_that_instance_alone() {
    let place = Place::new().await;
    let table = |name: &str, port: u16| {
        let program = bin("muster-demo-service").display().to_string();
        format!(
            "[[service]]\nservice = '{name}'\nport = ['http={port}']\ndrain = '10ms'\ncommand = ['{program}', '{port}']\n"
        )
    };
    let (orders, users) = (free_port(), free_port());
    std::fs::write(place.path("services.toml"), [table("orders", orders), table("users", users)].concat())
        .expect("written");
    let mut agent = place.agent(&["--config", "services.toml"]).start();
    let instance = format!("web1-{orders}");
    place.until_held(&instance, HealthStatus::Passing).await;
    let request = DrainRequest {
        service: "orders".parse().expect("a name"),
        instance: instance.parse().expect("a name"),
        deadline_ms: 5_000,
    };
    let inbox = place.client.new_inbox();
    let mut answers = place.client.subscribe(inbox.clone()).await.expect("subscribed");
    let subject = subjects().to_agent(&"web1".parse().expect("a name"), Verb::Drain);
    let body = serde_json::to_vec(&request).expect("plain data");
    place.client.publish_with_reply(subject, inbox, body.into()).await.expect("sent");
    let mut results = Vec::new();
    while results.last().is_none_or(|result| result != "stopped") {
        let answer = tokio::time::timeout(SOON, answers.next()).await.expect("in time").expect("an answer");
        let reply: DrainReply = serde_json::from_slice(&answer.payload).expect("a reply");
        results.push(reply.result);
    }
    assert_eq!(results, ["deregistered", "stopped"]);
    place.until_gone(&instance).await;
    tokio::net::TcpStream::connect(("127.0.0.1", users)).await.expect("the other lives");
    assert!(agent.exit().is_none());
}

#[tokio::test]
async fn a_second_agent_of_the_same_id_takes_over_and_the_first_stops_its_service_and_ends_with_75() {
    let place = Place::new().await;
    let run =
        |service: &str| place.agent(&["--agent-id", "same"]).args(["--service", service, "--", "sleep", "600"]).start();
    let mut first = run("orders");
    first.wait_for_line(": registered after_ms=", SOON).await;
    let second = run("users");
    second.wait_for_line(": registered after_ms=", SOON).await;
    assert_eq!(code(&mut first).await, Some(75));
    first.wait_for_line("the service was ended by signal 15", SOON).await;
}

#[tokio::test]
async fn a_broker_that_comes_later_finds_the_service_running_and_registers_it() {
    let mut place = Place::new().await;
    place.broker.kill();
    let port = free_port();
    let agent = place.orders(port, &[], &[]);
    agent.wait_for_line("service ready", SOON).await;
    place.broker.restart().await;
    agent.wait_for_line(": registered after_ms=", SOON).await;
}

#[tokio::test]
async fn a_required_registration_that_is_refused_ends_the_agent_with_77() {
    let settings = "authorization: { users: [ { user: a, password: b, permissions: { \
                    publish: { deny: \"muster.*.event.>\" } } } ] }";
    let broker = NatsServer::builder().settings(settings).start().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("password"), "b").expect("written");
    let run = |user: &str| {
        ProcessBuilder::new(bin("muster-agent"))
            .current_dir(directory.path())
            .args(["--server", &broker.url(), "--user", user, "--password-file", "password", "--state-dir", "state"])
            .args(["--advertise", "127.0.0.1", "--require-registration", "run", "--service", "orders", "--"])
            .args(["sleep", "600"])
            .start()
    };
    let mut refused = run("a");
    refused.wait_for_line("event.register.orders", SOON).await;
    assert_eq!(code(&mut refused).await, Some(77));
    assert!(!refused.lines().iter().any(|line| line.text.contains("service started")));
    let mut unknown = run("nobody");
    assert_eq!(code(&mut unknown).await, Some(77));
}

#[tokio::test]
async fn readiness_and_metrics_are_served() {
    let place = Place::new().await;
    let (port, http_port) = (free_port(), free_port());
    std::fs::write(place.path("unhealthy"), "").expect("written");
    let agent = place.orders(port, &["--http", &format!("127.0.0.1:{http_port}")], &[]);
    agent.wait_for_line("serving metrics", SOON).await;
    let instance = format!("web1-{port}");
    until_answer(http_port, "/health/ready", &["HTTP/1.1 503", &format!("not registered: orders/{instance}")]).await;
    std::fs::remove_file(place.path("unhealthy")).expect("removed");
    until_answer(http_port, "/health/ready", &["HTTP/1.1 200"]).await;
    until_answer(http_port, "/health/live", &["HTTP/1.1 200"]).await;
    let expected =
        ["muster_agent_services 1", "muster_agent_services_registered 1", "muster_agent_service_starts_total 1"];
    until_answer(http_port, "/metrics", &expected).await;
}

async fn until_answer(port: u16, path: &str, parts: &[&str]) {
    eventually(format!("{path} answers {parts:?}"), SOON, async || {
        let answer = http::answer(port, path).await?;
        if parts.iter().all(|part| answer.contains(part)) { Ok(()) } else { Err(answer) }
    })
    .await;
}
