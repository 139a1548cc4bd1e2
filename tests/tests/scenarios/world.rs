//! A whole Muster on one machine: a broker, registries, agents with real services, and an observer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{Reply, Request, Status};
use muster_schemas::subject::Query;
use muster_schemas::{AgentId, InstanceId, MinRevision, Namespace, Prefix, ServiceName, Subjects};
use tempfile::TempDir;

use crate::observer::Observer;
use muster_tests::nats_server::NatsServerBuilder;
use muster_tests::process::Ended;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, free_port, http};

/// How long anything may take that is expected to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The TTL of all instances that the world's agents register.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// A broker, registries and what is started in it.
#[derive(Debug)]
pub(crate) struct World {
    /// The broker; its port stays the same when it is restarted.
    pub(crate) broker: NatsServer,
    /// The registries, in the order of their start.
    pub(crate) registries: Vec<Process>,
    setups: Vec<Setup>,
    directory: TempDir,
    subjects: Subjects,
}

/// How a registry is started, each time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// Where it connects; by default to the broker itself.
    pub(crate) url: Option<String>,
    /// Its environment, besides what the test's own says.
    pub(crate) env: Vec<(String, String)>,
    /// Where it serves its metrics; chosen by the world.
    pub(crate) http: u16,
}

/// An agent with one supervised service.
#[derive(Debug)]
pub(crate) struct Supervised {
    /// The agent's process; its child dies with it.
    pub(crate) agent: Process,
    /// The service's name.
    pub(crate) service: ServiceName,
    /// The instance's id.
    pub(crate) instance: InstanceId,
    /// The service's port.
    pub(crate) port: u16,
    unhealthy: PathBuf,
    fails_once: PathBuf,
}

/// How an agent and its service are started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starting {
    /// More flags of `muster-agent run`.
    pub(crate) flags: Vec<String>,
    /// More arguments of the service.
    pub(crate) service_arguments: Vec<String>,
    /// The agent's id; by default it is named after the instance.
    pub(crate) agent_id: Option<String>,
    /// The service's port; by default a free one.
    pub(crate) port: Option<u16>,
    /// Where the agent connects; by default to the broker itself.
    pub(crate) url: Option<String>,
    /// The TTL, where it is not to be [`TTL`].
    pub(crate) ttl: Option<&'static str>,
    /// The environment of agent and service.
    pub(crate) env: Vec<(String, String)>,
    /// The service runs by itself: the agent only watches it.
    pub(crate) independent: bool,
}

impl World {
    /// A broker and this many registries, all ready.
    pub(crate) async fn start(registries: usize) -> Self {
        Self::start_on(NatsServer::builder().fixed_port().pings(1, 2), registries).await
    }

    /// The same on a broker with other settings; it needs a fixed port.
    pub(crate) async fn start_on(broker: NatsServerBuilder, registries: usize) -> Self {
        let mut world = Self::without_registries(broker).await;
        for _ in 0..registries {
            world.add_registry(Setup::default());
        }
        if registries > 0 {
            world.until_all_serve().await;
        }
        world
    }

    /// A broker alone.
    pub(crate) async fn without_registries(broker: NatsServerBuilder) -> Self {
        let broker = broker.start().await;
        let directory = tempfile::Builder::new().prefix("muster-world-").tempdir().expect("a temporary directory");
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        Self { broker, registries: Vec::new(), setups: Vec::new(), directory, subjects }
    }

    /// The subjects of the world's namespace.
    pub(crate) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// A directory that lives as long as the world.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts one more registry, without waiting for it.
    pub(crate) fn add_registry(&mut self, setup: Setup) -> usize {
        let index = self.registries.len();
        self.setups.push(Setup { http: free_port(), ..setup });
        self.registries.push(self.registry(index));
        index
    }

    /// Starts a registry again that was stopped or killed.
    pub(crate) fn restart_registry(&mut self, index: usize) {
        self.registries[index] = self.registry(index);
    }

    fn registry(&self, index: usize) -> Process {
        let (name, setup) = (format!("r{}", index + 1), &self.setups[index]);
        let url = setup.url.clone().unwrap_or_else(|| self.broker.url());
        let builder = ProcessBuilder::new(bin("muster-registry"))
            .name(&name)
            .args(["--server", &url, "--replica-id", &name, "--listen-period", "400ms"])
            .args(["--http", &format!("127.0.0.1:{}", setup.http)]);
        setup.env.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
    }

