//! Who is given up, who is not, by whom, and how fast.

use muster_schemas::entry::ProbeResult;
use muster_schemas::{Cause, Change, ChangeKind, EventKind, Timestamp};

use super::world::{World, service};
use crate::core::io::OutgoingKind;

fn removals(world: &World) -> Vec<(u64, Change)> {
    let removed = |change: &Change| change.change == ChangeKind::Removed;
    let changes = world.changes().into_iter();
    changes.filter(|(_, _, change)| removed(change)).map(|(ms, _, change)| (ms, change)).collect()
}

fn proposals_of(world: &World, kind: EventKind) -> Vec<(u64, usize)> {
    let of_kind = |subject: &str| subject.contains(&format!(".event.{}.", kind.token()));
    let proposed = world.proposed.iter().filter(|(_, _, event)| of_kind(&event.subject));
    proposed.map(|(ms, by, _)| (*ms, *by)).collect()
}

fn instances(world: &World) -> Vec<u64> {
    let running = world.nodes.iter().filter(|node| !node.stopped);
    running.map(|node| node.replica.status(world.now_ms).instances).collect()
}

#[test]
fn a_dead_agents_instances_are_removed_after_the_ttl_by_the_oldest_replica_with_evidence() {
    let mut world = World::settled(3);
    let dead = world.start_agent("web1", &["orders", "payments"]);
    world.start_agent("web2", &["orders"]);
    world.run(4_000);
    world.agent(&dead).alive = false;
    let died_ms = world.now_ms;
    world.run(20_000);
    let removals = removals(&world);
    assert_eq!(removals.len(), 2);
    for (ms, change) in &removals {
        assert!((7_900..=11_000).contains(&(ms - died_ms)), "after {} ms", ms - died_ms);
        assert_eq!((change.cause, change.actor.as_str()), (Cause::Expired, "registry/r0"));
        let evidence = change.evidence.as_ref().expect("evidence");
        assert_eq!(evidence.probe, Some(ProbeResult::NoResponders));
        assert!(evidence.charged_ms.is_some_and(|ms| (10_000..11_000).contains(&ms)));
        assert!(evidence.last_heartbeat_at.is_some_and(|at| at < world.wall()));
        assert_eq!(evidence.replica.as_ref().map(muster_schemas::ReplicaId::as_str), Some("r0"));
    }
    assert_eq!(proposals_of(&world, EventKind::Expire).len(), 2, "once each");
    assert_eq!(instances(&world), [1, 1, 1]);
    world.assert_agreement();
}

#[test]
fn a_replica_that_has_not_been_at_the_logs_end_for_long_gives_up_nobody() {
    let mut world = World::settled(1);
    let dead = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    // As if no route led to the stream any more, and to the agent; proposals go another way.
    world.node(0).inspections_fail = true;
    world.agent(&dead).alive = false;
    world.run(30_000);
    assert_eq!(proposals_of(&world, EventKind::Expire), []);
    world.node(0).inspections_fail = false;
    world.until(5_000, "it is at the end again, and decides", |world| !removals(world).is_empty());
}

#[test]
fn an_agent_that_answers_probes_is_alive_although_its_heartbeats_are_lost() {
    let mut world = World::settled(2);
    let mute = world.start_agent("web1", &["orders"]);
    world.agent(&mute).mute = true;
    world.run(60_000);
    assert!(!world.probes.is_empty());
    assert_eq!(removals(&world), []);
    assert_eq!(instances(&world), [1, 1]);
}

#[test]
fn a_registration_on_its_way_defeats_the_proposal() {
    let mut world = World::settled(1);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(1_000);
    world.agent(&agent).alive = false;
    world.returns_before_its_expiry = Some(agent);
    world.run(20_000);
    assert_eq!(proposals_of(&world, EventKind::Expire).len(), 1, "it was proposed");
    assert_eq!(removals(&world), []);
    assert_eq!(instances(&world), [1]);
    assert_eq!(world.nodes[0].replica.counters().outcomes["superseded"], 1);
}

#[test]
fn whoever_is_back_while_its_expiry_is_on_its_way_is_asked_to_say_anew_what_it_vouches_for() {
    let mut world = World::settled(1);
    let frozen = world.start_agent("web1", &["orders"]);
    world.run(2_000);
    world.proposals_stall = true;
    world.agent(&frozen).alive = false;
    world.until(20_000, "it is given up", World::has_proposed);
    world.agent(&frozen).alive = true;
    world.until(3_000, "it is asked", |world| !world.announces.is_empty());
    world.run(500);
    world.proposals_stall = false;
    world.run(20_000);
    assert_eq!(proposals_of(&world, EventKind::Expire).len(), 1, "it arrived");
    assert_eq!(removals(&world), []);
    assert_eq!(instances(&world), [1]);
}

#[test]
fn agents_are_asked_by_the_oldest_replica_that_is_not_behind() {
    let mut world = World::settled(2);
    let agent = world.start_agent("web1", &["orders", "payments"]);
    world.run(5_000);
    world.node(0).reads_nothing = true;
    world.set_maintenance("orders", "web1", None);
    world.run(1_000);
    world.agent(&agent).instances.retain(|vouching| vouching.service == service("orders"));
    world.until(30_000, "it is asked", |world| !world.announces.is_empty());
}

