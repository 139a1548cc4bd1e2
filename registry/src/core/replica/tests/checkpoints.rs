//! Checkpoints: written by the publisher, kept by threes, begun from, and never instead of the log.

use muster_schemas::pulse::CatalogState;

use super::world::World;
use crate::core::io::OutgoingKind;
use crate::core::replica::Keeping;

const PERIOD_MS: u64 = 10_000;

fn world_with_periods(replicas: usize, history_age_ms: Option<u64>) -> World {
    let mut world = World::new();
    world.timing.checkpoint_ms = PERIOD_MS;
    world.timing.checkpoint_retry_ms = 1_000;
    for _ in 0..replicas {
        world.start_keeping(Keeping { history_age_ms, ..Keeping::default() }, None);
    }
    world.until(10_000, "all replicas serve", |world| world.nodes.iter().all(|node| node.serving));
    world
}

/// One more event, and time for a checkpoint.
fn periods(world: &mut World, count: usize) {
    for _ in 0..count {
        let name = format!("agent-{}", world.now_ms);
        world.start_agent(&name, &["orders"]);
        world.run(PERIOD_MS + 500);
    }
}

fn joins(world: &mut World) -> usize {
    let index = world.start_replica();
    world.until(5_000, "the newcomer serves", |world| world.nodes[index].serving);
    world.run(500);
    world.assert_agreement();
    index
}

#[test]
fn only_the_publisher_writes_checkpoints_and_keeps_three() {
    let mut world = world_with_periods(3, None);
    periods(&mut world, 5);
    assert_eq!(world.store.checkpoints.len(), 3);
    let saved: Vec<_> = world.nodes.iter().map(|node| node.replica.counters().checkpoints_saved).collect();
    assert!(saved[0] >= 5 && saved[1..] == [0, 0], "{saved:?}");
    let newest = *world.store.checkpoints.last_key_value().unwrap().0;
    let last = world.stream.as_ref().unwrap().last_sequence;
    assert!(newest.sequence() >= last - 1, "{newest:?} of {last}: the newest are kept");
}

#[test]
fn nothing_is_written_while_there_are_no_events() {
    let mut world = world_with_periods(1, None);
    world.run(5 * PERIOD_MS);
    let saved = world.nodes[0].replica.counters().checkpoints_saved;
    world.run(5 * PERIOD_MS);
    assert_eq!(world.nodes[0].replica.counters().checkpoints_saved, saved);
    assert!(saved <= 1, "{saved}");
}

#[test]
fn a_newcomer_begins_from_the_newest_checkpoint_and_holds_the_same() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 4);
    world.start_agent("late", &["orders"]);
    world.run(100);
    let newest = *world.store.checkpoints.last_key_value().unwrap().0;
    let index = joins(&mut world);
    assert_eq!(world.store.loads, [newest]);
    assert!(world.reports_of(index).contains("begins from checkpoint"));
}

#[test]
fn a_checkpoint_at_the_very_end_of_the_log_is_begun_from() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 1);
    world.run(2 * PERIOD_MS);
    let newest = *world.store.checkpoints.last_key_value().unwrap().0;
    assert_eq!(newest.sequence(), world.stream.as_ref().unwrap().last_sequence);
    joins(&mut world);
}

#[test]
fn a_broken_one_is_skipped_with_a_warning() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 4);
    let revisions: Vec<_> = world.store.checkpoints.keys().copied().collect();
    world.store.broken.insert(revisions[2]);
    let index = joins(&mut world);
    assert_eq!(world.store.loads, [revisions[2], revisions[1]]);
    assert!(world.reports_of(index).contains("is skipped: corrupt"));
    assert_eq!(world.nodes[index].replica.counters().checkpoints_broken, 1);
    world.store.broken.extend(revisions);
    let index = joins(&mut world);
    assert!(!world.reports_of(index).contains("begins from"), "the log itself is still whole");
}

#[test]
fn a_checkpoint_of_a_log_that_was_lost_is_not_begun_from() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 2);
    let epoch = world.nodes[0].replica.status(world.now_ms).epoch;
    world.stream = None;
    world.until(10_000, "another log", |world| world.nodes[0].replica.status(world.now_ms).epoch > epoch);
    world.store.is_full = true;
    for number in 0..5 {
        world.start_agent(&format!("web{number}"), &["orders"]);
    }
    world.run(1_000);
    let longest = world.store.checkpoints.keys().map(muster_schemas::Revision::sequence).max();
    assert!(longest < world.stream.as_ref().map(|stream| stream.last_sequence), "the new log is longer");
    assert!(world.store.checkpoints.keys().all(|checkpoint| Some(checkpoint.epoch()) == epoch));
    let index = joins(&mut world);
    assert!(!world.reports_of(index).contains("begins from"), "{}", world.reports_of(index));
    assert_eq!(world.store.loads, [], "its name says enough");
}

#[test]
fn a_checkpoint_whose_event_is_another_one_is_not_begun_from() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 2);
    world.nodes[0].stopped = true;
    let newest = *world.store.checkpoints.last_key_value().unwrap().0;
    let events = &mut world.stream.as_mut().unwrap().events;
    let event = events.iter_mut().find(|event| event.sequence == newest.sequence()).unwrap();
    event.at = muster_schemas::Timestamp::from_ms(event.at.as_ms() + 1);
    let index = joins(&mut world);
    assert_eq!(world.store.loads.first(), Some(&newest));
    assert!(world.reports_of(index).contains("not the one that stands in the stream"));
}

