//! When a heartbeat's digest proves that the agent should announce itself.

use super::super::Verdict::{Differs, Same, Unsettled};
use super::*;

#[track_caller]
fn verdict(bench: &mut Bench, claimed: Digest, acked: Option<MinRevision>) -> super::super::Verdict {
    match bench.beat_with("a", 1, claimed, acked) {
        Heard::Beat(beat) => beat.verdict,
        other => panic!("dropped: {other:?}"),
    }
}

#[test]
fn what_is_held_is_what_was_registered_in_the_session_static_instances_left_out() {
    let mut bench = Bench::new();
    let one = bench.register("a", "i", 1, 1);
    let two = bench.register("a", "j", 1, 4);
    bench.register_with_ttl(vouching("a", "static", 1, 1), 0);
    bench.register("a", "of-another-life", 2, 1);
    let claimed = item(&one).plus(item(&two));
    let acked = bench.acked();
    assert_eq!(verdict(&mut bench, claimed, acked), Same);
    // A no-op raises the generation, and the digest with it.
    let raised = bench.register("a", "i", 1, 2);
    let acked = bench.acked();
    assert_eq!(verdict(&mut bench, item(&raised).plus(item(&two)), acked), Same);
    bench.deregister("a", "j", 1, 5);
    assert_eq!(verdict(&mut bench, item(&raised), acked), Same);
}

#[test]
fn a_difference_at_a_revision_that_was_folded_proves_itself_at_once() {
    let mut bench = Bench::new();
    let one = bench.register("a", "i", 1, 1);
    let acked = bench.acked();
    let unknown = vouching("a", "lost", 1, 1);
    assert_eq!(verdict(&mut bench, item(&one).plus(item(&unknown)), acked), Differs);
}

#[test]
fn a_replica_that_has_not_folded_that_far_concludes_nothing() {
    let mut bench = Bench::new();
    let ahead = Some(MinRevision(bench.catalog.epoch(), bench.sequence + 1));
    let claimed = item(&vouching("a", "i", 1, 1));
    for _ in 0..10 {
        bench.now_ms += 2_000;
        assert_eq!(verdict(&mut bench, claimed, ahead), Unsettled);
    }
    bench.register("a", "i", 1, 1);
    assert_eq!(verdict(&mut bench, claimed, ahead), Same);
}

#[test]
fn an_agent_s_own_event_that_it_does_not_know_to_be_acknowledged_is_waited_for() {
    let mut bench = Bench::new();
    let before = bench.register("a", "i", 1, 1);
    let acked = bench.acked();
    bench.register("a", "i", 1, 2);
    assert_eq!(verdict(&mut bench, item(&before), acked), Unsettled);
    bench.now_ms += 2_000;
    assert_eq!(verdict(&mut bench, item(&before), acked), Differs);
}

#[test]
fn an_agent_whose_instance_expired_differs_at_its_next_heartbeat() {
    let mut bench = Bench::new();
    let one = bench.register("a", "i", 1, 1);
    let acked = bench.acked();
    bench.run(TTL_MS, &[]);
    let due = bench.next_due().unwrap();
    bench.expire(&due);
    assert_eq!(verdict(&mut bench, item(&one), acked), Differs);
}

#[test]
fn without_a_revision_or_with_one_of_an_older_log_a_difference_must_last_two_seconds() {
    let mut bench = Bench::new();
    bench.begin(3, Some(1));
    let claimed = item(&vouching("a", "i", 1, 1));
    for acked in [None, Some(MinRevision(None, 1)), Some(MinRevision(Some(epoch_id(1)), 1))] {
        assert_eq!(verdict(&mut bench, claimed, acked), Unsettled);
        bench.now_ms += 1_999;
        assert_eq!(verdict(&mut bench, claimed, acked), Unsettled);
        bench.now_ms += 1;
        assert_eq!(verdict(&mut bench, claimed, acked), Differs);
        // What it claims changes: the time begins anew.
        let other = item(&vouching("a", "j", 1, 1));
        assert_eq!(verdict(&mut bench, other, acked), Unsettled);
    }
}

#[test]
fn a_revision_of_a_newer_log_proves_nothing() {
    let mut bench = Bench::new();
    let newer = Some(MinRevision(Some(epoch_id(9)), 1));
    let claimed = item(&vouching("a", "i", 1, 1));
    for _ in 0..10 {
        bench.now_ms += 2_000;
        assert_eq!(verdict(&mut bench, claimed, newer), Unsettled);
    }
}

#[test]
fn without_a_log_nothing_is_concluded() {
    let mut bench = Bench::new();
    bench.catalog = Catalog::default();
    let claimed = item(&vouching("a", "i", 1, 1));
    for _ in 0..10 {
        bench.now_ms += 2_000;
        assert_eq!(verdict(&mut bench, claimed, None), Unsettled);
    }
}

#[test]
fn an_agent_that_vouches_for_nothing_and_is_held_for_nothing_is_the_same() {
    let mut bench = Bench::new();
    assert_eq!(verdict(&mut bench, Digest::ZERO, None), Same);
}
