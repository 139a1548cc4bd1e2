//! An agent's process: the real vouching core, its owner who wants instances registered, and the simulated broker.

use std::collections::BTreeMap;

use muster_agent::core::io::{Answer, ClaimId, Effect, Effects, Input, Now, RequestId, Withdrawal};
use muster_agent::core::spec::InstanceSpec;
use muster_agent::core::status::Status;
use muster_agent::core::timing::Timing;
use muster_agent::core::{Voucher, VoucherSettings};
use muster_schemas::event::DeregisterReason;
use muster_schemas::health::HealthStatus;
use muster_schemas::heartbeat::Connection;
use muster_schemas::instance::Endpoint;
use muster_schemas::{AgentId, InstanceId, ServiceName, SessionId};

use super::link::{LinkId, NodeId, Role};
use super::wire::{Answered, Packet, Work};
use super::world::{Process, WALL_MS, World};

/// The TTL of all instances.
pub(crate) const TTL_MS: u64 = 2_000;
/// A vouching that is not stepped for longer takes itself to have been frozen.
const STEP_MS_MAX: u64 = 1_000;
/// How long an owner waits for a deregistration to be confirmed.
const WITHDRAWAL_MS: u64 = 5_000;

/// The name of an instance.
pub(crate) type Key = (ServiceName, InstanceId);

/// An agent's process; another start is another one.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    /// Where it runs: restarts stay there, a second process of the same id runs elsewhere.
    pub(crate) host: usize,
    pub(crate) process: Process,
    pub(crate) link: LinkId,
    pub(crate) voucher: Voucher,
    pub(crate) claims: BTreeMap<ClaimId, Claim>,
    /// The next so many heartbeats do not reach anybody.
    pub(crate) heartbeats_lost: u32,
    /// At the broker: it is subscribed.
    pub(crate) listening: bool,
    /// Every session that it ever had.
    pub(crate) sessions: Vec<SessionId>,
    /// Since when it has run, unfrozen and well connected.
    pub(crate) healthy_since_ms: Option<u64>,
    /// The same, whether its server reached the stream or not.
    pub(crate) sound_since_ms: Option<u64>,
    pub(crate) superseded: bool,
    connected: bool,
    has_listened: bool,
    last_claim: u64,
    wakes: u64,
}

/// What an owner wants of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) spec: InstanceSpec,
    pub(crate) status: Option<Status>,
    pub(crate) made_ms: u64,
    /// When a registry first confirmed it.
    pub(crate) confirmed_ms: Option<u64>,
    /// The owner took it back.
    pub(crate) withdrawn: bool,
}

impl Claim {
    pub(crate) fn key(&self) -> Key {
        (self.spec.service.clone(), self.spec.instance.clone())
    }

    /// The owner wants it, and has not been told that this came to an end.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.withdrawn && !self.status.as_ref().is_some_and(Status::is_final)
    }
}

impl Agent {
    /// Whether it runs and knows that it is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.process.is_active() && self.connected
    }

    pub(crate) fn wants(&self, key: &Key) -> bool {
        self.claims.values().any(|claim| claim.is_wanted() && claim.key() == *key)
    }

    /// Whether it has wanted that for so long that no registry can have decided before to end it.
    pub(crate) fn wants_for(&self, key: &Key, now_ms: u64, for_ms: u64) -> bool {
        let is_old = |claim: &Claim| claim.confirmed_ms.is_some() || now_ms.saturating_sub(claim.made_ms) >= for_ms;
        self.claims.values().any(|claim| claim.is_wanted() && claim.key() == *key && is_old(claim))
    }

    /// The claims that its owner has, in the order in which they were made.
    pub(crate) fn wanted(&self) -> Vec<ClaimId> {
        self.claims.iter().filter(|(_, claim)| claim.is_wanted()).map(|(id, _)| *id).collect()
    }
}

/// An instance on a host.
pub(crate) fn spec(service: &str, instance: &str, port: u16) -> InstanceSpec {
    let service = ServiceName::new(service).expect("a name");
    let instance = InstanceId::new(instance).expect("a name");
    let endpoint = Endpoint {
        name: "http".into(),
        scheme: "http".into(),
        host: Some("10.0.0.1".into()),
        port: Some(port),
        subject: None,
        extra: muster_schemas::Extra::new(),
    };
    InstanceSpec {
        endpoints: vec![endpoint],
        ttl_ms: TTL_MS,
        linger_ms: TTL_MS,
        ..InstanceSpec::new(service, instance)
    }
}