#[test]
fn when_the_oldest_replica_cannot_propose_the_next_does_a_second_later() {
    let mut world = World::settled(2);
    let dead = world.start_agent("web1", &["orders"]);
    world.run(2_000);
    world.node(0).proposals_fail = true;
    world.agent(&dead).alive = false;
    let took_ms = world.until(20_000, "it is removed", |world| !removals(world).is_empty());
    let proposals = proposals_of(&world, EventKind::Expire);
    let first_by = |replica| proposals.iter().find(|(_, by)| *by == replica).map(|(ms, _)| *ms);
    let (first, second) = (first_by(0).expect("the oldest tried"), first_by(1).expect("the next did"));
    assert!((900..=1_200).contains(&(second - first)), "{first} {second}");
    assert!(took_ms < 13_000, "{took_ms}");
}

#[test]
fn a_frozen_replica_removes_nobody_when_it_runs_again() {
    let mut world = World::settled(1);
    for number in 0..20 {
        world.start_agent(&format!("web{number}"), &["orders"]);
    }
    world.run(3_000);
    world.node(0).frozen = true;
    world.run(60_000);
    world.node(0).frozen = false;
    world.run(30_000);
    assert_eq!(removals(&world), []);
    assert_eq!(proposals_of(&world, EventKind::Expire), []);
}

#[test]
fn after_an_outage_of_all_replicas_the_living_stay_and_the_dead_go_within_their_bound() {
    let mut world = World::settled(2);
    let dead = world.start_agent("web1", &["orders"]);
    world.start_agent("web2", &["orders"]);
    world.run(3_000);
    for index in 0..2 {
        world.node(index).stopped = true;
    }
    world.agent(&dead).alive = false;
    world.run(50_000);
    world.sent.clear();
    world.start_replica();
    world.start_replica();
    let took_ms = world.until(20_000, "the dead one is gone", |world| !removals(world).is_empty());
    assert!((10_000..13_000).contains(&took_ms), "{took_ms}");
    world.run(10_000);
    assert_eq!(world.changes().len(), 1);
    assert_eq!(instances(&world), [1, 1]);
    world.assert_agreement();
}

#[test]
fn what_an_agent_no_longer_vouches_for_is_disowned_after_it_was_asked_to_announce() {
    let mut world = World::settled(2);
    let agent = world.start_agent("web1", &["orders", "payments"]);
    world.run(5_000);
    world.agent(&agent).instances.retain(|vouching| vouching.service == service("orders"));
    let took_ms = world.until(30_000, "it is removed", |world| !removals(world).is_empty());
    assert!(took_ms < 15_000, "{took_ms}");
    assert_eq!(world.announces.len(), 1);
    let (_, change) = &removals(&world)[0];
    let evidence = change.evidence.as_ref().expect("evidence");
    assert_eq!(change.service, service("payments"));
    assert_eq!(evidence.probe, Some(ProbeResult::Unlisted));
    assert_eq!(evidence.reason.as_deref(), Some("disowned"));
    world.run(30_000);
    assert_eq!(removals(&world).len(), 1);
    assert_eq!(instances(&world), [1, 1]);
}

#[test]
fn an_agent_that_came_back_with_fewer_services_is_asked_before_the_others_are_given_up() {
    let mut world = World::settled(1);
    let agent = world.start_agent("web1", &["orders", "payments"]);
    world.run(5_000);
    world.agent(&agent).alive = false;
    world.run(1_000);
    world.start_agent("web1", &["orders"]);
    world.until(40_000, "it is removed", |world| !removals(world).is_empty());
    let asked = world.announces.iter().map(|(ms, _)| *ms).next().expect("it was asked");
    assert!(removals(&world)[0].0 >= asked + 5_000, "and had the time to answer");
    assert_eq!(removals(&world)[0].1.service, service("payments"));
    world.run(20_000);
    assert_eq!(instances(&world), [1]);
}

#[test]
fn a_storm_of_silence_is_an_alarm_and_goes_at_a_bounded_rate() {
    let mut world = World::settled(1);
    let agents: Vec<_> = (0..500).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(3_000);
    for agent in &agents {
        world.agent(agent).alive = false;
    }
    world.run(25_000);
    let removals = removals(&world);
    assert_eq!(removals.len(), 500);
    let first_ms = removals[0].0;
    let within_a_second = removals.iter().filter(|(ms, _)| *ms < first_ms + 1_000).count();
    assert!((50..=130).contains(&within_a_second), "{within_a_second}");
    let alarms = world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.ends_with(".mass_expiry"));
    assert!(alarms.count() >= 1);
}

