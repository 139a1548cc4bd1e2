//! A stream that loses its tail, is restored from an older copy, or is gone; two replicas that find out and replace the log.
//!
//! The catalogs, their `carry` rules and the recognition of the own revision are the real ones. These rules stand for the
//! rest:
//!
//! | rule | mirrors |
//! |---|---|
//! | a broker that comes back ends every reader; none reads on before it has recognised the log | `registry/src/core/replica/continuity.rs` |
//! | a log is broken if it was created anew, ends below the own or a named revision, or holds another event there | `Continuity::contradiction` |
//! | a broken log is set aside; reading begins at the newest epoch above every lost one, else one is appended | `registry/src/core/replica/{locating,beginning}.rs` |
//! | an epoch follows the one in force, or the largest known, and is larger than all known | `registry/src/core/replica/{epochs,proposing}.rs` |
//! | before a first epoch the agents and the other replica are heard | `Replica::first_epoch` |
//! | what a set-aside catalog holds and the log in force lacks is carried over; `recovered` waits for that, and for the agents' announcements | `Replica::{add_carried, recovery}` |
//! | an agent whose registration the log in force lacks registers again, unless that proves nothing | `registry/src/core/leases/hear.rs`, `verdict` |
//!
//! The history: `b` registered and deregistered, `a` was put into maintenance and registered. Instance `a` and its agent live
//! on; one replica may have been behind.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use muster_registry::core::catalog::Catalog;
use muster_schemas::pulse::CatalogState;
use stateright::{Model, Property};

use crate::log::{self, Carried, Fact, Order, Stored};

/// A rule that a broken model breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Whoever reconnects reads on without looking.
    Recognition,
    /// Revisions that agents and replicas name are not held against the stream's end.
    Claims,
    /// Nothing is carried over.
    Carry,
    /// A new log follows nobody, so that it is ready at once.
    Predecessor,
    /// A tombstone of the lost log is not carried over.
    Tombstones,
}

const FIRST_EPOCH: u64 = 2;

struct Replacement {
    broken: Broken,
    losses_max: u8,
    /// A replica may lose its memory, too.
    restarts_max: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// It knows no log, or one that is not good enough.
    Locating,
    /// The reader ended; the log has to be recognised.
    Checking,
    Reading,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Replica {
    phase: Phase,
    catalog: Arc<Catalog>,
    created: u64,
    /// The largest revision of its log that somebody named.
    claimed: u64,
    /// The largest epoch that somebody named.
    rumour: Option<u64>,
    lost: Option<u64>,
    aside: Vec<Arc<Catalog>>,
    /// It has folded the whole history, and has not forgotten it.
    remembers: bool,
}

impl Hash for Replica {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.phase, self.created, self.claimed, self.rumour, self.lost, self.remembers).hash(state);
        for catalog in std::iter::once(&self.catalog).chain(&self.aside) {
            log::identity(catalog).hash(state);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    created: u64,
    stream: Arc<Vec<Stored>>,
    stamps: u64,
    replicas: Vec<Replica>,
    /// What the agent of `a` says, and where the log has confirmed that: (epoch, sequence).
    order: Order,
    acknowledged: Option<(u64, u64)>,
    losses: u8,
    restarts: u8,
    others: u8,
    /// A replica that trusted a log went on in a smaller one.
    went_back: bool,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.created, self.stream.len(), self.stream.last(), self.stamps, &self.replicas).hash(state);
        (self.order, self.acknowledged, self.losses, self.restarts, self.others, self.went_back).hash(state);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The broker comes back with so many of the stream's messages.
    Lose(usize),
    /// It comes back without the stream; somebody creates it.
    Wipe,
    Restart(usize),
    Check(usize),
    Begin(usize),
    /// A first epoch, or one that follows what was lost.
    AppendEpoch(usize),
    /// An epoch that follows one that should not have begun as it did.
    Succeed(usize),
    Fold(usize),
    Carry(usize),
    Recover(usize),
    Announce,
    /// Another agent's registration reaches the stream after the loss.
    Other,
    /// A replica hears the agent's heartbeat.
    HearAgent(usize),
    /// A replica hears the other's beacon.
    HearReplica(usize),
}

fn number(epoch: muster_schemas::EpochId) -> u64 {
    (1..1_000).find(|number| log::epoch_id(*number) == epoch).expect("a model's epoch")
}

