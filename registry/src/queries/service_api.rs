//! The NATS Services API (ADR-32): what `nats micro list`, `info` and `stats` show of a replica.
//!
//! <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md>. The client library's own
//! implementation answers to any reply subject and cannot leave a queue group and come back, so it does not serve here.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_schemas::query::QueryError;
use muster_schemas::{ReplicaId, Subjects, Timestamp, WIRE_VERSION};
use serde::Serialize;

use super::endpoint::{Endpoint, QUEUE_GROUP};

/// The name of the service, the same for all replicas of all namespaces.
const NAME: &str = "muster-registry";
const PREFIX: &str = "$SRV";

/// What can be asked of any service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub(super) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

/// What was served so far on one endpoint.
#[derive(Debug, Clone, Default)]
struct Served {
    requests: u64,
    errors: u64,
    processing: Duration,
    last_error: String,
}

/// One replica as a NATS service.
#[derive(Debug)]
pub(super) struct ServiceApi {
    identity: Identity,
    started: Timestamp,
    subjects: Subjects,
    replica: ReplicaId,
    served: [Served; Endpoint::ALL.len()],
}

#[derive(Debug, Clone, Serialize)]
struct Identity {
    name: &'static str,
    id: String,
    version: &'static str,
    metadata: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Ping<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    identity: &'a Identity,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    identity: &'a Identity,
    description: &'static str,
    endpoints: Vec<EndpointInfo>,
}

#[derive(Serialize)]
struct EndpointInfo {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    metadata: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    identity: &'a Identity,
    started: Timestamp,
    endpoints: Vec<EndpointStats<'a>>,
}

#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    num_requests: u64,
    num_errors: u64,
    last_error: &'a str,
    /// Nanoseconds.
    processing_time: u64,
    average_processing_time: u64,
}

impl ServiceApi {
    pub(super) fn new(subjects: &Subjects, replica: &ReplicaId, started: Timestamp) -> Self {
        let metadata = BTreeMap::from([
            ("namespace", subjects.namespace().to_string()),
            ("prefix", subjects.prefix().to_string()),
            ("replica", replica.to_string()),
            ("wire_version", WIRE_VERSION.to_string()),
        ]);
        Self {
            identity: Identity { name: NAME, id: replica.token(), version: env!("CARGO_PKG_VERSION"), metadata },
            started,
            subjects: subjects.clone(),
            replica: replica.clone(),
            served: Default::default(),
        }
    }

    /// Where a verb is asked: of all services, of those of this name, of this replica.
    pub(super) fn subjects(&self, verb: Verb) -> [String; 3] {
        let (verb, name, id) = (verb.as_str(), self.identity.name, &self.identity.id);
        [format!("{PREFIX}.{verb}"), format!("{PREFIX}.{verb}.{name}"), format!("{PREFIX}.{verb}.{name}.{id}")]
    }

    /// Counts a request and what became of it.
    pub(super) fn count(&mut self, endpoint: Endpoint, processing: Duration, error: Option<&QueryError>) {
        let served = &mut self.served[endpoint as usize];
        served.requests += 1;
        served.processing += processing;
        if let Some(error) = error {
            served.errors += 1;
            served.last_error = format!("{}:{}", error.code.number(), error.code.as_str());
        }
    }

    /// The answer to a verb.
    pub(super) fn answer(&self, verb: Verb) -> Vec<u8> {
        let identity = &self.identity;
        let bytes = match verb {
            Verb::Ping => serde_json::to_vec(&Ping { kind: "io.nats.micro.v1.ping_response", identity }),
            Verb::Info => serde_json::to_vec(&Info {
                kind: "io.nats.micro.v1.info_response",
                identity,
                description: env!("CARGO_PKG_DESCRIPTION"),
                endpoints: Endpoint::ALL.into_iter().map(|endpoint| self.info(endpoint)).collect(),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                kind: "io.nats.micro.v1.stats_response",
                identity,
                started: self.started,
                endpoints: Endpoint::ALL.into_iter().map(|endpoint| self.stats(endpoint)).collect(),
            }),
        };
        // Plain data with text for keys: there is nothing that could fail to become JSON.
        bytes.unwrap_or_default()
    }

    fn info(&self, endpoint: Endpoint) -> EndpointInfo {
        EndpointInfo {
            name: endpoint.as_str(),
            subject: endpoint.subject(&self.subjects, &self.replica),
            queue_group: if endpoint.is_shared() { QUEUE_GROUP } else { "" },
            metadata: BTreeMap::new(),
        }
    }

    fn stats(&self, endpoint: Endpoint) -> EndpointStats<'_> {
        let served = &self.served[endpoint as usize];
        let nanoseconds = u64::try_from(served.processing.as_nanos()).unwrap_or(u64::MAX);
        EndpointStats {
            name: endpoint.as_str(),
            subject: endpoint.subject(&self.subjects, &self.replica),
            queue_group: if endpoint.is_shared() { QUEUE_GROUP } else { "" },
            num_requests: served.requests,
            num_errors: served.errors,
            last_error: &served.last_error,
            processing_time: nanoseconds,
            average_processing_time: nanoseconds.checked_div(served.requests).unwrap_or(0),
        }
    }
}
