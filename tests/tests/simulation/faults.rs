//! What goes wrong: which fault comes next, to whom, and when it ends.

use muster_agent::core::spec::InstanceSpec;
use muster_schemas::AgentId;

use super::agents::TTL_MS;
use super::coverage::Fault;
use super::link::{LinkId, NodeId, Noise, Role};
use super::outages::Disk;
use super::registries::ROLES;
use super::wire::Work;
use super::world::{Event, World};

const HOUR_MS: i64 = 3_600_000;
/// What ends a fault, or continues it.
#[derive(Debug)]
pub(crate) enum Deed {
    Connect(LinkId),
    /// The broker gives up a connection whose client is gone.
    GiveUp(LinkId),
    Thaw(NodeId),
    Quiet(LinkId),
    /// Quiet again, and the client learns that messages were dropped.
    Overflowed(LinkId),
    BrokerReturns(Disk),
    StartRegistry(usize),
    StartConsumer(usize),
    StartAgent(AgentId, usize, Vec<InstanceSpec>),
    HealRoute,
    Look,
}

impl World {
    pub(crate) fn perform_deed(&mut self, deed: Deed) {
        match deed {
            Deed::Connect(link) => self.connect(link),
            Deed::GiveUp(link) => self.cut(link),
            Deed::Thaw(node) => self.thaw(node),
            Deed::Quiet(link) => {
                self.link(link).noise = Noise::default();
                self.link(link).delay_ms = 0;
            }
            Deed::Overflowed(link) => {
                self.link(link).noise = Noise::default();
                let is_log = self.link(link).role == Role::Log;
                self.deliver(link, if is_log { Work::HeartbeatsLost } else { Work::SlowConsumer });
            }
            Deed::BrokerReturns(disk) => self.return_broker(disk),
            Deed::StartRegistry(index) => self.start_registry(index),
            Deed::StartConsumer(index) => self.start_consumer(index),
            Deed::StartAgent(id, host, specs) => drop(self.start_agent(&id, host, specs)),
            Deed::HealRoute => self.heal_route(),
            Deed::Look => {}
        }
        self.look_at_health();
    }

    pub(crate) fn later(&mut self, after_ms: u64, deed: Deed) {
        let at_ms = self.now_ms + after_ms;
        self.schedule(at_ms, Event::Deed(deed));
    }

    /// Does one fault of a kind, if there is somebody whom it can befall.
    pub(crate) fn do_fault(&mut self, fault: Fault) {
        let done = match fault {
            Fault::Drop => self.drop_messages(),
            Fault::Duplicate => {
                self.make_noise(|random| Noise { repeat_percent: random.between(20, 60), ..Noise::default() })
            }
            Fault::Delay => self.delay(),
            Fault::Disconnect => self.disconnect(),
            Fault::BrokerOutage => self.stop_broker(Disk::Intact),
            Fault::LogTruncated => self.truncate_log(),
            Fault::LogReplaced => self.replace_log(),
            Fault::AgentRestart => self.restart_agent(50, TTL_MS * 2 / 3),
            Fault::AgentRestartBeyondTtl => self.restart_agent(TTL_MS, 4 * TTL_MS),
            Fault::AgentFreeze => self.freeze_agent(),
            Fault::DuplicateInstance => self.duplicate_instance(),
            Fault::DuplicateAgent => self.duplicate_agent(),
            Fault::AgentClockStep | Fault::RegistryClockStep | Fault::BrokerClockStep => self.step_clock(fault),
            Fault::RegistryFreeze => self.freeze_registry(),
            Fault::RegistryRestart => self.restart_registry(),
            Fault::ConsumerRestart => self.restart_consumer(),
            Fault::Intent => self.set_intent(),
            Fault::LateMessage => self.repeat_event(),
            Fault::RouteCut => self.cut_route(),
            Fault::ServerOutage => self.stop_server(),
            Fault::Election => self.lose_leader(),
        };
        if done {
            self.coverage.met(fault);
        }
        self.look_at_health();
    }

    /// The connections that carry broadcasts.
    fn listeners(&self) -> Vec<LinkId> {
        let outputs = self.registries.iter().map(|registry| registry.link(Role::Output));
        self.consumers.iter().map(|consumer| consumer.link).chain(outputs).collect()
    }

    fn make_noise(&mut self, noise: impl FnOnce(&mut super::random::Random) -> Noise) -> bool {
        let listeners = self.listeners();
        let Some(link) = self.random.pick(&listeners) else { return false };
        let noise = noise(&mut self.random);
        self.link(link).noise = noise;
        self.disturb_link(link);
        self.tell(|| format!("{noise:?} on {link:?}"));
        let for_ms = self.random.between(500, 5_000);
        self.later(for_ms, Deed::Quiet(link));
        true
    }

    fn disturb_link(&mut self, link: LinkId) {
        let node = self.links[link.0].node;
        self.disturb(node);
    }