fn epoch_of(catalog: &Catalog) -> Option<u64> {
    catalog.epoch().map(number)
}

fn shown(catalog: &Catalog) -> Option<Order> {
    catalog.instance(&log::service(), &log::id('a')).map(|instance| log::order_of(instance.vouching()))
}

impl Replica {
    fn forgetful(created: u64) -> Self {
        let catalog = Arc::default();
        Self {
            phase: Phase::Locating,
            catalog,
            created,
            claimed: 0,
            rumour: None,
            lost: None,
            aside: Vec::new(),
            remembers: false,
        }
    }

    fn largest_known(&self) -> u64 {
        epoch_of(&self.catalog).max(self.lost).max(self.rumour).unwrap_or(0)
    }

    /// What it would take from somebody who names a revision; none if it learns nothing.
    fn told(&self, named: Option<(u64, u64)>) -> Option<Self> {
        let (epoch, revision) = named?;
        let mut told = self.clone();
        if Some(epoch) == epoch_of(&self.catalog) {
            told.claimed = told.claimed.max(revision);
        } else {
            told.rumour = told.rumour.max(Some(epoch));
        }
        (told.claimed != self.claimed || told.rumour != self.rumour).then_some(told)
    }

    fn set_aside(&mut self, lost: Arc<Catalog>) {
        if lost.epoch().is_some() && lost.entries().next().is_some() {
            self.aside.push(lost);
        }
    }

    fn break_off(&mut self) {
        let lost = std::mem::take(&mut self.catalog);
        self.lost = self.lost.max(epoch_of(&lost));
        self.set_aside(lost);
        self.claimed = 0;
        self.phase = Phase::Locating;
    }
}

impl State {
    fn append(&mut self, fact: Fact) {
        self.stamps += 1;
        let stored = Stored::after(self.stream.last(), self.stamps, fact);
        Arc::make_mut(&mut self.stream).push(stored);
    }

    fn end(&self) -> u64 {
        self.stream.len() as u64
    }

    fn is_at_end(&self, replica: &Replica) -> bool {
        replica.phase == Phase::Reading && replica.catalog.revision() == self.end()
    }

    /// Where the newest epoch of the stream began, and what folding its epochs gives.
    fn newest_epoch(&self) -> Option<(u64, Arc<Catalog>)> {
        let mut newest: Option<(u64, Arc<Catalog>)> = None;
        for (index, stored) in self.stream.iter().enumerate() {
            if matches!(stored.fact, Fact::Epoch { .. }) {
                let before = newest.as_ref().map(|(_, catalog)| catalog.clone()).unwrap_or_default();
                let after = log::fold(&before, stored, index as u64 + 1);
                if after.began_epoch {
                    newest = Some((index as u64 + 1, after.catalog));
                }
            }
        }
        newest
    }

    /// Whether the stream contradicts what a replica knows of it.
    fn contradicts(&self, replica: &Replica, claims: bool) -> bool {
        let revision = replica.catalog.revision();
        let own =
            || log::is_own(&replica.catalog, &self.stream[usize::try_from(revision - 1).expect("a small number")]);
        replica.created != self.created
            || self.end() < revision
            || (claims && self.end() < replica.claimed)
            || (replica.phase == Phase::Checking && !own())
    }
}

impl Replacement {
    fn check(&self, state: &mut State, index: usize) -> Option<()> {
        let claims = self.broken != Broken::Claims;
        let contradicted = state.contradicts(&state.replicas[index], claims) && self.broken != Broken::Recognition;
        let replica = &mut state.replicas[index];
        match replica.phase {
            Phase::Locating => return None,
            Phase::Reading if !contradicted => return None,
            _ if contradicted => replica.break_off(),
            _ => replica.phase = Phase::Reading,
        }
        Some(())
    }

    fn begin(state: &mut State, index: usize) -> Option<()> {
        let (sequence, catalog) = state.newest_epoch()?;
        let created = state.created;
        let replica = &mut state.replicas[index];
        if replica.phase != Phase::Locating || epoch_of(&catalog) <= replica.lost {
            return None;
        }
        state.went_back |= replica.aside.iter().any(|aside| aside.epoch() >= catalog.epoch());
        replica.catalog = catalog;
        debug_assert_eq!(replica.catalog.revision(), sequence);
        replica.created = created;
        replica.phase = Phase::Reading;
        Some(())
    }

