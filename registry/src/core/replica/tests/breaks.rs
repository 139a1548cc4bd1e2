//! Logs that break under running replicas.

use muster_schemas::entry::Entry;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{AgentId, ChangeKind};

use super::world::World;
use crate::core::catalog::Catalog;
use crate::core::io::{Effect, Effects, Input, Inspection, LogFacts, OutgoingKind, Severity};
use crate::core::replica::ASIDE_MAX;

fn epoch_of(world: &World, index: usize) -> Option<muster_schemas::EpochId> {
    world.nodes[index].replica.status(world.now_ms).epoch
}

/// Two replicas, one agent, and the stream as it was before three more events.
fn with_backup() -> (World, super::world::Stream) {
    let mut world = World::settled(2);
    world.start_agent("web1", &["orders"]);
    world.run(500);
    let backup = world.stream.clone().unwrap();
    world.start_agent("web2", &["orders"]);
    world.start_agent("web3", &["orders"]);
    world.run(1_000);
    (world, backup)
}

#[test]
fn a_deleted_stream_is_followed_by_a_new_epoch_into_which_everything_comes_back() {
    let (mut world, _) = with_backup();
    let old = epoch_of(&world, 0);
    world.stream = None;
    world.until(10_000, "a new epoch", |world| {
        (0..2).all(|index| world.nodes[index].serving && epoch_of(world, index) > old)
    });
    assert!(world.all_are(CatalogState::Recovering));
    world.until(5_000, "all instances are back", |world| {
        world.nodes.iter().all(|node| node.replica.status(world.now_ms).instances == 3)
    });
    world.assert_agreement();
}

#[test]
fn a_restored_backup_is_noticed_although_new_events_took_the_same_sequences() {
    let (mut world, backup) = with_backup();
    let old = epoch_of(&world, 0);
    for index in 0..2 {
        world.set_connected(index, false);
    }
    world.run(100);
    world.stream = Some(backup);
    for number in 0..5 {
        world.start_agent(&format!("other{number}"), &["payments"]);
    }
    for index in 0..2 {
        world.set_connected(index, true);
    }
    world.sent.clear();
    world.until(10_000, "a new epoch", |world| (0..2).all(|index| epoch_of(world, index) > old));
    assert!(world.changes().is_empty(), "nothing is published from the log that came back");
    world.until(5_000, "what was lost is back", |world| {
        world.nodes.iter().all(|node| node.replica.status(world.now_ms).instances >= 3)
    });
    world.assert_agreement();
}

#[test]
fn whoever_waits_for_an_epoch_finds_the_one_that_a_second_break_put_below_its_position() {
    let (mut world, backup) = with_backup();
    let old = epoch_of(&world, 0);
    world.node(0).frozen = true;
    world.node(1).proposals_fail = true;
    world.stream = Some(backup);
    world.until(10_000, "the other has lost its log", |world| world.nodes[1].replica.snapshot().epoch.is_none());
    world.run(1_000);
    // It sleeps while the stream loses more, and the first begins a new log at sequences that it has passed.
    world.node(1).frozen = true;
    let stream = world.stream.as_mut().unwrap();
    stream.events.pop();
    stream.last_sequence -= 1;
    world.node(0).frozen = false;
    world.until(10_000, "a new epoch", |world| epoch_of(world, 0) > old);
    let in_force = epoch_of(&world, 0);
    world.set_connected(1, false);
    world.set_connected(1, true);
    world.node(1).frozen = false;
    world.until(10_000, "both have it", |world| world.nodes[1].serving && epoch_of(world, 1) == in_force);
    world.assert_agreement();
}

#[test]
fn an_expiry_that_a_lost_log_said_removes_nobody_who_has_been_heard_again() {
    let (mut world, _) = with_backup();
    let agent = AgentId::new("web1").unwrap();
    world.set_connected(0, false);
    world.agent(&agent).alive = false;
    world.until(20_000, "it is expired", |world| world.nodes[1].replica.status(world.now_ms).instances == 2);
    world.stream = None;
    world.agent(&agent).alive = true;
    world.sent.clear();
    world.run(3_000);
    // It has slept through the expiry, and carries over what it knows.
    world.set_connected(0, true);
    world.until(20_000, "all are back at both", |world| {
        world.nodes.iter().all(|node| node.serving && node.replica.status(world.now_ms).instances == 3)
    });
    world.run(5_000);
    let removed: Vec<_> = world.changes().into_iter().filter(|change| change.2.change == ChangeKind::Removed).collect();
    assert!(removed.is_empty(), "{removed:?}");
    world.assert_agreement();
}

