//! A whole Muster on a cluster: a registry, agents and an observer on each of the three brokers, and a load of changes.

use std::time::Duration;

use futures::future::join_all;
use muster_discovery::registrar::{Description, Registered, Registrar};
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::Status;
use muster_schemas::subject::Query;
use muster_schemas::{Namespace, Prefix, Subjects};
use muster_tests::cluster::BROKERS;
use muster_tests::{Cluster, Process, ProcessBuilder, bin, eventually, free_port};
use tempfile::TempDir;

use crate::observer::Observer;

/// How long anything may take that is expected to happen at once, or after an election.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The exit code of a registry that finds no broker when it starts.
const NO_BROKER: i32 = 69;

/// The TTL of all instances that the world's agents register.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// The cluster and what is started on it. Everything has one broker as its home, and knows no other.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    registries: Vec<Process>,
    directory: TempDir,
    subjects: Subjects,
}

impl World {
    /// A cluster with a registry on each broker, all ready; the stream has three copies.
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::start().await;
        let directory = tempfile::Builder::new().prefix("muster-cluster-").tempdir().expect("a temporary directory");
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let mut world = Self { cluster, registries: Vec::new(), directory, subjects };
        world.registries = join_all((0..BROKERS).map(|home| world.answering_registry(home))).await;
        for home in 0..BROKERS {
            world.until_ready(home).await;
        }
        world
    }

    /// Starts a registry on a broker.
    pub(crate) fn registry(&self, home: usize, name: &str, arguments: &[&str]) -> Process {
        ProcessBuilder::new(bin("muster-registry"))
            .name(name)
            .args(["--server", &self.cluster.url(home), "--replica-id", name, "--listen-period", "400ms"])
            .args(arguments)
            .start()
    }

    /// A registry that answers queries. One that finds no leader when it starts ends, and is started again, as by an init system.
    async fn answering_registry(&self, home: usize) -> Process {
        let start = || self.registry(home, &format!("r{}", home + 1), &["--stream-replicas", "3"]);
        let mut process = start();
        eventually(format!("the registry on {} answers", Cluster::name(home)), SOON, async || {
            if process.lines().iter().any(|line| line.text.contains("answering queries")) {
                return Ok(());
            }
            let said = process.lines().last().map(|line| line.text.clone());
            if process.exit().is_some_and(|status| status.code() == Some(NO_BROKER)) {
                process = start();
            }
            Err(said.unwrap_or_default())
        })
        .await;
        process
    }

    /// What the process of a registry has printed.
    pub(crate) fn registry_of(&self, home: usize) -> &Process {
        &self.registries[home]
    }

    /// The subjects of the world's namespace.
    pub(crate) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Waits until a registry answers on this broker that it is ready.
    async fn until_ready(&self, home: usize) {
        let client = self.cluster.broker(home).connect().await;
        eventually(format!("a registry answers on {}", Cluster::name(home)), SOON, async || {
            let subject = self.subjects.query(&Query::Status);
            let message = client.request(subject, "".into()).await.map_err(|error| error.to_string())?;
            let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
            if status.state == CatalogState::Ready { Ok(()) } else { Err(format!("{:?}", status.state)) }
        })
        .await;
    }

    /// Starts an agent on a broker that supervises a small HTTP service. Both die with the returned process.
    pub(crate) fn start_service(&self, home: usize, service: &str, instance: &str) -> Process {
        let port = free_port();
        let agent_id = format!("agent-{instance}");
        ProcessBuilder::new(bin("muster-agent"))
            .name(&agent_id)
            .args(["--server", &self.cluster.url(home), "--agent-id", &agent_id, "--advertise", "127.0.0.1"])
            .args(["--heartbeat-interval", "400ms", "--state-dir"])
            .arg(self.directory.path().join("state"))
            .args(["run", "--service", service, "--instance", instance, "--port", &format!("http={port}")])
            .args(["--check", "http=/healthz", "--check-interval", "500ms", "--check-timeout", "400ms", "--ttl", "2s"])
            .arg("--")
            .arg(bin("muster-demo-service"))
            .arg(port.to_string())
            .start()
    }

    /// An observer on this broker.
    pub(crate) async fn observe(&self, home: usize) -> Observer {
        Observer::start(self.cluster.broker(home), &self.subjects).await
    }
}

/// Instances of the service `load`, registered one after the other over whichever broker answers.
pub(crate) struct Load {
    registrar: Registrar,
    registered: Vec<Registered>,
}

impl Load {
    pub(crate) async fn start(world: &World) -> Self {
        let registrar = Registrar::builder()
            .server(world.cluster.urls_from(0))
            .agent("load")
            .heartbeat(Duration::from_millis(400))
            .connect()
            .await;
        Self { registrar: registrar.expect("the load connects"), registered: Vec::new() }
    }

    /// Registers one more instance, without waiting for what becomes of it.
    pub(crate) fn register_one(&mut self) {
        let instance = format!("load-{}", self.registered.len());
        let description = Description::new("load", &instance).expect("a name");
        let description = description.endpoint("http", "http", "127.0.0.1", 80);
        self.registered.push(self.registrar.register_in_background(description).expect("a registration"));
    }

    /// Waits until every registration so far is confirmed; how many there are.
    pub(crate) async fn all_confirmed(&self) -> usize {
        for registered in &self.registered {
            let confirmed = tokio::time::timeout(SOON, registered.confirmed()).await;
            let confirmed = confirmed.unwrap_or_else(|_| panic!("{} is lost", registered.instance()));
            confirmed.unwrap_or_else(|error| panic!("{}: {error}", registered.instance()));
        }
        self.registered.len()
    }
}

/// Waits until this broker's observer has a verified view with this many instances of a service.
pub(crate) async fn until_number(observer: &Observer, service: &str, number: usize) {
    eventually(format!("{number} instances of {service} in a verified view"), SOON, async || {
        let snapshot = observer.snapshot().await;
        let found = snapshot.of_service(service).count();
        if found == number && snapshot.is_verified() { Ok(()) } else { Err(format!("{found}, {:?}", snapshot.state())) }
    })
    .await;
}

/// Neither removed in any view nor missing from one.
pub(crate) async fn alive(observers: &[&Observer], keys: &[&str]) -> Result<(), String> {
    for (number, observer) in observers.iter().enumerate() {
        if let Some(removal) = keys.iter().flat_map(|key| observer.removals_of(key)).next() {
            return Err(format!("removed, by observer {number}: {}", removal.1));
        }
        let snapshot = observer.snapshot().await;
        for key in keys {
            let (service, instance) = key.split_once('/').expect("service/instance");
            if snapshot.instance(service, instance).is_none() {
                return Err(format!("{key} is missing, by observer {number}: {:?}", snapshot.state()));
            }
        }
    }
    Ok(())
}
