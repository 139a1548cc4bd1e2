//! One history: how it begins, what happens in each step, and what must be so once everything is mended.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use muster_agent::core::status::Status;
use muster_discovery::core::io::Scope;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{AgentId, Revision, ServiceName};

use super::agents::{Key, spec};
use super::coverage::{Coverage, Fault};
use super::plan::{AGENTS, Part, Plan, STEPS};
use super::random::Random;
use super::world::{Trace, World};

/// How long it may take after the last fault until everything is as it should be. A log that has to recover and a view
/// that waits for a log that is not coming back take the longest.
const SETTLED_WITHIN_MS: u64 = 60_000;
/// A view of all services is as old as the oldest pulse of a bucket.
const SHOWN_WITHIN_MS: u64 = 7_000;
/// What a view was told before everything was mended no longer counts.
const FORGOTTEN_MS: u64 = 7_000;
/// How long it has to stay so.
const STILL_MS: u64 = 3_000;

const SERVICES: [&str; 3] = ["orders", "users", "user.rpc"];

pub(crate) fn services() -> Vec<ServiceName> {
    SERVICES.iter().map(|name| ServiceName::new(name).expect("a name")).collect()
}

/// A history that broke an invariant.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) plan: Plan,
    pub(crate) failure: String,
    /// The step in which that was seen.
    pub(crate) last_step: u64,
    /// What was done, and what happened last, if that was kept.
    pub(crate) story: Vec<String>,
    pub(crate) last: Vec<String>,
}

impl Broken {
    /// Which invariant: two failures of one invariant are taken for the same.
    pub(crate) fn invariant(&self) -> &str {
        self.failure.split_once(':').map_or("", |(invariant, _)| invariant)
    }
}

/// Runs a history; a panic of a core breaks an invariant, too.
///
/// # Errors
/// An invariant was broken.
pub(crate) fn try_run(plan: &Plan, trace: Trace) -> Result<Coverage, Broken> {
    let ran = catch_unwind(AssertUnwindSafe(|| run(plan, trace)));
    ran.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        let failure = format!("panic: {}", words.unwrap_or_default());
        Err(Broken { plan: plan.clone(), failure, last_step: STEPS, story: Vec::new(), last: Vec::new() })
    })
}

fn run(plan: &Plan, trace: Trace) -> Result<Coverage, Broken> {
    let mut history = History::begin(plan.clone(), trace);
    history.live();
    history.conclude();
    let History { mut world, last_step, summary, .. } = history;
    let Some(failure) = world.failure.take() else { return Ok(summary) };
    let (story, last) = match world.trace {
        Trace::Kept { story, last } => (story, last.into()),
        Trace::Off | Trace::Printed => Default::default(),
    };
    Err(Broken { plan: plan.clone(), failure, last_step, story, last })
}

struct History {
    plan: Plan,
    world: World,
    faults: Vec<Fault>,
    fault_percent: u64,
    last_step: u64,
    summary: Coverage,
}

impl History {
    fn begin(plan: Plan, trace: Trace) -> Self {
        let mut world = World::new(plan.seed, trace);
        // Not everything at once: what always hurts hides what hurts now and then.
        let percent = world.random.pick(&[20, 35, 60]).unwrap_or(35);
        let faults = Fault::ALL.into_iter().filter(|_| world.random.chance(percent)).collect();
        let fault_percent = world.random.between(5, 35);
        world.servers.is_cluster = world.random.chance(50);
        world.servers.tells = world.random.chance(60);
        for _ in 0..world.random.pick(&[2, 2, 3]).unwrap_or(2) {
            world.add_registry();
        }
        for scope in [Scope::Everything, Scope::Service(service("orders")), Scope::Service(service("orders"))] {
            world.add_consumer(scope);
        }
        let mut history = Self { plan, world, faults, fault_percent, last_step: 0, summary: Coverage::default() };
        for agent in 0..AGENTS {
            history.in_part(Part::Agent(agent), Self::start_agent);
        }
        history
    }

    /// Does a part of the plan, with the chances of that part.
    fn in_part(&mut self, part: Part, act: impl FnOnce(&mut Self)) {
        if self.plan.has(part) {
            let random = std::mem::replace(&mut self.world.random, self.plan.random(part));
            act(self);
            self.world.random = random;
        }
    }