    /// One number of a registry's metrics, all labels together.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn metric(&self, index: usize, name: &str) -> Result<f64, String> {
        let text = http::get(self.setups[index].http, "/metrics").await?;
        let is_it = |line: &&str| line.split([' ', '{']).next() == Some(name);
        let values: Vec<f64> =
            text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if values.is_empty() { Err(format!("no {name} in {text}")) } else { Ok(values.iter().sum()) }
    }

    /// Waits until a registry's number is as wanted.
    pub(crate) async fn until_metric(&self, index: usize, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        eventually(format!("{name} of r{} is as wanted", index + 1), SOON, async || {
            let value = self.metric(index, name).await?;
            if wanted(value) { Ok(value) } else { Err(value.to_string()) }
        })
        .await
    }

    /// Waits until the registries that run have heard of each other, and all of them serve.
    pub(crate) async fn until_all_serve(&self) {
        #[allow(clippy::cast_precision_loss)] // a handful
        let count = self.registries.len() as f64;
        for index in 0..self.registries.len() {
            self.until_metric(index, "muster_replicas", |replicas| replicas == count).await;
            eventually(format!("r{} is ready", index + 1), SOON, async || {
                http::get(self.setups[index].http, "/health/ready").await.map(|_| ())
            })
            .await;
        }
        self.until_ready().await;
    }

    /// Waits until a registry answers that it is ready.
    pub(crate) async fn until_ready(&self) {
        self.until_state(CatalogState::Ready).await;
    }

    /// Waits until every registry that answers is in this state, and one does.
    pub(crate) async fn until_state(&self, state: CatalogState) {
        let client = self.broker.connect().await;
        let subject = self.subjects.query(&Query::Status);
        eventually(format!("a registry is {state:?}"), SOON, async || {
            let message = client.request(subject.clone(), "".into()).await.map_err(|error| error.to_string())?;
            let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
            if status.state == state { Ok(()) } else { Err(format!("{:?}: {:?}", status.state, status.reason)) }
        })
        .await;
    }

    /// Starts an agent that supervises a small HTTP service checked every 200 ms, with a TTL of 2 s.
    pub(crate) fn start_service(&self, service: &str, instance: &str, starting: &Starting) -> Supervised {
        let port = starting.port.unwrap_or_else(free_port);
        let unhealthy = self.directory.path().join(format!("{service}-{instance}.unhealthy"));
        let agent_id = starting.agent_id.clone().unwrap_or_else(|| format!("agent-{instance}"));
        let url = starting.url.clone().unwrap_or_else(|| self.broker.url());
        let port_text = port.to_string();
        let named_port = format!("http={port}");
        let fails_once = self.directory.path().join(format!("{service}-{instance}.fails-once"));
        let mut agent = ProcessBuilder::new(bin("muster-agent"))
            .name(&agent_id)
            .args(["--server", &url, "--agent-id", &agent_id, "--advertise", "127.0.0.1"])
            .args(["--heartbeat-interval", "400ms", "--state-dir"])
            .arg(self.directory.path().join("state"))
            .args(["run", "--service", service, "--instance", instance, "--port", &named_port])
            .args(["--check", "http=/healthz", "--check-interval", "200ms", "--check-timeout", "400ms"])
            .args(["--ttl", starting.ttl.unwrap_or("2s")])
            .args(&starting.flags);
        if !starting.independent {
            agent = agent
                .arg("--")
                .arg(bin("muster-demo-service"))
                .arg(&port_text)
                .arg("--unhealthy-while")
                .arg(&unhealthy)
                .arg("--fail-once")
                .arg(&fails_once)
                .args(&starting.service_arguments);
        }
        let agent = starting.env.iter().fold(agent, |agent, (name, value)| agent.env(name, value)).start();
        Supervised {
            agent,
            service: service.parse().expect("a service name"),
            instance: instance.parse().expect("an instance id"),
            port,
            unhealthy,
            fails_once,
        }
    }

    /// Starts a service that runs by itself, and an agent that only watches it.
    pub(crate) async fn start_independent(
        &self,
        service: &str,
        instance: &str,
        ttl: &'static str,
    ) -> (Process, Supervised) {
        let port = free_port();
        let process = ProcessBuilder::new(bin("muster-demo-service")).name(instance).arg(port.to_string()).start();
        process.wait_for_line("listening", SOON).await;
        let starting = Starting { port: Some(port), independent: true, ttl: Some(ttl), ..Starting::default() };
        (process, self.start_service(service, instance, &starting))
    }

    /// Starts services one after the other and waits until the observer sees all of them passing.
    pub(crate) async fn start_services(&self, observer: &Observer, names: &[(&str, &str)]) -> Vec<Supervised> {
        let services: Vec<_> = names
            .iter()
            .map(|(service, instance)| self.start_service(service, instance, &Starting::default()))
            .collect();
        for supervised in &services {
            observer.until_routable(supervised.service.as_str(), supervised.instance.as_str()).await;
        }
        services
    }

    /// Runs `muster` to its end.
    pub(crate) async fn muster(&self, arguments: &[&str]) -> Ended {
        let builder = ProcessBuilder::new(bin("muster")).current_dir(self.directory()).args(arguments);
        Ended::of(&mut builder.args(["--server", &self.broker.url()]).start()).await
    }

    /// An observer that watches everything.
    pub(crate) async fn observe(&self) -> Observer {
        Observer::start(&self.broker, &self.subjects).await
    }

    /// Asks a registry, without retrying.
    ///
    /// # Errors
    /// What came instead of an answer.
    pub(crate) async fn ask(&self, query: &Query, request: &Request) -> Result<Reply, String> {
        let client = self.broker.connect().await;
        let body = serde_json::to_vec(request).expect("plain data");
        let message =
            client.request(self.subjects.query(query), body.into()).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&message.payload).map_err(|_| String::from_utf8_lossy(&message.payload).into_owned())
    }

    /// Publishes bytes into the log; answers their sequence once a registry has folded them.
    pub(crate) async fn append(&self, subject: &str, payload: &[u8]) -> u64 {
        let context = async_nats::jetstream::new(self.broker.connect().await);
        let sent = context.publish(subject.to_owned(), payload.to_vec().into()).await.expect("the broker takes it");
        let sequence = sent.await.expect("the stream stores it").sequence;
        let request = Request { min_revision: Some(MinRevision(None, sequence)), ..Request::default() };
        eventually(format!("a registry has folded {sequence}"), SOON, async || {
            self.ask(&Query::Services, &request).await.map(|_| ())
        })
        .await;
        sequence
    }

    /// How often a registry's fold had this outcome, by its own count since it started.
    pub(crate) async fn outcome_count(&self, outcome: &str) -> u64 {
        let client = self.broker.connect().await;
        let message = client.request(self.subjects.query(&Query::Status), "".into()).await.expect("an answer");
        let status: Status = serde_json::from_slice(&message.payload).expect("a status");
        status.outcomes.get(outcome).copied().unwrap_or(0)
    }
}

impl Supervised {
    /// The agent's id.
    pub(crate) fn agent_id(&self) -> AgentId {
        format!("agent-{}", self.instance).parse().expect("an agent id")
    }

    /// `service/instance`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.service, self.instance)
    }

    /// The number of the service's process, asked of the service itself.
    pub(crate) async fn service_pid(&self) -> i32 {
        eventually(format!("{} tells its process number", self.key()), SOON, async || {
            let body = http::get(self.port, "/").await?;
            body.parse().map_err(|_| format!("it said {body:?}"))
        })
        .await
    }

    /// Makes one single check of the service fail; answers once it has.
    pub(crate) async fn fail_one_check(&self) {
        std::fs::write(&self.fails_once, "").expect("the world's directory is writable");
        eventually(format!("a check of {} has failed", self.key()), SOON, async || {
            if self.fails_once.exists() { Err("not yet") } else { Ok(()) }
        })
        .await;
    }

    /// Makes the service answer its checks with 503, or with 200 again.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        if healthy {
            let _ = std::fs::remove_file(&self.unhealthy);
        } else {
            std::fs::write(&self.unhealthy, "").expect("the world's directory is writable");
        }
    }
}