fn timing() -> Timing {
    Timing {
        recheck_window_ms: 500,
        duplicate_ms: 1_000,
        fenced_first_ms: 1_000,
        fenced_max_ms: 3_000,
        ..Timing::default()
    }
}

impl World {
    /// Starts a process that wants these instances registered.
    pub(crate) fn start_agent(&mut self, id: &AgentId, host: usize, specs: Vec<InstanceSpec>) -> usize {
        let index = self.agents.len();
        let link = self.new_link(NodeId::Agent(index), Role::Everything);
        let settings = VoucherSettings {
            subjects: self.subjects.clone(),
            agent: id.clone(),
            timing: timing(),
            seed: self.random.next(),
        };
        let agent = Agent {
            id: id.clone(),
            host,
            process: Process::default(),
            link,
            voucher: Voucher::new(settings, self.now_of(host)),
            claims: BTreeMap::new(),
            heartbeats_lost: 0,
            listening: false,
            sessions: Vec::new(),
            healthy_since_ms: None,
            sound_since_ms: None,
            superseded: false,
            connected: false,
            has_listened: false,
            last_claim: 0,
            wakes: 0,
        };
        self.agents.push(agent);
        self.agents[index].process.start();
        self.tell(|| format!("process {index} of agent {id} starts on host {host}"));
        for spec in specs {
            self.register(index, spec);
        }
        self.connect(link);
        index
    }

    /// The process ends; nothing is said, and the broker notices at once.
    pub(crate) fn kill_agent(&mut self, index: usize) {
        let link = self.agents[index].link;
        self.agents[index].process.end();
        self.agents[index].connected = false;
        self.cut(link);
        self.say(|| format!("process {index} is killed"));
    }

    /// The process ends with its host: the broker goes on believing in the connection.
    pub(crate) fn lose_host(&mut self, index: usize) {
        self.agents[index].process.end();
        self.agents[index].connected = false;
        self.say(|| format!("process {index} is lost with its host"));
    }

    fn now_of(&self, host: usize) -> Now {
        let wall_ms = WALL_MS.saturating_add_unsigned(self.now_ms) + self.oracle.host_clock_ms(host);
        Now { ms: self.now_ms, wall_ms: u64::try_from(wall_ms).unwrap_or(0) }
    }

    pub(crate) fn register(&mut self, index: usize, spec: InstanceSpec) {
        let agent = &mut self.agents[index];
        let key = (spec.service.clone(), spec.instance.clone());
        if agent.claims.values().any(|claim| claim.key() == key && !claim.status.as_ref().is_some_and(Status::is_final))
        {
            return;
        }
        agent.last_claim += 1;
        let id = ClaimId(agent.last_claim);
        let claim =
            Claim { spec: spec.clone(), status: None, made_ms: self.now_ms, confirmed_ms: None, withdrawn: false };
        agent.claims.insert(id, claim);
        self.tell(|| format!("process {index} is to register {}/{}", key.0, key.1));
        self.agent_is_told(index, Input::Register(id, spec));
    }

    pub(crate) fn withdraw(&mut self, index: usize, id: ClaimId) {
        let agent = &mut self.agents[index];
        let Some(claim) = agent.claims.get_mut(&id) else { return };
        claim.withdrawn = true;
        let key = claim.key();
        self.oracle.withdrawn(index, key.clone());
        self.tell(|| format!("process {index} is to deregister {}/{}", key.0, key.1));
        let withdrawal = Withdrawal { reason: DeregisterReason::Stopped, detail: None, within_ms: WITHDRAWAL_MS };
        self.agent_is_told(index, Input::Deregister(id, withdrawal));
    }

    pub(crate) fn change_health(&mut self, index: usize, id: ClaimId) {
        let status = *[HealthStatus::Passing, HealthStatus::Warning, HealthStatus::Critical]
            .get(self.random.below(3))
            .unwrap_or(&HealthStatus::Passing);
        let Some(claim) = self.agents[index].claims.get_mut(&id) else { return };
        claim.spec.health.status = status;
        let health = claim.spec.health.clone();
        self.agent_is_told(index, Input::Health(id, health));
    }

