//! Virtual time: what happens when, to whom, and over which connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use muster_schemas::{Namespace, Prefix, Subjects, Timestamp};

use super::agents::Agent;
use super::broker::Broker;
use super::consumers::Consumer;
use super::coverage::Coverage;
use super::faults::Deed;
use super::link::{Link, LinkId, NodeId, Role};
use super::oracle::Oracle;
use super::random::Random;
use super::registries::Registry;
use super::truth::Truth;
use super::wire::{Packet, Work};

/// What hosts' clocks show at time zero.
pub(crate) const WALL_MS: i64 = 1_800_000_000_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A packet reaches the broker, unless its connection broke.
    AtBroker { link: LinkId, life: u32, packet: Packet },
    /// A process is given something to do, unless it, or the connection that it came by, has ended.
    AtNode { node: NodeId, life: u32, link: Option<(LinkId, u32)>, work: Work },
    /// The second half of an inspection: the numbers are read last.
    Numbers { link: LinkId, life: u32, inspected: super::broker::Inspected },
    /// A fault ends, or goes on.
    Deed(Deed),
}

#[derive(Debug)]
struct Scheduled {
    at: Reverse<(u64, u64)>,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// A process as the operating system sees it.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Raised by each start.
    pub(crate) life: u32,
    pub(crate) running: bool,
    pub(crate) frozen: bool,
    /// What came while it was frozen, and by which connection.
    inbox: Vec<(Option<LinkId>, Work)>,
}

impl Process {
    pub(crate) fn start(&mut self) {
        self.life += 1;
        self.running = true;
        self.frozen = false;
        self.inbox.clear();
    }

    pub(crate) fn end(&mut self) {
        self.running = false;
        self.frozen = false;
        self.inbox.clear();
    }

