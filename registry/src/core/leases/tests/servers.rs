//! In a cluster: silence counts only as long as the agent's server is heard.

use std::collections::BTreeSet;

use muster_schemas::beacon::LeftAgent;
use muster_schemas::event::ExpiryCause;
use muster_schemas::query::ServerState;

use super::super::left::{NAMED_MAX, WAITING_MAX};
use super::super::{SERVER_UNREACHABLE_MS, UNREACHABLE_LIMIT_MS};
use super::*;

/// The life of `n3` in which its agents connected.
const ID: &str = "id-of-n3";

/// A cluster; this replica is on `n1`. Agents `a` and `b` are on `n3`, `c` is on `n1`.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.leases.connected_to(&["n1", "n1"], true);
    for (agent, server) in [("a", "n3"), ("b", "n3"), ("c", "n1")] {
        bench.connect(agent, server, 7);
        bench.register(agent, &format!("of-{agent}"), 1, 1);
        bench.beat(agent, 1);
    }
    bench.run(4_000, &[("a", 1), ("b", 1), ("c", 1)]);
    bench
}

fn state(bench: &Bench, server: &str) -> ServerState {
    let servers = bench.leases.servers(bench.now_ms);
    servers.iter().find(|one| one.name == server).expect("a server").state
}

/// Nobody on `n3` is heard for so long.
fn cut_off(bench: &mut Bench, ms: u64) {
    bench.run(ms, &[("c", 1)]);
}

#[test]
fn a_silent_server_keeps_its_agents_instances_however_long_their_ttl_is_over() {
    let mut bench = bench();
    cut_off(&mut bench, UNREACHABLE_LIMIT_MS - 5_000);
    assert!(bench.due().is_empty());
    assert_eq!(state(&bench, "n3"), ServerState::Unreachable);
    assert_eq!(state(&bench, "n1"), ServerState::Heard);
    let servers = bench.leases.servers(bench.now_ms);
    let silent = servers.iter().find(|one| one.name == "n3").expect("a server");
    assert_eq!((silent.agents, silent.leases), (2, 2));
}

#[test]
fn after_the_limit_they_are_due_as_unreachable() {
    let mut bench = bench();
    bench.leases.keep_unreachable_for(20_000);
    cut_off(&mut bench, 18_000);
    assert!(bench.due().is_empty());
    cut_off(&mut bench, 3_000);
    let due: Vec<_> = std::iter::from_fn(|| bench.next_due()).flat_map(|due| due.instances).collect();
    assert_eq!(due.len(), 2);
    assert!(due.iter().all(|due| due.cause == ExpiryCause::Unreachable));
    assert!(due[0].evidence.detail.as_ref().is_some_and(|detail| detail.contains("nobody heard its server")));
}

#[test]
fn whoever_was_due_before_the_server_fell_silent_is_due_as_unreachable_after_the_limit_too() {
    let mut bench = bench();
    bench.leases.keep_unreachable_for(20_000);
    bench.run(TTL_MS + 2_000, &[("a", 1), ("c", 1)]);
    let due = bench.next_due().expect("`b` is silent, and its server is heard");
    assert_eq!(due.instances[0].cause, ExpiryCause::Silent);
    bench.leases.retry(&agent_id("b"));
    cut_off(&mut bench, 21_000);
    let due = std::iter::from_fn(|| bench.next_due()).find(|due| due.agent == agent_id("b")).expect("it is due again");
    assert_eq!(due.instances[0].cause, ExpiryCause::Unreachable);
}

#[test]
fn an_instance_with_a_longer_ttl_outlives_the_limit() {
    let mut bench = bench();
    bench.leases.keep_unreachable_for(20_000);
    bench.register_with_ttl(vouching("a", "slow", 1, 1), 60_000);
    cut_off(&mut bench, 50_000);
    assert!(!bench.due().contains(&"slow".to_owned()));
    cut_off(&mut bench, 12_000);
    assert!(bench.due().contains(&"slow".to_owned()));
}

#[test]
fn when_it_is_heard_again_the_charge_starts_at_zero() {
    let mut bench = bench();
    cut_off(&mut bench, 40_000);
    // One of its two agents is heard; the other was gone all the time.
    bench.beat("a", 1);
    bench.mark();
    assert_eq!(state(&bench, "n3"), ServerState::Heard);
    bench.run(TTL_MS - 400, &[("a", 1), ("c", 1)]);
    assert!(bench.due().is_empty());
    // The server is heard every two seconds; silence counts up to there.
    bench.run(2_400, &[("a", 1), ("c", 1)]);
    assert_eq!(bench.due(), ["of-b"]);
}

