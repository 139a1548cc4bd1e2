//! What a session does about refusals: every notice, also when it is late, doubled, or lost.

use muster_schemas::agent::{NoticeCode, ProbeReply, instance_key};
use muster_schemas::event::EventData;
use muster_schemas::{Incarnation, SessionId};

use super::critical;
use super::world::{BEGIN_MS, Held, Other, World, spec};
use crate::core::io::Input;
use crate::core::spec::InstanceSpec;
use crate::core::status::{DeregisterOutcome, Status};

/// Registered by the agent `db7`, with an incarnation above anything that our clock would mint.
fn held_by_another(world: &mut World) -> Incarnation {
    let incarnation = Incarnation::from_parts(BEGIN_MS + 1_000_000, 1);
    world.other_registers("db7", "a", incarnation);
    incarnation
}

fn lists_a(session: SessionId, incarnation: Incarnation) -> Other {
    let key = instance_key(&"orders".parse().expect("a name"), &"a".parse().expect("an id"));
    let incarnations = [(key, (incarnation, 1))].into();
    Other::Lives(ProbeReply { session, incarnations })
}

#[test]
fn a_living_holder_with_a_larger_incarnation_is_reported_and_waited_for() {
    let mut world = World::connected();
    let incarnation = held_by_another(&mut world);
    let session = SessionId::from_parts(incarnation.time_ms(), 1);
    world.others.insert("db7".to_owned(), lists_a(session, incarnation));
    let claim = world.register(spec("a"));
    world.pass(20_000);
    let Status::Duplicate { holder } = world.status(claim) else { panic!("{:?}", world.status(claim)) };
    assert_eq!((holder.agent.as_str(), holder.incarnation), ("db7", incarnation));
    assert!(world.log.is_empty(), "nothing is claimed meanwhile");
    // It goes: its place is taken, above it.
    world.others.clear();
    let gone = world.live("a").expect("live").vouching.clone();
    world.held.insert("a".to_owned(), Held::Gone(gone, "expired"));
    world.pass(5_000);
    assert!(world.status(claim).is_registered(), "{:?}", world.status(claim));
    assert!(world.live("a").expect("live").vouching.incarnation > incarnation);
}

#[test]
fn the_place_of_a_holder_that_nobody_can_reach_is_taken() {
    let mut world = World::connected();
    let incarnation = held_by_another(&mut world);
    let claim = world.register(spec("a"));
    world.pass(500);
    assert!(!world.status(claim).is_registered(), "it could just be reconnecting");
    world.pass(1_500);
    assert!(world.status(claim).is_registered(), "{:?}", world.statuses[&claim]);
    assert!(world.live("a").expect("live").vouching.incarnation > incarnation);
}

#[test]
fn a_frozen_holder_keeps_its_place_until_its_lease_ends() {
    let mut world = World::connected();
    held_by_another(&mut world);
    world.others.insert("db7".to_owned(), Other::Frozen);
    let claim = world.register(spec("a"));
    world.pass(30_000);
    assert!(matches!(world.status(claim), Status::Duplicate { .. }), "{:?}", world.status(claim));
    assert!(world.log.is_empty());
}

#[test]
fn a_holder_that_does_not_list_the_instance_has_given_it_up() {
    let mut world = World::connected();
    let incarnation = held_by_another(&mut world);
    let reply = ProbeReply { session: SessionId::from_parts(1, 1), incarnations: Default::default() };
    world.others.insert("db7".to_owned(), Other::Lives(reply));
    let claim = world.register(spec("a"));
    world.pass(100);
    assert!(world.status(claim).is_registered());
    assert!(world.live("a").expect("live").vouching.incarnation > incarnation);
}

#[test]
fn a_newcomer_with_the_larger_incarnation_wins_without_asking() {
    let mut world = World::connected();
    let incarnation = Incarnation::from_parts(BEGIN_MS - 1_000, 1);
    world.other_registers("db7", "a", incarnation);
    let session = SessionId::from_parts(incarnation.time_ms(), 1);
    world.others.insert("db7".to_owned(), lists_a(session, incarnation));
    let claim = world.register(spec("a"));
    assert!(world.status(claim).is_registered());
}

