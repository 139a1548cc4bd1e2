//! Leases outlive a change of epoch, and another catalog.

use std::sync::Arc;

use muster_schemas::Instance;
use muster_schemas::entry::Entry;
use muster_schemas::event::CarriedOver;

use super::super::Verdict;
use super::*;

fn carry(bench: &mut Bench, vouching: &Vouching) {
    let entry = Entry::Instance(Arc::new(Instance {
        registration: registration(vouching.clone(), TTL_MS),
        created_revision: 1,
        modified_revision: 1,
        maintenance: None,
    }));
    let epoch = bench.catalog.epoch().unwrap();
    bench.fold(registry(), EventData::Carry(CarriedOver { epoch, entry }));
}

#[test]
fn a_silence_goes_on_in_the_next_log() {
    let mut bench = Bench::new();
    let one = bench.register("a", "i", 1, 1);
    bench.beat("a", 1);
    bench.run(7_000, &[]);
    bench.begin(2, Some(1));
    assert_eq!(bench.leases.leases_count(), 0);
    carry(&mut bench, &one);
    bench.run(2_800, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn what_is_carried_over_for_an_agent_that_was_never_heard_gets_a_whole_ttl() {
    let mut bench = Bench::new();
    bench.run(30_000, &[]);
    bench.begin(2, Some(1));
    carry(&mut bench, &vouching("a", "i", 1, 1));
    bench.run(TTL_MS - 200, &[]);
    assert!(bench.due().is_empty());
    bench.run(200, &[]);
    assert_eq!(bench.due(), ["i"]);
}

#[test]
fn after_a_change_of_epoch_every_agent_differs_until_it_has_registered_again() {
    let mut bench = Bench::new();
    let one = bench.register("a", "i", 1, 1);
    let acked = bench.acked();
    bench.begin(2, Some(1));
    bench.beat_with("a", 1, item(&one), acked);
    bench.now_ms += 2_000;
    let Heard::Beat(beat) = bench.beat_with("a", 1, item(&one), acked) else { panic!("dropped") };
    assert_eq!(beat.verdict, Verdict::Differs);
    let again = bench.register("a", "i", 1, 2);
    let acked = bench.acked();
    let Heard::Beat(beat) = bench.beat_with("a", 1, item(&again), acked) else { panic!("dropped") };
    assert_eq!(beat.verdict, Verdict::Same);
}

#[test]
fn another_catalog_takes_the_place_of_the_leases_and_whoever_was_heard_stays_heard() {
    follow_another_catalog(Leases::rebuild);
    follow_another_catalog(|leases, catalog| leases.begin_from(&read_back(catalog).expect("a log is in force")));
}

fn follow_another_catalog(follow: impl Fn(&mut Leases, &Catalog)) {
    let mut bench = Bench::new();
    bench.register("a", "i", 1, 1);
    bench.register("b", "j", 1, 1);
    bench.register_with_ttl(vouching("b", "static", 1, 1), 0);
    bench.run(6_000, &[("b", 1)]);
    let catalog = bench.catalog.clone();
    follow(&mut bench.leases, &catalog);
    assert_eq!(bench.leases.leases_count(), 2);
    bench.run(8_000, &[]);
    // Never heard: a whole TTL from the rebuild on. Heard: from its last heartbeat on.
    assert!(bench.due().is_empty());
    bench.run(2_000, &[]);
    assert_eq!(bench.due(), ["i", "j"]);
}
