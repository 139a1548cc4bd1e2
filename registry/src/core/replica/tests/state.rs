//! What a replica's own disk remembers: used when the log is gone, never instead of it.

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::Status;

use super::world::{STEP_MS, World};
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::replica::Keeping;

fn keeping() -> Keeping {
    Keeping { state: true, ..Keeping::default() }
}

fn status(world: &World, index: usize) -> Status {
    world.nodes[index].replica.status(world.now_ms)
}

/// A log with an agent and an operator's word, and what a replica left on its disk.
fn stopped_with_state() -> (World, Checkpoint) {
    let mut world = World::new();
    let index = world.start_keeping(keeping(), None);
    world.until(10_000, "it serves", |world| world.nodes[index].serving);
    world.start_agent("web1", &["orders"]);
    world.set_maintenance("orders", "web1", None);
    world.run(2_000);
    let state = world.stop_orderly(index).expect("a state");
    assert_eq!(state.revision().sequence(), status(&world, index).revision);
    (world, state)
}

#[test]
fn the_state_is_kept_on_the_schedule_of_checkpoints() {
    let mut world = World::new();
    world.timing.checkpoint_ms = 10_000;
    for _ in 0..2 {
        world.start_keeping(keeping(), None);
    }
    world.until(10_000, "all serve", |world| world.nodes.iter().all(|node| node.serving));
    world.start_agent("web1", &["orders"]);
    world.run(11_000);
    let kept: Vec<_> = world.store.states.values().map(|state| state.catalog().instances_count()).collect();
    assert_eq!(kept, [1, 1], "by every replica");
}

#[test]
fn after_a_wiped_broker_what_it_remembers_is_carried_into_the_next_log() {
    let (mut world, state) = stopped_with_state();
    let old = state.revision().epoch();
    world.agents.clear();
    world.stream = None;
    let index = world.start_keeping(keeping(), Some(state));
    world.until(10_000, "the intent is back", |world| status(world, index).intents == 1);
    let after = status(&world, index);
    assert!(after.epoch > Some(old) && after.state == CatalogState::Recovering, "{after:?}");
    assert_eq!(after.instances, 1);
    let snapshot = world.nodes[index].replica.snapshot();
    assert_eq!(snapshot.catalog.previous_epoch(), Some(old));
}

#[test]
fn while_the_log_is_there_the_log_decides() {
    let (mut world, state) = stopped_with_state();
    world.start_agent("web2", &["orders"]);
    world.run(STEP_MS);
    let index = world.start_keeping(keeping(), Some(state.clone()));
    world.until(5_000, "it serves", |world| world.nodes[index].serving);
    world.run(5_000);
    assert_eq!(status(&world, index).epoch, Some(state.revision().epoch()));
    assert_eq!(status(&world, index).instances, 2);
    assert!(!world.nodes[index].replica.remembers());
}

#[test]
fn a_log_that_lost_its_tail_while_nobody_ran_is_broken() {
    let (mut world, state) = stopped_with_state();
    let stream = world.stream.as_mut().unwrap();
    stream.events.pop();
    stream.last_sequence -= 1;
    let index = world.start_keeping(keeping(), Some(state.clone()));
    world.until(10_000, "the intent is back", |world| status(world, index).intents == 1);
    assert!(status(&world, index).epoch > Some(state.revision().epoch()));
    assert!(world.reports_of(index).contains("the log is broken"));
}

#[test]
fn a_tail_that_was_lost_and_written_anew_while_nobody_ran_is_a_broken_log() {
    let (mut world, state) = stopped_with_state();
    let stream = world.stream.as_mut().unwrap();
    stream.events.pop();
    stream.last_sequence -= 1;
    world.start_agent("web2", &["orders"]);
    world.start_agent("web3", &["orders"]);
    world.run(1_000);
    let index = world.start_keeping(keeping(), Some(state.clone()));
    world.until(10_000, "the intent is back", |world| status(world, index).intents == 1);
    assert!(status(&world, index).epoch > Some(state.revision().epoch()));
    world.until(5_000, "everybody is there", |world| status(world, index).instances == 3);
}

#[test]
fn a_tail_that_is_only_late_breaks_nothing() {
    let (mut world, state) = stopped_with_state();
    let whole = world.stream.clone();
    let stream = world.stream.as_mut().unwrap();
    stream.events.pop();
    stream.last_sequence -= 1;
    let index = world.start_keeping(keeping(), Some(state.clone()));
    world.run(1_500);
    world.stream = whole;
    world.until(5_000, "it serves", |world| world.nodes[index].serving);
    assert_eq!(status(&world, index).epoch, Some(state.revision().epoch()));
    assert_eq!(world.nodes[index].replica.counters().logs_broken, 0);
}

#[test]
fn a_log_begun_without_it_a_moment_ago_is_followed_by_one_that_carries_it() {
    let (mut world, state) = stopped_with_state();
    world.agents.clear();
    world.stream = None;
    let unknowing = world.start_replica();
    world.until(10_000, "it serves", |world| world.nodes[unknowing].serving);
    let index = world.start_keeping(keeping(), Some(state));
    world.until(15_000, "the intent is back", |world| status(world, index).intents == 1);
    world.run(1_000);
    world.assert_agreement();
}

#[test]
fn a_log_that_another_has_long_replaced_is_left_alone() {
    let (mut world, state) = stopped_with_state();
    world.agents.clear();
    world.stream = None;
    let unknowing = world.start_replica();
    world.until(10_000, "it serves", |world| world.nodes[unknowing].serving);
    let epoch = status(&world, unknowing).epoch;
    world.run(700_000);
    let index = world.start_keeping(keeping(), Some(state));
    world.until(10_000, "it serves", |world| world.nodes[index].serving);
    world.run(5_000);
    assert_eq!((status(&world, index).epoch, status(&world, index).intents), (epoch, 0));
    assert!(world.reports_of(index).contains("long replaced"));
}

#[test]
fn nothing_replaces_the_state_before_it_has_been_carried_over() {
    let (mut world, state) = stopped_with_state();
    world.stream = None;
    let index = world.start_keeping(keeping(), Some(state));
    world.until(10_000, "the intent is back", |world| status(world, index).intents == 1);
    assert_eq!(world.nodes[index].replica.state_to_keep(), None, "recovering");
    world.until(60_000, "ready", |world| status(world, index).state == CatalogState::Ready);
    world.run(1_000);
    assert!(world.nodes[index].replica.state_to_keep().is_some());
}