#[test]
fn the_three_ttls_in_all_do_not_count_what_passed_while_the_server_was_unreachable() {
    let mut bench = bench();
    for _ in 0..4 {
        cut_off(&mut bench, 20_000);
        bench.beat("a", 1);
        bench.run(5_000, &[("a", 1), ("c", 1)]);
        assert!(bench.due().is_empty());
    }
    // Five seconds in each of four breaks were charged: twenty of thirty.
    bench.run(6_000, &[("a", 1), ("c", 1)]);
    assert_eq!(bench.due(), ["of-b"], "a TTL in one go");
}

#[test]
fn a_dead_agent_on_a_server_that_lives_is_due_at_its_ttl() {
    let mut bench = bench();
    bench.run(TTL_MS - 2_000, &[("a", 1), ("c", 1)]);
    assert!(bench.due().is_empty());
    bench.run(2_400, &[("a", 1), ("c", 1)]);
    assert_eq!(bench.due(), ["of-b"]);
}

#[test]
fn silence_counts_up_to_the_moment_when_the_server_was_heard() {
    let mut bench = bench();
    // Silent for a second less than its TTL while the server was heard; then nothing is heard of either.
    bench.run(TTL_MS - 3_000, &[("a", 1), ("c", 1)]);
    cut_off(&mut bench, 20_000);
    assert!(bench.due().is_empty());
}

#[test]
fn an_answer_of_the_server_is_as_good_as_a_heartbeat() {
    let mut bench = bench();
    for _ in 0..6 {
        cut_off(&mut bench, 2_000);
        assert!(bench.leases.any_server_silent(bench.now_ms));
        bench.leases.server_answered(bench.now_ms, "n3", ID);
        assert!(!bench.leases.any_server_silent(bench.now_ms));
    }
    bench.mark();
    assert_eq!(bench.due(), ["of-a", "of-b"], "the server lives, its agents do not");
}

#[test]
fn a_lease_whose_server_another_replica_hears_is_not_ours_to_end() {
    let mut bench = bench();
    bench.leases.keep_unreachable_for(10_000);
    for _ in 0..100 {
        bench.leases.heard_elsewhere(bench.now_ms, &["n3".to_owned()]);
        cut_off(&mut bench, 400);
        assert!(bench.due().is_empty());
    }
    assert_eq!(state(&bench, "n3"), ServerState::Elsewhere);
    // Its word holds for little longer than a beacon; the limit counts from then on.
    cut_off(&mut bench, 2_000);
    assert_eq!(state(&bench, "n3"), ServerState::Unreachable);
    cut_off(&mut bench, 7_000);
    assert!(bench.due().is_empty());
    cut_off(&mut bench, 2_000);
    assert_eq!(bench.due(), ["of-a", "of-b"]);
}

#[test]
fn what_a_replica_does_not_hear_on_the_wrong_side_of_a_cut_does_not_count_towards_the_limit() {
    let mut bench = bench();
    bench.leases.keep_unreachable_for(10_000);
    bench.leases.servers_hold_log(bench.now_ms, &["n1".to_owned(), "n3".to_owned()]);
    for _ in 0..50 {
        bench.leases.astray(bench.now_ms);
        cut_off(&mut bench, 400);
    }
    assert_eq!(state(&bench, "n3"), ServerState::Unreachable);
    cut_off(&mut bench, 9_000);
    assert!(bench.due().is_empty());
    cut_off(&mut bench, 2_000);
    assert_eq!(bench.due(), ["of-a", "of-b"]);
}

#[test]
fn an_agent_may_have_gone_elsewhere_while_a_replica_was_on_the_wrong_side_of_a_cut() {
    let mut bench = bench();
    bench.leases.servers_hold_log(bench.now_ms, &["n1".to_owned(), "n3".to_owned()]);
    bench.leases.astray(bench.now_ms);
    // Nothing is heard of `c` since, and `n1`, where it was heard last, is; it may be on `n3`, which is not.
    bench.run(2 * TTL_MS, &[]);
    assert!(!bench.due().contains(&"of-c".to_owned()));
    let heard = |bench: &mut Bench| {
        for _ in 0..40 {
            bench.run(400, &[("a", 1)]);
            bench.beat("a", 1);
        }
    };
    heard(&mut bench);
    assert!(bench.due().contains(&"of-c".to_owned()), "both servers are heard");
}

#[test]
fn an_agent_may_have_gone_elsewhere_although_the_lease_clock_stood_still_on_the_wrong_side_of_a_cut() {
    let mut bench = bench();
    bench.leases.servers_hold_log(bench.now_ms, &["n1".to_owned(), "n3".to_owned()]);
    // `c` is heard, and then not even marks come through: no lease clock passes.
    bench.now_ms += 100;
    bench.beat("c", 1);
    bench.now_ms += 5_000;
    bench.leases.astray(bench.now_ms);
    // It may be on `n3` by now, which is not heard, and not on `n1`, which is.
    bench.run(2 * TTL_MS, &[]);
    assert!(!bench.due().contains(&"of-c".to_owned()));
}

