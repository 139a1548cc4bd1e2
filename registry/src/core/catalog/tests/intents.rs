//! What operators want outranks what agents say.

use muster_schemas::HealthStatus::Critical;
use muster_schemas::entry::IntentKind::{Clear, Evict, Maintenance};
use muster_schemas::{Cause, ChangeKind, EventKind};

use super::super::intents::INTENTS_MAX;
use super::super::write::Doing;
use super::*;

#[test]
fn maintenance_makes_an_instance_unroutable_until_it_is_cleared() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let change = bench.intent("i", Maintenance, None).change.unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Updated, Cause::Maintenance));
    assert_eq!(change.actor, "operator/ann");
    assert!(!change.value.as_ref().unwrap().is_routable());
    assert_eq!(bench.catalog.service(&orders()).unwrap().routable(), 0);
    let change = bench.intent("i", Clear, None).change.unwrap();
    assert_eq!(change.cause, Cause::Maintenance);
    assert!(change.value.as_ref().unwrap().is_routable());
    assert_eq!(bench.catalog.intents_count(), 0);
}

#[test]
fn maintenance_survives_whatever_the_agent_says() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Maintenance, None);
    bench.health("a", "i", (1, 2), Critical);
    assert!(bench.instance("i").unwrap().maintenance.is_some());
    bench.register("a", "i", 2, 1);
    assert!(bench.instance("i").unwrap().maintenance.is_some());
    bench.deregister("a", "i", 2, 2);
    let change = bench.register("a", "i", 3, 1).change.unwrap();
    assert!(change.value.as_ref().unwrap().maintenance.is_some());
}

#[test]
fn maintenance_may_be_set_before_the_instance_is_there() {
    let mut bench = Bench::ready();
    let folded = bench.intent("i", Maintenance, None);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    let change = bench.register("a", "i", 1, 1).change.unwrap();
    assert_eq!(change.value.as_ref().unwrap().maintenance.as_ref().unwrap().why, "disk");
}

#[test]
fn the_same_wish_again_makes_no_change() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Maintenance, None);
    let folded = bench.intent("i", Maintenance, None);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    assert_eq!(bench.catalog.intents().next().unwrap().sequence, bench.sequence);
    bench.intent("i", Clear, None);
    assert_no_op(&bench.intent("i", Clear, None));
    assert_eq!(bench.last_sequence("i"), bench.sequence);
}

#[test]
fn an_eviction_removes_the_instance_and_fences_its_incarnation() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let folded = bench.intent("i", Evict, None);
    let change = folded.change.clone().unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Removed, Cause::Evicted));
    assert_eq!(change.evidence.as_ref().unwrap().detail.as_deref(), Some("disk"));
    assert_eq!(told(&folded, "a"), [NoticeCode::Fenced]);
    for folded in
        [bench.register("a", "i", 1, 2), bench.health("a", "i", (1, 3), Critical), bench.deregister("a", "i", 1, 4)]
    {
        assert_ignored(&folded, Reason::Fenced);
        assert_eq!(told(&folded, "a"), [NoticeCode::Fenced]);
    }
    assert_ignored(&bench.register("a", "i", 0, 9), Reason::Stale);
}

#[test]
fn a_larger_incarnation_ends_the_fence() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Evict, None);
    assert_accepted(&bench.register("a", "i", 2, 1));
    assert_eq!(bench.catalog.intents_count(), 0);
    assert_ignored(&bench.register("a", "i", 1, 2), Reason::Stale);
}

#[test]
fn clear_ends_the_fence_and_the_evicted_incarnation_still_does_not_return() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Evict, None);
    assert_accepted(&bench.intent("i", Clear, None));
    assert_ignored(&bench.register("a", "i", 1, 2), Reason::Stale);
    assert_accepted(&bench.register("a", "i", 2, 1));
}

#[test]
fn an_eviction_of_an_incarnation_that_is_not_in_force_is_stale() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 2, 1);
    for number in [1, 3] {
        assert_ignored(&bench.intent_of("i", Evict, None, incarnation(number)), Reason::Stale);
    }
    assert!(bench.instance("i").is_some());
    assert_ignored(&bench.intent("unknown", Evict, None), Reason::UnknownInstance);
}