#[test]
fn agents_are_asked_to_announce_at_one_pace_and_by_the_publishing_replica_alone() {
    let mut world = World::settled(3);
    for number in 0..300 {
        world.start_agent(&format!("web{number}"), &["orders"]);
    }
    world.run(5_000);
    assert_eq!(world.announces, []);
    for index in 0..3 {
        world.node(index).stopped = true;
    }
    world.stream = None;
    for _ in 0..3 {
        world.start_replica();
    }
    world.until(30_000, "everything is back", |world| instances(world) == [300, 300, 300]);
    let asked = &world.announces;
    assert!((300..=305).contains(&asked.len()), "{} requests for 300 agents", asked.len());
    for window in asked.windows(50) {
        assert!(window[49].0 - window[0].0 >= 150, "50 within {} ms", window[49].0 - window[0].0);
    }
    world.assert_agreement();
}

#[test]
fn a_refused_registration_is_answered_by_one_notice() {
    let mut world = World::settled(3);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(500);
    world.agent(&agent).instances[0].generation = 0;
    world.announce(&agent);
    world.run(2_000);
    assert_eq!(world.of_kind(OutgoingKind::Notice).count(), 1);
}

#[test]
fn a_timed_maintenance_lapses_in_time() {
    let mut world = World::settled(2);
    world.start_agent("web1", &["orders"]);
    world.run(500);
    let until = Timestamp::from_ms(world.wall().as_ms() + 20_000);
    world.set_maintenance("orders", "web1", Some(until));
    world.run(19_900);
    assert_eq!(world.changes().last().map(|(_, _, change)| change.cause), Some(Cause::Maintenance));
    world.run(500);
    assert_eq!(world.changes().last().map(|(_, _, change)| change.cause), Some(Cause::Lapsed));
    assert_eq!(proposals_of(&world, EventKind::Lapse).len(), 1);
}

#[test]
fn a_host_clock_that_is_an_hour_ahead_does_not_end_an_intent_early() {
    let mut world = World::settled(1);
    world.start_agent("web1", &["orders"]);
    let until = Timestamp::from_ms(world.wall().as_ms() + 60_000);
    world.set_maintenance("orders", "web1", Some(until));
    world.host_clock_ahead_ms = 3_600_000;
    world.run(30_000);
    assert_eq!(proposals_of(&world, EventKind::Lapse), []);
    world.run(31_000);
    assert_eq!(world.changes().last().map(|(_, _, change)| change.cause), Some(Cause::Lapsed));
}

#[test]
fn intents_and_tombstones_of_a_lost_log_are_carried_into_the_next() {
    let mut world = World::settled(2);
    let dead = world.start_agent("web1", &["orders"]);
    world.start_agent("web2", &["orders"]);
    world.run(500);
    world.set_maintenance("orders", "web2", None);
    world.agent(&dead).alive = false;
    world.run(15_000);
    world.stream = None;
    world.until(60_000, "a new log is ready", |world| {
        world.now_ms > 50_000 && world.all_are(muster_schemas::pulse::CatalogState::Ready)
    });
    for node in &world.nodes {
        let status = node.replica.status(world.now_ms);
        assert_eq!((status.instances, status.tombstones, status.intents), (1, 1, 1));
    }
    world.assert_agreement();
}

#[test]
fn an_instance_without_a_lease_that_a_lost_log_held_is_carried_into_the_next_though_nobody_registers_it_again() {
    let mut world = World::settled(2);
    world.start_agent("web1", &["orders"]);
    world.register_by_hand("printers");
    world.run(500);
    let lost = world.nodes[0].replica.status(world.now_ms).epoch;
    world.stream = None;
    world.until(60_000, "a new log is ready", |world| {
        let is_new = world.nodes.iter().all(|node| node.replica.status(world.now_ms).epoch > lost);
        is_new && world.all_are(muster_schemas::pulse::CatalogState::Ready)
    });
    world.run(60_000);
    for node in &world.nodes {
        assert_eq!(node.replica.status(world.now_ms).instances, 2);
    }
    world.assert_agreement();
}

#[test]
fn what_was_not_carried_over_before_the_next_log_was_lost_too_is_carried_into_the_one_after() {
    let mut world = World::settled(1);
    for number in 0..1_000 {
        world.set_maintenance("orders", &format!("web{number}"), None);
    }
    world.run(500);
    let intents = |world: &World| world.nodes[0].replica.status(world.now_ms).intents;
    world.stream = None;
    world.until(10_000, "the carrying has begun", |world| (1..1_000).contains(&intents(world)));
    world.stream = None;
    world.until(10_000, "the second loss is noticed", |world| intents(world) == 0);
    world.run(5_000);
    assert_eq!(intents(&world), 1_000);
}

#[test]
fn a_replica_that_hears_no_marks_raises_an_alarm_and_leaves_proposals_to_the_next() {
    let mut world = World::settled(2);
    let dead = world.start_agent("web1", &["orders"]);
    world.run(2_000);
    world.node(0).marks_lost = true;
    world.run(61_000);
    let deaf = world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.by == 0);
    assert!(deaf.count() >= 1);
    world.agent(&dead).alive = false;
    world.run(15_000);
    assert_eq!(removals(&world).len(), 1);
    assert_eq!(removals(&world)[0].1.actor, "registry/r1");
}