#[test]
fn the_displaced_says_so_and_claims_nothing_more() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let incarnation = held_by_another(&mut world);
    let notice = world.notice_about("a", NoticeCode::Displaced, None, "displaced");
    world.hear_notice(&notice);
    world.pass(10_000);
    let Status::Displaced { by: Some(holder) } = world.status(claim) else { panic!("{:?}", world.status(claim)) };
    assert_eq!(holder.incarnation, incarnation);
    assert_eq!(world.kinds(), ["register"]);
    assert!(world.heartbeats.iter().all(|(at, heartbeat)| *at == 0 || heartbeat.instances == 0));
}

#[test]
fn the_displaced_is_heard_once_more_so_that_both_are_known_to_live() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.pass(500);
    held_by_another(&mut world);
    let before = world.heartbeats.len();
    let notice = world.notice_about("a", NoticeCode::Displaced, None, "displaced");
    world.hear_notice(&notice);
    world.pass(10_000);
    let after = &world.heartbeats[before..];
    assert_eq!(
        after.iter().map(|(_, heartbeat)| heartbeat.instances).collect::<Vec<_>>(),
        [0],
        "and then it is silent"
    );
    assert!(after[0].0 <= 600, "at once: {}", after[0].0);
}

#[test]
fn a_displacement_by_the_own_session_or_of_long_ago_is_none() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let own = world.notice_about("a", NoticeCode::Displaced, None, "a restart of ours");
    world.hear_notice(&own);
    let mut old = own;
    old.in_force = Some((Incarnation::from_parts(BEGIN_MS - 1_000, 1), 1));
    old.session = Some(SessionId::from_parts(BEGIN_MS - 1_000, 1));
    world.hear_notice(&old);
    world.pass(1_000);
    assert!(world.status(claim).is_registered());
    assert_eq!(world.kinds(), ["register"]);
}

#[test]
fn a_displacement_whose_notice_was_lost_is_seen_after_a_reconnect() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.disconnect();
    held_by_another(&mut world);
    world.connect();
    world.pass(3_000);
    assert!(matches!(world.status(claim), Status::Displaced { .. }), "{:?}", world.status(claim));
}

#[test]
fn a_clock_far_ahead_is_replaced_by_the_streams() {
    let mut world = World::with_clock(10 * 86_400_000);
    let claim = world.register(spec("a"));
    world.connect();
    world.pass(500);
    assert!(world.status(claim).is_registered(), "{:?}", world.statuses[&claim]);
    let minted = world.live("a").expect("live").vouching.incarnation.time_ms();
    assert!(minted.abs_diff(world.stream_ms()) < 1_000);
    let second = world.register(spec("b"));
    assert!(world.status(second).is_registered(), "and stays so for the next");
}

#[test]
fn an_evicted_instance_stays_out_with_its_incarnation_until_the_fence_is_cleared() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let evicted = world.live("a").expect("live").vouching.clone();
    world.fences.insert("a".to_owned(), evicted.incarnation);
    world.held.insert("a".to_owned(), Held::Gone(evicted.clone(), "evicted"));
    let notice = world.notice_about("a", NoticeCode::Fenced, None, "evicted");
    world.hear_notice(&notice);
    assert!(matches!(world.status(claim), Status::Fenced(_)));
    world.say(muster_schemas::subject::Verb::Announce, b"");
    world.pass(300_000);
    assert!(matches!(world.status(claim), Status::Fenced(_)), "{:?}", world.status(claim));
    assert!(world.log.len() < 15, "asks now and then: {}", world.log.len());
    assert!(world.log.iter().all(|(_, event)| event.data.vouching().expect("one").incarnation == evicted.incarnation));
    assert_eq!(world.last_heartbeat().instances, 0);
    world.fences.clear();
    world.pass(61_000);
    assert!(world.status(claim).is_registered(), "{:?}", world.status(claim));
    assert!(world.live("a").expect("live").vouching.incarnation > evicted.incarnation);
}

#[test]
fn a_child_started_anew_after_an_eviction_is_a_new_vouching() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let evicted = world.live("a").expect("live").vouching.clone();
    world.fences.insert("a".to_owned(), evicted.incarnation);
    world.held.insert("a".to_owned(), Held::Gone(evicted.clone(), "evicted"));
    let notice = world.notice_about("a", NoticeCode::Fenced, None, "evicted");
    world.hear_notice(&notice);
    world.deregister(claim);
    assert_eq!(*world.status(claim), Status::Deregistered(DeregisterOutcome::NothingToRemove));
    let anew = world.register(spec("a"));
    assert!(world.status(anew).is_registered());
}

