//! Replicas that publish one log's changes without a leader, while some of them freeze, die, fall silent or deaf.
//!
//! The ring of changes and the ranks are the real ones. These rules stand for the rest:
//!
//! | rule | mirrors |
//! |---|---|
//! | a change is published at once by the oldest, and held by the others until it is seen or due | `registry/src/core/replica/folding.rs`, `take_change`; `publishing.rs`, `send_due_changes` |
//! | a beacon every 200 ms; ranks anew with each tick and each beacon | `publishing.rs`, `rank_anew`, `send_beacon`, `beacon_heard` |
//! | what another publishes counts as seen | `publishing.rs`, `change_heard` |
//! | a replica that did not run for 300 ms has no rank until it could hear everybody | `Replica::was_frozen` |
//! | a pulse reaches up to the first change that it has neither sent nor seen | `publishing.rs`, `moment` |
//!
//! Time goes in rounds of 100 ms, in which every replica that runs takes in what was sent in the round before: the network
//! is as slow as that. The environment chooses when two changes happen, who fails how, when, and for how long.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use muster_registry::core::replica::Timing;
use muster_registry::core::replica::peers::Peers;
use muster_registry::core::replica::ring::{Publication, Ring};
use muster_schemas::beacon::Beacon;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Digest, ReplicaId, Revision, Timestamp, WIRE_VERSION};
use stateright::{Checker, Model, Property};

use crate::log::epoch_id;

const ROUND_MS: u64 = 100;
/// When the first round begins: everybody has long heard everybody.
const START_MS: u64 = 10_000;
/// The longest that a change may take from the log to the consumer: a second, the round in which it was folded, and the one
/// on its way.
const LIMIT_ROUNDS: u64 = 12;
const FAULTS_UNTIL: u64 = 4;
const HORIZON: u64 = 24;

/// A rule that a broken model breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Everybody takes itself for the oldest.
    Rank,
    /// Who is not the oldest never publishes.
    Hedging,
    /// What others publish is not noticed.
    Seen,
    /// A pulse reaches as far as its sender has folded.
    Pulse,
}

struct Publishing {
    broken: Broken,
    replicas: usize,
    faults_max: u8,
    timing: Timing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    /// It does not run; what others send waits.
    Frozen,
    Dead,
    /// What it sends is lost.
    Mute,
    /// It hears no other replica; it reads the log.
    Deaf,
}

#[derive(Debug, Clone)]
struct Replica {
    peers: Peers,
    ring: Ring,
    rank: Option<u32>,
    fault: Option<Fault>,
    ever_failed: bool,
    last_ran_ms: u64,
    folded: u64,
    /// What it has sent and what it has seen, in order.
    sent: Vec<u64>,
    saw: Vec<u64>,
    inbox: Vec<Message>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Message {
    Beacon(usize, u64),
    Change(u64),
}

#[derive(Debug, Clone)]
struct State {
    round: u64,
    replicas: Vec<Replica>,
    /// In which round each change came into the log.
    appended: Vec<u64>,
    /// What reached the consumer: (round, replica, change).
    delivered: Vec<(u64, usize, u64)>,
    faults: u8,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.round, &self.appended, &self.delivered, self.faults).hash(state);
        for replica in &self.replicas {
            (replica.rank, replica.fault, replica.ever_failed, replica.last_ran_ms, replica.folded).hash(state);
            (&replica.sent, &replica.saw, &replica.inbox).hash(state);
            format!("{:?}{:?}", replica.peers, replica.ring).hash(state);
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// What the environment does in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Nothing,
    Append,
    Fail(usize, Fault),
    Heal(usize),
}

fn beacon(index: usize, revision: u64) -> Beacon {
    Beacon {
        v: WIRE_VERSION,
        epoch: Some(epoch_id(1)),
        replica: name(index),
        started_at: Timestamp::from_ms(i64::try_from(index).expect("a small number")),
        state: CatalogState::Ready,
        revision,
        digest: Digest::ZERO,
        fold_versions: vec![1],
        servers: Vec::new(),
        left: Vec::new(),
        rebuilt: false,
    }
}

fn name(index: usize) -> ReplicaId {
    ReplicaId::new(&format!("r{index}")).expect("a name")
}

fn revision(change: u64) -> Revision {
    Revision(epoch_id(1), change)
}

impl Publishing {
    fn new(broken: Broken, replicas: usize, faults_max: u8) -> Self {
        Self { broken, replicas, faults_max, timing: Timing::default() }
    }

    /// A replica that has heard all others just now.
    fn settled(&self, index: usize) -> Replica {
        let mut peers = Peers::new(name(index), beacon(index, 0).started_at);
        peers.set_listening(0, true);
        for other in (0..self.replicas).filter(|other| *other != index) {
            peers.heard(START_MS, beacon(other, 0));
        }
        let rank = peers.rank(START_MS, &self.timing);
        Replica {
            peers,
            ring: Ring::default(),
            rank,
            fault: None,
            ever_failed: false,
            last_ran_ms: START_MS,
            folded: 0,
            sent: Vec::new(),
            saw: Vec::new(),
            inbox: Vec::new(),
        }
    }