    fn drop_messages(&mut self) -> bool {
        match self.random.up_to(3) {
            0 => {
                let well: Vec<usize> = self.well_agents();
                let Some(index) = self.random.pick(&well) else { return false };
                self.agents[index].heartbeats_lost = u32::try_from(self.random.between(1, 2)).unwrap_or(1);
                self.tell(|| format!("heartbeats of process {index} are lost"));
                true
            }
            1 => {
                let logs = self.registries.iter().map(|registry| registry.link(Role::Log));
                let readers: Vec<LinkId> = self.consumers.iter().map(|consumer| consumer.link).chain(logs).collect();
                let Some(link) = self.random.pick(&readers) else { return false };
                self.link(link).noise = Noise { drop_percent: 100, ..Noise::default() };
                self.disturb_link(link);
                self.tell(|| format!("{link:?} is read too slowly"));
                let for_ms = self.random.between(50, 500);
                self.later(for_ms, Deed::Overflowed(link));
                true
            }
            _ => self.make_noise(|random| Noise { drop_percent: random.between(10, 50), ..Noise::default() }),
        }
    }

    fn well_agents(&self) -> Vec<usize> {
        let well = |index: &usize| self.agents[*index].healthy_since_ms.is_some();
        (0..self.agents.len()).filter(well).collect()
    }

    fn active_agents(&self) -> Vec<usize> {
        (0..self.agents.len()).filter(|index| self.agents[*index].process.is_active()).collect()
    }

    fn delay(&mut self) -> bool {
        if self.random.chance(25) {
            return self.make_noise(|random| Noise { shuffle_ms: random.between(10, 400), ..Noise::default() });
        }
        let up: Vec<usize> = (0..self.links.len()).filter(|link| self.links[*link].up).collect();
        let Some(link) = self.random.pick(&up).map(LinkId) else { return false };
        if self.random.chance(50) {
            let delay_ms = self.random.between(5, 150);
            self.link(link).delay_ms = delay_ms;
            self.tell(|| format!("{delay_ms} ms on {link:?}"));
            let for_ms = self.random.between(500, 5_000);
            self.later(for_ms, Deed::Quiet(link));
        } else {
            let for_ms =
                if self.random.chance(50) { self.random.between(100, 700) } else { self.random.between(700, 5_000) };
            let until_ms = self.now_ms + for_ms;
            let stalled = self.link(link);
            stalled.stalled_until_ms = stalled.stalled_until_ms.max(until_ms);
            self.tell(|| format!("{link:?} stalls for {for_ms} ms"));
            self.later(for_ms, Deed::Look);
        }
        self.disturb_link(link);
        true
    }

    fn disconnect(&mut self) -> bool {
        let up: Vec<usize> = (0..self.links.len()).filter(|link| self.links[*link].up).collect();
        let Some(link) = self.random.pick(&up).map(LinkId) else { return false };
        let node = self.links[link.0].node;
        let links: Vec<LinkId> = match node {
            NodeId::Registry(index) if self.random.chance(40) => {
                ROLES.iter().map(|role| self.registries[index].link(*role)).collect()
            }
            _ => vec![link],
        };
        let for_ms = if self.random.chance(60) { self.random.up_to(300) } else { self.random.between(500, 3 * TTL_MS) };
        self.tell(|| format!("{node:?} loses {links:?} for {for_ms} ms"));
        for link in links {
            self.cut(link);
            self.later(for_ms, Deed::Connect(link));
        }
        self.disturb(node);
        true
    }

    fn restart_agent(&mut self, least_ms: u64, most_ms: u64) -> bool {
        let active = self.active_agents();
        let Some(index) = self.random.pick(&active) else { return false };
        let agent = &self.agents[index];
        let (id, host, link) = (agent.id.clone(), agent.host, agent.link);
        let specs = agent.wanted().iter().map(|claim| agent.claims[claim].spec.clone()).collect();
        if self.random.chance(70) {
            self.kill_agent(index);
        } else {
            self.lose_host(index);
            self.later(2 * TTL_MS, Deed::GiveUp(link));
        }
        let after_ms = self.random.between(least_ms, most_ms);
        self.tell(|| format!("agent {id} restarts after {after_ms} ms"));
        // One in ten never comes back.
        if !self.random.chance(10) {
            self.later(after_ms, Deed::StartAgent(id, host, specs));
        }
        true
    }

    fn freeze(&mut self, node: NodeId, for_ms: u64) {
        self.tell(|| format!("{node:?} freezes for {for_ms} ms"));
        self.process_mut(node).frozen = true;
        self.later(for_ms, Deed::Thaw(node));
    }

    fn freeze_agent(&mut self) -> bool {
        let active = self.active_agents();
        let Some(index) = self.random.pick(&active) else { return false };
        let for_ms = if self.random.chance(50) {
            self.random.between(100, TTL_MS)
        } else {
            self.random.between(TTL_MS, 4 * TTL_MS)
        };
        self.freeze(NodeId::Agent(index), for_ms);
        true
    }

    /// Another agent is told to vouch for an instance that somebody vouches for.
    fn duplicate_instance(&mut self) -> bool {
        let active = self.active_agents();
        let (Some(first), Some(second)) = (self.random.pick(&active), self.random.pick(&active)) else { return false };
        let wanted = self.agents[first].wanted();
        let Some(claim) = self.random.pick(&wanted).filter(|_| self.agents[first].id != self.agents[second].id) else {
            return false;
        };
        let spec = self.agents[first].claims[&claim].spec.clone();
        let key = (spec.service.clone(), spec.instance.clone());
        self.tell(|| format!("process {second} gets an instance of process {first}"));
        self.oracle.contested.insert(key);
        self.register(second, spec);
        true
    }

