//! Silence, sentence by sentence. The bench below sends marks and heartbeats in virtual time, and folds events as they come.

mod digests;
mod disconnects;
mod epochs;
mod heartbeats;
mod properties;
mod rate;
mod servers;
mod silence;

use std::collections::BTreeMap;

use muster_schemas::agent::{ProbeReply, instance_key};
use muster_schemas::event::{DeregisterReason, Deregistration, EpochBegan, Expiry, ExpiryCause, Sender};
use muster_schemas::heartbeat::{Connection, Heartbeat, Mark};
use muster_schemas::{
    AgentId, Digest, EpochId, Event, EventData, Incarnation, InstanceId, MinRevision, Namespace, Prefix, Registration,
    ReplicaId, Revision, ServiceName, SessionId, Subjects, Timestamp, Vouching,
};

use super::{Due, Heard, Leases};
use crate::core::catalog::checkpoint::{Checkpoint, Restoring};
use crate::core::catalog::{Catalog, Folded};
use crate::core::io::Record;

pub(super) const TTL_MS: u64 = 10_000;
pub(super) const MARK_MS: u64 = 200;

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

pub(super) fn epoch_id(number: u64) -> EpochId {
    EpochId::from_parts(0, u128::from(number))
}

pub(super) fn session(number: u64) -> SessionId {
    SessionId::from_parts(0, u128::from(number))
}

pub(super) fn agent_id(agent: &str) -> AgentId {
    agent.parse().unwrap()
}

/// `<agent>` vouches for `orders/<instance>` in a session; the incarnation has the session's number.
pub(super) fn vouching(agent: &str, instance: &str, session_number: u64, generation: u64) -> Vouching {
    Vouching {
        service: ServiceName::new("orders").unwrap(),
        instance: InstanceId::new(instance).unwrap(),
        agent: agent_id(agent),
        session: session(session_number),
        incarnation: Incarnation::from_parts(0, u128::from(session_number)),
        generation,
    }
}

pub(super) fn item(vouching: &Vouching) -> Digest {
    Digest::of_vouching(&vouching.service, &vouching.instance, vouching.incarnation, vouching.generation)
}

/// As a replica reads it that begins from it; `None` before the log's first event.
fn read_back(catalog: &Catalog) -> Option<Checkpoint> {
    let (mut bytes, mut restoring) = (Vec::new(), Restoring::new());
    Checkpoint::of(catalog, None)?.write(&mut bytes).unwrap();
    restoring.feed(&bytes).unwrap();
    Some(restoring.finish().unwrap().0)
}

/// A replica's leases and catalog, its own marks, and virtual time.
pub(super) struct Bench {
    pub(super) leases: Leases,
    pub(super) catalog: Catalog,
    pub(super) now_ms: u64,
    pub(super) mark_counter: u64,
    pub(super) beat_counter: u64,
    pub(super) sequence: u64,
    /// What agents' heartbeats come over, where it matters.
    pub(super) connections: BTreeMap<String, Connection>,
}

impl Bench {
    /// In an epoch, the lease clock running.
    pub(super) fn new() -> Self {
        let mut bench = Self::silent();
        bench.mark();
        bench
    }

    /// In an epoch, no mark heard yet.
    pub(super) fn silent() -> Self {
        let replica = ReplicaId::new("r1").unwrap();
        let mut bench = Self {
            leases: Leases::new(subjects(), &replica),
            catalog: Catalog::default(),
            now_ms: 1_000,
            mark_counter: 0,
            beat_counter: 0,
            sequence: 0,
            connections: BTreeMap::new(),
        };
        bench.begin(1, None);
        bench
    }

    pub(super) fn begin(&mut self, number: u64, previous: Option<u64>) -> Folded {
        let began = EpochBegan {
            epoch: epoch_id(number),
            previous_epoch: previous.map(epoch_id),
            namespace: Namespace::default(),
            datacenter: None,
            fold_version: muster_schemas::FOLD_VERSION,
        };
        self.fold(registry(), EventData::Epoch(began))
    }

    pub(super) fn fold(&mut self, source: Sender, data: EventData) -> Folded {
        let event = Event { id: "e".into(), source, time: None, data };
        self.sequence += 1;
        let record = Record {
            sequence: self.sequence,
            at: Timestamp::from_ms(i64::try_from(self.now_ms).unwrap()),
            subject: &event.subject(&subjects()),
            payload: &event.encode(&Namespace::default()).unwrap(),
        };
        let folded = self.catalog.fold(&subjects(), &record);
        assert!(!folded.outcome.is_ignored(), "{folded:?}");
        self.leases.folded(&self.catalog, &folded);
        folded
    }

    pub(super) fn register(&mut self, agent: &str, instance: &str, session: u64, generation: u64) -> Vouching {
        self.register_with_ttl(vouching(agent, instance, session, generation), TTL_MS)
    }

    pub(super) fn register_with_ttl(&mut self, vouching: Vouching, ttl_ms: u64) -> Vouching {
        self.register_with_linger(vouching, ttl_ms, 0)
    }

