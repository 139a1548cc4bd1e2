//! The session among others: probes, announcements, drains, reconnects, freezes, a second process of the same agent id.

use muster_schemas::agent::{AnnounceReply, DrainReply, Notice, NoticeCode, ProbeReply};
use muster_schemas::subject::Verb;
use muster_schemas::{Incarnation, SessionId};

use super::world::{BEGIN_MS, Other, Registry, World, spec};
use crate::core::io::Input;
use crate::core::status::Status;

fn answered<T: serde::de::DeserializeOwned>(world: &World) -> T {
    let (subject, payload) = world.answers.last().expect("an answer");
    assert_eq!(subject, "_INBOX.registry");
    serde_json::from_slice(payload).expect("the answer's type")
}

#[test]
fn a_probe_lists_what_is_vouched_for_and_no_static_instance() {
    let mut world = World::connected();
    world.register(spec("a"));
    let mut fixed = spec("b");
    (fixed.ttl_ms, fixed.linger_ms) = (0, 0);
    world.register(fixed);
    let gone = world.register(spec("c"));
    world.registry = Registry::Missing;
    world.deregister(gone);
    world.say(Verb::Probe, b"");
    let reply: ProbeReply = answered(&world);
    let live = &world.live("a").expect("live").vouching;
    assert_eq!(reply.session, live.session);
    let listed: Vec<_> = reply.incarnations.into_iter().collect();
    assert_eq!(listed, [("orders/a".to_owned(), live.order())]);
}

#[test]
fn an_answer_never_goes_to_a_subject_of_muster_or_of_the_broker() {
    let mut world = World::connected();
    world.register(spec("a"));
    for reply in ["muster.default.heartbeat.other", "$SYS.REQ.SERVER.PING", "$JS.API.INFO"] {
        world.step(Input::Heard { verb: Verb::Probe, payload: b"", reply: Some(reply) });
    }
    assert!(world.answers.is_empty());
}

#[test]
fn an_announcement_is_spread_over_its_window() {
    let mut world = World::new();
    for number in 0..200 {
        world.register(spec(&format!("i{number}")));
    }
    world.connect();
    world.pass(1_000);
    let (begin_ms, before) = (world.now.ms, world.log.len());
    world.say(Verb::Announce, br#"{"reason":"new epoch"}"#);
    assert_eq!(answered::<AnnounceReply>(&world).instances, 200);
    world.pass(500);
    let half = world.log.len() - before;
    assert!((80..=120).contains(&half), "{half} after half the window");
    // A second one on top of it adds nothing.
    world.say(Verb::Announce, b"");
    world.pass(2_000);
    assert!((200..=320).contains(&(world.log.len() - before)), "{}", world.log.len() - before);
    let last = world.log.last().expect("one").0;
    assert!(last <= begin_ms + 1_600, "{last}");
    let generation = world.live("i199").expect("live").vouching.generation;
    assert!(generation >= 2);
}

#[test]
fn an_announcement_of_one_instance_is_answered_at_once() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.say(Verb::Announce, b"");
    assert_eq!(world.kinds(), ["register", "register"]);
}

#[test]
fn everything_comes_back_after_the_log_was_lost() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.disconnect();
    world.held.clear();
    world.sequence = 0;
    world.connect();
    world.pass(3_000);
    assert!(world.live("a").is_some(), "found missing after the reconnect, without being asked");
    assert!(world.status(claim).is_registered());
}

/// An agent whose registration was acknowledged by a log that was lost before any registry showed it.
fn lost_before_it_was_confirmed() -> World {
    let mut world = World::connected();
    world.registry = Registry::Missing;
    world.register(spec("a"));
    world.held.clear();
    world.registry = Registry::Recovering;
    world.pass(1_500);
    assert_eq!(world.kinds(), ["register"]);
    world
}

#[test]
fn an_announcement_reaches_what_no_registry_confirms() {
    let mut world = lost_before_it_was_confirmed();
    world.say(Verb::Announce, b"");
    world.pass(100);
    assert!(world.live("a").is_some(), "it must not wait for a confirmation that cannot come");
}

#[test]
fn what_a_recovering_registry_does_not_show_is_registered_again() {
    let mut world = lost_before_it_was_confirmed();
    world.pass(7_000);
    assert!(world.live("a").is_some());
}

#[test]
fn a_registry_that_does_not_answer_holds_nothing_up() {
    let mut world = World::connected();
    world.registry = Registry::Silent;
    let claim = world.register(spec("a"));
    world.pass(1_100);
    assert_eq!(world.kinds(), ["register"], "it need not be asked before");
    world.registry = Registry::Works;
    world.pass(3_000);
    assert!(world.status(claim).is_registered());
}

#[test]
fn a_reconnect_to_the_same_log_changes_nothing_in_it() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.disconnect();
    world.pass(1_000);
    world.connect();
    world.pass(10_000);
    assert_eq!(world.kinds(), ["register"]);
}