#[test]
fn the_servers_that_own_marks_pass_through_are_heard_with_them() {
    let mut bench = bench();
    bench.run(30_000, &[("a", 1)]);
    assert_eq!(state(&bench, "n1"), ServerState::Heard);
    assert!(bench.due().contains(&"of-c".to_owned()));
}

#[test]
fn on_a_single_broker_a_mark_is_enough_whatever_the_server_is_called() {
    let mut bench = bench();
    bench.leases.connected_to(&["another-name"], false);
    assert!(!bench.leases.any_server_silent(bench.now_ms + 60_000));
    cut_off(&mut bench, TTL_MS + 400);
    assert_eq!(bench.due(), ["of-a", "of-b"]);
}

#[test]
fn an_agent_that_reconnects_elsewhere_is_judged_by_its_new_server() {
    let mut bench = bench();
    bench.connect("b", "n1", 12);
    bench.beat("b", 1);
    cut_off(&mut bench, TTL_MS + 400);
    assert_eq!(bench.due(), ["of-b"]);
    assert_eq!(state(&bench, "n3"), ServerState::Unreachable);
}

#[test]
fn whether_a_server_was_heard_since_a_question_is_told_by_time_or_by_mark() {
    let mut bench = bench();
    let heard_since =
        |bench: &Bench, agent: &str, ms, mark| bench.leases.server_heard_since(&agent_id(agent), ms, mark);
    let (asked_ms, asked_mark) = (bench.now_ms, bench.mark_counter);
    assert!(!heard_since(&bench, "a", asked_ms, asked_mark));
    bench.mark();
    assert!(heard_since(&bench, "c", asked_ms, asked_mark), "its server is the replica's own");
    assert!(!heard_since(&bench, "a", asked_ms, asked_mark));
    bench.now_ms += 1;
    bench.leases.server_answered(bench.now_ms, "n3", ID);
    assert!(heard_since(&bench, "a", asked_ms, asked_mark));
    assert!(heard_since(&bench, "nobody", asked_ms, asked_mark), "of an unknown one a mark is all there is");
}

#[test]
fn a_short_absence_of_a_server_is_charged_and_a_long_one_is_not() {
    let mut bench = bench();
    bench.beat("a", 1);
    cut_off(&mut bench, SERVER_UNREACHABLE_MS - 400);
    bench.leases.server_answered(bench.now_ms, "n3", ID);
    bench.run(TTL_MS - 2 * SERVER_UNREACHABLE_MS, &[("a", 1), ("c", 1)]);
    assert!(bench.due().is_empty());
    bench.run(4_400, &[("a", 1), ("c", 1)]);
    assert!(bench.due().contains(&"of-b".to_owned()));
}

#[test]
fn a_server_that_began_anew_gives_its_agents_time_to_come_back() {
    let mut bench = bench();
    // Too short for it to be unreachable, and yet all its connections are gone.
    cut_off(&mut bench, SERVER_UNREACHABLE_MS - 400);
    bench.leases.server_answered(bench.now_ms, "n3", "another-life");
    let answering = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 400 {
            cut_off(bench, 400);
            bench.leases.server_answered(bench.now_ms, "n3", "another-life");
        }
        bench.mark();
    };
    answering(&mut bench, TTL_MS + 3_200);
    assert!(bench.due().is_empty());
    answering(&mut bench, 1_600);
    assert_eq!(bench.due(), ["of-a", "of-b"]);
}

#[test]
fn an_agent_that_was_never_heard_may_be_on_any_server_that_holds_the_log() {
    let mut bench = bench();
    bench.register("d", "of-d", 1, 1);
    bench.leases.servers_hold_log(bench.now_ms, &["n1".to_owned(), "n2".to_owned(), "n3".to_owned()]);
    assert!(bench.leases.any_server_silent(bench.now_ms), "n2 was never heard");
    bench.run(40_000, &[("a", 1), ("b", 1), ("c", 1)]);
    assert!(bench.due().is_empty(), "n2 is unreachable");
    let answering = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 400 {
            bench.leases.server_answered(bench.now_ms, "n2", "id-of-n2");
            bench.run(400, &[("a", 1), ("b", 1), ("c", 1)]);
            bench.beat("a", 1);
        }
    };
    // It may have begun anew just before it was heard first, and its clients may still be waiting.
    answering(&mut bench, TTL_MS + 3_200);
    assert!(bench.due().is_empty());
    answering(&mut bench, 1_600);
    assert_eq!(bench.due(), ["of-d"]);
}

