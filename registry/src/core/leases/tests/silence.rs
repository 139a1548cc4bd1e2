//! When silence means something, and when it is used up.

use super::super::{HANDED_OUT_MS, MARK_GAP_MS_MAX, MARK_LATE_MS_MAX, RETRY_MS};
use super::*;

fn charged(heard: &Heard) -> Option<u64> {
    match heard {
        Heard::OwnMark { charged_ms } => *charged_ms,
        other => panic!("not a mark: {other:?}"),
    }
}

#[test]
fn an_agent_that_is_heard_is_never_due() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    for _ in 0..60 {
        bench.run(1_000, &[("a", 1)]);
        assert!(bench.due().is_empty());
    }
}

#[test]
fn a_silent_agent_is_due_after_its_ttl_and_not_before() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(4_000, &[("a", 1)]);
    let heard_at = bench.now_ms - (bench.now_ms % 2_000);
    bench.run(heard_at + TTL_MS - 200 - bench.now_ms, &[]);
    assert!(bench.due().is_empty());
    bench.run(400, &[]);
    let due = bench.next_due().expect("the instance is due");
    assert_eq!(due.agent, agent_id("a"));
    let evidence = &due.instances[0].evidence;
    assert_eq!(evidence.last_heartbeat_at.unwrap().as_ms(), i64::try_from(heard_at).unwrap());
    assert!((TTL_MS..=TTL_MS + 400).contains(&evidence.charged_ms.unwrap()));
    assert_eq!(evidence.server.as_deref(), Some("server-of-a"));
    assert_eq!(due.instances[0].observed_sequence, bench.sequence);
}

