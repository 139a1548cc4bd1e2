//! Virtual time: what happens when, to whom, and over which connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use muster_schemas::{Namespace, Prefix, ServiceName, Subjects, Timestamp};

use super::agents::Agent;
use super::broker::Broker;
use super::consumers::Consumer;
use super::coverage::Coverage;
use super::faults::Deed;
use super::link::{Link, LinkId, NodeId, Role};
use super::oracle::Oracle;
use super::random::Random;
use super::registries::Registry;
use super::servers::Servers;
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

/// What will happen, in the order of its time; at the same time in the order in which it was scheduled.
#[derive(Debug, Default)]
struct Schedule {
    /// Small, for they are moved a lot: time, number, and which of the events.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl Schedule {
    fn add(&mut self, at_ms: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.scheduled += 1;
        self.order.push(Reverse((at_ms, self.scheduled, place)));
    }

    /// The next one, if its time has come.
    fn next(&mut self, end_ms: u64) -> Option<(u64, Event)> {
        loop {
            let Reverse((at_ms, ..)) = *self.order.peek()?;
            if at_ms > end_ms {
                return None;
            }
            let Reverse((_, _, place)) = self.order.pop()?;
            self.free.push(place);
            if let Some(event) = self.events[place].take() {
                return Some((at_ms, event));
            }
        }
    }

    /// Deeds that are still to come do not.
    fn drop_deeds(&mut self) {
        self.events.iter_mut().for_each(|event| drop(event.take_if(|event| matches!(event, Event::Deed(_)))));
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
    /// All that there are: names are checked when they are made.
    pub(crate) services: Vec<ServiceName>,
    pub(crate) broker: Broker,
    pub(crate) servers: Servers,
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
    schedule: Schedule,
    pub(crate) happened: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self {
            now_ms: 0,
            random: Random::new(seed),
            subjects: Subjects::new(Prefix::default(), Namespace::default()),
            services: super::history::services(),
            broker: Broker::default(),
            servers: Servers::default(),
            links: Vec::new(),
            registries: Vec::new(),
            agents: Vec::new(),
            consumers: Vec::new(),
            truth: Truth::default(),
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            trace,
            failure: None,
            schedule: Schedule::default(),
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
        self.schedule.add(at_ms.max(self.now_ms), event);
    }

    /// What was to come of faults does not: everything is mended at once.
    pub(crate) fn drop_scheduled_faults(&mut self) {
        self.schedule.drop_deeds();
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end_ms: u64) {
        while self.failure.is_none()
            && let Some((at_ms, event)) = self.schedule.next(end_ms)
        {
            self.now_ms = at_ms;
            self.happened += 1;
            self.happen(event);
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
        if !self.link(link).up {
            return;
        }
        self.advise(link, "Read Error");
        let cut = self.link(link);
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
        self.choose_server(link);
        self.link(link).up = true;
        let (life, link_life) = (self.process(node).life, self.link(link).life);
        let at_ms = self.now_ms + 2 + self.random.up_to(20);
        let work = Work::Connected(role);
        self.schedule(at_ms, Event::AtNode { node, life, link: Some((link, link_life)), work });
    }

    /// Something that happens.
    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        self.trace.say(self.now_ms, words);
    }

    /// Something that is done to those in it: these make up the story.
    pub(crate) fn tell(&mut self, words: impl FnOnce() -> String) {
        self.trace.tell(self.now_ms, words);
    }
}

/// How closely a history is watched.
#[derive(Debug, Default)]
pub(crate) enum Trace {
    /// Not at all.
    #[default]
    Off,
    /// What is done is kept, and of what happens the last lines.
    Kept { story: Vec<String>, last: VecDeque<String> },
    /// Every line is printed.
    Printed,
}

/// How many lines are kept of what happens.
const LINES_MAX: usize = 120;

impl Trace {
    pub(crate) fn kept() -> Self {
        Self::Kept { story: Vec::new(), last: VecDeque::new() }
    }

    fn say(&mut self, now_ms: u64, words: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Kept { last, .. } => {
                if last.len() == LINES_MAX {
                    last.pop_front();
                }
                last.push_back(format!("{now_ms:>7} {}", words()));
            }
            Self::Printed => println!("{now_ms:>7} {}", words()),
        }
    }

    fn tell(&mut self, now_ms: u64, words: impl FnOnce() -> String) {
        if let Self::Off = self {
            return;
        }
        let words = format!("DEED {}", words());
        if let Self::Kept { story, .. } = self {
            story.push(format!("{now_ms:>7} {}", words.trim_start_matches("DEED ")));
        }
        self.say(now_ms, || words);
    }
}
