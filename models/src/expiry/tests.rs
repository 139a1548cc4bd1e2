//! What must hold of `expiry`, in words and in code, and the searches.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

pub(super) fn properties() -> Vec<Property<Expiry>> {
    vec![
        Property::always(NEVER_BLINDLY, |_, state: &State| !state.removed_blindly),
        Property::always(NEVER_THE_LIVING, |_, state: &State| !state.removed_the_living),
        Property::always(ORDER_ONLY_GROWS, |_, state: &State| {
            let agents_events = state.log.iter().zip(&state.folds[1..]).filter(|(_, (_, accepted))| *accepted);
            let orders = agents_events.filter_map(|(stored, _)| match stored.fact {
                Fact::Register(_, order) | Fact::Health(_, order) | Fact::Deregister(_, order) => Some(order),
                _ => None,
            });
            orders.is_sorted_by(|earlier, later| earlier < later)
        }),
        Property::always(THE_LIVING_ARE_THERE, |model: &Expiry, state: &State| {
            let lives = state.agent.life == Life::Up && state.agent.vouches;
            !(lives && model.is_at_rest(state))
                || State::live(state.end()).is_some_and(|held| held.0 == state.agent.order.0)
        }),
        Property::always(THE_DEAD_ARE_GONE, |model: &Expiry, state: &State| {
            let lives = state.agent.life == Life::Up && state.agent.vouches;
            lives || !model.is_at_rest(state) || State::live(state.end()).is_none()
        }),
        Property::always(WHAT_IS_GONE_LEAVES_A_TRACE, |_, state: &State| {
            let held = state.end().held(&log::service(), &log::id('a'));
            matches!(held, Some(Held::Live(_) | Held::Gone(_)))
        }),
        Property::sometimes(TOO_LATE, |_, state: &State| state.refused),
        Property::sometimes(BACK_AGAIN, |_, state: &State| {
            let expired = state.log.iter().any(|stored| matches!(stored.fact, Fact::Expire { .. }));
            expired
                && State::live(state.end()).is_some_and(|(incarnation, generation)| incarnation == 1 && generation > 1)
        }),
        Property::sometimes(ADOPTED, |model: &Expiry, state: &State| {
            let lives = State::live(state.end()).is_some_and(|(incarnation, _)| incarnation == 2);
            lives
                && model.is_at_rest(state)
                && !state.log.iter().any(|stored| matches!(stored.fact, Fact::Expire { .. }))
        }),
        Property::sometimes(DISOWNED, |model: &Expiry, state: &State| {
            state.agent.life == Life::Up && !state.agent.vouches && model.is_at_rest(state)
        }),
    ]
}

const NEVER_BLINDLY: &str = "an expiry removes nothing of which its replica did not know the last event";
const NEVER_THE_LIVING: &str = "an expiry removes nobody who lives and could be heard since the last event";
const ORDER_ONLY_GROWS: &str = "what is accepted of an instance only grows in (incarnation, generation)";
const THE_LIVING_ARE_THERE: &str = "once nothing is on its way, whoever lives is in the catalog";
const THE_DEAD_ARE_GONE: &str = "once nothing is on its way, whoever is dead or disowned is not in the catalog";
const WHAT_IS_GONE_LEAVES_A_TRACE: &str = "what was once registered is held, alive or gone";
const TOO_LATE: &str = "an expiry comes too late and is refused";
const BACK_AGAIN: &str = "whoever was expired comes back in the same incarnation";
const ADOPTED: &str = "a new life takes over without any removal";
const DISOWNED: &str = "what a new life does not vouch for goes";

/// Searches until it finds what it is to find, or to the end.
fn search(broken: Broken, troubles_max: u8, for_what: HasDiscoveries) -> impl Checker<Expiry> {
    Expiry { broken, troubles_max }.checker().finish_when(for_what).spawn_bfs().join()
}

fn finds(broken: Broken, troubles_max: u8, violation: &'static str) {
    search(broken, troubles_max, HasDiscoveries::AllOf([violation].into())).assert_any_discovery(violation);
}

#[test]
fn no_order_of_events_expires_what_lives_or_keeps_what_is_dead() {
    let checker = search(Broken::Nothing, TROUBLES_MAX, HasDiscoveries::AnyFailures);
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn without_the_sequence_check_an_expiry_removes_blindly() {
    finds(Broken::SequenceCheck, 1, NEVER_BLINDLY);
}

#[test]
fn without_the_probe_lost_heartbeats_remove_the_living() {
    finds(Broken::Probe, 1, NEVER_THE_LIVING);
}

#[test]
fn if_a_heartbeat_renewed_other_sessions_the_disowned_would_stay() {
    finds(Broken::Session, 1, THE_DEAD_ARE_GONE);
}

#[test]
fn a_life_that_used_its_predecessors_incarnation_would_not_come_back() {
    finds(Broken::Incarnation, 1, THE_LIVING_ARE_THERE);
}

#[test]
fn whoever_was_expired_and_registered_with_the_same_generation_would_not_come_back() {
    finds(Broken::Generation, 1, THE_LIVING_ARE_THERE);
}