#[test]
fn a_malformed_registration_is_not_tried_again_before_it_changes() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let mut changed = spec("a");
    changed.weight = 7;
    world.step(Input::Update(claim, changed));
    let last = world.log.last().expect("one").1.clone();
    let notice = world.notice_about("a", NoticeCode::Malformed, Some(last.id), "a newer rule");
    world.hear_notice(&notice);
    assert!(matches!(world.status(claim), Status::Refused(_)));
    let before = world.log.len();
    world.set_health(claim, critical());
    world.pass(60_000);
    assert_eq!(world.log.len(), before);
    world.step(Input::Update(claim, spec("a")));
    world.pass(100);
    assert!(world.status(claim).is_registered());
}

#[test]
fn what_is_against_a_rule_never_leaves_the_agent() {
    let mut world = World::connected();
    let mut wrong = spec("a");
    wrong.ttl_ms = 1;
    let claim = world.register(wrong);
    let Status::Refused(notice) = world.status(claim) else { panic!("{:?}", world.status(claim)) };
    assert!(notice.help.contains("ttl_ms"), "{}", notice.help);
    world.pass(60_000);
    assert!(world.log.is_empty());
    world.deregister(claim);
    assert!(world.status(claim).is_final());
}

#[test]
fn a_kind_that_registries_do_not_know_yet_is_tried_again_seldom() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.set_health(claim, critical());
    let last = world.log.last().expect("one").1.clone();
    let notice = world.notice_about("a", NoticeCode::UnknownKind, Some(last.id), "older");
    world.hear_notice(&notice);
    let before = world.log.len();
    world.pass(4_000);
    assert_eq!(world.log.len(), before);
    world.pass(10_000);
    assert_eq!(world.log.len(), before + 1);
}

#[test]
fn health_of_an_instance_that_is_not_registered_leads_to_a_registration() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.held.clear();
    world.set_health(claim, critical());
    world.pass(500);
    assert_eq!(world.kinds(), ["register", "health", "register"]);
    assert!(world.status(claim).is_registered());
}

#[test]
fn health_upon_a_description_that_the_log_has_lost_leads_to_a_registration() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let earlier = world.held.clone();
    world.step(Input::Update(claim, InstanceSpec { version: Some("2".to_owned()), ..spec("a") }));
    world.pass(500);
    world.held = earlier;
    world.set_health(claim, critical());
    world.pass(500);
    assert_eq!(world.kinds(), ["register", "register", "health", "register"]);
    assert!(world.status(claim).is_registered());
    let generations = world.log.iter().map(|(_, event)| match &event.data {
        EventData::Health(report) => report.registered_generation,
        other => other.vouching().map(|vouching| vouching.generation),
    });
    assert_eq!(generations.collect::<Vec<_>>(), [Some(1), Some(2), Some(2), Some(4)]);
}

#[test]
fn a_notice_about_an_earlier_event_changes_nothing() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let first = world.log[0].1.id.clone();
    world.set_health(claim, critical());
    let notice = world.notice_about("a", NoticeCode::Stale, Some(first), "late");
    world.hear_notice(&notice);
    world.pass(1_000);
    assert_eq!(world.kinds(), ["register", "health"]);
    assert!(world.status(claim).is_registered());
}

#[test]
fn a_conflict_is_shown_and_changes_nothing_else() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let notice = world.notice_about("a", NoticeCode::Conflict, None, "orders/b has the same port");
    world.hear_notice(&notice);
    let Status::Registered { conflict, .. } = world.status(claim) else { panic!("{:?}", world.status(claim)) };
    assert_eq!(conflict.as_deref(), Some("orders/b has the same port"));
    world.pass(10_000);
    assert_eq!(world.kinds(), ["register"]);
}

#[test]
fn a_lost_refusal_does_not_fill_the_log() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let evicted = world.live("a").expect("live").vouching.clone();
    world.fences.insert("a".to_owned(), evicted.incarnation);
    world.held.insert("a".to_owned(), Held::Gone(evicted, "evicted"));
    world.lose_notices = true;
    world.say(muster_schemas::subject::Verb::Announce, b"");
    world.pass(60_000);
    assert!(world.log.len() < 60, "{}", world.log.len());
    assert!(!world.status(claim).is_registered());
    world.lose_notices = false;
    world.pass(3_000);
    assert!(matches!(world.status(claim), Status::Fenced(_)), "{:?}", world.status(claim));
}