    /// The epoch that a replica wants that may not begin at what the stream holds.
    fn epoch_after(&self, replica: &Replica, index: usize, previous: Option<u64>) -> Fact {
        // Two that append at once do not choose the same.
        let number = (replica.largest_known().max(previous.unwrap_or(0)) / 2 + 1) * 2 + index as u64;
        Fact::Epoch { number, previous: previous.filter(|_| self.broken != Broken::Predecessor) }
    }

    fn append_epoch(&self, state: &mut State, index: usize) -> Option<()> {
        let in_force = state.newest_epoch().and_then(|(_, catalog)| epoch_of(&catalog));
        let named = state.acknowledged.map(|(epoch, _)| epoch);
        let replica = &mut state.replicas[index];
        if replica.phase != Phase::Locating || in_force > replica.lost {
            return None;
        }
        if replica.lost.is_none() && in_force.is_none() {
            // It listens first.
            replica.rumour = replica.rumour.max(named);
        }
        let predecessor = in_force.or(Some(replica.largest_known()).filter(|known| *known > 0));
        let fact = self.epoch_after(&state.replicas[index], index, predecessor);
        state.append(fact);
        Some(())
    }

    fn succeed(&self, state: &mut State, index: usize) -> Option<()> {
        let replica = &state.replicas[index];
        let in_force = epoch_of(&replica.catalog)?;
        let overlooked = replica.catalog.previous_epoch().is_none() && !replica.aside.is_empty();
        let outdated = replica.rumour > Some(in_force);
        if !state.is_at_end(replica) || !(overlooked || outdated) || self.broken == Broken::Predecessor {
            return None;
        }
        let fact = self.epoch_after(replica, index, Some(in_force));
        state.append(fact);
        Some(())
    }

    fn fold(state: &mut State, index: usize) -> Option<()> {
        let replica = &state.replicas[index];
        let revision = replica.catalog.revision();
        if replica.phase != Phase::Reading || revision >= state.end() {
            return None;
        }
        let stored = state.stream[usize::try_from(revision).expect("a small number")].clone();
        let after = log::fold(&replica.catalog, &stored, revision + 1);
        let replica = &mut state.replicas[index];
        let before = std::mem::replace(&mut replica.catalog, after.catalog);
        if after.began_epoch {
            replica.lost = replica.lost.max(epoch_of(&before));
            replica.set_aside(before);
            replica.claimed = 0;
        }
        if stored.fact == Fact::Register('a', state.order) && shown(&replica.catalog) == Some(state.order) {
            state.acknowledged = epoch_of(&replica.catalog).map(|epoch| (epoch, revision + 1));
        }
        Some(())
    }

    /// What a replica would carry over now.
    fn lacking(&self, state: &State, index: usize) -> Vec<Carried> {
        let replica = &state.replicas[index];
        if !state.is_at_end(replica) || !replica.catalog.accepts_carry() || self.broken == Broken::Carry {
            return Vec::new();
        }
        let entries = replica.aside.iter().flat_map(|aside| aside.entries()).map(|kept| kept.entry);
        let carried = |entry: &muster_schemas::entry::Entry| {
            self.broken != Broken::Tombstones || !matches!(entry, muster_schemas::entry::Entry::Tombstone(_))
        };
        entries.filter(|entry| replica.catalog.lacks(entry) && carried(entry)).map(Carried).collect()
    }

    fn carry(&self, state: &mut State, index: usize) -> Option<()> {
        let epoch = epoch_of(&state.replicas[index].catalog)?;
        let lacking = self.lacking(state, index);
        if lacking.is_empty() {
            return None;
        }
        for entry in lacking {
            state.append(Fact::Carry { epoch, entry });
        }
        Some(())
    }

    fn recover(&self, state: &mut State, index: usize) -> Option<()> {
        let replica = &state.replicas[index];
        let recovering = replica.catalog.state() == CatalogState::Recovering;
        let announced = shown(&replica.catalog) == Some(state.order);
        if !state.is_at_end(replica) || !recovering || !announced || !self.lacking(state, index).is_empty() {
            return None;
        }
        let epoch = epoch_of(&replica.catalog)?;
        state.append(Fact::Recovered { epoch });
        Some(())
    }