    fn start_agent(&mut self) {
        let world = &mut self.world;
        let host = world.agents.len();
        let id = AgentId::new(&format!("a{host}")).expect("a name");
        let count = world.random.between(1, 2);
        let specs = (0..count).map(|number| {
            let service = SERVICES[world.random.below(SERVICES.len())];
            let port = u16::try_from(world.random.between(8_000, 8_015)).unwrap_or(8_000);
            spec(service, &format!("{id}-{number}"), port)
        });
        let specs = specs.collect();
        world.start_agent(&id, host, specs);
    }

    fn live(&mut self) {
        let pause_ms = self.world.random.between(0, 8_000);
        self.world.run_until(pause_ms);
        for step in 0..STEPS {
            self.last_step = step;
            let pause_ms = Self::pause_ms(&mut self.plan.random(Part::Step(step)));
            if self.plan.has(Part::Step(step)) {
                self.world.say(|| format!("--- step {step}"));
                self.in_part(Part::Step(step), Self::act);
            }
            self.pass(pause_ms);
            if self.world.failure.is_some() {
                return;
            }
        }
        self.last_step = STEPS;
    }

    fn pause_ms(random: &mut Random) -> u64 {
        match random.up_to(99) {
            0..70 => random.up_to(100),
            70..98 => random.between(100, 400),
            _ => random.between(1_000, 3_000),
        }
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.world.now_ms + ms;
        self.world.run_until(end_ms);
        self.world.judge_presence();
        for index in 0..self.world.consumers.len() {
            if self.world.consumers[index].process.is_active() {
                let snapshot = self.world.consumers[index].view.snapshot();
                self.world.judge_lists(index, &snapshot);
            }
        }
    }

    fn act(&mut self) {
        if self.world.random.chance(self.fault_percent) {
            if let Some(fault) = self.world.random.pick(&self.faults) {
                self.world.do_fault(fault);
            }
            return;
        }
        let world = &mut self.world;
        let active: Vec<usize> =
            (0..world.agents.len()).filter(|index| world.agents[*index].process.is_active()).collect();
        let Some(index) = world.random.pick(&active) else { return };
        let wanted = world.agents[index].wanted();
        let claim = world.random.pick(&wanted);
        match (world.random.up_to(99), claim) {
            (0..15, Some(claim)) => world.change_health(index, claim),
            (15..22, Some(claim)) => world.describe_anew(index, claim),
            (22..26, Some(claim)) => world.withdraw(index, claim),
            (26..34, _) if wanted.len() < 3 => {
                let service = SERVICES[world.random.below(SERVICES.len())];
                let instance = format!("{}-{}", world.agents[index].id, world.random.up_to(3));
                let port = u16::try_from(world.random.between(8_000, 8_015)).unwrap_or(8_000);
                world.register(index, spec(service, &instance, port));
            }
            (34..39, _) => world.copy_disk(),
            _ => {}
        }
    }

    /// Everything is mended; then everything has to become right, and to stay so.
    fn conclude(&mut self) {
        if self.world.failure.is_none() {
            self.world.mend_all();
            self.pass(FORGOTTEN_MS);
            self.settle("after everything was mended");
            self.world.clear_evictions();
            self.settle("after evictions were cleared");
            let until_ms = self.world.now_ms + STILL_MS;
            while self.world.now_ms < until_ms && self.world.failure.is_none() {
                self.pass(500);
                if let Some(wrong) = self.wrong() {
                    self.world.fail(format!("I2: it was right once, and then: {wrong}"));
                }
            }
        }
        let world = &mut self.world;
        let resynchronised = world.consumers.iter().map(|consumer| consumer.view.counters().resynchronised).sum();
        let settling_ms_max = self.summary.settling_ms_max;
        self.summary = world.coverage.clone();
        self.summary.steps = STEPS;
        self.summary.events = world.happened;
        self.summary.virtual_ms = world.now_ms;
        self.summary.resynchronised = resynchronised;
        self.summary.settling_ms_max = settling_ms_max;
    }

