//! A catalog comes back from its checkpoint as it was, and damage is always seen.

use muster_schemas::Revision;
use proptest::prelude::*;

use super::properties::{play, step};
use super::*;
use crate::core::catalog::Vouched;
use crate::core::catalog::checkpoint::{self, Checkpoint, CheckpointError, Restoring};

const CREATED_MS: i64 = 1_700_000_000_000;

fn bytes_of(catalog: &Catalog) -> Vec<u8> {
    let checkpoint = Checkpoint::of(catalog, Some(Timestamp::from_ms(CREATED_MS))).expect("a log is in force");
    let mut bytes = Vec::new();
    let written = checkpoint.write(&mut bytes).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    bytes
}

fn restore_in_pieces(bytes: &[u8], piece: usize) -> Result<Catalog, CheckpointError> {
    let mut restoring = Restoring::new();
    for piece in bytes.chunks(piece) {
        restoring.feed(piece)?;
    }
    let (checkpoint, written) = restoring.finish()?;
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(checkpoint.stream_created_at(), Some(Timestamp::from_ms(CREATED_MS)));
    Ok(checkpoint.catalog().clone())
}

fn restore(bytes: &[u8]) -> Result<Catalog, CheckpointError> {
    restore_in_pieces(bytes, 1_000)
}

/// Instances, a tombstone, timed and open intents, shared addresses, fields from elsewhere.
fn full() -> Bench {
    let mut bench = Bench::ready();
    for (number, instance) in ["a", "b", "c"].into_iter().enumerate() {
        bench.register_with(vouching("agent-0", instance, 1, 1 + number as u64), |registration| {
            registration.endpoints = vec![endpoint("10.0.0.1", 80)];
            let odd = serde_json::json!([0.1, 1e300, 5e-324, 2.225e-308, 123456789.12345679, -0.0, u64::MAX]);
            registration.extra.insert("from-elsewhere".into(), odd);
        });
    }
    bench.deregister("agent-0", "c", 1, 9);
    bench.intent_of("a", IntentKind::Maintenance, Some(BEGIN_MS + 60_000), incarnation(1));
    bench.intent_of("z", IntentKind::Maintenance, None, incarnation(1));
    bench.raw("muster.default.event.register.orders.x.agent-0", b"rubbish");
    bench
}

#[test]
fn a_restored_catalog_is_the_one_that_was_written() {
    let bench = full();
    let bytes = bytes_of(&bench.catalog);
    let restored = restore(&bytes).unwrap();
    assert_eq!(restored, bench.catalog);
    assert_eq!(restored.digest(), bench.catalog.digest());
    assert_eq!(bytes_of(&restored), bytes, "and is written as the same bytes");
}

#[test]
fn a_service_too_large_to_be_read_in_one_go_comes_back_whole() {
    let mut bench = Bench::ready();
    for number in 0..1_000 {
        bench.register_with(vouching("agent-0", &format!("i{number:04}"), 1, 1), |registration| {
            registration.extra.insert("from-elsewhere".into(), "x".repeat(600).into());
        });
    }
    let bytes = bytes_of(&bench.catalog);
    assert!(bytes.len() > 3 * 256 * 1_024, "read in at least three goes, not in one of {}", bytes.len());
    let restored = restore(&bytes).unwrap();
    assert_eq!(restored, bench.catalog);
    assert_eq!(bytes_of(&restored), bytes);
}

#[test]
fn what_leases_need_of_each_instance_comes_with_a_checkpoint_that_was_read() {
    let bench = full();
    let mut restoring = Restoring::new();
    restoring.feed(&bytes_of(&bench.catalog)).unwrap();
    let (read, _) = restoring.finish().unwrap();
    let known: Vec<_> = read.vouched().map(|vouched| (vouched.digest, vouched.name_hash)).collect();
    let instances = bench.catalog.services().flat_map(|(_, service)| service.instances());
    let computed = instances.map(|instance| Vouched::of(instance)).map(|vouched| (vouched.digest, vouched.name_hash));
    assert_eq!(known, computed.collect::<Vec<_>>());
    assert_eq!(known.len(), 2);
    assert_eq!(Checkpoint::of(&bench.catalog, None).unwrap().vouched().count(), 0, "one that was not read knows none");
}

#[test]
fn a_service_keeps_its_revision_when_its_last_change_was_a_removal() {
    let bench = full();
    let revision = bench.catalog.service(&ServiceName::new("orders").unwrap()).unwrap().revision();
    let shown = bench.catalog.service(&ServiceName::new("orders").unwrap()).unwrap();
    let largest = shown.instances().map(|instance| instance.modified_revision).max();
    let mut gone = bench;
    gone.deregister("agent-0", "a", 1, 9);
    let restored = restore(&bytes_of(&gone.catalog)).unwrap();
    let service = restored.service(&ServiceName::new("orders").unwrap()).unwrap();
    assert!(service.revision() > revision && Some(service.revision()) > largest);
    assert_eq!(restored, gone.catalog);
}

