//! How a log begins, and how a replica joins one.

use muster_schemas::EventKind;
use muster_schemas::pulse::CatalogState;

use super::world::World;
use crate::core::io::OutgoingKind;

fn epochs_in_log(world: &World) -> usize {
    let epoch = |subject: &str| subject.contains(&format!(".{}.", EventKind::Epoch.token()));
    let events = &world.stream.as_ref().unwrap().events;
    events.iter().filter(|stored| epoch(&stored.subject)).count()
}

#[test]
fn the_first_log_begins_after_a_heartbeat_period_of_listening() {
    let mut world = World::new();
    world.start_replica();
    let took_ms = world.until(5_000, "it serves", |world| world.nodes[0].serving);
    assert!(took_ms >= 2_000, "{took_ms}");
    assert!(world.all_are(CatalogState::Ready));
    assert_eq!(epochs_in_log(&world), 1);
}

#[test]
fn a_warming_replica_publishes_only_beacons_and_marks() {
    let mut world = World::new();
    world.start_replica();
    world.run(1_500);
    assert!(!world.sent.is_empty());
    let quiet = |kind| matches!(kind, OutgoingKind::Beacon | OutgoingKind::Mark);
    assert!(world.sent.iter().all(|sent| quiet(sent.message.kind)));
}

#[test]
fn replicas_that_hear_each_other_append_one_epoch() {
    let mut world = World::new();
    for _ in 0..3 {
        world.start_replica();
    }
    world.until(6_000, "all serve", |world| world.nodes.iter().all(|node| node.serving));
    world.run(3_000);
    assert_eq!(epochs_in_log(&world), 1);
    world.assert_agreement();
}

#[test]
fn of_several_replicas_that_begin_a_log_at_once_the_first_wins_for_latecomers_too() {
    let mut world = World::new();
    world.timing.hedge_ms = 0;
    for _ in 0..3 {
        world.start_replica();
    }
    world.until(6_000, "all serve", |world| world.nodes.iter().all(|node| node.serving));
    assert_eq!(epochs_in_log(&world), 3, "this test is about several");
    world.start_agent("web1", &["orders"]);
    world.start_replica();
    world.until(2_000, "the newcomer serves", |world| world.nodes[3].serving);
    world.run(500);
    world.assert_agreement();
}

#[test]
fn a_newcomer_folds_what_was_there_before_and_publishes_none_of_it() {
    let mut world = World::settled(1);
    for number in 0..50 {
        world.start_agent(&format!("web{number}"), &["orders"]);
    }
    world.run(1_000);
    world.sent.clear();
    let index = world.start_replica();
    world.until(2_000, "the newcomer serves", |world| world.nodes[index].serving);
    world.run(3_000);
    assert!(world.changes().is_empty());
    world.assert_agreement();
    assert_eq!(world.nodes[index].replica.status(world.now_ms).instances, 50);
    assert_eq!(world.nodes[index].replica.status(world.now_ms).rank, Some(1));
}

#[test]
fn one_that_starts_while_nobody_else_runs_publishes_nothing_of_what_was_there_before() {
    let mut world = World::settled(1);
    for number in 0..50 {
        world.start_agent(&format!("web{number}"), &["orders"]);
    }
    world.run(1_000);
    world.node(0).stopped = true;
    world.sent.clear();
    let index = world.start_replica();
    world.until(10_000, "the newcomer serves", |world| world.nodes[index].serving);
    world.run(3_000);
    assert_eq!(world.nodes[index].replica.status(world.now_ms).rank, Some(0), "it would publish at once");
    assert!(world.changes().is_empty());
}
