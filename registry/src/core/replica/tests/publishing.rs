//! Who publishes what, when one of them fails, and what pulses say.

use std::collections::{BTreeMap, BTreeSet};

use muster_schemas::pulse::{BUCKETS, CatalogState, bucket};

use super::world::{self, World, service};
use crate::core::io::OutgoingKind;

/// How often each revision was published.
fn counts(world: &World) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for (_, _, change) in world.changes() {
        *counts.entry(change.revision).or_default() += 1;
    }
    counts
}

/// Registers one instance every 20 ms for so long; the first and the last sequence.
fn load(world: &mut World, ms: u64) -> (u64, u64) {
    let first = world.stream.as_ref().unwrap().last_sequence + 1;
    let start_ms = world.now_ms;
    while world.now_ms < start_ms + ms {
        let name = format!("load-{}", world.now_ms);
        world.start_agent(&name, &[&format!("service-{}", world.now_ms % 70)]);
        world.run(20);
    }
    (first, world.stream.as_ref().unwrap().last_sequence)
}

#[test]
fn a_registration_is_published_at_once_by_the_oldest_replica_alone() {
    let mut world = World::settled(3);
    world.start_agent("web1", &["orders"]);
    world.run(3_000);
    let changes = world.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    let (ms, by, change) = &changes[0];
    assert_eq!((*by, change.service.as_str()), (0, "orders"));
    assert!(*ms <= world.now_ms - 3_000 + 10, "{ms}");
    world.assert_agreement();
}

#[test]
fn healthy_replicas_publish_nothing_twice_under_load() {
    let mut world = World::settled(3);
    let (first, last) = load(&mut world, 5_000);
    world.run(1_000);
    assert_eq!(counts(&world), (first..=last).map(|revision| (revision, 1)).collect());
    assert!(world.sent.iter().filter(|sent| sent.message.kind == OutgoingKind::Change).all(|sent| sent.by == 0));
}

#[test]
fn healthy_replicas_send_each_pulse_once() {
    let mut world = World::settled(3);
    world.run(4_000);
    let start_ms = world.now_ms;
    world.run(10_000);
    let mut times = BTreeMap::<u8, usize>::new();
    for (ms, by, pulse) in world.pulses() {
        if ms > start_ms {
            assert_eq!(by, 0);
            *times.entry(pulse.bucket).or_default() += 1;
        }
    }
    let expected: BTreeMap<u8, usize> = (0..BUCKETS).map(|bucket| (bucket, 5)).collect();
    assert!(times.iter().all(|(bucket, count)| expected[bucket].abs_diff(*count) <= 1), "{times:?}");
    assert_eq!(times.len(), usize::from(BUCKETS));
}

#[test]
fn when_the_publisher_freezes_changes_flow_again_within_a_second_and_none_is_missing() {
    let mut world = World::settled(3);
    load(&mut world, 500);
    world.node(0).frozen = true;
    let frozen_ms = world.now_ms;
    let (first, last) = load(&mut world, 3_000);
    world.node(0).frozen = false;
    load(&mut world, 2_000);
    world.run(2_000);
    let published = counts(&world);
    for revision in first..=last {
        assert!(published.contains_key(&revision), "revision {revision} was not published");
    }
    let mut appended = BTreeMap::new();
    for stored in &world.stream.as_ref().unwrap().events {
        let at_ms = u64::try_from(stored.at.as_ms() - world::WALL_MS).unwrap();
        appended.insert(stored.sequence, at_ms);
    }
    for (ms, by, change) in world.changes() {
        let late_ms = ms - appended[&change.revision];
        assert!(late_ms <= 1_010, "revision {} came {late_ms} ms late, from {by}", change.revision);
        assert!(ms < frozen_ms + 10 || ms > frozen_ms + 3_000 || by != 0);
    }
    let twice: Vec<_> = published.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.len() <= 2, "{twice:?}");
    world.assert_agreement();
}

#[test]
fn a_publisher_that_can_no_longer_be_heard_is_replaced_within_a_second() {
    let mut world = World::settled(2);
    world.node(0).stopped = true;
    world.start_agent("web1", &["orders"]);
    let took_ms = world.until(2_000, "the change is published", |world| !world.changes().is_empty());
    assert!((290..=1_000).contains(&took_ms), "{took_ms}");
    world.start_agent("web2", &["orders"]);
    world.run(1_000);
    let before = world.changes().len();
    world.start_agent("web3", &["orders"]);
    world.run(20);
    assert_eq!(world.changes().len(), before + 1, "the second is the oldest by now, and publishes at once");
}

