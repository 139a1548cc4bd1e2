//! What must hold of `replacement`, in words and in code, and the searches.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

impl Replacement {
    /// The history, of which the second replica has folded so much.
    pub(super) fn beginning(folded_by_second: usize) -> State {
        let facts = [
            Fact::Epoch { number: FIRST_EPOCH, previous: None },
            Fact::Register('b', (1, 1)),
            Fact::Deregister('b', (1, 2)),
            Fact::Maintenance('a'),
            Fact::Register('a', (1, 1)),
        ];
        let mut state = State {
            created: 1,
            stream: Arc::default(),
            stamps: 0,
            replicas: vec![Replica::forgetful(1), Replica::forgetful(1)],
            order: (1, 1),
            acknowledged: None,
            losses: 0,
            restarts: 0,
            others: 0,
            went_back: false,
        };
        facts.into_iter().for_each(|fact| state.append(fact));
        for (index, revisions) in [(0, 5), (1, folded_by_second)] {
            Self::begin(&mut state, index);
            for _ in 1..revisions {
                Self::fold(&mut state, index);
            }
            state.replicas[index].remembers = revisions == 5;
        }
        state
    }
}

pub(super) fn properties() -> Vec<Property<Replacement>> {
    vec![
        Property::always(SAME, |_, state: &State| {
            let [first, second] = &state.replicas[..] else { return true };
            let both_read = first.phase == Phase::Reading && second.phase == Phase::Reading;
            let same_place = first.catalog.position() == second.catalog.position();
            !both_read || !same_place || first.catalog.digest() == second.catalog.digest()
        }),
        Property::always(NEVER_BACK, |_, state: &State| !state.went_back),
        Property::always(NEVER_PROVEN_EMPTY, |_, state: &State| {
            state.replicas.iter().all(|replica| {
                let replaced = epoch_of(&replica.catalog) > Some(FIRST_EPOCH);
                let proves = state.is_at_end(replica) && replica.catalog.state() == CatalogState::Ready;
                !(replaced && proves) || shown(&replica.catalog).is_some()
            })
        }),
        Property::always(NEVER_UNNOTICED, |model: &Replacement, state: &State| {
            let unheard = |index: usize| {
                let doubts = [Action::HearAgent(index), Action::Check(index), Action::Announce];
                doubts.into_iter().any(|doubt| model.next_state(state, doubt).is_some())
            };
            (0..2).all(|index| {
                let replica = &state.replicas[index];
                let proves = state.is_at_end(replica) && replica.catalog.state() == CatalogState::Ready;
                !proves || shown(&replica.catalog).is_some() || unheard(index)
            })
        }),
        Property::always(AGREED, |model: &Replacement, state: &State| {
            let settled =
                |replica: &Replica| state.is_at_end(replica) && replica.catalog.state() == CatalogState::Ready;
            !model.is_at_rest(state)
                || (state.replicas.iter().all(settled)
                    && state
                        .replicas
                        .iter()
                        .all(|replica| replica.catalog.digest() == state.replicas[0].catalog.digest()))
        }),
        Property::always(THE_LIVING_IS_BACK, |model: &Replacement, state: &State| {
            !model.is_at_rest(state) || state.replicas.iter().all(|replica| shown(&replica.catalog).is_some())
        }),
        Property::always(ALL_IS_BACK, |model: &Replacement, state: &State| {
            let remembered = state.replicas.iter().any(|replica| replica.remembers);
            let as_it_was = |replica: &Replica| {
                let instance = replica.catalog.instance(&log::service(), &log::id('a'));
                instance.is_some_and(|instance| instance.maintenance.is_some())
                    && replica.catalog.instance(&log::service(), &log::id('b')).is_none()
            };
            !(remembered && model.is_at_rest(state)) || state.replicas.iter().all(as_it_was)
        }),
        Property::sometimes(REPLACED, |model: &Replacement, state: &State| {
            model.is_at_rest(state)
                && state.replicas.iter().all(|replica| epoch_of(&replica.catalog) > Some(FIRST_EPOCH + 1))
        }),
        Property::sometimes(CARRIED, |model: &Replacement, state: &State| {
            model.is_at_rest(state) && state.stream.iter().any(|stored| matches!(stored.fact, Fact::Carry { .. }))
        }),
    ]
}

const SAME: &str = "two replicas that read on at one revision of one log hold the same";
const NEVER_BACK: &str = "no replica goes on in a log that is not above all it has lost";
const NEVER_PROVEN_EMPTY: &str = "no log that replaced another is ready before the living is in it";
const NEVER_UNNOTICED: &str = "whoever is ready and lacks the living is told by its next heartbeat at the latest";
const AGREED: &str = "once nobody has anything to do, both read one log to its end, ready, and hold the same";
const THE_LIVING_IS_BACK: &str = "once nobody has anything to do, the living is in the catalog";
const ALL_IS_BACK: &str = "if a replica is left that knew it, the operator's intent is in force, and the gone is gone";
const REPLACED: &str = "a log is replaced, and everybody follows";
const CARRIED: &str = "something is carried over";

/// Searches until it finds what it is to find, or to the end.
fn search(broken: Broken, faults: (u8, u8), for_what: HasDiscoveries) -> impl Checker<Replacement> {
    let (losses_max, restarts_max) = faults;
    Replacement { broken, losses_max, restarts_max }.checker().finish_when(for_what).spawn_bfs().join()
}

fn finds(broken: Broken, faults: (u8, u8), violation: &'static str) {
    search(broken, faults, HasDiscoveries::AllOf([violation].into())).assert_any_discovery(violation);
}

#[test]
fn one_loss_of_the_log() {
    let checker = search(Broken::Nothing, (1, 0), HasDiscoveries::AnyFailures);
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn one_loss_with_a_replica_that_forgets_everything() {
    let checker = search(Broken::Nothing, (1, 1), HasDiscoveries::AnyFailures);
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn without_recognition_replicas_diverge_in_silence() {
    finds(Broken::Recognition, (1, 0), SAME);
}

#[test]
fn if_named_revisions_were_not_held_against_the_log_a_lost_tail_would_stay_lost() {
    finds(Broken::Claims, (1, 1), THE_LIVING_IS_BACK);
}

#[test]
fn without_carrying_over_an_intent_would_be_lost() {
    finds(Broken::Carry, (1, 0), ALL_IS_BACK);
}

#[test]
fn without_tombstones_the_gone_would_come_back() {
    finds(Broken::Tombstones, (1, 0), ALL_IS_BACK);
}

#[test]
fn a_log_that_followed_none_would_prove_empty_what_lives() {
    finds(Broken::Predecessor, (1, 0), NEVER_PROVEN_EMPTY);
}