    fn announce(state: &mut State) -> Option<()> {
        let asks = |replica: &Replica| {
            let epoch = epoch_of(&replica.catalog);
            let proves_nothing = state.acknowledged.is_some_and(|(named, sequence)| {
                Some(named) > epoch || (Some(named) == epoch && sequence > replica.catalog.revision())
            });
            state.is_at_end(replica) && shown(&replica.catalog) != Some(state.order) && !proves_nothing
        };
        if !state.replicas.iter().any(asks) {
            return None;
        }
        state.order.1 += 1;
        state.append(Fact::Register('a', state.order));
        Some(())
    }

    fn hear(&self, state: &mut State, index: usize, named: Option<(u64, u64)>) -> Option<()> {
        if self.broken == Broken::Claims {
            return None;
        }
        state.replicas[index] = state.replicas[index].told(named)?;
        Some(())
    }

    fn duties(state: &State) -> Vec<Action> {
        let each = (0..state.replicas.len()).flat_map(|index| {
            use Action::{AppendEpoch, Begin, Carry, Check, Fold, HearAgent, HearReplica, Recover, Succeed};
            let of = [Check, Begin, AppendEpoch, Succeed, Fold, Carry, Recover, HearAgent, HearReplica];
            of.map(|action| action(index))
        });
        each.chain([Action::Announce]).collect()
    }

    /// The broker comes back, with or without what it held: nobody reads on unasked.
    fn come_back(state: &mut State) {
        state.losses += 1;
        for replica in state.replicas.iter_mut().filter(|replica| replica.phase == Phase::Reading) {
            replica.phase = Phase::Checking;
        }
    }

    /// Nobody has anything left to do.
    fn is_at_rest(&self, state: &State) -> bool {
        // To ask for each duty is dear: first whether it is worth it.
        let may_rest = |replica: &Replica| replica.phase == Phase::Locating || state.is_at_end(replica);
        state.replicas.iter().all(may_rest)
            && Self::duties(state).into_iter().all(|duty| self.next_state(state, duty).is_none())
    }
}

impl Model for Replacement {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        [5, 2].map(Self::beginning).into()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.losses < self.losses_max {
            actions.extend((1..state.stream.len()).map(Action::Lose));
            actions.push(Action::Wipe);
        }
        if state.restarts < self.restarts_max {
            actions.extend([Action::Restart(0), Action::Restart(1)]);
        }
        if state.losses > 0 && state.others == 0 && self.restarts_max == 0 {
            actions.push(Action::Other);
        }
        actions.extend(Self::duties(state));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Lose(kept) => {
                Arc::make_mut(&mut state.stream).truncate(kept);
                Self::come_back(&mut state);
            }
            Action::Wipe => {
                state.stream = Arc::default();
                state.created += 1;
                Self::come_back(&mut state);
            }
            Action::Restart(index) => {
                state.restarts += 1;
                state.replicas[index] = Replica::forgetful(state.created);
            }
            Action::Check(index) => self.check(&mut state, index)?,
            Action::Begin(index) => Self::begin(&mut state, index)?,
            Action::AppendEpoch(index) => self.append_epoch(&mut state, index)?,
            Action::Succeed(index) => self.succeed(&mut state, index)?,
            Action::Fold(index) => {
                // All that is there: whoever stops in between could as well have read before the rest came.
                Self::fold(&mut state, index)?;
                while Self::fold(&mut state, index).is_some() {}
            }
            Action::Carry(index) => self.carry(&mut state, index)?,
            Action::Recover(index) => self.recover(&mut state, index)?,
            Action::Other => {
                state.others += 1;
                state.append(Fact::Register('c', (1, 1)));
            }
            Action::Announce => Self::announce(&mut state)?,
            Action::HearAgent(index) => self.hear(&mut state, index, last.acknowledged)?,
            Action::HearReplica(index) => {
                let other = &last.replicas[1 - index];
                let epoch = epoch_of(&other.catalog).or(other.lost);
                self.hear(&mut state, index, epoch.map(|epoch| (epoch, other.catalog.revision())))?;
            }
        }
        if state.losses == self.losses_max {
            // What the stream holds it will go on to hold.
            let end = state.end();
            for replica in state.replicas.iter_mut().filter(|replica| replica.claimed <= end) {
                replica.claimed = 0;
            }
        }
        (state != *last).then_some(state)
    }

    /// One loss alone comes to an end by itself; with a restart besides, short logs are looked at.
    fn within_boundary(&self, state: &State) -> bool {
        state.stream.len() <= if self.restarts_max > 0 { 9 } else { 40 }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        tests::properties()
    }
}

mod tests;