#[test]
fn an_agent_that_was_never_heard_may_be_on_a_server_that_began_anew() {
    let mut bench = bench();
    bench.register("d", "of-d", 1, 1);
    bench.leases.servers_hold_log(bench.now_ms, &["n1".to_owned(), "n2".to_owned()]);
    bench.leases.server_answered(bench.now_ms, "n2", "id-of-n2");
    let answering = |bench: &mut Bench, id: &str, ms: u64| {
        for _ in 0..ms / 400 {
            bench.run(400, &[("a", 1), ("b", 1), ("c", 1)]);
            for agent in ["a", "b", "c"] {
                bench.beat(agent, 1);
            }
            bench.leases.server_answered(bench.now_ms, "n2", id);
        }
    };
    answering(&mut bench, "id-of-n2", 8_000);
    answering(&mut bench, "another-life", TTL_MS + 3_200);
    assert!(bench.due().is_empty());
    answering(&mut bench, "another-life", 1_600);
    assert_eq!(bench.due(), ["of-d"]);
}

/// What a replica says that heard `b` last on a server, by a heartbeat of this number.
fn left(server: &str, counter: u64) -> LeftAgent {
    LeftAgent { agent: agent_id("b"), session: session(1), counter, server: server.to_owned() }
}

/// Silent for so long, while another replica hears `n3`.
fn left_elsewhere(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / 400 {
        bench.leases.heard_elsewhere(bench.now_ms, &["n3".to_owned()]);
        cut_off(bench, 400);
        assert!(bench.due().is_empty());
    }
}

#[test]
fn whoever_leaves_an_agent_to_another_says_where_it_was_heard_last() {
    let mut bench = bench();
    left_elsewhere(&mut bench, TTL_MS - 2_000);
    assert_eq!(bench.leases.take_left(), []);
    left_elsewhere(&mut bench, 4_000);
    let counter = bench.beat_counter;
    let mut named = bench.leases.take_left();
    named.sort_by(|one, other| one.agent.cmp(&other.agent));
    assert_eq!(named.len(), 2, "{named:?}");
    assert_eq!((named[1].agent.as_str(), named[1].server.as_str()), ("b", "n3"));
    assert!(named[1].counter < counter);
    assert_eq!(bench.leases.take_left(), [], "until it is looked at again");
    left_elsewhere(&mut bench, 1_200);
    assert_eq!(bench.leases.take_left().len(), 2);
}

#[test]
fn of_many_that_are_left_a_beacon_names_a_few_and_all_have_their_turn() {
    let mut bench = bench();
    let agents: Vec<String> = (0..WAITING_MAX + 14).map(|number| format!("m{number}")).collect();
    for agent in &agents {
        bench.connect(agent, "n3", 7);
        bench.register(agent, &format!("of-{agent}"), 1, 1);
        bench.beat(agent, 1);
    }
    left_elsewhere(&mut bench, TTL_MS + 4_000);
    assert_eq!(bench.leases.left_waiting(), WAITING_MAX, "of {} and two more", agents.len());
    let mut named = BTreeSet::new();
    // None is named again before all the others.
    for _ in 0..(agents.len() + 2).div_ceil(NAMED_MAX) {
        let some = bench.leases.take_left();
        assert_eq!(some.len(), NAMED_MAX);
        named.extend(some.into_iter().map(|left| left.agent));
        left_elsewhere(&mut bench, 1_200);
        assert!(bench.leases.left_waiting() <= WAITING_MAX);
    }
    assert_eq!(named.len(), agents.len() + 2);
}

#[test]
fn whoever_heard_an_earlier_heartbeat_believes_the_other_and_decides_if_it_hears_that_server() {
    let mut bench = bench();
    let heard = bench.beat_counter;
    left_elsewhere(&mut bench, TTL_MS + 4_000);
    bench.leases.left_by_other(bench.now_ms, &[left("n1", heard - 3)]);
    left_elsewhere(&mut bench, 2_000);
    bench.leases.left_by_other(bench.now_ms, &[left("n1", heard + 1)]);
    bench.leases.left_by_other(bench.now_ms, &[left("n3", heard - 2)]);
    bench.leases.heard_elsewhere(bench.now_ms, &["n3".to_owned()]);
    cut_off(&mut bench, 1_200);
    assert_eq!(bench.due(), ["of-b"]);
}

#[test]
fn an_agent_that_is_heard_is_where_it_says() {
    let mut bench = bench();
    bench.leases.left_by_other(bench.now_ms, &[left("n1", bench.beat_counter + 1)]);
    bench.beat("b", 1);
    bench.beat("b", 1);
    let servers = bench.leases.servers(bench.now_ms);
    assert_eq!(servers.iter().find(|one| one.name == "n3").map(|one| one.agents), Some(2));
}