    /// One replica's round: the log, what others sent, a tick. What it sends.
    fn run(&self, replica: &mut Replica, index: usize, now_ms: u64, changes: u64) -> Vec<Message> {
        let mut sent = Vec::new();
        if now_ms - replica.last_ran_ms > self.timing.freeze_ms {
            replica.peers.set_listening(now_ms, true);
            replica.rank = None;
        }
        replica.last_ran_ms = now_ms;
        while replica.folded < changes {
            replica.folded += 1;
            self.take_change(replica, now_ms, &mut sent);
        }
        for message in std::mem::take(&mut replica.inbox) {
            self.hear(replica, now_ms, message);
        }
        replica.peers.tick(now_ms, &self.timing, (Some(epoch_id(1)), replica.folded));
        self.rank_anew(replica, now_ms);
        if (now_ms / ROUND_MS).is_multiple_of(2) {
            sent.push(Message::Beacon(index, replica.folded));
        }
        self.send_due(replica, now_ms, &mut sent);
        sent
    }

    fn take_change(&self, replica: &mut Replica, now_ms: u64, sent: &mut Vec<Message>) {
        if replica.ring.was_seen(revision(replica.folded)) {
            return;
        }
        let publication =
            Publication { revision: revision(replica.folded), subject: String::new(), payload: Bytes::new() };
        replica.ring.hold(now_ms, publication);
        if replica.rank == Some(0) {
            self.send_due(replica, now_ms, sent);
        }
    }

    fn hear(&self, replica: &mut Replica, now_ms: u64, message: Message) {
        match message {
            Message::Beacon(from, revision) => {
                replica.peers.heard(now_ms, beacon(from, revision));
                self.rank_anew(replica, now_ms);
            }
            Message::Change(_) if self.broken == Broken::Seen => {}
            Message::Change(change) => {
                replica.saw.push(change);
                replica.ring.saw(now_ms, revision(change), Some(revision(replica.folded)));
            }
        }
    }

    fn rank_anew(&self, replica: &mut Replica, now_ms: u64) {
        let rank = replica.peers.rank(now_ms, &self.timing);
        replica.rank = if self.broken == Broken::Rank { Some(0) } else { rank };
    }

    fn send_due(&self, replica: &mut Replica, now_ms: u64, sent: &mut Vec<Message>) {
        if self.broken == Broken::Hedging && replica.rank != Some(0) {
            return;
        }
        while let Some(publication) = replica.ring.next_due(now_ms, replica.rank, &self.timing) {
            let change = publication.revision.sequence();
            replica.sent.push(change);
            sent.push(Message::Change(change));
        }
    }

    /// How far a pulse of this replica would reach now.
    fn pulse_to(&self, replica: &Replica) -> u64 {
        let unseen = replica.ring.first_unseen().map(|revision| revision.sequence() - 1);
        unseen.filter(|_| self.broken != Broken::Pulse).unwrap_or(replica.folded)
    }

    fn round(&self, state: &mut State) {
        state.round += 1;
        let now_ms = START_MS + state.round * ROUND_MS;
        let changes = state.appended.len() as u64;
        let mut sent = Vec::new();
        for (index, replica) in state.replicas.iter_mut().enumerate() {
            let runs = !matches!(replica.fault, Some(Fault::Frozen | Fault::Dead));
            if runs {
                let is_mute = replica.fault == Some(Fault::Mute);
                let messages = self.run(replica, index, now_ms, changes);
                sent.extend(messages.into_iter().filter(|_| !is_mute).map(|message| (index, message)));
            }
        }
        for (from, message) in sent {
            if let Message::Change(change) = message {
                state.delivered.push((state.round, from, change));
            }
            let others = state.replicas.iter_mut().enumerate().filter(|(index, _)| *index != from);
            for (_, replica) in others.filter(|(_, replica)| !matches!(replica.fault, Some(Fault::Dead | Fault::Deaf)))
            {
                replica.inbox.push(message.clone());
            }
        }
    }
}

impl State {
    fn has_reached(&self, change: u64) -> bool {
        self.delivered.iter().any(|(_, _, delivered)| *delivered == change)
    }

    fn copies(&self, change: u64) -> usize {
        self.delivered.iter().filter(|(_, _, delivered)| *delivered == change).count()
    }