#[test]
fn the_log_is_trimmed_up_to_the_oldest_kept_checkpoint_and_newcomers_serve_all_of_it() {
    let mut world = world_with_periods(2, Some(0));
    periods(&mut world, 6);
    let oldest = *world.store.checkpoints.first_key_value().unwrap().0;
    let stream = world.stream.as_ref().unwrap();
    assert_eq!(stream.first_sequence, oldest.sequence(), "its own event stays");
    let instances = world.nodes[0].replica.status(world.now_ms).instances;
    let index = joins(&mut world);
    assert_eq!(world.nodes[index].replica.status(world.now_ms).instances, instances);
    assert_eq!(
        world.nodes[index].replica.status(world.now_ms).epoch,
        world.nodes[0].replica.status(world.now_ms).epoch
    );
}

#[test]
fn events_that_are_not_old_enough_stay() {
    let mut world = world_with_periods(1, Some(3_600_000));
    periods(&mut world, 5);
    assert!(!world.store.trims.is_empty());
    assert_eq!(world.stream.as_ref().unwrap().first_sequence, 1);
}

#[test]
fn without_history_settings_nothing_is_trimmed() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 5);
    assert!(world.store.trims.is_empty());
}

#[test]
fn another_publisher_reads_the_oldest_checkpoint_back_before_it_trims() {
    let mut world = world_with_periods(2, Some(0));
    periods(&mut world, 5);
    world.nodes[0].stopped = true;
    world.run(2_000);
    world.store.loads.clear();
    let revisions: Vec<_> = world.store.checkpoints.keys().copied().collect();
    world.store.broken.extend(&revisions[1..]);
    let first = world.stream.as_ref().unwrap().first_sequence;
    periods(&mut world, 1);
    assert_eq!(world.store.loads, [revisions[1]], "the oldest of those that stay");
    assert_eq!(world.stream.as_ref().unwrap().first_sequence, first, "it was broken");
    assert!(world.reports_of(1).contains("is not trimmed"));
}

#[test]
fn all_replicas_stopped_and_the_log_trimmed_the_next_one_serves_everything_in_the_same_epoch() {
    let mut world = world_with_periods(1, Some(0));
    periods(&mut world, 5);
    let before = world.nodes[0].replica.status(world.now_ms);
    world.nodes[0].stopped = true;
    let index = world.start_replica();
    world.until(5_000, "it serves", |world| world.nodes[index].serving);
    let after = world.nodes[index].replica.status(world.now_ms);
    assert_eq!((after.epoch, after.instances, after.state), (before.epoch, before.instances, CatalogState::Ready));
}

#[test]
fn a_replica_that_was_away_while_the_log_was_trimmed_begins_again_and_appends_nothing() {
    let mut world = world_with_periods(2, Some(0));
    world.start_agent("web1", &["orders"]);
    world.run(1_000);
    world.set_connected(1, false);
    periods(&mut world, 6);
    let epoch = world.nodes[0].replica.status(world.now_ms).epoch;
    world.set_connected(1, true);
    world.until(5_000, "it serves again", |world| world.nodes[1].serving);
    world.run(5_000);
    assert_eq!(world.nodes[0].replica.status(world.now_ms).epoch, epoch);
    world.assert_agreement();
}

#[test]
fn a_store_that_does_not_answer_delays_nobody_who_has_the_whole_log() {
    let mut world = world_with_periods(1, None);
    periods(&mut world, 2);
    world.store.is_down = true;
    let index = joins(&mut world);
    assert!(world.reports_of(index).contains("reading the whole log"));
}

#[test]
fn a_store_that_does_not_answer_is_waited_for_when_the_log_was_trimmed() {
    let mut world = world_with_periods(1, Some(0));
    periods(&mut world, 5);
    let epoch = world.nodes[0].replica.status(world.now_ms).epoch;
    world.nodes[0].stopped = true;
    world.store.is_down = true;
    let index = world.start_replica();
    world.run(30_000);
    assert!(!world.nodes[index].serving);
    world.store.is_down = false;
    world.until(5_000, "it serves", |world| world.nodes[index].serving);
    assert_eq!(world.nodes[index].replica.status(world.now_ms).epoch, epoch, "nothing was begun anew");
}

#[test]
fn a_store_that_takes_nothing_is_tried_again_and_raises_one_alarm() {
    let mut world = world_with_periods(1, None);
    world.store.is_full = true;
    periods(&mut world, 6);
    let counters = world.nodes[0].replica.counters();
    assert!(counters.checkpoints_failed > 10, "{}", counters.checkpoints_failed);
    let alarms = world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.contains("checkpoint_too_old"));
    assert_eq!(alarms.count(), 1);
    world.store.is_full = false;
    world.run(2_000);
    assert_eq!(world.store.checkpoints.len(), 1);
}

#[test]
fn a_newcomer_at_a_trimmed_log_begins_as_soon_as_there_is_a_checkpoint() {
    let mut world = world_with_periods(1, None);
    world.start_agent("web1", &["orders"]);
    world.run(1_000);
    let last = world.stream.as_ref().unwrap().last_sequence;
    world.stream.as_mut().unwrap().purge_below(last + 1);
    let index = world.start_replica();
    world.run(3_000);
    assert!(!world.nodes[index].serving && world.store.checkpoints.is_empty());
    periods(&mut world, 1);
    world.until(5_000, "it serves", |world| world.nodes[index].serving);
    world.assert_agreement();
}
