//! Two replicas that may expire an instance, and its agent, which dies, freezes, comes back, stops.
//!
//! The fold is the real one. These rules stand for the rest:
//!
//! | rule | mirrors |
//! |---|---|
//! | a lease runs out only while its own session is not heard, or while heartbeats are lost | `registry/src/core/leases/due.rs`, `hear.rs` |
//! | what is due is probed; whoever answers and lists the instance lives, whoever does not list it has disowned it | `registry/src/core/replica/liveness.rs` |
//! | an `expire` names the last event that the replica had folded when the lease ran out | `Leases::next_due` |
//! | one proposal at a time; a lost one is decided anew | `registry/src/core/replica/proposals.rs` |
//! | an agent that is not in the log as it says registers again, one generation later | `agent/src/core/looking.rs` |
//! | a new life has a larger incarnation, and nothing to do with what its predecessor left on the way | `agent/src/core/claim.rs` |
//!
//! The network may deliver what is on its way to the stream in any order and as late as it likes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use muster_registry::core::catalog::{Catalog, Held};
use stateright::{Model, Property};

use crate::log::{self, Fact, Order, Stored};

/// A rule that a broken model breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// An `expire` counts whatever has happened since it was decided: it names what is in force when it arrives.
    SequenceCheck,
    /// What is due is expired without asking its agent.
    Probe,
    /// A heartbeat renews the leases of every session of its agent.
    Session,
    /// A life that comes back uses the incarnation of the one before it.
    Incarnation,
    /// Whoever was expired by mistake registers as before, with the same generation.
    Generation,
}

/// It is put out by mistake no more often than that.
const ANNOUNCEMENTS_MAX: u8 = 2;

/// How much goes wrong in one history.
const TROUBLES_MAX: u8 = 2;
/// The longest log that is looked at.
const EVENTS_MAX: usize = 6;

struct Expiry {
    broken: Broken,
    /// How much may go wrong in all: a freeze, a restart, a report, lost heartbeats, a lost proposal; each once at most.
    troubles_max: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Life {
    Up,
    Frozen,
    Down,
}

/// The agent of instance `a`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Agent {
    life: Life,
    /// Its present life vouches for the instance.
    vouches: bool,
    order: Order,
    /// How long the log was when it last could not be heard.
    unheard_at: usize,
    restarts: u8,
    freezes: u8,
    reports: u8,
    announcements: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Decision {
    Calm,
    /// The lease has run out.
    Suspects(Suspicion),
    /// Its proposal is on its way; or in the log, at this length of it.
    Proposed(Option<usize>),
}

/// What a replica knew when the lease ran out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Suspicion {
    incarnation: u64,
    observed: u64,
    folded: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Replica {
    folded: usize,
    decision: Decision,
}

/// An event on its way to the stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Flight {
    OfAgent(Fact),
    OfReplica(usize, Suspicion),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    log: Arc<Vec<Stored>>,
    /// What each length of the log folds to, and whether its last event was accepted.
    folds: Arc<Vec<(Arc<Catalog>, bool)>>,
    flying: Vec<Flight>,
    agent: Agent,
    replicas: Vec<Replica>,
    missed: u8,
    dropped: u8,
    /// An `expire` was accepted although something had been accepted that its replica did not know.
    removed_blindly: bool,
    /// An `expire` was accepted of what lived and could be heard ever since its last event.
    removed_the_living: bool,
    refused: bool,
}

/// All but what follows from the log.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.log.last(), &self.flying, &self.agent, &self.replicas, self.missed, self.dropped).hash(state);
        (self.removed_blindly, self.removed_the_living, self.refused).hash(state);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Kill,
    Restart {
        vouches: bool,
    },
    Freeze,
    Thaw,
    Stop,
    Announce,
    Report,
    /// Nothing of the instance's session is heard for a TTL.
    Silence(usize),
    /// Heartbeats are lost for a TTL although the agent sends them.
    Miss(usize),
    Probe(usize),
    /// It reaches the stream.
    Append(usize),
    /// It never does: the connection that carried it was closed.
    Drop(usize),
    Fold(usize),
}

impl State {
    fn end(&self) -> &Catalog {
        &self.folds[self.log.len()].0
    }

    fn catalog(&self, replica: usize) -> &Catalog {
        &self.folds[self.replicas[replica].folded].0
    }

    fn append(&mut self, fact: Fact) -> bool {
        let sequence = self.log.len() as u64 + 1;
        let stored = Stored::after(self.log.last(), sequence, fact);
        let after = log::fold(self.end(), &stored, sequence);
        Arc::make_mut(&mut self.folds).push((after.catalog, after.accepted));
        Arc::make_mut(&mut self.log).push(stored);
        after.accepted
    }

    fn fly(&mut self, flight: Flight) {
        self.flying.push(flight);
        self.flying.sort();
    }

