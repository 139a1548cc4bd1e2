//! A registry's process, instances without an agent, and waiting for what a consumer sees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use muster_discovery::{Change, Discovery, Snapshot, Update, Watch};
use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, Source};
use muster_schemas::query::{Reply, Request};
use muster_schemas::{Incarnation, MinRevision, Registration, Subjects};
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually};
use serde_json::{Value, json};

/// What anything that should happen may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn subjects() -> Subjects {
    Subjects::new("muster".parse().expect("a prefix"), "default".parse().expect("a namespace"))
}

/// A broker, a registry, and somebody who writes into the log.
pub(crate) struct Place {
    pub(crate) broker: NatsServer,
    pub(crate) registries: Vec<Process>,
    pub(crate) writer: Client,
    count: AtomicU64,
}

impl Place {
    pub(crate) async fn start() -> Self {
        Self::on(NatsServer::builder().fixed_port().start().await, 1).await
    }

    pub(crate) async fn on(broker: NatsServer, registries: usize) -> Self {
        let writer = broker.connect().await;
        let mut place = Self { broker, registries: Vec::new(), writer, count: AtomicU64::new(0) };
        for number in 1..=registries {
            let process = place.registry(&format!("r{number}"));
            process.wait_for_line("answering queries", SOON).await;
            place.registries.push(process);
        }
        place
    }

    pub(crate) fn registry(&self, name: &str) -> Process {
        let arguments = ["--server", &self.broker.url(), "--replica-id", name, "--listen-period", "200ms"];
        ProcessBuilder::new(bin("muster-registry")).name(name).args(arguments).start()
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn registration(&self, service: &str, instance: &str, version: &str) -> Registration {
        // Every event begins a vouching of its own: whoever was deregistered returns only with a larger one.
        let host = format!("{}.{}.example", self.next(), subjects().namespace());
        let incarnation = Incarnation::from_parts(1, u128::from(self.next()));
        let value = json!({
            "service": service, "instance": instance, "agent": "agent-1", "session": "01J00000000000000000000001",
            "incarnation": incarnation, "generation": 1, "ttl_ms": 0,
            "version": version, "endpoints": [{ "name": "http", "scheme": "http", "host": host, "port": 80 }],
            "metadata": { "filler": "x".repeat(200) },
        });
        serde_json::from_value(value).expect("a registration")
    }

    /// Registers an instance without a lease, or changes it; the sequence.
    pub(crate) async fn put(&self, service: &str, instance: &str, version: &str) -> u64 {
        self.append(EventData::Register(self.registration(service, instance, version))).await
    }

    /// Deregisters it; the sequence.
    pub(crate) async fn remove(&self, service: &str, instance: &str) -> u64 {
        let vouching = self.registration(service, instance, "").vouching;
        let reason = DeregisterReason::Stopped;
        self.append(EventData::Deregister(Deregistration { vouching, reason, detail: None })).await
    }

    async fn append(&self, data: EventData) -> u64 {
        let source: Source = Source::Agent("agent-1".parse().expect("a name"));
        let event = Event { id: format!("{}", self.next()), source, time: None, data };
        let bytes = event.encode(subjects().namespace()).expect("small enough");
        let acknowledged = self.writer.request(event.subject(&subjects()), bytes.into()).await;
        let value: Value = serde_json::from_slice(&acknowledged.expect("an acknowledgement").payload).expect("JSON");
        value["seq"].as_u64().unwrap_or_else(|| panic!("no sequence in {value}"))
    }

    /// What a registry holds of a service, at a sequence or later: instance to version.
    pub(crate) async fn truth(&self, service: &str, sequence: u64) -> BTreeMap<String, String> {
        let query = muster_schemas::subject::Query::Service(service.parse().expect("a name"));
        let request = Request { min_revision: Some(MinRevision(None, sequence)), ..Request::default() };
        let body = serde_json::to_vec(&request).expect("plain data");
        let reply = eventually(format!("a registry has folded {sequence}"), SOON, async || {
            let asked = self.writer.request(subjects().query(&query), body.clone().into()).await;
            let message = asked.map_err(|error| error.to_string())?;
            serde_json::from_slice::<Reply>(&message.payload).map_err(|error| error.to_string())
        })
        .await;
        reply.services.iter().flat_map(|service| &service.instances).map(|instance| words(instance)).collect()
    }
}

pub(crate) fn words(instance: &muster_schemas::Instance) -> (String, String) {
    (instance.id().to_string(), instance.registration.version.clone().unwrap_or_default().to_string())
}

/// What a snapshot holds: instance to version.
pub(crate) fn list(snapshot: &Snapshot) -> BTreeMap<String, String> {
    snapshot.all().map(|instance| words(instance)).collect()
}

/// Waits until a service's list is verified and as wanted.
pub(crate) async fn until_verified(discovery: &Discovery, service: &str, wanted: &BTreeMap<String, String>) {
    eventually(format!("{service} is verified, with {} instances", wanted.len()), SOON, async || {
        let snapshot = discovery.instances(service).await.map_err(|error| error.to_string())?;
        let seen = list(&snapshot);
        if snapshot.is_verified() && seen == *wanted {
            Ok(())
        } else {
            Err(format!("{}, {} instances: {seen:?}", snapshot.state(), seen.len()))
        }
    })
    .await;
}

/// What a watch made of the list so far.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) held: BTreeMap<String, String>,
    pub(crate) changes: Vec<Change>,
    pub(crate) lists: usize,
}

impl Mirror {
    pub(crate) fn take(&mut self, update: Update) {
        match update {
            Update::List(snapshot) => {
                self.lists += 1;
                self.held = list(&snapshot);
            }
            Update::Change(change) => {
                match change.instance() {
                    Some(instance) => drop(self.held.insert(change.id().to_string(), words(instance).1)),
                    None => drop(self.held.remove(change.id().as_str())),
                }
                self.changes.push(change);
            }
            _ => {}
        }
    }

    /// Polls a watch until what it delivered adds up to this.
    pub(crate) async fn until(&mut self, watch: &mut Watch, wanted: &BTreeMap<String, String>) {
        let reading = async {
            while self.lists == 0 || self.held != *wanted {
                let update = watch.next().await.expect("a watch does not end");
                self.take(update);
            }
        };
        if tokio::time::timeout(SOON, reading).await.is_err() {
            panic!("the watch does not lead to {wanted:?}: {:?}", self.held);
        }
    }
}

pub(crate) fn versions(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(id, version)| ((*id).to_owned(), (*version).to_owned())).collect()
}