#[test]
fn without_a_heartbeat_a_lease_runs_from_its_registration_or_from_the_beginning_of_listening() {
    let mut bench = Bench::silent();
    bench.register("a", "i", 1, 1);
    // Folding takes a minute before anything is heard.
    bench.now_ms += 60_000;
    bench.mark();
    bench.run(5_000, &[]);
    bench.register("b", "j", 1, 1);
    bench.run(4_800, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
    bench.run(4_800, &[]);
    assert!(!bench.due().contains(&"j".to_owned()));
    bench.run(200, &[]);
    assert!(bench.due().contains(&"j".to_owned()));
}

#[test]
fn instances_of_one_agent_are_due_by_their_own_ttls() {
    let mut bench = Bench::new();
    bench.register_with_ttl(vouching("a", "slow", 1, 1), 20_000);
    bench.register_with_ttl(vouching("a", "quick", 1, 1), 2_000);
    bench.run(2_000, &[]);
    assert_eq!(bench.due(), ["quick"]);
    bench.run(2_800, &[]);
    assert!(bench.due().is_empty());
    bench.run(15_200, &[]);
    assert!(bench.due().contains(&"slow".to_owned()));
}

#[test]
fn a_static_instance_has_no_lease() {
    let mut bench = Bench::new();
    bench.register_with_ttl(vouching("a", "i", 1, 1), 0);
    assert_eq!(bench.leases.leases_count(), 0);
    bench.run(60_000, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn a_mark_charges_the_time_since_the_one_before_it() {
    let mut bench = Bench::new();
    for (wait_ms, late_ms) in [(200, 0), (700, MARK_LATE_MS_MAX), (100, 0), (MARK_GAP_MS_MAX, 0)] {
        bench.now_ms += wait_ms;
        assert_eq!(charged(&bench.late_mark(late_ms)), Some(wait_ms));
    }
    assert_eq!(bench.leases.charged_total_ms(), 1_000 + MARK_GAP_MS_MAX);
}

#[test]
fn nothing_is_charged_around_a_late_mark() {
    let mut bench = Bench::new();
    bench.now_ms += 200;
    assert_eq!(charged(&bench.late_mark(MARK_LATE_MS_MAX + 1)), None);
    bench.now_ms += 200;
    assert_eq!(charged(&bench.mark()), None);
    bench.now_ms += 200;
    assert_eq!(charged(&bench.mark()), Some(200));
}

#[test]
fn nothing_is_charged_for_a_lost_mark_nor_for_one_that_was_not_sent() {
    let mut bench = Bench::new();
    bench.mark_counter += 1;
    bench.now_ms += 400;
    assert_eq!(charged(&bench.mark()), None);
    bench.now_ms += MARK_GAP_MS_MAX + 1;
    assert_eq!(charged(&bench.mark()), None);
    bench.now_ms += 200;
    assert_eq!(charged(&bench.mark()), Some(200));
}

#[test]
fn a_mark_from_the_future_is_no_mark() {
    let mut bench = Bench::new();
    bench.mark_counter += 1;
    let payload =
        format!(r#"{{"v":1,"replica":"r1","counter":{},"sent_ms":{}}}"#, bench.mark_counter, bench.now_ms + 1);
    assert_eq!(charged(&bench.hear("muster.default.heartbeat.-.r1", payload.as_bytes())), None);
}

#[test]
fn marks_of_other_replicas_charge_nothing() {
    let mut bench = Bench::new();
    let heard = bench.hear("muster.default.heartbeat.-.r2", br#"{"v":1,"replica":"r2","counter":1,"sent_ms":1}"#);
    assert_eq!(heard, Heard::OthersMark);
    bench.now_ms += 200;
    assert_eq!(charged(&bench.mark()), Some(200));
}

#[test]
fn after_a_freeze_the_charge_begins_again_at_zero() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS - 200, &[]);
    // The replica stands still for a minute; what waited in its buffers is read first, the next mark after it.
    bench.now_ms += 60_000;
    bench.run(TTL_MS, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn a_backlog_expires_nobody_however_long_it_lasts() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    for _ in 0..600 {
        bench.now_ms += 200;
        bench.late_mark(MARK_LATE_MS_MAX + 400);
        assert!(bench.due().is_empty());
    }
    assert_eq!(bench.leases.uncharged_ms(bench.now_ms, 1_000), 600 * 200);
}

#[test]
fn lost_heartbeats_let_every_silence_count_from_zero() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS - 200, &[]);
    bench.leases.gap();
    bench.run(TTL_MS, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn flapping_cannot_keep_the_dead_beyond_three_ttls_in_all() {
    let mut bench = Bench::new();
    bench.register("a", "dead", 1, 1);
    bench.register("b", "living", 2, 1);
    let mut charged_ms = 0;
    while bench.due().is_empty() {
        // Nine seconds of listening, then a break.
        bench.run(9_000, &[("b", 2)]);
        charged_ms += 9_000;
        if bench.due() == ["dead"] {
            break;
        }
        bench.leases.gap();
        bench.now_ms += 200;
        bench.mark();
        assert!(charged_ms <= 4 * TTL_MS, "the dead one is kept for ever");
    }
    assert!(charged_ms >= 3 * TTL_MS, "due after {charged_ms} ms, though no silence lasted a TTL");
}

#[test]
fn what_was_handed_out_comes_back_only_if_nothing_becomes_of_it() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
    assert_eq!(bench.leases.suspects(), 1);
    bench.run(HANDED_OUT_MS - 200, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
    assert_eq!(bench.leases.suspects(), 1);
}

#[test]
fn a_decision_that_came_to_nothing_is_made_anew_soon() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
    bench.leases.retry(&agent_id("a"));
    bench.run(RETRY_MS - 200, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn an_accepted_expiry_ends_the_lease() {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.run(TTL_MS, &[]);
    let due = bench.next_due().unwrap();
    bench.expire(&due);
    assert_eq!((bench.leases.leases_count(), bench.leases.suspects()), (0, 0));
    bench.run(4 * TTL_MS, &[]);
    assert!(bench.due().is_empty());
}

#[test]
fn a_probe_s_answer_renews_what_it_lists_and_names_what_it_does_not() {
    let mut bench = Bench::new();
    let listed = bench.register("a", "listed", 1, 1);
    bench.register("a", "unlisted", 1, 1);
    bench.run(TTL_MS, &[]);
    assert_eq!(bench.due(), ["listed", "unlisted"]);
    let unlisted = bench.leases.vouched(&agent_id("a"), &answer(1, &[&listed]));
    assert_eq!(unlisted.len(), 1);
    assert_eq!(unlisted[0].id().as_str(), "unlisted");
    assert_eq!(bench.leases.suspects(), 1);
    bench.run(TTL_MS - 200, &[]);
    assert!(!bench.due().contains(&"listed".to_owned()));
    bench.run(200, &[]);
    assert!(bench.due().contains(&"listed".to_owned()));
}

#[test]
fn what_an_earlier_process_of_an_agent_lists_does_not_renew_what_a_later_one_registered() {
    let mut bench = Bench::new();
    bench.register("a", "i", 2, 1);
    bench.run(TTL_MS, &[]);
    assert_eq!(bench.due(), ["i"]);
    let earlier = vouching("a", "i", 1, 5);
    assert_eq!(bench.leases.vouched(&agent_id("a"), &answer(1, &[&earlier])).len(), 1, "it is not what is held");
    assert_eq!(bench.leases.suspects(), 1);
    let later = vouching("a", "i", 3, 1);
    assert!(bench.leases.vouched(&agent_id("a"), &answer(3, &[&later])).is_empty(), "it is on its way");
    assert_eq!(bench.leases.suspects(), 0);
}

#[test]
fn a_short_ttl_is_used_up_in_time_after_it_was_handed_out_and_renewed() {
    let mut bench = Bench::new();
    bench.register_with_ttl(vouching("a", "i", 1, 1), 1_000);
    bench.run(1_000, &[]);
    assert_eq!(bench.due(), ["i"]);
    bench.beat("a", 1);
    assert_eq!(bench.leases.suspects(), 0);
    bench.run(800, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn a_shorter_ttl_counts_from_its_registration_on() {
    let mut bench = Bench::new();
    bench.register_with_ttl(vouching("a", "i", 1, 1), 60_000);
    bench.beat("a", 1);
    bench.register_with_ttl(vouching("a", "i", 1, 2), 2_000);
    bench.run(1_800, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}