#[test]
fn of_two_lost_logs_the_later_ones_word_comes_first() {
    let (mut world, _) = with_backup();
    let first = epoch_of(&world, 0);
    world.node(1).proposals_fail = true;
    world.stream = None;
    world.until(10_000, "all are back", |world| {
        let has_all = |index: usize| world.nodes[index].replica.status(world.now_ms).instances == 3;
        (0..2).all(|index| epoch_of(world, index) > first && has_all(index))
    });
    let second = epoch_of(&world, 0);
    let agent = AgentId::new("web1").unwrap();
    world.withdraw(&agent);
    world.run(100);
    // What the other set aside of the first log it has not looked at yet, when the second is lost, too.
    world.node(0).stopped = true;
    world.node(1).proposals_fail = false;
    world.stream = None;
    world.sent.clear();
    world.until(20_000, "the others are back", |world| {
        let node = &world.nodes[1];
        node.serving && node.replica.status(world.now_ms).instances == 2 && epoch_of(world, 1) > second
    });
    world.run(3_000);
    let removed: Vec<_> = world.changes().into_iter().filter(|change| change.2.change == ChangeKind::Removed).collect();
    assert!(removed.is_empty(), "{removed:?}");
}

#[test]
fn whoever_has_read_nothing_of_a_log_looks_again_where_it_begins_before_reading_on() {
    let (mut world, backup) = with_backup();
    world.node(0).stopped = true;
    world.node(1).proposals_fail = true;
    world.stream = Some(backup);
    world.until(10_000, "it waits for an epoch", |world| world.nodes[1].replica.snapshot().epoch.is_none());
    world.run(300);
    let last_sequence = world.stream.as_ref().unwrap().last_sequence;
    let created_at = world.stream.as_ref().unwrap().created_at;
    let (wall, now_ms) = (world.wall(), world.now_ms);
    let replica = &mut world.node(1).replica;
    let mut inspect = |after_ms: u64| {
        let mut effects = Effects::new();
        replica.step(now_ms + after_ms, Input::LogConnected(false), &mut effects);
        replica.step(now_ms + after_ms, Input::LogConnected(true), &mut effects);
        replica.step(now_ms + after_ms, Input::Tick { wall, random: 7 }, &mut effects);
        let check = effects.drain().find_map(|effect| match effect {
            Effect::InspectLog { check, .. } => Some(check),
            _ => None,
        });
        let facts = LogFacts {
            created_at,
            first_sequence: 1,
            last_sequence,
            replicas: 1,
            servers: &[],
            epochs: Vec::new(),
            own: None,
        };
        let found = Inspection::Present(facts);
        replica.step(now_ms + after_ms, Input::LogInspected { check: check.expect("a check"), found }, &mut effects);
        effects.drain().any(|effect| matches!(effect, Effect::ReadLog { .. }))
    };
    assert!(!inspect(10), "it read on in a log that it cannot recognise");
}

#[test]
fn while_a_break_is_being_checked_there_are_neither_pulses_nor_proposals() {
    let (mut world, backup) = with_backup();
    let whole = world.stream.replace(backup);
    world.until(2_000, "a suspicion", |world| {
        world.nodes.iter().all(|node| node.reports.iter().any(|(severity, _)| *severity == Severity::Warning))
    });
    world.sent.clear();
    world.proposed.clear();
    world.run(500);
    assert_eq!((world.pulses().len(), world.proposed.len()), (0, 0));
    let epoch = epoch_of(&world, 0);
    world.stream = whole;
    world.run(4_000);
    assert!(!world.pulses().is_empty());
    assert_eq!(epoch_of(&world, 0), epoch, "the log was whole after all");
}

#[test]
fn a_trimmed_log_that_was_read_to_its_end_is_read_on() {
    let (mut world, _) = with_backup();
    let epoch = epoch_of(&world, 0);
    let last = world.stream.as_ref().unwrap().last_sequence;
    world.stream.as_mut().unwrap().purge_below(last + 1);
    world.set_connected(1, false);
    world.run(1_000);
    world.set_connected(1, true);
    world.start_agent("web4", &["orders"]);
    world.run(5_000);
    assert_eq!(epoch_of(&world, 0), epoch);
    world.assert_agreement();
    assert_eq!(world.nodes[1].replica.status(world.now_ms).instances, 4);
}