#[test]
fn every_cut_is_seen() {
    let bytes = bytes_of(&full().catalog);
    for length in 0..bytes.len() {
        let error = restore(&bytes[..length]).unwrap_err();
        assert_eq!(error, CheckpointError::CutOff { bytes: length as u64 });
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(restore(&longer), Err(CheckpointError::Corrupt { .. })));
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = bytes_of(&full().catalog);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(restore(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn other_formats_and_folds_are_refused_by_name() {
    let bytes = bytes_of(&full().catalog);
    let mut newer = bytes.clone();
    newer["muster checkpoint ".len()] = b'2';
    assert_eq!(restore(&newer), Err(CheckpointError::OtherFormat { found: "2".into() }));
    assert_eq!(restore(b"PK\x03\x04"), Err(CheckpointError::NotACheckpoint));
    let mut newest = full();
    newest.setting("fold_version", serde_json::json!(99));
    assert_eq!(restore(&bytes_of(&newest.catalog)), Err(CheckpointError::OtherFold { found: 99 }));
}

#[test]
fn a_frame_that_claims_to_be_huge_is_not_waited_for() {
    let bytes = bytes_of(&full().catalog);
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut huge = bytes[..line].to_vec();
    huge.extend(u32::MAX.to_be_bytes());
    assert!(matches!(restore(&huge), Err(CheckpointError::Corrupt { .. })));
}

#[test]
fn there_is_no_checkpoint_before_a_log() {
    assert_eq!(Checkpoint::of(&Catalog::default(), None), None);
}

#[test]
fn names_are_in_the_order_of_revisions_and_are_read_back() {
    let revisions = [Revision(epoch_id(1), 9), Revision(epoch_id(1), 10), Revision(epoch_id(2), 1)];
    let names = revisions.map(checkpoint::name);
    assert!(names.is_sorted());
    assert_eq!(names.each_ref().map(|name| checkpoint::revision_of(name)), revisions.map(Some));
    for no_name in ["", "x", "01J00000000000000000000000-1", "-", &names[0][1..]] {
        assert_eq!(checkpoint::revision_of(no_name), None, "{no_name}");
    }
}

/// Not a test of speed: shows what restoring costs. `cargo test --release -p muster-registry --lib -- --ignored --nocapture`
#[test]
#[ignore = "prints a measurement"]
fn restoring_a_hundred_thousand_instances() {
    // Not by the bench, which checks all sums after every event.
    let mut catalog = Bench::ready().catalog;
    for number in 0..100_000_u32 {
        let mut vouching = vouching(&format!("agent-{}", number / 4), &format!("instance-{number}"), 1, 1);
        vouching.service = ServiceName::new(&format!("service-{}", number % 1_000)).unwrap();
        let mut registration = registration(vouching);
        registration.endpoints =
            vec![endpoint(&format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250), 8_080)];
        registration.tags = vec!["blue".into(), "canary".into()];
        registration.metadata.insert("team", "checkout");
        let source = Sender::Agent(registration.vouching.agent.clone());
        let event = Event { id: number.to_string(), source, time: None, data: EventData::Register(registration) };
        let (subject, payload) = (event.subject(&subjects()), event.encode(&Namespace::default()).unwrap());
        let at = Timestamp::from_ms(BEGIN_MS + i64::from(number) + 2);
        catalog
            .fold(&subjects(), &Record { sequence: u64::from(number) + 2, at, subject: &subject, payload: &payload });
    }
    let begun_at = std::time::Instant::now();
    let bytes = bytes_of(&catalog);
    println!("written: {} bytes in {:?}", bytes.len(), begun_at.elapsed());
    let begun_at = std::time::Instant::now();
    let restored = restore_in_pieces(&bytes, 128 * 1_024).unwrap();
    println!("restored: {} instances in {:?}", restored.instances_count(), begun_at.elapsed());
    assert_eq!(restored, catalog);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 3_000 }))]

    #[test]
    fn whatever_was_folded_comes_back_and_folds_on_as_before(
        before in prop::collection::vec(step(), 1..60), after in prop::collection::vec(step(), 1..30), piece in 1_usize..500,
    ) {
        let mut bench = Bench::recovering();
        for step in &before {
            play(&mut bench, step);
        }
        let restored = restore_in_pieces(&bytes_of(&bench.catalog), piece).unwrap();
        prop_assert_eq!(&restored, &bench.catalog);
        let mut other = Bench { catalog: restored, now_ms: bench.now_ms, sequence: bench.sequence };
        for step in &after {
            prop_assert_eq!(play(&mut bench, step), play(&mut other, step));
        }
        prop_assert_eq!(bench.catalog, other.catalog);
    }

    #[test]
    fn numbers_that_agents_invent_come_back(numbers in prop::collection::vec(any::<f64>(), 1..50)) {
        let mut bench = Bench::ready();
        bench.register_with(vouching("agent-0", "a", 1, 1), |registration| {
            registration.extra.insert("from-elsewhere".into(), serde_json::json!(numbers));
        });
        prop_assert_eq!(restore(&bytes_of(&bench.catalog)).unwrap(), bench.catalog);
    }

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in any::<Vec<u8>>()) {
        prop_assert!(restore(&bytes).is_err());
        let behind_the_line = [b"muster checkpoint 1\n", &bytes[..]].concat();
        prop_assert!(restore(&behind_the_line).is_err());
    }
}
