//! Order within one life, and between lives.

use muster_schemas::HealthStatus::{Critical, Passing, Warning};
use muster_schemas::{Cause, ChangeKind};

use super::*;

#[test]
fn a_registration_is_accepted_only_above_the_order_in_force() {
    let mut bench = Bench::ready();
    assert_accepted(&bench.register("a", "i", 5, 3));
    for (incarnation, generation) in [(5, 3), (5, 2), (4, 9)] {
        let folded = bench.register("a", "i", incarnation, generation);
        assert_ignored(&folded, Reason::Stale);
        assert_eq!(folded.notices[0].1.in_force, Some((super::incarnation(5), 3)));
    }
    assert_no_op(&bench.register("a", "i", 5, 4));
    assert_accepted(&bench.register("a", "i", 6, 1));
}

#[test]
fn a_no_op_moves_the_order_and_the_last_sequence_but_makes_no_change() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let before = bench.instance("i").unwrap();
    assert_no_op(&bench.register("a", "i", 1, 2));
    assert_no_op(&bench.health("a", "i", (1, 3), Passing));
    let after = bench.instance("i").unwrap();
    assert_eq!(after.vouching().generation, 3);
    assert_eq!(after.modified_revision, before.modified_revision);
    assert_eq!(bench.last_sequence("i"), bench.sequence);
    assert_eq!(bench.catalog.service(&orders()).unwrap().revision(), before.modified_revision);
    assert_ignored(&bench.register("a", "i", 1, 3), Reason::Stale);
}

#[test]
fn a_deregistered_instance_returns_only_with_a_larger_incarnation() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    assert_accepted(&bench.deregister("a", "i", 1, 2));
    assert_ignored(&bench.register("a", "i", 1, 3), Reason::Stale);
    assert_accepted(&bench.register("a", "i", 2, 1));
}

#[test]
fn an_expired_instance_returns_with_a_higher_generation() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 5);
    assert_accepted(&bench.expire("i"));
    assert_ignored(&bench.register("a", "i", 1, 5), Reason::Stale);
    let folded = bench.register("a", "i", 1, 6);
    assert_eq!(folded.change.unwrap().change, ChangeKind::Added);
}

#[test]
fn a_deregistration_after_an_expiry_settles_it_without_a_change() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.expire("i");
    let folded = bench.deregister("a", "i", 1, 2);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    assert_ignored(&bench.register("a", "i", 1, 3), Reason::Stale);
}

#[test]
fn a_deregistration_of_an_unknown_instance_leaves_a_tombstone() {
    let mut bench = Bench::ready();
    let folded = bench.deregister("a", "i", 1, 2);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    let tombstone = bench.catalog.tombstone(&orders(), &id("i")).unwrap();
    assert_eq!((tombstone.cause, tombstone.revision), (Cause::Deregistered, bench.sequence));
    assert_ignored(&bench.register("a", "i", 1, 1), Reason::Stale);
    assert_ignored(&bench.register("a", "i", 1, 3), Reason::Stale);
    assert_accepted(&bench.register("a", "i", 2, 1));
}

#[test]
fn only_the_owner_may_deregister_and_report_health() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    assert_ignored(&bench.deregister("b", "i", 2, 1), Reason::IdentityMismatch);
    assert_ignored(&bench.health("b", "i", (1, 2), Critical), Reason::IdentityMismatch);
    assert_ignored(&bench.register("b", "i", 1, 2), Reason::IdentityMismatch);
    assert_accepted(&bench.deregister("a", "i", 1, 2));
    assert_ignored(&bench.deregister("b", "i", 2, 1), Reason::IdentityMismatch);
}

#[test]
fn another_agent_takes_over_with_a_larger_incarnation_and_the_displaced_one_is_told() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 9);
    let folded = bench.register("b", "i", 2, 1);
    let change = folded.change.clone().unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Updated, Cause::Updated));
    assert_eq!(told(&folded, "a"), [NoticeCode::Displaced]);
    assert_eq!(folded.notices[0].1.session, Some(vouching("b", "i", 2, 1).session));
    assert_ignored(&bench.register("a", "i", 1, 10), Reason::Stale);
    assert_ignored(&bench.deregister("a", "i", 1, 11), Reason::IdentityMismatch);
}

