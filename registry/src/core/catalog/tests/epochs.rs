//! One unbroken log after another.

use muster_schemas::pulse::CatalogState;

use super::super::News;
use super::*;

#[test]
fn before_any_epoch_nothing_counts() {
    let mut bench = Bench::empty();
    let folded = bench.register("a", "i", 1, 1);
    assert_ignored(&folded, Reason::NoEpoch);
    assert!(folded.notices.is_empty());
    assert_ignored(&bench.recovered(1), Reason::NoEpoch);
    assert_eq!((bench.catalog.epoch(), bench.catalog.state()), (None, CatalogState::Warming));
    assert_eq!(bench.catalog.revision(), bench.sequence);
}

#[test]
fn a_first_epoch_is_ready_and_one_that_follows_another_recovers() {
    assert_eq!(Bench::ready().catalog.state(), CatalogState::Ready);
    let bench = Bench::recovering();
    assert_eq!(bench.catalog.state(), CatalogState::Recovering);
    assert_eq!(bench.catalog.previous_epoch(), Some(epoch_id(1)));
}

#[test]
fn the_first_writer_of_a_successor_wins() {
    let mut bench = Bench::ready();
    assert_accepted(&bench.begin(3, Some(1)));
    assert_ignored(&bench.begin(4, Some(1)), Reason::Superseded);
    assert_ignored(&bench.begin(5, None), Reason::Superseded);
    assert_ignored(&bench.begin(2, Some(3)), Reason::Superseded);
    assert_ignored(&bench.begin(3, Some(3)), Reason::Superseded);
    assert_eq!(bench.catalog.epoch(), Some(epoch_id(3)));
    assert_accepted(&bench.begin(6, Some(3)));
}

#[test]
fn a_new_epoch_is_an_empty_catalog_whatever_was_below_it() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.deregister("a", "j", 1, 1);
    bench.intent("i", IntentKind::Maintenance, Some(bench.now_ms + 5));
    bench.now_ms += 1_000_000;
    bench.register("a", "k", 1, 1);
    // The clock of the broker that holds the new log may be behind.
    bench.now_ms -= 1_000_000;
    let folded = bench.begin(2, Some(1));
    assert_eq!(folded.news, News::EpochBegan(epoch_id(2)));

    let mut fresh = Bench::empty();
    fresh.sequence = bench.sequence - 1;
    fresh.now_ms = bench.now_ms - 1;
    fresh.begin(2, Some(1));
    assert_eq!(fresh.catalog, bench.catalog);
    assert_eq!(bench.catalog.entries().count(), 0);
}

#[test]
fn recovered_ends_the_recovery_of_its_own_epoch_once() {
    let mut bench = Bench::recovering();
    assert_ignored(&bench.recovered(1), Reason::WrongEpoch);
    assert_accepted(&bench.recovered(2));
    assert_eq!(bench.catalog.state(), CatalogState::Ready);
    assert_ignored(&bench.recovered(2), Reason::Superseded);
}

#[test]
fn the_fold_version_rises_by_a_setting_and_never_falls() {
    let mut bench = Bench::ready();
    assert_no_op(&bench.setting("fold_version", 1.into()));
    assert_ignored(&bench.setting("fold_version", 0.into()), Reason::Superseded);
    assert_ignored(&bench.setting("fold_version", "2".into()), Reason::UnknownSetting);
    assert_ignored(&bench.setting("colour", 1.into()), Reason::UnknownSetting);
    assert_accepted(&bench.setting("fold_version", 2.into()));
    assert_eq!(bench.catalog.fold_version(), 2);
}

#[test]
fn a_catalog_of_a_fold_that_this_software_lacks_stands_still_until_the_next_epoch() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    bench.setting("fold_version", 2.into());
    assert!(!bench.catalog.is_supported());
    assert_ignored(&bench.register("a", "i", 2, 1), Reason::UnsupportedFoldVersion);
    assert_accepted(&bench.begin(2, Some(1)));
    assert!(bench.catalog.is_supported());
    assert_accepted(&bench.begin_with_fold(3, Some(2), 9));
    assert!(!bench.catalog.is_supported());
}

#[test]
fn a_catalog_knows_the_event_that_it_folded_last() {
    let mut bench = Bench::ready();
    let event = Event {
        id: "e-2".into(),
        source: agent("a"),
        time: None,
        data: EventData::Register(registration(vouching("a", "i", 1, 1))),
    };
    let payload = event.encode(&Namespace::default()).unwrap();
    let subject = event.subject(&subjects());
    bench.raw(&subject, &payload);
    let record =
        Record { sequence: bench.sequence, at: Timestamp::from_ms(bench.now_ms), subject: &subject, payload: &payload };
    assert!(bench.catalog.folded_last(&record));
    assert!(!bench.catalog.folded_last(&Record { at: Timestamp::from_ms(bench.now_ms + 1), ..record }));
    assert!(!bench.catalog.folded_last(&Record { payload: b"{}", ..record }));
    assert!(!bench.catalog.folded_last(&Record { sequence: 1, ..record }));
    bench.raw("elsewhere", b"no event");
    let record = Record {
        sequence: bench.sequence,
        at: Timestamp::from_ms(bench.now_ms),
        subject: "elsewhere",
        payload: b"no event",
    };
    assert!(bench.catalog.folded_last(&record));
}
