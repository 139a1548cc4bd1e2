//! Simulated agents: they register, send heartbeats, answer probes, and die.

use bytes::Bytes;
use muster_schemas::agent::{ProbeReply, instance_key};
use muster_schemas::event::{DeregisterReason, Deregistration};
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_schemas::{
    AgentId, Digest, EventData, Incarnation, InstanceId, MinRevision, Registration, ServiceName, SessionId, Source,
    Vouching, WIRE_VERSION,
};

use super::world::{World, service};

const HEARTBEAT_MS: u64 = 2_000;

pub(super) struct SimulatedAgent {
    pub(super) id: AgentId,
    pub(super) session: SessionId,
    /// Runs: sends heartbeats and answers probes.
    pub(super) alive: bool,
    /// Answers probes, but its heartbeats do not arrive.
    pub(super) mute: bool,
    /// Listens, but says and answers nothing any more.
    pub(super) hangs: bool,
    /// The broker server that it is connected to, and its connection's number there.
    pub(super) server: String,
    pub(super) client: u64,
    pub(super) instances: Vec<Vouching>,
    acked: u64,
    counter: u64,
    next_beat_ms: u64,
}

impl SimulatedAgent {
    pub(super) fn probed(&self) -> Option<ProbeReply> {
        let listed = |vouching: &Vouching| (instance_key(&vouching.service, &vouching.instance), vouching.order());
        self.alive
            .then(|| ProbeReply { session: self.session, incarnations: self.instances.iter().map(listed).collect() })
    }

    fn heartbeat(&mut self) -> Bytes {
        self.counter += 1;
        let digest = |vouching: &Vouching| {
            let (incarnation, generation) = vouching.order();
            Digest::of_vouching(&vouching.service, &vouching.instance, incarnation, generation)
        };
        let heartbeat = Heartbeat {
            v: WIRE_VERSION,
            session: self.session,
            counter: self.counter,
            instances: u32::try_from(self.instances.len()).unwrap(),
            digest: self.instances.iter().map(digest).sum(),
            acked: Some(MinRevision(None, self.acked)),
            conn: Some(Connection(self.server.clone(), format!("id-of-{}", self.server), self.client)),
        };
        Bytes::from(serde_json::to_vec(&heartbeat).unwrap())
    }
}

fn registration(vouching: Vouching) -> Registration {
    Registration::bare(vouching, 10_000, 2_000)
}

impl World {
    /// An agent of this name that vouches for one instance of each service, registered.
    pub(super) fn start_agent(&mut self, name: &str, services: &[&str]) -> AgentId {
        let id = AgentId::new(name).unwrap();
        let minted_ms = u64::try_from(self.wall().as_ms()).unwrap();
        let vouching = |service: ServiceName| Vouching {
            service,
            instance: InstanceId::new(name).unwrap(),
            agent: id.clone(),
            session: SessionId::from_parts(minted_ms, 1),
            incarnation: Incarnation::from_parts(minted_ms, 1),
            generation: 0,
        };
        let agent = SimulatedAgent {
            id: id.clone(),
            session: SessionId::from_parts(minted_ms, 1),
            alive: true,
            mute: false,
            hangs: false,
            server: "n1".to_owned(),
            client: self.agents.len() as u64 + 10,
            instances: services.iter().map(|name| vouching(service(name))).collect(),
            acked: 0,
            counter: 0,
            next_beat_ms: self.now_ms,
        };
        self.agents.insert(id.clone(), agent);
        self.announce(&id);
        id
    }

    /// The agent registers everything again, if it runs and there is a stream; how many registrations that makes.
    pub(super) fn announce(&mut self, id: &AgentId) -> Option<u32> {
        let agent = self.agents.get_mut(id).filter(|agent| agent.alive)?;
        self.stream.as_ref()?;
        for vouching in &mut agent.instances {
            vouching.generation += 1;
        }
        let instances = agent.instances.clone();
        let count = u32::try_from(instances.len()).unwrap();
        for vouching in instances {
            let data = EventData::Register(registration(vouching));
            let sequence = self.append_event(Source::Agent(id.clone()), data);
            self.agent(id).acked = sequence;
        }
        Some(count)
    }

    /// An instance without a lease, for which no agent runs.
    pub(super) fn register_by_hand(&mut self, service_name: &str) {
        let agent = AgentId::new("by-hand").unwrap();
        let minted_ms = u64::try_from(self.wall().as_ms()).unwrap();
        let vouching = Vouching {
            service: service(service_name),
            instance: InstanceId::new("printer").unwrap(),
            agent: agent.clone(),
            session: SessionId::from_parts(minted_ms, 2),
            incarnation: Incarnation::from_parts(minted_ms, 2),
            generation: 1,
        };
        let data = EventData::Register(Registration::bare(vouching, 0, 0));
        self.append_event(Source::Agent(agent), data);
    }

    /// The agent takes back what it vouches for.
    pub(super) fn withdraw(&mut self, id: &AgentId) {
        for mut vouching in std::mem::take(&mut self.agent(id).instances) {
            vouching.generation += 1;
            let data =
                EventData::Deregister(Deregistration { vouching, reason: DeregisterReason::Stopped, detail: None });
            self.append_event(Source::Agent(id.clone()), data);
        }
    }

    pub(super) fn agent(&mut self, id: &AgentId) -> &mut SimulatedAgent {
        self.agents.get_mut(id).expect("an agent")
    }

    /// Heartbeats that are due.
    pub(super) fn step_agents(&mut self) {
        let now_ms = self.now_ms;
        let due = |agent: &&mut SimulatedAgent| agent.alive && now_ms >= agent.next_beat_ms;
        let beats: Vec<_> = self
            .agents
            .values_mut()
            .filter(due)
            .map(|agent| {
                agent.next_beat_ms = now_ms + HEARTBEAT_MS;
                (agent.id.clone(), agent.mute, agent.server.clone(), agent.heartbeat())
            })
            .collect();
        for (id, mute, server, payload) in beats {
            if !mute && !self.agent(&id).hangs {
                let subject = self.subjects.heartbeat(&id);
                self.beat(&server, &subject, &payload);
            }
        }
    }
}