    pub(crate) fn describe_anew(&mut self, index: usize, id: ClaimId) {
        let version = self.random.up_to(9).to_string();
        let Some(claim) = self.agents[index].claims.get_mut(&id) else { return };
        claim.spec.version = Some(version);
        let spec = claim.spec.clone();
        self.agent_is_told(index, Input::Update(id, spec));
    }

    /// By its owner, who finds a frozen process when it thaws: nothing is done to one that is not active.
    fn agent_is_told(&mut self, index: usize, input: Input<'_>) {
        let now = self.now_of(self.agents[index].host);
        let mut effects = Effects::default();
        self.agents[index].voucher.step(now, input, &mut effects);
        self.settle_agent(index, &mut effects);
    }

    pub(crate) fn agent_works(&mut self, index: usize, work: Work) {
        match work {
            Work::Connected(_) => {
                let (name, id, client) = self.connection(self.agents[index].link);
                let connection = Connection(name, id, client);
                let agent = &mut self.agents[index];
                agent.connected = true;
                if agent.has_listened {
                    let link = agent.link;
                    self.send(link, Packet::Listen);
                }
                self.say(|| format!("process {index} is connected"));
                self.agent_is_told(index, Input::Connected(connection));
                self.look_at_health();
            }
            Work::Disconnected(_) => {
                self.agents[index].connected = false;
                self.agent_is_told(index, Input::Disconnected);
            }
            Work::Heard { verb, payload, reply } => {
                self.agent_is_told(index, Input::Heard { verb, payload: &payload, reply: reply.as_deref() });
            }
            Work::Answer { request, answered } => {
                let answer = match &answered {
                    Answered::Message(payload) => Answer::Message(payload),
                    Answered::NoResponders => Answer::NoResponders,
                    Answered::Failed => Answer::NotSent("the connection broke"),
                };
                self.agent_is_told(index, Input::Answered(RequestId(request), answer));
            }
            Work::Wake(number) if number == self.agents[index].wakes => self.agent_is_told(index, Input::Tick),
            _ => {}
        }
    }

    fn settle_agent(&mut self, index: usize, effects: &mut Effects) {
        if let Some(session) = self.agents[index].voucher.session()
            && self.agents[index].sessions.last() != Some(&session)
        {
            self.agents[index].sessions.push(session);
        }
        for effect in effects.drain().collect::<Vec<_>>() {
            self.perform_for_agent(index, effect);
        }
        if !self.agents[index].process.running {
            return;
        }
        self.agents[index].wakes += 1;
        let wakes = self.agents[index].wakes;
        let due_ms = self.agents[index].voucher.next_due_ms().unwrap_or(u64::MAX).min(self.now_ms + STEP_MS_MAX);
        self.remind(NodeId::Agent(index), due_ms.max(self.now_ms + 1), Work::Wake(wakes));
    }

    fn perform_for_agent(&mut self, index: usize, effect: Effect) {
        let link = self.agents[index].link;
        match effect {
            Effect::Listen => {
                self.agents[index].has_listened = true;
                self.send(link, Packet::Listen);
            }
            Effect::Publish { subject, payload } => {
                let payload = payload.into();
                self.send(link, Packet::Publish { subject, payload, reply: None });
            }
            Effect::Request { request, subject, payload } => {
                if !self.links[link.0].up {
                    let work = Work::Answer { request: request.0, answered: Answered::Failed };
                    return self.remind(NodeId::Agent(index), self.now_ms + 1, work);
                }
                let reply = Some(format!("_INBOX.{}.{}", link.0, request.0));
                let payload = payload.into();
                self.send(link, Packet::Publish { subject, payload, reply });
            }
            Effect::Status(id, status) => self.agent_says(index, id, status),
            Effect::Drain { .. } => {}
            Effect::Superseded(session) => {
                self.say(|| format!("process {index} is superseded by session {session}"));
                self.agents[index].superseded = true;
                self.kill_agent(index);
                self.look_at_health();
            }
            Effect::Say(_, text) => self.say(|| format!("process {index}: {text}")),
        }
    }

    fn agent_says(&mut self, index: usize, id: ClaimId, status: Status) {
        let now_ms = self.now_ms;
        let Some(claim) = self.agents[index].claims.get_mut(&id) else { return };
        if status.is_registered() {
            claim.confirmed_ms.get_or_insert(now_ms);
        }
        claim.status = Some(status.clone());
        let (service, instance) = claim.key();
        self.say(|| format!("process {index}: {service}/{instance} is {status}"));
    }
}