#[test]
fn a_registry_that_is_away_after_a_reconnect_is_not_asked_for_ever() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.registry = Registry::Missing;
    world.disconnect();
    world.connect();
    world.pass(60_000);
    assert_eq!(world.kinds(), ["register"]);
    assert!(world.status(claim).is_registered());
}

#[test]
fn an_expired_instance_that_lives_registers_again() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let before = world.live("a").expect("live").vouching.clone();
    let notice = world.expire("a");
    world.hear_notice(&notice);
    world.pass(10);
    let after = &world.live("a").expect("live").vouching;
    assert_eq!((after.incarnation, after.generation), (before.incarnation, 2));
    assert!(world.status(claim).is_registered());
    world.hear_notice(&notice);
    world.pass(1_000);
    assert_eq!(world.log.len(), 2, "a late notice of the same expiry changes nothing");
}

#[test]
fn a_thawed_agent_looks_whether_it_was_expired() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.jump(60_000);
    let _lost = world.expire("a");
    world.pass(3_000);
    assert!(world.live("a").is_some());
}

#[test]
fn a_drain_goes_to_the_owner() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.say(Verb::Drain, br#"{"service":"orders","instance":"a","deadline_ms":1000}"#);
    world.say(Verb::Drain, br#"{"service":"orders","instance":"b","deadline_ms":1000}"#);
    assert_eq!(world.drains, [Some(claim), None]);
    world.say(Verb::Drain, b"now!");
    assert_eq!(answered::<DrainReply>(&world).result, "refused");
}

#[test]
fn a_second_process_of_the_same_agent_id_takes_over_and_says_so() {
    let mut world = World::new();
    let first = SessionId::from_parts(BEGIN_MS + 5_000, 1);
    let reply = ProbeReply { session: first, incarnations: Default::default() };
    world.others.insert("web1".to_owned(), Other::Lives(reply));
    world.connect();
    let own = world.core.session().expect("a session");
    assert!(own > first, "the larger session wins, whatever the clocks say");
    let [told] = &world.told[..] else { panic!("{:?}", world.told) };
    assert_eq!((told.code, told.service.as_ref(), told.session), (NoticeCode::Displaced, None, Some(own)));
}

#[test]
fn whoever_is_told_of_a_larger_session_of_its_agent_id_ends() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let own = world.core.session().expect("a session");
    let notice = |session| Notice {
        event_id: None,
        code: NoticeCode::Displaced,
        service: None,
        instance: None,
        in_force: None,
        session: Some(session),
        stream_time: None,
        help: String::new(),
    };
    world.hear_notice(&notice(own));
    assert_eq!(world.superseded, None, "its own word");
    let other = SessionId::mint(BEGIN_MS, 1, Some(own));
    world.hear_notice(&notice(other));
    assert_eq!(world.superseded, Some(other));
    assert_eq!(*world.status(claim), Status::Superseded);
    let (log, heartbeats) = (world.log.len(), world.heartbeats.len());
    let late = world.register(spec("b"));
    world.pass(10_000);
    assert_eq!(*world.status(late), Status::Superseded);
    assert_eq!((world.log.len(), world.heartbeats.len()), (log, heartbeats));
}

#[test]
fn two_processes_that_began_together_find_each_other() {
    let mut world = World::connected();
    world.register(spec("a"));
    let session = SessionId::from_parts(BEGIN_MS + 1_000_000, 1);
    let reply = ProbeReply { session, incarnations: Default::default() };
    world.others.insert("web1".to_owned(), Other::Lives(reply));
    world.pass(4_000);
    assert_eq!(world.superseded, Some(session));
}

#[test]
fn the_own_answer_to_the_own_question_is_no_second_process() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.pass(30_000);
    assert_eq!((world.superseded, world.told.len()), (None, 0));
}

#[test]
fn a_restarted_agent_takes_its_earlier_life_over_at_once_though_its_clock_was_set_back() {
    let mut world = World::with_clock(-3_600_000);
    let before = world.other_registers("web1", "a", Incarnation::from_parts(BEGIN_MS, 9));
    let claim = world.register(spec("a"));
    world.connect();
    assert!(world.status(claim).is_registered(), "{:?}", world.statuses[&claim]);
    let after = &world.live("a").expect("live").vouching;
    assert!(after.incarnation > before.incarnation);
    assert!(after.session > before.session, "heartbeats of a smaller session would be taken for late ones");
    assert_eq!(world.kinds(), ["register"]);
    assert_eq!(world.last_heartbeat().instances, 1);
}

#[test]
fn the_same_without_a_registry_that_could_have_told() {
    let mut world = World::with_clock(-3_600_000);
    let before = world.other_registers("web1", "a", Incarnation::from_parts(BEGIN_MS, 9));
    world.registry = Registry::Missing;
    let claim = world.register(spec("a"));
    world.connect();
    world.pass(100);
    world.registry = Registry::Works;
    world.pass(3_000);
    assert!(world.status(claim).is_registered(), "{:?}", world.statuses[&claim]);
    let after = &world.live("a").expect("live").vouching;
    assert!(after.incarnation > before.incarnation && after.session > before.session);
}