    /// The replicas are alike: which of them is which makes no difference.
    fn put_in_order(&mut self) {
        if self.replicas[0] > self.replicas[1] {
            self.replicas.swap(0, 1);
            for flight in &mut self.flying {
                if let Flight::OfReplica(replica, _) = flight {
                    *replica = 1 - *replica;
                }
            }
            self.flying.sort();
        }
    }

    fn live(catalog: &Catalog) -> Option<Order> {
        catalog.instance(&log::service(), &log::id('a')).map(|instance| log::order_of(instance.vouching()))
    }

    fn agent_has_something_under_way(&self) -> bool {
        self.flying.iter().any(|flight| matches!(flight, Flight::OfAgent(_)))
    }

    /// The agent lives, vouches, and the log does not say so.
    fn is_to_announce(&self) -> bool {
        let in_the_log = || State::live(self.end()).is_some_and(|order| order >= self.agent.order);
        let agent = &self.agent;
        agent.life == Life::Up
            && agent.vouches
            && agent.announcements < ANNOUNCEMENTS_MAX
            && !self.agent_has_something_under_way()
            && !in_the_log()
    }
}

impl Expiry {
    fn may_fall_silent(&self, state: &State, replica: usize) -> bool {
        let Some((incarnation, _)) = State::live(state.catalog(replica)) else { return false };
        let agent = &state.agent;
        let renewed = agent.life == Life::Up
            && ((agent.vouches && agent.order.0 == incarnation) || self.broken == Broken::Session);
        state.replicas[replica].decision == Decision::Calm && !renewed
    }

    fn suspicion(state: &State, replica: usize) -> Option<Suspicion> {
        let catalog = state.catalog(replica);
        let (incarnation, _) = State::live(catalog)?;
        let observed = catalog.last_sequence(&log::service(), &log::id('a'))?;
        Some(Suspicion { incarnation, observed, folded: state.replicas[replica].folded })
    }

    fn probe(&self, state: &mut State, replica: usize) -> Option<()> {
        let Decision::Suspects(suspicion) = state.replicas[replica].decision.clone() else { return None };
        let listed = state.agent.life == Life::Up && state.agent.vouches;
        state.replicas[replica].decision = if listed && self.broken != Broken::Probe {
            Decision::Calm
        } else {
            state.fly(Flight::OfReplica(replica, suspicion));
            Decision::Proposed(None)
        };
        Some(())
    }

    fn arrive(&self, state: &mut State, index: usize) {
        match state.flying.remove(index) {
            Flight::OfAgent(fact) => {
                state.append(fact);
            }
            Flight::OfReplica(replica, suspicion) => {
                self.expire(state, &suspicion);
                state.replicas[replica].decision = Decision::Proposed(Some(state.log.len()));
            }
        }
    }

    fn expire(&self, state: &mut State, suspicion: &Suspicion) {
        let (service, instance) = (log::service(), log::id('a'));
        let held = State::live(state.end());
        let (incarnation, observed) = match held {
            Some((incarnation, _)) if self.broken == Broken::SequenceCheck => {
                (incarnation, state.end().last_sequence(&service, &instance).unwrap_or(0))
            }
            _ => (suspicion.incarnation, suspicion.observed),
        };
        let accepted = state.append(Fact::Expire { instance: 'a', incarnation, epoch: 1, observed });
        state.refused |= !accepted;
        if !accepted {
            return;
        }
        let unknown = suspicion.folded + 1..state.log.len();
        state.removed_blindly |= unknown.clone().any(|length| {
            let about =
                matches!(state.log[length - 1].fact, Fact::Register(..) | Fact::Health(..) | Fact::Deregister(..));
            about && state.folds[length].1
        });
        let agent = &state.agent;
        let vouched = agent.life == Life::Up && agent.vouches && held.map(|(held, _)| held) == Some(agent.order.0);
        state.removed_the_living |= vouched && (agent.unheard_at as u64) < suspicion.observed;
    }

    fn agent_acts(&self, state: &mut State, action: &Action) {
        let length = state.log.len();
        let agent = &mut state.agent;
        match action {
            Action::Kill => agent.life = Life::Down,
            Action::Freeze => {
                agent.life = Life::Frozen;
                agent.freezes += 1;
            }
            Action::Thaw => {
                agent.life = Life::Up;
                agent.unheard_at = length;
            }
            Action::Restart { vouches } => {
                agent.life = Life::Up;
                agent.restarts += 1;
                agent.vouches = *vouches;
                agent.unheard_at = length;
                agent.order =
                    if self.broken == Broken::Incarnation { (agent.order.0, 1) } else { (agent.order.0 + 1, 1) };
                if *vouches {
                    let fact = Fact::Register('a', agent.order);
                    state.fly(Flight::OfAgent(fact));
                }
            }
            Action::Announce => {
                agent.announcements += 1;
                agent.order.1 += u64::from(self.broken != Broken::Generation);
                let fact = Fact::Register('a', agent.order);
                state.fly(Flight::OfAgent(fact));
            }
            Action::Report => {
                agent.order.1 += 1;
                agent.reports += 1;
                let fact = Fact::Health('a', agent.order);
                state.fly(Flight::OfAgent(fact));
            }
            Action::Stop => {
                agent.order.1 += 1;
                agent.life = Life::Down;
                let fact = Fact::Deregister('a', agent.order);
                state.fly(Flight::OfAgent(fact));
            }
            _ => {}
        }
    }