    /// A second process under an agent's id, on a host of its own, for the same instances or for others.
    fn duplicate_agent(&mut self) -> bool {
        let active = self.active_agents();
        let Some(index) = self.random.pick(&active) else { return false };
        let id = self.agents[index].id.clone();
        if !self.oracle.contested_agents.insert(id.clone()) {
            return false;
        }
        let host = 5 + self.oracle.contested_agents.len();
        let mut specs: Vec<InstanceSpec> = Vec::new();
        for claim in self.agents[index].wanted() {
            specs.push(self.agents[index].claims[&claim].spec.clone());
        }
        if self.random.chance(50) {
            specs = vec![super::agents::spec("orders", &format!("{id}-second"), 9_000)];
        }
        self.tell(|| format!("agent {id} runs twice"));
        self.start_agent(&id, host, specs);
        true
    }

    fn step_clock(&mut self, fault: Fault) -> bool {
        let by_ms = if self.random.chance(50) { HOUR_MS } else { -HOUR_MS };
        match fault {
            Fault::AgentClockStep => {
                let by_ms = if self.random.chance(10) { 72 * HOUR_MS } else { by_ms };
                let host = self.random.below(6);
                self.oracle.step_host_clock(host, by_ms);
                self.tell(|| format!("the clock of host {host} steps by {by_ms} ms"));
            }
            Fault::RegistryClockStep => {
                let index = self.random.below(self.registries.len());
                self.registries[index].clock_ms += by_ms;
                self.tell(|| format!("the clock of r{index} steps by {by_ms} ms"));
            }
            _ => {
                self.broker.clock_ms += by_ms;
                self.tell(|| format!("the broker's clock steps by {by_ms} ms"));
            }
        }
        true
    }

    fn freeze_registry(&mut self) -> bool {
        let index = self.random.below(self.registries.len());
        if !self.registries[index].process.is_active() {
            return false;
        }
        let for_ms =
            if self.random.chance(50) { self.random.between(50, 700) } else { self.random.between(700, 10_000) };
        self.freeze(NodeId::Registry(index), for_ms);
        self.disturb(NodeId::Registry(index));
        // Disturbed once more when it goes on.
        self.later(for_ms, Deed::Look);
        true
    }

    fn restart_registry(&mut self) -> bool {
        let all = self.random.chance(25);
        let one = self.random.below(self.registries.len());
        let after_ms =
            if self.random.chance(60) { self.random.up_to(1_500) } else { self.random.between(1_500, 5 * TTL_MS) };
        for index in 0..self.registries.len() {
            if (all || index == one) && self.registries[index].process.running {
                self.tell(|| format!("r{index} restarts after {after_ms} ms"));
                self.stop_registry(index);
                let spread_ms = self.random.up_to(300);
                self.later(after_ms + spread_ms, Deed::StartRegistry(index));
            }
        }
        true
    }

    fn restart_consumer(&mut self) -> bool {
        let index = self.random.below(self.consumers.len());
        if !self.consumers[index].process.is_active() {
            return false;
        }
        if self.random.chance(50) {
            let for_ms = self.random.between(100, 9_000);
            self.freeze(NodeId::Consumer(index), for_ms);
        } else {
            self.tell(|| format!("consumer {index} restarts"));
            self.stop_consumer(index);
            let after_ms = self.random.up_to(1_000);
            self.later(after_ms, Deed::StartConsumer(index));
        }
        true
    }

    /// Everything that can be mended is mended; who is dead remains dead.
    pub(crate) fn mend_all(&mut self) {
        self.say(|| "everything is mended".to_owned());
        self.drop_scheduled_faults();
        if !self.broker.up {
            self.return_broker(Disk::Intact);
        }
        self.mend_servers();
        for link in (0..self.links.len()).map(LinkId) {
            if !self.links[link.0].is_sound(self.now_ms) {
                self.cut(link);
            }
            self.link(link).noise = Noise::default();
            self.link(link).delay_ms = 0;
        }
        for agent in &mut self.agents {
            agent.heartbeats_lost = 0;
        }
        let agents = (0..self.agents.len()).map(NodeId::Agent);
        let registries = (0..self.registries.len()).map(NodeId::Registry);
        let consumers = (0..self.consumers.len()).map(NodeId::Consumer);
        for node in agents.chain(registries).chain(consumers).collect::<Vec<_>>() {
            self.thaw(node);
        }
        for index in 0..self.registries.len() {
            self.start_registry(index);
        }
        for index in 0..self.consumers.len() {
            if !self.consumers[index].process.running {
                self.start_consumer(index);
            }
        }
        for link in (0..self.links.len()).map(LinkId) {
            let node = self.links[link.0].node;
            if self.process(node).running {
                self.connect(link);
            } else {
                self.cut(link);
            }
        }
        self.look_at_health();
    }
}