    fn settle(&mut self, when: &str) {
        let begin_ms = self.world.now_ms;
        while let Some(wrong) = self.wrong() {
            if self.world.failure.is_some() {
                return;
            }
            if self.world.now_ms >= begin_ms + SETTLED_WITHIN_MS {
                return self.world.fail(format!("I2: {SETTLED_WITHIN_MS} ms {when}: {wrong}"));
            }
            self.pass(500);
        }
        let settling_ms = self.world.now_ms - begin_ms;
        self.summary.settling_ms_max = self.summary.settling_ms_max.max(settling_ms);
    }

    /// What is not as it should be; none: exactly the living are registered, and everybody sees exactly that.
    fn wrong(&self) -> Option<String> {
        let world = &self.world;
        let Some(stream) = &world.broker.stream else { return Some("there is no stream".to_owned()) };
        let catalog = &stream.catalog;
        if catalog.state() != CatalogState::Ready {
            return Some(format!("the log is {:?}", catalog.state()));
        }
        self.wrong_agents().or_else(|| self.wrong_instances()).or_else(|| {
            let end = world.truth.end_at(world.now_ms.saturating_sub(SHOWN_WITHIN_MS));
            (0..world.consumers.len()).find_map(|index| self.wrong_view(index, end))
        })
    }

    /// Of two processes under one agent id one has been told to end. One that vouches for nothing (others have registered all
    /// that it wants) sends no heartbeats: it is told when it does.
    fn wrong_agents(&self) -> Option<String> {
        let mut ids = BTreeSet::new();
        for (index, agent) in self.world.agents.iter().enumerate().filter(|(_, agent)| agent.process.running) {
            let vouches = agent.claims.values().any(|claim| claim.status.as_ref().is_some_and(Status::is_registered));
            if vouches && !ids.insert(agent.id.clone()) {
                return Some(format!("agent {} still runs twice, as process {index} too", agent.id));
            }
        }
        None
    }

    fn wrong_instances(&self) -> Option<String> {
        let world = &self.world;
        let catalog = &world.broker.stream.as_ref()?.catalog;
        let mut alive: BTreeSet<Key> = BTreeSet::new();
        for (index, agent) in world.agents.iter().enumerate().filter(|(_, agent)| agent.process.running) {
            for claim in agent.claims.values().filter(|claim| claim.is_wanted()) {
                let (service, instance) = claim.key();
                let evicted = world.is_evicted(&claim.key());
                let held = catalog.instance(&service, &instance);
                if !evicted && held.is_none() {
                    return Some(format!("{service}/{instance} of process {index} is missing: {:?}", claim.status));
                }
                let own = held.filter(|held| agent.sessions.contains(&held.vouching().session));
                if own.is_some_and(|held| held.registration != claim.spec.registration(held.vouching().clone())) {
                    return Some(format!("{service}/{instance} of process {index} is registered otherwise than it is"));
                }
                alive.insert(claim.key());
            }
        }
        for (service, held) in catalog.services() {
            for instance in held.instances() {
                let key = (service.clone(), instance.id().clone());
                let holder = &instance.vouching().session;
                let holder = world.agents.iter().position(|agent| agent.sessions.contains(holder));
                let lives = holder.is_some_and(|holder| world.agents[holder].process.running);
                if !alive.contains(&key) || !lives || world.is_evicted(&key) {
                    return Some(format!("{service}/{} of process {holder:?} is dead, and registered", instance.id()));
                }
            }
        }
        None
    }

    fn wrong_view(&self, index: usize, end: Option<Revision>) -> Option<String> {
        let world = &self.world;
        let catalog = &world.broker.stream.as_ref()?.catalog;
        if catalog.epoch().is_some_and(|epoch| world.is_ambiguous(epoch)) {
            return None;
        }
        let snapshot = world.consumers[index].view.snapshot();
        if !snapshot.is_verified() || snapshot.revision() < end {
            return Some(format!(
                "consumer {index} is {} at {:?}, not at {end:?}",
                snapshot.state(),
                snapshot.revision()
            ));
        }
        for name in world.services.iter().filter(|name| world.consumers[index].scope.covers(name)) {
            let held = catalog.service(name).filter(|held| held.total() > 0);
            if held.map(|held| (held.digest(), held.revision())) != snapshot.digest(name.as_str()) {
                return Some(format!("consumer {index} shows other instances of {name}"));
            }
        }
        None
    }
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a name")
}
