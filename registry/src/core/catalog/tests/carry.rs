//! Entries of a lost log in the one that follows it.

use muster_schemas::entry::{Intent, Tombstone};
use muster_schemas::{Cause, ChangeKind};

use super::super::{CARRY_MS, KEPT_MS};
use super::*;

fn held(incarnation: u64, generation: u64) -> Entry {
    Entry::Instance(Arc::new(Instance {
        registration: registration(vouching("a", "i", incarnation, generation)),
        created_revision: 700,
        modified_revision: 800,
        maintenance: None,
    }))
}

fn gone(incarnation: u64, generation: u64, cause: Cause) -> Entry {
    Entry::Tombstone(Arc::new(Tombstone {
        vouching: vouching("a", "i", incarnation, generation),
        cause,
        actor: "agent/a".into(),
        revision: 900,
        at: Timestamp::from_ms(BEGIN_MS - 1_000),
        evidence: None,
    }))
}

fn wish(intent: IntentKind, incarnation: Option<Incarnation>) -> Entry {
    Entry::Intent(Arc::new(Intent {
        service: orders(),
        instance: id("i"),
        intent,
        incarnation,
        who: "ann".parse().unwrap(),
        why: "disk".into(),
        until: None,
        sequence: 900,
    }))
}

#[test]
fn a_carried_instance_is_added_with_revisions_of_the_new_log() {
    let mut bench = Bench::recovering();
    let change = bench.carry(2, held(1, 4)).change.unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Added, Cause::CarriedOver));
    assert_eq!((change.previous_revision, change.revision), (0, bench.sequence));
    let instance = bench.instance("i").unwrap();
    assert_eq!((instance.created_revision, instance.modified_revision), (bench.sequence, bench.sequence));
    assert_eq!(bench.last_sequence("i"), bench.sequence);
}

#[test]
fn what_the_agent_has_said_since_outranks_what_is_carried_over() {
    let mut bench = Bench::recovering();
    bench.register("a", "i", 1, 5);
    for entry in [held(1, 4), held(1, 5), gone(1, 4, Cause::Deregistered)] {
        assert!(!bench.catalog.lacks(&entry));
        assert_ignored(&bench.carry(2, entry), Reason::Stale);
    }
    let newer = held(1, 6);
    assert!(bench.catalog.lacks(&newer));
    assert_eq!(bench.carry(2, newer).change.unwrap().change, ChangeKind::Updated);
}

#[test]
fn at_a_tie_the_tombstone_wins() {
    let mut bench = Bench::recovering();
    bench.carry(2, held(1, 4));
    let change = bench.carry(2, gone(1, 4, Cause::Deregistered)).change.unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Removed, Cause::Deregistered));
    assert_ignored(&bench.carry(2, held(1, 4)), Reason::Stale);
    assert_ignored(&bench.carry(2, gone(1, 4, Cause::Expired)), Reason::Stale);
    assert_ignored(&bench.register("a", "i", 1, 5), Reason::Stale);
}

#[test]
fn an_expiry_of_the_lost_log_ends_nobody_who_was_registered_since() {
    let mut bench = Bench::recovering();
    bench.register("a", "i", 1, 5);
    for expired in [gone(1, 5, Cause::Expired), gone(2, 1, Cause::Expired)] {
        assert!(!bench.catalog.lacks(&expired));
        assert_ignored(&bench.carry(2, expired), Reason::Stale);
    }
    let change = bench.carry(2, gone(2, 1, Cause::Evicted)).change.unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Removed, Cause::Evicted));
}

#[test]
fn a_carried_tombstone_keeps_its_cause_and_its_age() {
    let mut bench = Bench::recovering();
    let folded = bench.carry(2, gone(1, 4, Cause::Expired));
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    let tombstone = bench.catalog.tombstone(&orders(), &id("i")).unwrap();
    assert_eq!((tombstone.cause, tombstone.actor.as_str()), (Cause::Expired, "agent/a"));
    assert_eq!((tombstone.at.as_ms(), tombstone.revision), (BEGIN_MS - 1_000, bench.sequence));
    bench.now_ms = BEGIN_MS - 1_000 + KEPT_MS - 1;
    bench.register("b", "other", 1, 1);
    assert_eq!(bench.catalog.tombstones_count(), 0);
}

#[test]
fn a_carried_tombstone_must_say_how_the_instance_ended() {
    let mut bench = Bench::recovering();
    assert_ignored(&bench.carry(2, gone(1, 4, Cause::Registered)), Reason::Malformed);
    assert_ignored(&bench.carry(2, wish(IntentKind::Clear, None)), Reason::Malformed);
    assert_ignored(&bench.carry(2, wish(IntentKind::Evict, None)), Reason::Malformed);
}