#[test]
fn late_messages_of_an_earlier_incarnation_do_nothing() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.register("a", "i", 2, 1);
    let before = bench.instance("i");
    assert_ignored(&bench.deregister("a", "i", 1, 2), Reason::Stale);
    assert_ignored(&bench.health("a", "i", (1, 3), Critical), Reason::Stale);
    // Nor does anything of the same order, in whichever form.
    assert_ignored(&bench.deregister("a", "i", 2, 1), Reason::Stale);
    assert_ignored(&bench.health("a", "i", (2, 1), Critical), Reason::Stale);
    assert_eq!(bench.instance("i"), before);
}

#[test]
fn health_of_a_vouching_that_never_registered_is_of_an_unknown_instance() {
    let mut bench = Bench::ready();
    assert_ignored(&bench.health("a", "i", (1, 1), Warning), Reason::UnknownInstance);
    bench.register("a", "i", 1, 1);
    assert_ignored(&bench.health("a", "i", (2, 1), Warning), Reason::UnknownInstance);
    bench.expire("i");
    let folded = bench.health("a", "i", (1, 2), Warning);
    assert_ignored(&folded, Reason::UnknownInstance);
    assert_eq!(told(&folded, "a"), [NoticeCode::UnknownInstance]);
}

#[test]
fn health_of_a_registration_that_the_log_has_lost_is_ignored_and_its_agent_told_to_register() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 4);
    assert_accepted(&bench.health_of("a", "i", (1, 5), Some(4), Warning));
    let folded = bench.health_of("a", "i", (1, 7), Some(6), Passing);
    assert_ignored(&folded, Reason::UnknownInstance);
    assert_eq!(told(&folded, "a"), [NoticeCode::UnknownInstance]);
    assert_accepted(&bench.health_of("a", "i", (1, 8), Some(5), Passing));
    assert_accepted(&bench.health_of("a", "i", (1, 9), None, Warning));
}

#[test]
fn an_incarnation_more_than_a_day_ahead_of_stream_time_is_refused_with_stream_time() {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    let mut bench = Bench::ready();
    let mut ahead = vouching("a", "i", 1, 1);
    // The event itself moves stream time by a millisecond.
    let now_ms = u64::try_from(bench.now_ms).unwrap() + 1;
    ahead.incarnation = Incarnation::from_parts(now_ms + DAY_MS + 1, 0);
    let folded = bench.register_with(ahead.clone(), |_| {});
    assert_ignored(&folded, Reason::FutureIncarnation);
    assert_eq!(folded.notices[0].1.stream_time, Some(bench.catalog.stream_time()));
    let deregistration = Deregistration { vouching: ahead.clone(), reason: DeregisterReason::Stopped, detail: None };
    ahead.incarnation = Incarnation::from_parts(now_ms + DAY_MS + 1, 0);
    let folded =
        bench.send(agent("a"), EventData::Deregister(Deregistration { vouching: ahead.clone(), ..deregistration }));
    assert_accepted(&folded);
    ahead.instance = id("j");
    ahead.incarnation = Incarnation::from_parts(now_ms + DAY_MS + 3, 0);
    let report = HealthReport { vouching: ahead, registered_generation: None, health: health(Passing) };
    assert_ignored(&bench.send(agent("a"), EventData::Health(report)), Reason::FutureIncarnation);
}

#[test]
fn stream_time_never_goes_back() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let before = bench.catalog.stream_time();
    bench.now_ms -= 3_600_000;
    bench.register("a", "j", 1, 1);
    assert_eq!(bench.catalog.stream_time(), before);
    assert_eq!(bench.instance("j").unwrap().created_revision, bench.sequence);
}

#[test]
fn the_same_sequence_is_not_folded_twice() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let before = bench.catalog.clone();
    bench.sequence -= 1;
    let folded = bench.register("a", "i", 2, 1);
    assert_ignored(&folded, Reason::Superseded);
    assert_eq!(bench.catalog, before);
}
