//! Nothing is kept for ever.

use super::super::KEPT_MS;
use super::*;

#[test]
fn a_tombstone_is_forgotten_a_day_of_stream_time_later_at_the_next_event() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.deregister("a", "i", 1, 2);
    let ended_ms = bench.now_ms;
    bench.now_ms = ended_ms + KEPT_MS - 2;
    bench.raw("nothing", b"");
    assert_eq!(bench.catalog.tombstones_count(), 1);
    assert!(bench.catalog.service(&orders()).is_some());
    bench.raw("nothing", b"");
    assert_eq!(bench.catalog.tombstones_count(), 0);
    assert!(bench.catalog.service(&orders()).is_none());
    assert_eq!(bench.catalog.digest(), Digest::ZERO);
    assert_accepted(&bench.register("a", "i", 1, 3));
}

#[test]
fn a_fence_outlasts_the_tombstone() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.intent("i", IntentKind::Evict, None);
    bench.now_ms += KEPT_MS;
    bench.raw("nothing", b"");
    assert_eq!(bench.catalog.tombstones_count(), 0);
    assert_ignored(&bench.register("a", "i", 1, 2), Reason::Fenced);
    assert_ignored(&bench.register("a", "i", 0, 2), Reason::Stale);
    assert_accepted(&bench.register("a", "i", 2, 1));
}

#[test]
fn a_service_lives_on_without_its_tombstones() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.register("a", "j", 1, 1);
    bench.deregister("a", "i", 1, 2);
    let revision = bench.sequence;
    bench.now_ms += KEPT_MS;
    bench.raw("nothing", b"");
    let service = bench.catalog.service(&orders()).unwrap();
    assert_eq!((service.total(), service.revision()), (1, revision));
}

#[test]
fn after_a_mass_removal_each_event_forgets_a_bounded_number_oldest_first() {
    let mut bench = Bench::ready();
    for number in 0..100 {
        bench.deregister("a", &format!("i{number:03}"), 1, 1);
    }
    bench.now_ms += KEPT_MS;
    bench.raw("nothing", b"");
    assert_eq!(bench.catalog.tombstones_count(), 36);
    assert!(bench.catalog.tombstone(&orders(), &id("i063")).is_none());
    assert!(bench.catalog.tombstone(&orders(), &id("i064")).is_some());
    bench.raw("nothing", b"");
    assert_eq!(bench.catalog.tombstones_count(), 0);
}

#[test]
fn a_tombstone_that_was_overtaken_is_not_forgotten_twice() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.expire("i");
    bench.register("a", "i", 1, 2);
    bench.now_ms += KEPT_MS;
    bench.raw("nothing", b"");
    assert!(bench.instance("i").is_some());
}
