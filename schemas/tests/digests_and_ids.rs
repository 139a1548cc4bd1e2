//! Digests against values computed by another implementation, ids and times against their canonical forms.

use muster_schemas::pulse::bucket;
use muster_schemas::{Digest, EpochId, Incarnation, InstanceId, ServiceName, Timestamp};
use proptest::prelude::*;

#[test]
fn digests_equal_those_of_the_golden_payloads_which_python_computed() {
    let golden = |text: &str, pointer: &str| -> Digest {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        value
            .pointer(pointer)
            .and_then(|digest| digest.as_str())
            .and_then(|digest| digest.parse().ok())
            .expect("a digest")
    };
    let service: ServiceName = "orders".parse().expect("a name");
    let instance: InstanceId = "web1-8080".parse().expect("a name");
    let incarnation: Incarnation = "01KAJ8Q2W0000000000000000C".parse().expect("an id");
    assert_eq!(
        Digest::of_vouching(&service, &instance, incarnation, 1),
        golden(include_str!("../golden/heartbeat.json"), "/digest")
    );
    assert_eq!(Digest::of_instance(&instance, 1201), golden(include_str!("../golden/change.added.json"), "/digest"));
    assert_eq!(Digest::ZERO, golden(include_str!("../golden/change.removed.json"), "/digest"));
}

#[test]
fn a_bucket_is_fnv_1a_modulo_64() {
    // Test vectors of the FNV draft: "a" is e40c292c, "foobar" is bf9cf968; the low six bits are the bucket.
    assert_eq!(bucket(&"a".parse().expect("a name")), 0x2c);
    assert_eq!(bucket(&"foobar".parse().expect("a name")), 0x28);
}

#[test]
fn an_id_minted_by_a_clock_that_was_set_back_is_still_larger() {
    let first = Incarnation::mint(2_000, 7, None);
    let second = Incarnation::mint(1_000, 7, Some(first));
    assert!(second > first);
    assert_ne!(second, Incarnation::mint(1_000, 8, Some(first)), "another that knows the same mints another");
    let last = Incarnation::from_parts(u64::MAX, 5);
    assert_eq!(Incarnation::mint(1_000, 7, Some(last)), last.next(), "there is no later millisecond");
    assert!(Incarnation::mint(3_000, 0, Some(first)) > second);
    assert_eq!(first.time_ms(), 2_000);
}

#[test]
fn times_are_read_from_any_offset_and_written_in_utc_with_milliseconds() {
    let time: Timestamp = "2026-11-21T10:30:00.1239+01:00".parse().expect("a time");
    assert_eq!(time.to_string(), "2026-11-21T09:30:00.123Z");
    assert!("yesterday".parse::<Timestamp>().is_err());
    assert_eq!(Timestamp::from_ms(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    assert_eq!([1_999_999, -1].map(|ns: i64| Timestamp::from_nanoseconds(ns).as_ms()), [1, -1], "rounded down");
    assert_eq!(Timestamp::from_nanoseconds(i128::MAX), Timestamp::from_ms(i64::MAX));
}

proptest! {
    #[test]
    fn a_digest_does_not_depend_on_order_and_forgets_what_is_taken_out(
        items in proptest::collection::vec(("[a-z]{1,8}", 0_u64..1_000_000), 1..20),
    ) {
        let hash = |(name, revision): &(String, u64)| Digest::of_instance(&name.parse().expect("a name"), *revision);
        let forward: Digest = items.iter().map(hash).sum();
        let backward: Digest = items.iter().rev().map(hash).sum();
        prop_assert_eq!(forward, backward);
        let without = forward.minus(hash(&items[0]));
        prop_assert_eq!(without, items[1..].iter().map(hash).sum());
        prop_assert_eq!(forward.to_string().parse(), Ok(forward));
    }

    #[test]
    fn an_id_is_read_back_as_it_was_written(time_ms in 0_u64..(1 << 48), random in 0_u128..(1 << 80)) {
        let id = EpochId::from_parts(time_ms, random);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(id.to_string().to_lowercase().parse::<EpochId>().is_err() || id.to_string().bytes().all(|b| b.is_ascii_digit()));
        prop_assert!(id.next() > id);
    }
}
