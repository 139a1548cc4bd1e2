//! Ranges, bursts, hedging and size of pulses.

use super::*;

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn epoch() -> EpochId {
    EpochId::from_parts(1, 1)
}

fn moment(to: u64) -> Moment {
    Moment { epoch: epoch(), to, state: CatalogState::Ready }
}

fn sent(pulses: &mut Pulses, now_ms: u64, index: u8, to: u64) -> Vec<Pulse> {
    let pieces = pulses.send(now_ms, index, moment(to), &|_| 100, &Timing::default());
    pieces.iter().map(|piece| serde_json::from_slice(piece).unwrap()).collect()
}

fn heard(bucket: u8, to: u64, head_age_ms: u64) -> Pulse {
    Pulse {
        v: 1,
        epoch: epoch(),
        bucket,
        from: 0,
        to,
        services: BTreeMap::new(),
        head_age_ms,
        state: CatalogState::Ready,
    }
}

#[test]
fn every_bucket_gets_a_pulse_every_period_spread_over_it() {
    let timing = Timing::default();
    let mut pulses = Pulses::new(0, 0);
    pulses.spread(0, &timing);
    let mut count = vec![0; 64];
    let mut most_at_once = 0;
    for now_ms in (0..6_000).step_by(20) {
        let due = pulses.due(now_ms, Some(0), &timing);
        most_at_once = most_at_once.max(due.len());
        for index in due {
            sent(&mut pulses, now_ms, index, 0);
            count[usize::from(index)] += 1;
        }
    }
    assert_eq!(count, vec![3; 64]);
    assert!(most_at_once <= 2, "{most_at_once} pulses at once");
}

#[test]
fn a_range_reaches_back_to_the_revision_of_six_seconds_ago_and_lists_what_changed_in_it() {
    let timing = Timing::default();
    let orders = service("orders");
    let index = bucket(&orders);
    let mut pulses = Pulses::new(0, 100);
    for (now_ms, revision) in [(1_000, 110), (4_000, 120), (8_000, 130)] {
        pulses.changed(now_ms, revision, &orders);
        pulses.tick(now_ms, revision, &timing);
    }
    pulses.tick(9_000, 135, &timing);
    let pulse = &sent(&mut pulses, 9_000, index, 135)[0];
    assert_eq!((pulse.from, pulse.to), (110, 135));
    assert_eq!(pulse.services, BTreeMap::from([(orders.clone(), 130)]));

    pulses.tick(20_000, 135, &timing);
    let pulse = &sent(&mut pulses, 20_000, index, 135)[0];
    assert_eq!((pulse.from, pulse.to, pulse.services.len()), (135, 135, 0));
}

#[test]
fn a_burst_is_followed_by_one_pulse_of_the_touched_bucket() {
    let timing = Timing::default();
    let orders = service("orders");
    let mut pulses = Pulses::new(0, 0);
    pulses.spread(10_000, &timing);
    for now_ms in [100, 120, 140] {
        pulses.changed(now_ms, now_ms, &orders);
    }
    assert!(pulses.due(189, Some(0), &timing).is_empty());
    assert_eq!(pulses.due(190, Some(0), &timing), [bucket(&orders)]);
    sent(&mut pulses, 190, bucket(&orders), 140);
    assert!(pulses.due(1_000, Some(0), &timing).is_empty());
}

#[test]
fn the_next_rank_sends_what_it_has_not_heard() {
    let timing = Timing::default();
    let orders = service("orders");
    let index = bucket(&orders);
    let mut pulses = Pulses::new(0, 0);
    pulses.spread(0, &timing);
    pulses.changed(0, 5, &orders);
    pulses.tick(0, 5, &timing);
    pulses.heard(10, &heard(index, 4, 0), &timing);
    assert_eq!(pulses.due(350, Some(1), &timing).iter().filter(|due| **due == index).count(), 1);

    pulses.heard(20, &heard(index, 5, 2_001), &timing);
    assert!(pulses.due(350, Some(1), &timing).contains(&index), "too old a confirmation");

    pulses.heard(30, &heard(index, 5, 100), &timing);
    assert!(!pulses.due(2_329, Some(1), &timing).contains(&index));
    assert!(pulses.due(2_330, Some(1), &timing).contains(&index));
}

#[test]
fn a_pulse_below_an_unsent_change_leaves_the_bucket_in_need_of_another() {
    let timing = Timing::default();
    let orders = service("orders");
    let mut pulses = Pulses::new(0, 0);
    pulses.spread(0, &timing);
    pulses.changed(0, 5, &orders);
    let pulse = &sent(&mut pulses, 100, bucket(&orders), 4)[0];
    assert_eq!((pulse.to, pulse.services.len()), (4, 0));
    assert!(!pulses.due(149, Some(0), &timing).contains(&bucket(&orders)));
    assert!(pulses.due(150, Some(0), &timing).contains(&bucket(&orders)));
}

#[test]
fn a_large_pulse_is_split_by_range_each_with_the_services_that_changed_in_it_and_the_age_of_its_own_end() {
    let timing = Timing::default();
    let names: Vec<_> = (0..200_000)
        .map(|number| service(&format!("{}-{number}", "x".repeat(60))))
        .filter(|name| bucket(name) == 7)
        .take(1_500)
        .collect();
    let mut pulses = Pulses::new(0, 0);
    // Twice each, so that the same service stands in more than one piece, with another revision.
    for (revision, name) in (1..).zip(names.iter().chain(&names)) {
        pulses.changed(0, revision, name);
    }
    pulses.tick(10, 3_000, &timing);
    let age_ms = |to| 5_000 - to;
    let pieces = pulses.send(10, 7, moment(3_000), &age_ms, &timing);
    assert!(pieces.len() > 1);
    let mut from = 0;
    for piece in &pieces {
        assert!(piece.len() <= PULSE_BYTES_MAX);
        let pulse: Pulse = serde_json::from_slice(piece).unwrap();
        assert_eq!(pulse.from, from);
        let expected: BTreeMap<_, _> = (1..)
            .zip(names.iter().chain(&names))
            .filter(|(revision, _)| (pulse.from + 1..=pulse.to).contains(revision))
            .map(|(revision, name)| (name.clone(), revision))
            .collect();
        assert_eq!(pulse.head_age_ms, age_ms(pulse.to));
        assert_eq!(pulse.services, expected);
        from = pulse.to;
    }
    assert_eq!(from, 3_000);
}

#[test]
fn at_the_bound_the_range_reaches_less_far_back() {
    let timing = Timing::default();
    let orders = service("orders");
    let mut pulses = Pulses::new(0, 0);
    let last = CHANGES_MAX as u64 + 5;
    for revision in 1..=last {
        pulses.changed(0, revision, &orders);
    }
    pulses.tick(10, last, &timing);
    let pulse = &sent(&mut pulses, 10, bucket(&orders), last)[0];
    assert_eq!((pulse.from, pulses.changes), (5, CHANGES_MAX));
}