    pub(super) fn register_with_linger(&mut self, vouching: Vouching, ttl_ms: u64, linger_ms: u64) -> Vouching {
        let registration = Registration { linger_ms, ..registration(vouching.clone(), ttl_ms) };
        self.fold(Sender::Agent(vouching.agent.clone()), EventData::Register(registration));
        vouching
    }

    pub(super) fn deregister(&mut self, agent: &str, instance: &str, session: u64, generation: u64) {
        let data = Deregistration {
            vouching: vouching(agent, instance, session, generation),
            reason: DeregisterReason::Stopped,
            detail: None,
        };
        self.fold(Sender::Agent(agent_id(agent)), EventData::Deregister(data));
    }

    /// Ends what was handed out, as a replica does after a probe that nobody answered.
    pub(super) fn expire(&mut self, due: &Due) {
        for one in &due.instances {
            let data = Expiry {
                vouching: one.instance.vouching().clone(),
                epoch: self.catalog.epoch().unwrap(),
                observed_sequence: one.observed_sequence,
                cause: ExpiryCause::Silent,
                evidence: one.evidence.clone(),
            };
            self.fold(registry(), EventData::Expire(data));
        }
    }

    pub(super) fn hear(&mut self, subject: &str, payload: &[u8]) -> Heard {
        let wall = Timestamp::from_ms(i64::try_from(self.now_ms).unwrap());
        let position = self.catalog.position();
        self.leases.hear(self.now_ms, wall, position, subject, payload)
    }

    /// From now on an agent's heartbeats come over this connection.
    pub(super) fn connect(&mut self, agent: &str, server: &str, client: u64) {
        self.connections.insert(agent.into(), Connection(server.into(), format!("id-of-{server}"), client));
    }

    /// The broker says that a connection is gone.
    pub(super) fn disconnected(&mut self, server: &str, client: u64) -> Vec<AgentId> {
        self.leases.disconnected(self.now_ms, (server, &format!("id-of-{server}"), client), "Client Closed")
    }

    /// A mark that is sent and processed now.
    pub(super) fn mark(&mut self) -> Heard {
        self.late_mark(0)
    }

    pub(super) fn late_mark(&mut self, late_ms: u64) -> Heard {
        self.mark_counter += 1;
        let mark = Mark {
            v: 1,
            replica: ReplicaId::new("r1").unwrap(),
            counter: self.mark_counter,
            sent_ms: self.now_ms - late_ms,
        };
        let subject = subjects().mark(&mark.replica);
        self.hear(&subject, &serde_json::to_vec(&mark).unwrap())
    }

    pub(super) fn beat(&mut self, agent: &str, session: u64) -> Heard {
        self.beat_with(agent, session, Digest::ZERO, None)
    }

    pub(super) fn beat_with(
        &mut self,
        agent: &str,
        session_number: u64,
        digest: Digest,
        acked: Option<MinRevision>,
    ) -> Heard {
        let connection = self.connections.get(agent).cloned();
        let connection = connection.unwrap_or_else(|| Connection(format!("server-of-{agent}"), "N1".into(), 7));
        self.beat_counter += 1;
        let heartbeat = Heartbeat {
            v: 1,
            session: session(session_number),
            counter: self.beat_counter,
            instances: 1,
            digest,
            acked,
            conn: Some(connection),
        };
        self.hear(&subjects().heartbeat(&agent_id(agent)), &serde_json::to_vec(&heartbeat).unwrap())
    }

    /// Time passes with marks, and a heartbeat of each of these (agent, session) every two seconds.
    pub(super) fn run(&mut self, ms: u64, alive: &[(&str, u64)]) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms += MARK_MS;
            if self.now_ms.is_multiple_of(2_000) {
                for (agent, session) in alive {
                    self.beat(agent, *session);
                }
            }
            self.mark();
        }
    }

    pub(super) fn next_due(&mut self) -> Option<Due> {
        self.leases.next_due(self.now_ms, &self.catalog)
    }

    /// Ids of all instances that are due now.
    pub(super) fn due(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(due) = self.next_due() {
            ids.extend(due.instances.iter().map(|due| due.instance.id().to_string()));
        }
        ids.sort();
        ids
    }

    pub(super) fn acked(&self) -> Option<MinRevision> {
        let Revision(epoch, sequence) = self.catalog.position().unwrap();
        Some(MinRevision(Some(epoch), sequence))
    }
}

pub(super) fn registry() -> Sender {
    Sender::Registry("r1".parse().unwrap())
}

pub(super) fn registration(vouching: Vouching, ttl_ms: u64) -> Registration {
    Registration::bare(vouching, ttl_ms, 0)
}

/// The answer of an agent that vouches for these.
pub(super) fn answer(session_number: u64, listed: &[&Vouching]) -> ProbeReply {
    let key = |one: &Vouching| instance_key(&one.service, &one.instance);
    ProbeReply {
        session: session(session_number),
        incarnations: listed.iter().map(|one| (key(one), one.order())).collect(),
    }
}