#[test]
fn a_stream_purged_beyond_all_sequences_is_complained_about_once_and_everything_returns_when_it_is_deleted() {
    // As a broker leaves it, before and after it has stored an event at the last number of all.
    for (first, last) in [(u64::MAX, u64::MAX - 1), (u64::MAX, 0), (1 << 53, (1 << 53) - 1)] {
        let (mut world, _) = with_backup();
        let stream = world.stream.as_mut().unwrap();
        stream.purge_below(first);
        stream.last_sequence = last;
        world.run(8_000);
        for node in &world.nodes {
            let status = node.replica.status(world.now_ms);
            assert!(!node.serving && status.reason.is_some_and(|reason| reason.contains("delete it")));
        }
        let begun_again = world.reports_of(0).matches("starting again").count();
        assert!(begun_again <= 1, "{begun_again} times, with {first} and {last}");
        let alarms: Vec<_> = world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.by == 0).collect();
        assert!((1..=2).contains(&alarms.len()), "{}", alarms.len());
        assert!(world.stream.as_ref().unwrap().events.is_empty(), "nothing was appended");
        world.stream = None;
        world.until(10_000, "everything is back", |world| {
            world.nodes.iter().all(|node| node.serving && node.replica.status(world.now_ms).instances == 3)
        });
        assert!(world.changes().iter().all(|(_, _, change)| change.value.is_some()), "nobody was removed");
    }
}

#[test]
fn a_newcomer_at_a_trimmed_log_appends_nothing_while_somebody_knows_it() {
    let (mut world, _) = with_backup();
    let epoch = epoch_of(&world, 0);
    let last = world.stream.as_ref().unwrap().last_sequence;
    world.stream.as_mut().unwrap().purge_below(last + 1);
    let index = world.start_replica();
    world.run(10_000);
    assert!(!world.nodes[index].serving);
    let reason = world.nodes[index].replica.status(world.now_ms).reason;
    assert!(reason.is_some_and(|reason| reason.contains("trimmed")));
    assert_eq!(epoch_of(&world, 0), epoch);
}

#[test]
fn a_recovery_ends_after_its_time_on_the_lease_clock() {
    let (mut world, _) = with_backup();
    world.stream = None;
    world.until(10_000, "recovering", |world| world.all_are(CatalogState::Recovering));
    let took_ms = world.until(60_000, "ready", |world| world.all_are(CatalogState::Ready));
    assert!((30_000..35_000).contains(&took_ms), "{took_ms}");
    world.assert_agreement();
    assert_eq!(world.nodes[0].replica.status(world.now_ms).instances, 3);
}

#[test]
fn two_replicas_that_differ_at_one_revision_raise_an_alarm() {
    let mut world = World::settled(2);
    world.start_agent("web1", &["orders"]);
    world.run(1_000);
    assert_eq!(world.of_kind(OutgoingKind::Alarm).count(), 0);
    world.forge_beacon(0, |beacon| beacon.digest = muster_schemas::Digest::ZERO);
    world.run(100);
    let alarm = world.of_kind(OutgoingKind::Alarm).next().expect("an alarm");
    assert!(alarm.message.subject.ends_with(".digest_mismatch"));
}

#[test]
fn a_second_process_with_the_same_replica_id_raises_an_alarm() {
    let mut world = World::settled(1);
    world.run(500);
    world.forge_beacon(0, |beacon| beacon.started_at = muster_schemas::Timestamp::from_ms(1));
    world.run(100);
    let alarm = world.of_kind(OutgoingKind::Alarm).next().expect("an alarm");
    assert!(alarm.message.subject.ends_with(".duplicate_ids"));
}

#[test]
fn of_more_lost_logs_than_are_kept_the_oldest_is_dropped() {
    let mut world = World::settled(1);
    let agents: Vec<_> = (0..ASIDE_MAX + 2).map(|number| AgentId::new(&format!("web{number}")).unwrap()).collect();
    for agent in &agents {
        let mut lost = World::settled(1);
        lost.start_agent(agent.as_str(), &["orders"]);
        lost.run(500);
        let catalog = lost.nodes[0].replica.snapshot().catalog.clone();
        world.nodes[0].replica.set_aside(catalog);
    }
    let aside = &world.nodes[0].replica.aside;
    assert_eq!(aside.len(), ASIDE_MAX);
    let kept: Vec<AgentId> = aside.iter().flat_map(Catalog::entries).map(|kept| agent_of(&kept.entry)).collect();
    assert_eq!(kept, agents[2..]);
}

fn agent_of(entry: &Entry) -> AgentId {
    let Entry::Instance(instance) = entry else { panic!("{entry:?}") };
    instance.vouching().agent.clone()
}