#[test]
fn a_pulse_follows_a_burst_and_lists_what_changed() {
    let mut world = World::settled(1);
    world.start_agent("web1", &["orders"]);
    world.start_agent("web2", &["orders"]);
    let last = world.stream.as_ref().unwrap().last_sequence;
    world.run(100);
    let orders = service("orders");
    let pulses = world.pulses();
    let pulse = pulses
        .iter()
        .rev()
        .map(|(_, _, pulse)| pulse)
        .find(|pulse| pulse.bucket == bucket(&orders) && pulse.to == last)
        .expect("a pulse after the burst");
    assert_eq!(pulse.services.get(&orders), Some(&last));
    assert!(pulse.from <= last - 2);
    assert_eq!(pulse.state, CatalogState::Ready);
}

#[test]
fn a_pulse_that_ends_before_a_change_speaks_of_no_moment_at_which_the_log_held_that_change() {
    let mut world = World::settled(2);
    for index in 0..2 {
        world.node(index).reads_nothing = true;
    }
    world.start_agent("web1", &["orders"]);
    let (revision, appended_ms) = (world.stream.as_ref().unwrap().last_sequence, world.now_ms);
    world.run(10_000);
    world.node(1).reads_nothing = false;
    let read_ms = world.now_ms;
    let waited_ms = world.until(1_000, "the second publishes it", |world| !world.changes().is_empty());
    assert!(waited_ms >= 300, "it first waits for the oldest: {waited_ms}");
    world.run(2_500);
    let (before, after): (Vec<_>, Vec<_>) = world
        .pulses()
        .into_iter()
        .filter(|(ms, by, _)| *by == 1 && *ms > read_ms)
        .partition(|(_, _, pulse)| pulse.to < revision);
    assert!(before.len() > 3, "{before:?}");
    for (ms, _, pulse) in before {
        assert!(ms - pulse.head_age_ms <= appended_ms, "at {ms}, appended at {appended_ms}: {pulse:?}");
    }
    assert!(after.len() >= usize::from(BUCKETS));
    assert!(after.iter().all(|(_, _, pulse)| pulse.head_age_ms <= 2_000), "{after:?}");
}

#[test]
fn every_pulse_reaches_back_to_the_revision_of_six_seconds_before_whoever_sends_it() {
    let mut world = World::settled(2);
    for round in 0..600 {
        if round == 250 {
            world.node(0).stopped = true;
        }
        world.start_agent(&format!("web{round}"), &["orders", "payments"]);
        world.run(20);
    }
    let stored = |world: &World, ms: u64| {
        let events = &world.stream.as_ref().unwrap().events;
        let at_ms = world::WALL_MS.saturating_add_unsigned(ms);
        events.partition_point(|event| event.at.as_ms() <= at_ms) as u64
    };
    let pulses = world.pulses();
    assert!(pulses.iter().any(|(_, by, _)| *by == 1));
    for (ms, by, pulse) in &pulses {
        // Below the beginning of the log there is nothing that anybody could ask for.
        let limit = stored(&world, ms.saturating_sub(6_000)).max(1);
        assert!(pulse.from <= limit, "{pulse:?} of {by} at {ms}: six seconds before it was {limit}");
    }
}

#[test]
fn a_replica_without_connection_publishes_nothing_and_later_only_what_nobody_else_did() {
    let mut world = World::settled(2);
    world.set_connected(0, false);
    world.run(100);
    world.start_agent("web1", &["orders"]);
    world.run(3_000);
    world.set_connected(0, true);
    world.run(5_000);
    assert_eq!(counts(&world).into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(world.changes()[0].1, 1);
    world.assert_agreement();
    let serving: BTreeSet<_> = world.nodes.iter().map(|node| node.serving).collect();
    assert_eq!(serving, BTreeSet::from([true]));
}

#[test]
fn no_pulse_vouches_for_a_change_that_nobody_has_published_yet() {
    let mut world = World::settled(2);
    world.run(4_000);
    world.node(0).stopped = true;
    world.run(250);
    world.sent.clear();
    world.start_agent("web1", &["orders"]);
    let revision = world.stream.as_ref().unwrap().last_sequence;
    world.until(2_000, "the change is published", |world| !world.changes().is_empty());
    let (published_ms, by, change) = &world.changes()[0];
    assert_eq!((*by, change.revision), (1, revision));
    let before: Vec<_> = world.pulses().into_iter().filter(|(ms, ..)| ms < published_ms).collect();
    assert!(!before.is_empty(), "the second replica sent no pulse while it waited with the change");
    assert!(before.iter().all(|(_, _, pulse)| pulse.to < revision), "{before:?}");
}
