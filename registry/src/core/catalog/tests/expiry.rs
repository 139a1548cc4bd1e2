//! Proposals to expire: optimistic concurrency, in the fold.

use muster_schemas::HealthStatus::Passing;
use muster_schemas::{Cause, ChangeKind};

use super::*;

#[test]
fn an_expiry_is_accepted_only_if_nothing_has_happened_since_it_was_decided() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let observed = bench.last_sequence("i");
    assert_no_op(&bench.health("a", "i", (1, 2), Passing));
    assert_ignored(&bench.expire_observed("i", 1, observed), Reason::Superseded);
    let folded = bench.expire("i");
    let change = folded.change.clone().unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Removed, Cause::Expired));
    assert_eq!(change.actor, "registry/r1");
    assert_eq!(told(&folded, "a"), [NoticeCode::Expired]);
}

#[test]
fn an_expiry_says_what_convinced_the_replica() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let evidence = bench.expire("i").change.unwrap().evidence.clone().unwrap();
    assert_eq!((evidence.reason.as_deref(), evidence.charged_ms), (Some("silent"), Some(10_000)));
    let tombstone = bench.catalog.tombstone(&orders(), &id("i")).unwrap();
    assert_eq!(tombstone.evidence.as_ref(), Some(&evidence));
}

#[test]
fn an_expiry_of_another_epoch_is_ignored() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let observed = bench.last_sequence("i");
    assert_ignored(&bench.expire_observed("i", 2, observed), Reason::WrongEpoch);
    assert!(bench.instance("i").is_some());
}

#[test]
fn an_expiry_of_what_is_not_there_is_ignored() {
    let mut bench = Bench::ready();
    assert_ignored(&bench.expire_observed("i", 1, 0), Reason::UnknownInstance);
    bench.register("a", "i", 1, 1);
    bench.expire("i");
    assert_ignored(&bench.expire("i"), Reason::Superseded);
}

#[test]
fn a_static_instance_does_not_expire_and_ends_by_deregistration() {
    let mut bench = Bench::ready();
    bench.register_with(vouching("a", "i", 1, 1), |registration| {
        registration.ttl_ms = 0;
        registration.linger_ms = 0;
    });
    assert_ignored(&bench.expire("i"), Reason::StaticInstance);
    assert_accepted(&bench.deregister("a", "i", 1, 2));
    assert!(bench.instance("i").is_none());
}

#[test]
fn two_proposals_for_the_same_instance_remove_it_once() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let observed = bench.last_sequence("i");
    assert_accepted(&bench.expire_observed("i", 1, observed));
    assert_ignored(&bench.expire_observed("i", 1, observed), Reason::Superseded);
}

#[test]
fn an_intent_moves_the_last_sequence_too() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", IntentKind::Maintenance, None);
    let observed = bench.last_sequence("i");
    assert_eq!(observed, bench.sequence);
    // The same wish again: no change, but an expiry decided before it is late.
    assert_accepted(&bench.intent("i", IntentKind::Maintenance, None));
    assert_ignored(&bench.expire_observed("i", 1, observed), Reason::Superseded);
}