#[test]
fn carried_maintenance_holds_in_either_order() {
    let mut intent_first = Bench::recovering();
    intent_first.carry(2, wish(IntentKind::Maintenance, None));
    let change = intent_first.carry(2, held(1, 4)).change.unwrap();
    assert!(change.value.as_ref().unwrap().maintenance.is_some());

    let mut instance_first = Bench::recovering();
    instance_first.carry(2, held(1, 4));
    let change = instance_first.carry(2, wish(IntentKind::Maintenance, None)).change.unwrap();
    assert_eq!(change.cause, Cause::CarriedOver);
    assert!(change.value.as_ref().unwrap().maintenance.is_some());
    assert_eq!(instance_first.catalog.intents().next().unwrap().sequence, instance_first.sequence);
}

#[test]
fn a_carried_fence_puts_out_who_registered_before_anybody_told_it() {
    let mut bench = Bench::recovering();
    bench.register("a", "i", 1, 9);
    let folded = bench.carry(2, wish(IntentKind::Evict, Some(incarnation(1))));
    assert_eq!(folded.change.as_ref().unwrap().cause, Cause::Evicted);
    assert_eq!(told(&folded, "a"), [NoticeCode::Fenced]);
    assert_ignored(&bench.register("a", "i", 1, 10), Reason::Fenced);
    assert_accepted(&bench.register("a", "i", 2, 1));
}

#[test]
fn a_carried_fence_below_the_incarnation_in_force_is_stale_and_a_carried_instance_below_a_fence_too() {
    let mut bench = Bench::recovering();
    bench.register("a", "i", 2, 1);
    assert_ignored(&bench.carry(2, wish(IntentKind::Evict, Some(incarnation(1)))), Reason::Stale);

    let mut bench = Bench::recovering();
    bench.carry(2, wish(IntentKind::Evict, Some(incarnation(2))));
    assert!(!bench.catalog.lacks(&held(2, 1)) && !bench.catalog.lacks(&held(1, 1)));
    assert_ignored(&bench.carry(2, held(2, 1)), Reason::Fenced);
    assert_ignored(&bench.carry(2, held(1, 1)), Reason::Stale);
    assert_accepted(&bench.carry(2, held(3, 1)));
    assert_eq!(bench.catalog.intents_count(), 0);
}

#[test]
fn an_intent_of_the_new_log_outranks_a_carried_one() {
    let mut bench = Bench::recovering();
    bench.intent("i", IntentKind::Maintenance, None);
    let entry = wish(IntentKind::Maintenance, None);
    assert!(!bench.catalog.lacks(&entry));
    assert_ignored(&bench.carry(2, entry), Reason::Stale);
}

#[test]
fn an_intent_whose_end_has_come_is_not_carried_over() {
    let mut bench = Bench::recovering();
    let until = |ms: i64| {
        let Entry::Intent(intent) = wish(IntentKind::Maintenance, None) else { unreachable!() };
        Entry::Intent(Arc::new(Intent { until: Some(Timestamp::from_ms(ms)), ..Arc::unwrap_or_clone(intent) }))
    };
    let ended = until(bench.now_ms);
    assert!(!bench.catalog.lacks(&ended));
    assert_ignored(&bench.carry(2, ended), Reason::Stale);
    let lasting = until(bench.now_ms + 60_000);
    assert_accepted(&bench.carry(2, lasting));
}

#[test]
fn entries_are_carried_only_into_a_log_that_follows_another_and_only_for_ten_minutes() {
    let mut first = Bench::ready();
    assert!(!first.catalog.accepts_carry());
    assert_ignored(&first.carry(1, held(1, 1)), Reason::CarryClosed);

    let mut bench = Bench::recovering();
    assert!(bench.catalog.accepts_carry());
    let began_ms = bench.now_ms;
    assert_ignored(&bench.carry(1, held(1, 1)), Reason::WrongEpoch);
    bench.now_ms = began_ms + CARRY_MS - 1;
    assert_accepted(&bench.carry(2, held(1, 1)));
    assert_ignored(&bench.carry(2, held(1, 2)), Reason::CarryClosed);
}

#[test]
fn a_whole_catalog_carried_over_in_the_order_of_its_entries_is_the_same_again() {
    let mut old = Bench::ready();
    old.register("a", "i", 1, 1);
    old.intent("i", IntentKind::Maintenance, None);
    old.register("a", "j", 1, 1);
    old.intent("j", IntentKind::Evict, None);
    old.register("a", "k", 1, 1);
    old.expire("k");
    let mut new = Bench::recovering();
    for kept in old.catalog.entries() {
        assert!(new.catalog.lacks(&kept.entry));
        assert_accepted(&new.carry(2, kept.entry));
    }
    for kept in old.catalog.entries() {
        assert!(!new.catalog.lacks(&kept.entry), "{kept:?}");
    }
    let names = |catalog: &Catalog| {
        catalog.entries().map(|kept| (kept.entry.instance().clone(), kept.entry.service().clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&new.catalog), names(&old.catalog));
    assert!(new.instance("i").unwrap().maintenance.is_some());
}
