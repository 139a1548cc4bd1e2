//! A replica whose catalog was harmed on purpose: noticed, read anew, and silenced if that does not help.

use super::world::World;
use crate::core::catalog::Catalog;
use crate::core::io::{OutgoingKind, Record};
use crate::core::replica::Keeping;

/// What the log says, with one registration left out.
fn harmed(world: &World) -> Catalog {
    let events = &world.stream.as_ref().unwrap().events;
    let left_out = events.iter().find(|event| event.subject.contains(".event.register.")).unwrap().sequence;
    let mut catalog = Catalog::default();
    for event in events {
        let payload = if event.sequence == left_out { b"harm".as_slice() } else { &event.payload };
        let record = Record { sequence: event.sequence, at: event.at, subject: &event.subject, payload };
        catalog.fold(&world.subjects, &record);
    }
    catalog
}

/// Harms a replica; true if it was unharmed before.
fn harm(world: &mut World, index: usize) -> bool {
    let catalog = harmed(world);
    let replica = &mut world.nodes[index].replica;
    let is_at_end = replica.catalog.revision() == catalog.revision();
    let harms = is_at_end && replica.catalog.digest() != catalog.digest();
    if harms {
        replica.catalog = catalog;
    }
    harms
}

fn rebuilds(world: &World) -> Vec<u64> {
    world.nodes.iter().map(|node| node.replica.counters().rebuilds).collect()
}

fn world_of(replicas: usize) -> World {
    let mut world = World::settled(replicas);
    world.start_agent("web1", &["orders"]);
    world.start_agent("web2", &["orders"]);
    world.run(1_000);
    world
}

fn settle(world: &mut World) {
    world.until(5_000, "all serve", |world| world.nodes.iter().all(|node| node.serving));
    world.run(1_000);
    world.assert_agreement();
}

fn alarms(world: &World) -> usize {
    let mismatches =
        world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.ends_with("digest_mismatch"));
    mismatches.count()
}

#[test]
fn a_harmed_younger_replica_reads_the_log_anew_and_the_older_never_stops() {
    let mut world = world_of(2);
    assert!(harm(&mut world, 1));
    for _ in 0..100 {
        world.run(20);
        assert!(world.nodes[0].serving);
    }
    settle(&mut world);
    assert_eq!(rebuilds(&world), [0, 1]);
    assert!(alarms(&world) >= 1);
    assert!(world.changes().iter().all(|(.., change)| change.value.is_some()), "nothing was removed");
}

#[test]
fn a_harmed_older_replica_reads_the_log_anew_after_the_younger() {
    let mut world = world_of(2);
    assert!(harm(&mut world, 0));
    for _ in 0..100 {
        world.run(20);
        assert!(world.nodes.iter().any(|node| node.serving), "one of them answers at any time");
    }
    settle(&mut world);
    assert_eq!(rebuilds(&world), [1, 1]);
}

#[test]
fn of_three_the_two_that_are_right_do_not_wait_for_each_other() {
    let mut world = world_of(3);
    assert!(harm(&mut world, 0));
    world.run(2_000);
    settle(&mut world);
    assert_eq!(rebuilds(&world), [1, 1, 1]);
}

#[test]
fn a_younger_one_that_differs_for_good_stops_answering_and_says_why_until_the_older_is_gone() {
    let mut world = world_of(2);
    for _ in 0..400 {
        harm(&mut world, 1);
        world.run(10);
    }
    assert_eq!(rebuilds(&world), [1, 1], "each once");
    assert!(world.nodes[0].serving && !world.nodes[1].serving);
    let status = world.nodes[1].replica.status(world.now_ms);
    let reason = status.reason.unwrap();
    assert!(reason.contains("differs from that of the older replica r0"), "{reason}");

    world.sent.clear();
    world.start_agent("web3", &["orders"]);
    for _ in 0..100 {
        harm(&mut world, 1);
        world.run(10);
    }
    assert!(world.sent.iter().filter(|sent| sent.by == 1).all(|sent| {
        !matches!(sent.message.kind, OutgoingKind::Change | OutgoingKind::Pulse | OutgoingKind::Notice)
    }));

    world.node(0).stopped = true;
    world.until(2_000, "the only one left answers", |world| world.nodes[1].serving);
}

#[test]
fn what_a_trimmed_log_lacks_comes_from_its_oldest_checkpoint() {
    let mut world = World::new();
    world.timing.checkpoint_ms = 2_000;
    for _ in 0..2 {
        world.start_keeping(Keeping { history_age_ms: Some(0), ..Keeping::default() }, None);
    }
    world.until(10_000, "all replicas serve", |world| world.nodes.iter().all(|node| node.serving));
    for number in 0..6 {
        world.start_agent(&format!("agent-{number}"), &["orders"]);
        world.run(2_500);
    }
    let stream = world.stream.as_ref().unwrap();
    assert!(stream.first_sequence > 1);
    let oldest = *world.store.checkpoints.first_key_value().unwrap().0;
    let wrong = world.store.checkpoints.first_key_value().unwrap().1.catalog().clone();
    world.nodes[1].replica.catalog = {
        let mut catalog = wrong;
        for event in stream.events.iter().filter(|event| event.sequence > oldest.sequence()) {
            let record = Record { sequence: event.sequence, at: event.at, subject: &event.subject, payload: b"harm" };
            catalog.fold(&world.subjects, &record);
        }
        catalog
    };
    world.store.loads.clear();
    world.run(1_000);
    settle(&mut world);
    assert_eq!((rebuilds(&world), &world.store.loads[..]), (vec![0, 1], &[oldest][..]));
}
