//! What agents are told.

use super::*;

#[test]
fn a_notice_names_the_event_the_instance_and_what_is_in_force() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 5, 3);
    let folded = bench.register("b", "i", 4, 1);
    let (to, notice) = &folded.notices[0];
    assert_eq!(to.as_str(), "b");
    assert_eq!(notice.event_id.as_deref(), Some(format!("event-{}", bench.sequence).as_str()));
    assert_eq!((notice.service.as_ref(), notice.instance.as_ref()), (Some(&orders()), Some(&id("i"))));
    assert_eq!(notice.in_force, Some((incarnation(5), 3)));
    assert_eq!(notice.session, Some(vouching("a", "i", 5, 3).session));
}

#[test]
fn the_sender_of_an_unreadable_event_is_told_what_is_wrong_with_it() {
    let mut bench = Bench::ready();
    let subject = subjects().event(muster_schemas::EventKind::Register, Some((&orders(), &id("i"))), &agent("a"));
    let folded = bench.raw(&subject, br#"{"specversion":"1.0","id":"e9","source":7}"#);
    assert_ignored(&folded, Reason::Malformed);
    let (to, notice) = &folded.notices[0];
    assert_eq!((to.as_str(), notice.code), ("a", NoticeCode::Malformed));
    assert_eq!(notice.event_id.as_deref(), Some("e9"));
    assert_eq!(Some(&notice.help), folded.detail.as_ref());
}

#[test]
fn the_sender_is_told_also_where_the_rest_of_the_subject_is_unreadable() {
    let mut bench = Bench::ready();
    for (subject, code) in [
        ("muster.default.event.register.user%2erpc.i.a", NoticeCode::Malformed),
        ("muster.default.event.applaud.orders.i.a", NoticeCode::UnknownKind),
    ] {
        let folded = bench.raw(subject, b"{}");
        assert_eq!(told(&folded, "a"), [code], "{subject}");
    }
}

#[test]
fn registries_and_operators_are_not_told() {
    let mut bench = Bench::ready();
    for subject in ["muster.default.event.expire.user%2erpc.i.a", "muster.default.event.intent.user%2erpc.i.a"] {
        assert!(bench.raw(subject, b"{}").notices.is_empty(), "{subject}");
    }
    assert!(bench.expire_observed("i", 1, 0).notices.is_empty());
    assert!(bench.intent("i", IntentKind::Evict, None).notices.is_empty());
    assert!(bench.raw("nothing", b"").notices.is_empty());
}

#[test]
fn an_agent_that_takes_up_its_own_instance_again_hears_of_the_displaced_session() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let folded = bench.register("a", "i", 2, 1);
    assert_eq!(told(&folded, "a"), [NoticeCode::Displaced]);
    let folded = bench.register_with(vouching("a", "i", 2, 2), |registration| registration.weight = 1);
    assert_eq!(told(&folded, "a"), []);
}