    pub(crate) fn is_active(&self) -> bool {
        self.running && !self.frozen
    }
}

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) random: Random,
    pub(crate) subjects: Subjects,
    pub(crate) broker: Broker,
    pub(crate) links: Vec<Link>,
    pub(crate) registries: Vec<Registry>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) truth: Truth,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    /// The first invariant that was broken, and how.
    pub(crate) failure: Option<String>,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub(crate) happened: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self {
            now_ms: 0,
            random: Random::new(seed),
            subjects: Subjects::new(Prefix::default(), Namespace::default()),
            broker: Broker::default(),
            links: Vec::new(),
            registries: Vec::new(),
            agents: Vec::new(),
            consumers: Vec::new(),
            truth: Truth::default(),
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            trace,
            failure: None,
            queue: BinaryHeap::new(),
            scheduled: 0,
            happened: 0,
        }
    }

    /// A host's clock that is off by so much.
    pub(crate) fn wall(&self, off_ms: i64) -> Timestamp {
        Timestamp::from_ms(WALL_MS.saturating_add_unsigned(self.now_ms) + off_ms)
    }

    pub(crate) fn fail(&mut self, failure: impl Into<String>) {
        let failure = failure.into();
        self.say(|| format!("BROKEN: {failure}"));
        self.failure.get_or_insert(failure);
    }

    pub(crate) fn schedule(&mut self, at_ms: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at: Reverse((at_ms.max(self.now_ms), self.scheduled)), event });
    }

    /// What was to come of faults does not: everything is mended at once.
    pub(crate) fn drop_scheduled_faults(&mut self) {
        self.queue.retain(|scheduled| !matches!(scheduled.event, Event::Deed(_)));
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end_ms: u64) {
        while let Some(next) = self.queue.peek()
            && next.at.0.0 <= end_ms
            && self.failure.is_none()
        {
            let Some(next) = self.queue.pop() else { break };
            self.now_ms = next.at.0.0;
            self.happened += 1;
            self.happen(next.event);
        }
        if self.failure.is_none() {
            self.now_ms = end_ms;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AtBroker { link, life, packet } => {
                if self.links[link.0].life == life {
                    self.at_broker(link, packet);
                }
            }
            Event::AtNode { node, life, link, work } => {
                if link.is_none_or(|(link, life)| self.links[link.0].life == life) && self.process(node).life == life {
                    self.arrive(node, link.map(|(link, _)| link), work);
                }
            }
            Event::Numbers { link, life, inspected } => {
                if self.links[link.0].life == life {
                    self.tell_numbers(link, inspected);
                }
            }
            Event::Deed(deed) => self.perform_deed(deed),
        }
    }

    fn arrive(&mut self, node: NodeId, link: Option<LinkId>, work: Work) {
        let process = self.process_mut(node);
        if process.frozen {
            process.inbox.push((link, work));
        } else if process.running {
            self.work(node, work);
        }
    }

    fn work(&mut self, node: NodeId, work: Work) {
        match node {
            NodeId::Registry(index) => self.registry_works(index, work),
            NodeId::Agent(index) => self.agent_works(index, work),
            NodeId::Consumer(index) => self.consumer_works(index, work),
        }
    }

    pub(crate) fn process(&self, node: NodeId) -> &Process {
        match node {
            NodeId::Registry(index) => &self.registries[index].process,
            NodeId::Agent(index) => &self.agents[index].process,
            NodeId::Consumer(index) => &self.consumers[index].process,
        }
    }

    pub(crate) fn process_mut(&mut self, node: NodeId) -> &mut Process {
        match node {
            NodeId::Registry(index) => &mut self.registries[index].process,
            NodeId::Agent(index) => &mut self.agents[index].process,
            NodeId::Consumer(index) => &mut self.consumers[index].process,
        }
    }

    /// What came meanwhile is read now: in order by each connection, in any order between them.
    pub(crate) fn thaw(&mut self, node: NodeId) {
        let process = self.process_mut(node);
        if !std::mem::take(&mut process.frozen) {
            return;
        }
        let mut queues: Vec<(Option<LinkId>, VecDeque<Work>)> = Vec::new();
        for (link, work) in std::mem::take(&mut process.inbox) {
            match queues.iter_mut().find(|(of, _)| *of == link) {
                Some((_, queue)) => queue.push_back(work),
                None => queues.push((link, VecDeque::from([work]))),
            }
        }
        while !queues.is_empty() {
            let index = self.random.below(queues.len());
            match queues[index].1.pop_front() {
                Some(work) => self.work(node, work),
                None => drop(queues.swap_remove(index)),
            }
        }
    }

    pub(crate) fn new_link(&mut self, node: NodeId, role: Role) -> LinkId {
        self.links.push(Link::new(node, role));
        LinkId(self.links.len() - 1)
    }

    pub(crate) fn link(&mut self, link: LinkId) -> &mut Link {
        &mut self.links[link.0]
    }

    fn latency_ms(&mut self) -> u64 {
        self.random.between(1, 3)
    }

    /// Something to do for a process, from within itself.
    pub(crate) fn remind(&mut self, node: NodeId, at_ms: u64, work: Work) {
        let life = self.process(node).life;
        self.schedule(at_ms, Event::AtNode { node, life, link: None, work });
    }

    /// A process sends; nothing is sent on a broken connection.
    pub(crate) fn send(&mut self, link: LinkId, packet: Packet) {
        let latency_ms = self.latency_ms();
        let now_ms = self.now_ms;
        let sender = self.link(link);
        if sender.up {
            let (at_ms, life) = (sender.out_at_ms(now_ms, latency_ms), sender.life);
            self.schedule(at_ms, Event::AtBroker { link, life, packet });
        }
    }

    /// The broker sends to a client.
    pub(crate) fn deliver(&mut self, link: LinkId, work: Work) {
        let latency_ms = self.latency_ms();
        let now_ms = self.now_ms;
        let receiver = self.link(link);
        if receiver.up {
            let (at_ms, link_life, node) = (receiver.in_at_ms(now_ms, latency_ms), receiver.life, receiver.node);
            let life = self.process(node).life;
            self.schedule(at_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
        }
    }

    /// The broker sends what it sends to many, through whatever disturbs the way.
    pub(crate) fn broadcast(&mut self, link: LinkId, work: Work) {
        let noise = self.link(link).noise;
        if noise == Default::default() {
            return self.deliver(link, work);
        }
        if self.random.chance(noise.drop_percent) {
            return;
        }
        let copies = if self.random.chance(noise.repeat_percent) { 2 } else { 1 };
        for _ in 0..copies {
            if noise.shuffle_ms == 0 {
                self.deliver(link, work.clone());
                continue;
            }
            let receiver = self.link(link);
            let (link_life, node, up) = (receiver.life, receiver.node, receiver.up);
            if up {
                let at_ms = self.now_ms + 1 + self.random.up_to(noise.shuffle_ms);
                let (life, work) = (self.process(node).life, work.clone());
                self.schedule(at_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
            }
        }
    }

    /// A connection breaks; its process sees that at once, or when it runs again.
    pub(crate) fn cut(&mut self, link: LinkId) {
        let cut = self.link(link);
        if !cut.up {
            return;
        }
        cut.cut();
        let (node, role) = (cut.node, cut.role);
        self.forget_subscriptions(node, role);
        // Known in order with what comes by the connection before and after.
        let (life, link_life) = (self.process(node).life, self.link(link).life);
        let work = Work::Disconnected(role);
        self.schedule(self.now_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
    }

    /// A connection is made (again). Its process knows after a round trip.
    pub(crate) fn connect(&mut self, link: LinkId) {
        let (node, role, up) = (self.link(link).node, self.link(link).role, self.link(link).up);
        if up || !self.broker.up || !self.process(node).running {
            return;
        }
        self.link(link).up = true;
        let (life, link_life) = (self.process(node).life, self.link(link).life);
        let at_ms = self.now_ms + 2 + self.random.up_to(20);
        let work = Work::Connected(role);
        self.schedule(at_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
    }

    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        self.trace.say(self.now_ms, words);
    }
}

/// How closely a history is watched.
#[derive(Debug, Default)]
pub(crate) enum Trace {
    /// Not at all.
    #[default]
    Off,
    /// The last lines are kept.
    Kept(VecDeque<String>),
    /// Every line is printed.
    Printed,
}

/// How many lines are kept.
const LINES_MAX: usize = 120;

impl Trace {
    fn say(&mut self, now_ms: u64, words: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Kept(lines) => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(format!("{now_ms:>7} {}", words()));
            }
            Self::Printed => println!("{now_ms:>7} {}", words()),
        }
    }
}
