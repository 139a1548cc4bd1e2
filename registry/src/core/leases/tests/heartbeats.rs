//! Which heartbeats count, and for what.

use super::super::{AGENT_KEPT_MS, STRANGERS_MAX, Unheard};
use super::*;

fn unheard(heard: &Heard) -> Option<Unheard> {
    match heard {
        Heard::Unheard(unheard) => Some(*unheard),
        _ => None,
    }
}

#[test]
fn a_counter_that_is_not_above_the_last_one_is_dropped() {
    let mut bench = Bench::new();
    bench.beat_counter = 10;
    assert_eq!(unheard(&bench.beat("a", 1)), None);
    for counter in [10, 9] {
        bench.beat_counter = counter;
        assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldCounter));
    }
    bench.beat_counter = 11;
    assert_eq!(unheard(&bench.beat("a", 1)), None);
}

#[test]
fn a_new_session_begins_with_any_counter_and_ends_the_old_one() {
    let mut bench = Bench::new();
    bench.beat_counter = 10;
    bench.beat("a", 1);
    bench.beat_counter = 0;
    let Heard::Beat(beat) = bench.beat("a", 2) else { panic!("dropped") };
    assert!(beat.is_first);
    bench.beat_counter = 20;
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldSession));
    let view = bench.leases.agent(&agent_id("a")).unwrap();
    assert_eq!(view.session(), Some(session(2)));
}

#[test]
fn a_life_that_began_after_a_clock_was_set_back_is_heard_once_something_is_registered_in_it() {
    let mut bench = Bench::new();
    bench.register("a", "i", 2, 1);
    bench.run(1_000, &[("a", 2)]);
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldSession), "it may be a late message of an old life");
    bench.register("a", "j", 1, 3);
    bench.run(TTL_MS + 2_000, &[("a", 1)]);
    assert_eq!(bench.due(), ["i"]);
    assert_eq!(unheard(&bench.beat("a", 1)), None);
    bench.beat_counter -= 1;
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldCounter), "no message of it counts twice");
}

#[test]
fn an_earlier_life_heard_beside_the_present_one_for_a_while_is_no_late_message() {
    let mut bench = Bench::new();
    bench.register("a", "i", 2, 1);
    bench.run(1_000, &[("a", 2)]);
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldSession));
    bench.run(6_000, &[]);
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldSession), "the present life was not heard since");
    bench.beat("a", 2);
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::Displaced));
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::OldSession), "it is told now and then");
}

#[test]
fn of_two_lives_in_which_something_is_registered_the_earlier_one_is_told_that_both_run() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.register("a", "j", 2, 1);
    bench.run(1_000, &[("a", 2)]);
    assert_eq!(unheard(&bench.beat("a", 1)), None, "its clock may have been set back");
    bench.run(3_000, &[]);
    bench.beat("a", 2);
    assert_eq!(unheard(&bench.beat("a", 1)), Some(Unheard::Displaced));
}

#[test]
fn a_heartbeat_renews_only_what_was_registered_in_its_session() {
    let mut bench = Bench::new();
    bench.register("a", "old", 1, 1);
    bench.run(2_000, &[("a", 1)]);
    // The agent restarts and takes up one of two instances.
    bench.register("a", "adopted", 1, 1);
    bench.register("a", "adopted", 2, 1);
    bench.run(TTL_MS + 2_000, &[("a", 2)]);
    assert_eq!(bench.due(), ["old"]);
}

