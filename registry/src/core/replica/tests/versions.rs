//! Replicas of different versions side by side: a newer fold comes into force when all have it, and whoever lacks it says so.

use muster_schemas::event::{EventData, SettingChanged};
use muster_schemas::{EventKind, ReplicaId, Source};

use super::world::World;
use crate::core::catalog::checkpoint::Checkpoint;

fn settings_proposed(world: &World) -> usize {
    let subject = world.subjects.events_of_kind(EventKind::Setting);
    let head = subject.trim_end_matches('>');
    world.proposed.iter().filter(|(_, _, event)| event.subject.starts_with(head)).count()
}

/// A replica of a later version.
fn make_newer(world: &mut World, index: usize) {
    world.nodes[index].replica.fold_versions = vec![1, 2];
}

/// A later registry's setting comes into the log.
fn raise_fold_version(world: &mut World) {
    let source = Source::Registry(ReplicaId::new("newer").unwrap());
    let setting = SettingChanged { name: "fold_version".to_owned(), value: 2.into() };
    world.append_event(source, EventData::Setting(setting));
}

#[test]
fn a_newer_fold_is_proposed_once_every_live_replica_has_it() {
    let mut world = World::settled(3);
    for index in [0, 1] {
        make_newer(&mut world, index);
    }
    world.run(5_000);
    assert_eq!(settings_proposed(&world), 0, "one lacks it");
    world.node(2).stopped = true;
    world.until(5_000, "proposed", |world| settings_proposed(world) > 0);
}

#[test]
fn a_new_log_begins_with_the_newest_fold_that_all_have() {
    let mut world = World::settled(2);
    make_newer(&mut world, 0);
    world.run(1_000);
    world.stream = None;
    world.until(10_000, "a new log", |world| world.nodes.iter().all(|node| node.serving));
    let versions = world.nodes.iter().map(|node| node.replica.status(world.now_ms).fold_version);
    assert_eq!(versions.collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_replica_that_lacks_the_fold_in_force_answers_nothing_proposes_nothing_and_says_why() {
    let mut world = World::settled(1);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(500);
    raise_fold_version(&mut world);
    world.until(1_000, "it stops answering", |world| !world.nodes[0].serving);
    let reason = world.nodes[0].replica.status(world.now_ms).reason.unwrap();
    assert!(reason.contains("fold version 2 is in force") && reason.contains("upgrade"), "{reason}");
    let proposed = world.proposed.len();
    world.agent(&agent).alive = false;
    world.run(30_000);
    assert_eq!(world.proposed.len(), proposed, "what it does not understand it does not judge");

    world.start_replica();
    world.run(2_000);
    assert!(!world.nodes[1].serving, "nor does one that starts");
}

#[test]
fn a_trimmed_log_whose_checkpoints_only_a_later_version_reads_is_left_alone() {
    let mut world = World::settled(1);
    world.timing.checkpoint_ms = 1_000;
    world.start_agent("web1", &["orders"]);
    world.store.foreign = true;
    world.node(0).stopped = true;
    let last = world.stream.as_ref().unwrap().last_sequence;
    let checkpoint = Checkpoint::of(&world.nodes[0].replica.catalog, None).unwrap();
    world.store.checkpoints.insert(checkpoint.revision(), checkpoint);
    world.stream.as_mut().unwrap().purge_below(last);
    let newcomer = world.start_replica();
    world.run(20_000);
    assert!(!world.nodes[newcomer].serving);
    assert_eq!(world.stream.as_ref().unwrap().last_sequence, last, "no other log was begun");
    let reason = world.nodes[newcomer].replica.status(world.now_ms).reason.unwrap();
    assert!(reason.contains("the log was trimmed") && reason.contains("upgrade"), "{reason}");
}