    /// Nothing is on its way, everybody knows everything, and nobody has anything to say.
    fn is_at_rest(&self, state: &State) -> bool {
        let settled = |replica: usize| {
            let Replica { folded, decision } = &state.replicas[replica];
            *folded == state.log.len() && *decision == Decision::Calm && !self.may_fall_silent(state, replica)
        };
        state.flying.is_empty()
            && state.agent.life != Life::Frozen
            && !state.is_to_announce()
            && (0..state.replicas.len()).all(settled)
    }
}

impl Model for Expiry {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let agent = Agent {
            life: Life::Up,
            vouches: true,
            order: (1, 1),
            unheard_at: 0,
            restarts: 0,
            freezes: 0,
            reports: 0,
            announcements: 0,
        };
        let mut state = State {
            log: Arc::default(),
            folds: Arc::new(vec![(Arc::default(), true)]),
            flying: Vec::new(),
            agent,
            replicas: vec![Replica { folded: 2, decision: Decision::Calm }; 2],
            missed: 0,
            dropped: 0,
            removed_blindly: false,
            removed_the_living: false,
            refused: false,
        };
        state.append(Fact::Epoch { number: 1, previous: None });
        state.append(Fact::Register('a', (1, 1)));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let agent = &state.agent;
        let troubles = agent.freezes + agent.restarts + agent.reports + state.missed + state.dropped;
        let may = |done: u8| done < 1 && troubles < self.troubles_max;
        if agent.life == Life::Up {
            if may(agent.freezes) {
                actions.push(Action::Freeze);
            }
            if agent.vouches && may(agent.reports) && !state.agent_has_something_under_way() {
                actions.push(Action::Report);
            }
            if agent.vouches {
                actions.push(Action::Stop);
            }
        }
        if agent.life == Life::Frozen {
            actions.push(Action::Thaw);
        }
        if agent.life != Life::Down {
            actions.push(Action::Kill);
        } else if may(agent.restarts) {
            actions.extend([Action::Restart { vouches: true }, Action::Restart { vouches: false }]);
        }
        if state.is_to_announce() {
            actions.push(Action::Announce);
        }
        for (index, flight) in state.flying.iter().enumerate() {
            actions.push(Action::Append(index));
            if may(state.dropped) && matches!(flight, Flight::OfReplica(..)) {
                actions.push(Action::Drop(index));
            }
        }
        for (index, replica) in state.replicas.iter().enumerate() {
            if replica.folded < state.log.len() {
                actions.push(Action::Fold(index));
            }
            let calm = replica.decision == Decision::Calm;
            if self.may_fall_silent(state, index) {
                actions.push(Action::Silence(index));
            } else if calm && may(state.missed) && State::live(state.catalog(index)).is_some() {
                actions.push(Action::Miss(index));
            }
            if matches!(replica.decision, Decision::Suspects(_)) {
                actions.push(Action::Probe(index));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Silence(replica) | Action::Miss(replica) => {
                state.missed += u8::from(matches!(action, Action::Miss(_)));
                state.replicas[replica].decision = Decision::Suspects(Self::suspicion(&state, replica)?);
            }
            Action::Probe(replica) => self.probe(&mut state, replica)?,
            Action::Append(index) => self.arrive(&mut state, index),
            Action::Drop(index) => {
                state.dropped += 1;
                if let Flight::OfReplica(replica, _) = state.flying.remove(index) {
                    state.replicas[replica].decision = Decision::Calm;
                }
            }
            Action::Fold(replica) => {
                let replica = &mut state.replicas[replica];
                // All that is there: whoever stops in between could as well have read before the rest came.
                replica.folded = state.log.len();
                if matches!(replica.decision, Decision::Proposed(Some(at)) if at <= replica.folded) {
                    replica.decision = Decision::Calm;
                }
            }
            ref of_agent => self.agent_acts(&mut state, of_agent),
        }
        state.put_in_order();
        Some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.log.len() <= EVENTS_MAX
    }

    fn properties(&self) -> Vec<Property<Self>> {
        tests::properties()
    }
}

mod tests;