#[test]
fn an_eviction_holds_although_the_instance_expired_on_the_way() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.expire("i");
    let folded = bench.intent("i", Evict, None);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    assert_ignored(&bench.register("a", "i", 1, 2), Reason::Fenced);
}

#[test]
fn maintenance_outlasts_an_eviction() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Maintenance, None);
    bench.intent("i", Evict, None);
    let change = bench.register("a", "i", 2, 1).change.unwrap();
    assert!(change.value.as_ref().unwrap().maintenance.is_some());
    assert_eq!(bench.catalog.intents_of(&orders(), &id("i")).count(), 1);
}

#[test]
fn a_timed_intent_ends_by_a_lapse_once_stream_time_has_reached_its_end() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let until_ms = bench.now_ms + 100;
    bench.intent("i", Maintenance, Some(until_ms));
    let set_at = bench.sequence;
    assert_eq!(bench.catalog.next_intent_end(), Some(Timestamp::from_ms(until_ms)));
    assert_eq!(bench.catalog.intents_ended_by(Timestamp::from_ms(until_ms - 1)).count(), 0);
    assert_eq!(bench.catalog.intents_ended_by(Timestamp::from_ms(until_ms)).count(), 1);
    assert_ignored(&bench.lapse("i", 1, set_at), Reason::NotDue);
    assert_ignored(&bench.lapse("i", 1, set_at + 1), Reason::Superseded);
    bench.now_ms = until_ms - 2;
    assert_ignored(&bench.lapse("i", 2, set_at), Reason::WrongEpoch);
    let change = bench.lapse("i", 1, set_at).change.unwrap();
    assert_eq!((change.cause, change.actor.as_str()), (Cause::Lapsed, "registry/r1"));
    assert!(change.value.as_ref().unwrap().is_routable());
    assert_eq!(bench.catalog.next_intent_end(), None);
    assert_ignored(&bench.lapse("i", 1, set_at), Reason::Superseded);
}

#[test]
fn a_lapse_of_a_wish_that_was_renewed_is_superseded() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Maintenance, Some(bench.now_ms));
    let first = bench.sequence;
    bench.intent("i", Maintenance, None);
    assert_ignored(&bench.lapse("i", 1, first), Reason::Superseded);
    assert!(bench.instance("i").unwrap().maintenance.is_some());
}

#[test]
fn the_end_of_a_timed_eviction_lifts_the_fence_without_a_change() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", Evict, Some(bench.now_ms));
    let folded = bench.lapse("i", 1, bench.sequence);
    assert_accepted(&folded);
    assert_eq!(folded.change, None);
    assert_eq!(bench.catalog.intents_count(), 0);
}

#[test]
fn one_intent_too_many_is_refused_and_one_in_force_can_still_be_changed() {
    let mut bench = Bench::ready();
    bench.intent("i0", Maintenance, None);
    let first = bench.catalog.intents().next().unwrap().clone();
    for number in 1..INTENTS_MAX {
        let instance = InstanceId::new(&format!("i{number}")).unwrap();
        bench.catalog.intents.insert((orders(), instance, Maintenance), Arc::clone(&first));
    }
    let sender = Sender::Operator("ann".parse().unwrap());
    let doing = Doing { sequence: bench.sequence + 1, kind: EventKind::Intent, sender: &sender };
    let mut want = |instance: &str, intent| {
        let (service, instance) = (orders(), id(instance));
        let (who, why) = ("ann".parse().unwrap(), String::new());
        let wanted = IntentSet { service, instance, intent, who, why, until: None, incarnation: None };
        bench.catalog.fold_intent(doing, &wanted)
    };
    assert_eq!(want("one-more", Maintenance).outcome, Outcome::Ignored(Reason::TooManyIntents));
    assert_accepted(&want("i7", Maintenance));
    assert_accepted(&want("i8", Clear));
    assert_accepted(&want("one-more", Maintenance));
    assert_eq!(bench.catalog.intents_count(), INTENTS_MAX);
}