#[test]
fn a_vouching_that_goes_on_in_another_session_is_renewed_by_that_one_alone() {
    let mut bench = Bench::new();
    let first = bench.register("a", "i", 1, 1);
    let second = Vouching { session: session(2), generation: 2, ..first.clone() };
    bench.register_with_ttl(second.clone(), TTL_MS);
    let Heard::Beat(beat) = bench.beat_with("a", 1, Digest::ZERO, None) else { panic!("dropped") };
    assert_eq!(beat.verdict, super::super::Verdict::Same, "nothing is held in the old session");
    bench.run(TTL_MS, &[("a", 1)]);
    assert_eq!(bench.due(), ["i"]);
    let Heard::Beat(beat) = bench.beat_with("a", 2, item(&second), None) else { panic!("dropped") };
    assert_eq!(beat.verdict, super::super::Verdict::Same);
    bench.run(TTL_MS - 200, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn heartbeats_of_another_agent_renew_nothing() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS, &[("b", 1)]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn an_instance_that_another_agent_took_over_is_that_one_s_to_renew() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.register("b", "i", 2, 1);
    bench.run(2 * TTL_MS, &[("b", 2)]);
    assert!(bench.due().is_empty());
    assert!(bench.leases.agent(&agent_id("a")).is_none(), "nothing is left of the displaced one");
    bench.run(2 * TTL_MS, &[("a", 1)]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn what_is_no_heartbeat_is_dropped() {
    let mut bench = Bench::new();
    let subject = "muster.default.heartbeat.a";
    for payload in ["", "{}", "{\"v\":1}", "[1,2]"] {
        assert_eq!(unheard(&bench.hear(subject, payload.as_bytes())), Some(Unheard::Malformed), "{payload}");
    }
    let large = format!("{{\"v\":1{}}}", " ".repeat(2_000));
    assert_eq!(unheard(&bench.hear(subject, large.as_bytes())), Some(Unheard::Malformed));
    assert_eq!(unheard(&bench.hear("muster.default.beacon.r1", b"{}")), Some(Unheard::Malformed));
    let wrong_version = r#"{"v":2,"session":"00000000000000000000000001","counter":1,"instances":0,"digest":"00000000000000000000000000000000"}"#;
    assert_eq!(unheard(&bench.hear(subject, wrong_version.as_bytes())), Some(Unheard::Malformed));
    // Refused tokens leave nothing behind.
    let well = wrong_version.replace("\"v\":2", "\"v\":1");
    assert_eq!(unheard(&bench.hear("muster.default.heartbeat.a%2a", well.as_bytes())), Some(Unheard::Malformed));
    assert!(matches!(bench.hear(subject, well.as_bytes()), Heard::Beat(_)));
}

#[test]
fn fields_that_this_version_does_not_know_and_escaped_texts_do_no_harm() {
    let mut bench = Bench::new();
    let payload = r#"{"v":1,"session":"00000000000000000000000001","counter":1,"instances":0,"mood":{"good":[1]},
        "digest":"00000000000000000000000000000000","acked":[null,4],"conn":["n\u0031\"","N",3]}"#;
    let Heard::Beat(beat) = bench.hear("muster.default.heartbeat.web%2E1", payload.as_bytes()) else {
        panic!("dropped");
    };
    assert_eq!((beat.agent.as_str(), beat.acked), ("web.1", Some(MinRevision(None, 4))));
    assert_eq!(bench.leases.agent(&agent_id("web.1")).unwrap().server(), Some("n1\""));
}

#[test]
fn an_agent_without_leases_is_forgotten_when_it_has_been_silent_for_long() {
    let mut bench = Bench::new();
    bench.register("b", "i", 1, 1);
    bench.beat("a", 1);
    bench.run(AGENT_KEPT_MS, &[]);
    assert!(bench.leases.agent(&agent_id("a")).is_some());
    bench.run(1_000, &[]);
    assert!(bench.leases.agent(&agent_id("a")).is_none());
    assert!(bench.leases.agent(&agent_id("b")).is_some());
    bench.beat("c", 1);
    assert_eq!(bench.leases.agents_heard(bench.now_ms, TTL_MS), 1);
}

#[test]
fn servers_are_known_by_the_heartbeats_that_name_them() {
    let mut bench = Bench::new();
    bench.beat("a", 1);
    bench.now_ms += 1_500;
    bench.beat("b", 1);
    assert_eq!(bench.leases.servers_heard(bench.now_ms), ["server-of-a", "server-of-b"]);
    bench.now_ms += 1_000;
    assert_eq!(bench.leases.servers_heard(bench.now_ms), ["server-of-b"]);
}

#[test]
fn the_number_of_servers_remembered_is_bounded() {
    let mut bench = Bench::new();
    for number in 0..400 {
        bench.now_ms += 1;
        bench.beat(&format!("a{number}"), 1);
    }
    assert_eq!(bench.leases.servers_heard(bench.now_ms).len(), 256);
    assert!(bench.leases.agent(&agent_id("a255")).unwrap().server().is_some());
    assert!(
        bench.leases.agent(&agent_id("a256")).unwrap().server().is_none(),
        "one too many is not known by its server"
    );
    // As agents are forgotten, their servers make room.
    bench.run(AGENT_KEPT_MS + 10_000, &[]);
    bench.beat("late", 1);
    assert_eq!(bench.leases.servers_heard(bench.now_ms), ["server-of-late"]);
}

#[test]
fn one_agent_too_many_without_leases_is_not_heard_until_there_is_room() {
    let mut bench = Bench::new();
    for number in 0..STRANGERS_MAX {
        bench.leases.add_agent(agent_id(&format!("a{number}")));
    }
    assert_eq!(unheard(&bench.beat("late", 1)), Some(Unheard::TooManyStrangers));
    // Whoever registers is no stranger.
    bench.register("late", "i", 1, 1);
    assert_eq!(unheard(&bench.beat("late", 1)), None);
    assert_eq!(unheard(&bench.beat("later", 1)), Some(Unheard::TooManyStrangers));
}