    fn changes(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.appended.len() as u64
    }
}

impl Model for Publishing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = (0..self.replicas).map(|index| self.settled(index)).collect();
        vec![State { round: 0, replicas, appended: Vec::new(), delivered: Vec::new(), faults: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.round >= HORIZON {
            return;
        }
        actions.push(Action::Nothing);
        // The beacons' period is two rounds: a first change in the third or the fourth is one at any time.
        let next = match state.appended.as_slice() {
            [] => (2..4).contains(&state.round),
            [first] => state.round < first + 5,
            _ => false,
        };
        if next {
            actions.push(Action::Append);
        }
        for (index, replica) in state.replicas.iter().enumerate() {
            if replica.fault.is_some_and(|fault| fault != Fault::Dead) && state.round < 2 * FAULTS_UNTIL {
                actions.push(Action::Heal(index));
            }
            if replica.fault.is_none() && state.faults < self.faults_max && state.round < FAULTS_UNTIL {
                let faults = [Fault::Frozen, Fault::Dead, Fault::Mute, Fault::Deaf];
                actions.extend(faults.map(|fault| Action::Fail(index, fault)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Nothing => {}
            Action::Append => state.appended.push(state.round),
            Action::Fail(index, fault) => {
                state.faults += 1;
                let replica = &mut state.replicas[index];
                replica.fault = Some(fault);
                replica.ever_failed = true;
                if fault == Fault::Dead {
                    replica.inbox.clear();
                }
            }
            Action::Heal(index) => {
                let replica = &mut state.replicas[index];
                if replica.fault.take() == Some(Fault::Deaf) {
                    // It noticed: its connection was made anew.
                    replica.peers.set_listening(START_MS + state.round * ROUND_MS, true);
                    replica.rank = None;
                }
            }
        }
        self.round(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(IN_TIME, |_, state: &State| {
                let healthy = state.replicas.iter().any(|replica| !replica.ever_failed);
                let due = |change: &u64| {
                    let index = usize::try_from(change - 1).expect("a small number");
                    state.round >= state.appended[index] + LIMIT_ROUNDS
                };
                !healthy || state.changes().filter(due).all(|change| state.has_reached(change))
            }),
            Property::always(ONCE, |_, state: &State| {
                let by_the_oldest = state.delivered.iter().all(|(_, by, _)| *by == 0);
                state.faults > 0 || (by_the_oldest && state.changes().all(|change| state.copies(change) == 1))
            }),
            Property::always(FEW_COPIES, |_, state: &State| {
                state.changes().all(|change| state.copies(change) <= 1 + usize::from(state.faults))
            }),
            Property::always(IN_ORDER, |_, state: &State| {
                state.replicas.iter().all(|replica| replica.sent.is_sorted_by(|earlier, later| earlier < later))
            }),
            Property::always(COVERED, |model: &Self, state: &State| {
                state.replicas.iter().all(|replica| {
                    (1..=model.pulse_to(replica))
                        .all(|change| replica.sent.contains(&change) || replica.saw.contains(&change))
                })
            }),
            Property::sometimes(HEDGED, |_, state: &State| state.delivered.iter().any(|(_, by, _)| *by > 0)),
            Property::sometimes(SPARED, |_, state: &State| {
                let oldest = &state.replicas[0];
                oldest.ever_failed && oldest.fault.is_none() && state.delivered.len() == 2 && oldest.sent.len() < 2
            }),
            Property::eventually(ARRIVES, |_, state: &State| {
                let healthy = state.replicas.iter().any(|replica| !replica.ever_failed);
                state.round == HORIZON && (!healthy || state.changes().all(|change| state.has_reached(change)))
            }),
        ]
    }
}

const IN_TIME: &str = "while one replica is healthy, every change reaches the consumer within a second of being folded";
const ONCE: &str = "while nothing fails, the oldest publishes each change, once, and nobody else any";
const FEW_COPIES: &str = "each fault costs at most one more copy of a change";
const IN_ORDER: &str = "no replica publishes a change after a later one, or twice";
const COVERED: &str = "a pulse never reaches beyond what its sender has sent or seen";
const HEDGED: &str = "a younger replica publishes for the oldest";
const SPARED: &str = "the oldest comes back and does not repeat what others published";
const ARRIVES: &str = "in the end every change has reached the consumer, if one replica stayed healthy";

fn search(broken: Broken, replicas: usize, faults_max: u8) -> impl Checker<Publishing> {
    let checker = Publishing::new(broken, replicas, faults_max).checker().spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker
}

#[test]
fn two_replicas_and_two_faults() {
    search(Broken::Nothing, 2, 2).assert_properties();
}

#[test]
fn three_replicas_and_one_fault() {
    search(Broken::Nothing, 3, 1).assert_properties();
}

#[test]
fn without_ranks_everybody_publishes() {
    search(Broken::Rank, 3, 0).assert_any_discovery(ONCE);
}

#[test]
fn without_hedging_a_dead_publishers_changes_never_come() {
    search(Broken::Hedging, 2, 1).assert_any_discovery(IN_TIME);
}

#[test]
fn if_what_others_publish_went_unnoticed_it_would_be_published_again() {
    search(Broken::Seen, 2, 0).assert_any_discovery(ONCE);
}

#[test]
fn a_pulse_that_reached_as_far_as_the_fold_would_vouch_for_what_nobody_sent() {
    search(Broken::Pulse, 2, 1).assert_any_discovery(COVERED);
}
