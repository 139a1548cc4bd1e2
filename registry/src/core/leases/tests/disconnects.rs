//! What a broken connection begins, and what ends it.

use muster_schemas::event::ExpiryCause;

use super::super::disconnects::LINGERS_MAX;

use super::*;

const LINGER_MS: u64 = 2_000;

/// Agent `a` vouches for `i` over connection 7 to server `n1`, and was heard.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.connect("a", "n1", 7);
    bench.register_with_linger(vouching("a", "i", 1, 1), TTL_MS, LINGER_MS);
    bench.run(4_000, &[("a", 1)]);
    bench
}

#[test]
fn a_broken_connection_begins_the_linger_and_after_it_the_instance_is_due_with_the_brokers_words() {
    let mut bench = bench();
    assert_eq!(bench.disconnected("n1", 7), [agent_id("a")]);
    bench.run(LINGER_MS - MARK_MS, &[]);
    assert!(bench.due().is_empty());
    bench.run(MARK_MS, &[]);
    let due = bench.next_due().expect("the instance is due");
    assert_eq!(due.instances[0].cause, ExpiryCause::Disconnected);
    let evidence = &due.instances[0].evidence;
    assert_eq!(evidence.broker_reason.as_deref(), Some("Client Closed"));
    assert_eq!(evidence.server.as_deref(), Some("n1"));
}

#[test]
fn the_end_of_a_linger_asks_for_one_mark_of_its_own() {
    let mut bench = bench();
    bench.now_ms += 50;
    bench.disconnected("n1", 7);
    let begun_ms = bench.now_ms;
    bench.now_ms -= 50;
    bench.run(LINGER_MS, &[]);
    bench.now_ms = begun_ms + LINGER_MS - 1;
    assert!(!bench.leases.wants_mark(bench.now_ms));
    bench.now_ms += 1;
    assert!(bench.leases.wants_mark(bench.now_ms));
    assert!(!bench.leases.wants_mark(bench.now_ms));
    assert!(bench.due().is_empty(), "only a mark moves the lease clock");
    bench.mark();
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn a_heartbeat_over_a_newer_connection_ends_the_linger() {
    let mut bench = bench();
    bench.disconnected("n1", 7);
    bench.run(1_000, &[]);
    bench.connect("a", "n1", 8);
    bench.beat("a", 1);
    assert!(!bench.leases.any_lingering());
    bench.run(8_000, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn a_late_heartbeat_over_the_broken_connection_does_not_end_the_linger() {
    let mut bench = bench();
    bench.disconnected("n1", 7);
    bench.beat("a", 1);
    assert!(bench.leases.any_lingering());
    bench.run(LINGER_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn the_end_of_a_connection_that_was_replaced_already_means_nothing() {
    let mut bench = bench();
    bench.connect("a", "n1", 8);
    bench.beat("a", 1);
    assert_eq!(bench.disconnected("n1", 7), []);
    assert_eq!(bench.disconnected("n2", 8), [], "the same number on another server is another connection");
    bench.run(LINGER_MS + 1_000, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn an_answered_probe_ends_the_linger_as_well() {
    let mut bench = bench();
    bench.disconnected("n1", 7);
    bench.run(LINGER_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
    let listed = vouching("a", "i", 1, 1);
    assert!(bench.leases.vouched(&agent_id("a"), &answer(1, &[&listed])).is_empty());
    assert!(!bench.leases.any_lingering());
    bench.run(TTL_MS - 1_000, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn a_broken_connection_concerns_only_what_was_registered_in_the_life_heard_over_it() {
    let mut bench = bench();
    bench.register_with_linger(vouching("a", "later", 2, 1), TTL_MS, LINGER_MS);
    bench.disconnected("n1", 7);
    bench.run(LINGER_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn a_linger_runs_on_the_lease_clock() {
    let mut bench = bench();
    bench.disconnected("n1", 7);
    bench.run(LINGER_MS - MARK_MS, &[]);
    // The replica stands still; a heartbeat over a newer connection may wait in its queue.
    bench.now_ms += 60_000;
    bench.mark();
    assert!(bench.due().is_empty());
    bench.run(LINGER_MS - MARK_MS, &[]);
    assert!(bench.due().is_empty());
    bench.run(MARK_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn a_silence_that_lasted_a_ttl_needs_no_broken_connection() {
    let mut bench = bench();
    bench.register_with_linger(vouching("b", "slow", 1, 1), TTL_MS, TTL_MS);
    bench.connect("b", "n1", 9);
    bench.beat("b", 1);
    bench.run(2_000, &[]);
    bench.disconnected("n1", 9);
    bench.run(TTL_MS - 2_000, &[]);
    let causes: Vec<_> = std::iter::from_fn(|| bench.next_due()).flat_map(|due| due.instances).collect();
    let slow = causes.iter().find(|due| due.instance.id().as_str() == "slow").expect("it is due");
    assert_eq!(slow.cause, ExpiryCause::Silent);
    assert_eq!(slow.evidence.broker_reason.as_deref(), Some("Client Closed"));
}

#[test]
fn agents_that_share_a_connection_lose_it_together() {
    let mut bench = bench();
    bench.connect("b", "n1", 7);
    bench.register_with_linger(vouching("b", "j", 1, 1), TTL_MS, LINGER_MS);
    bench.beat("b", 1);
    assert_eq!(bench.disconnected("n1", 7), [agent_id("a"), agent_id("b")]);
    assert_eq!(bench.disconnected("n1", 7), [], "said once more it is no news");
}

#[test]
fn the_ends_of_lingers_beyond_what_is_remembered_are_noticed_with_the_next_ordinary_mark() {
    let mut bench = bench();
    let agents = LINGERS_MAX + 10;
    for number in 0..agents {
        let name = format!("b{number}");
        bench.connect(&name, "n1", number as u64 + 100);
        bench.register_with_linger(vouching(&name, &name, 1, 1), TTL_MS, LINGER_MS);
        bench.beat(&name, 1);
    }
    bench.mark();
    for number in 0..agents {
        assert_eq!(bench.disconnected("n1", number as u64 + 100).len(), 1);
    }
    assert_eq!(bench.leases.lingers.len(), LINGERS_MAX);
    bench.run(LINGER_MS, &[]);
    let last = format!("b{}", agents - 1);
    for _ in 0..100 {
        bench.run(MARK_MS, &[]);
        if bench.due().contains(&last) {
            return;
        }
    }
    panic!("{last} is never due");
}
