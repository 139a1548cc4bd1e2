//! Hedged publishing.

use super::*;
use muster_schemas::EpochId;

fn revision(sequence: u64) -> Revision {
    Revision(EpochId::from_parts(1, 1), sequence)
}

fn publication(sequence: u64) -> Publication {
    Publication { revision: revision(sequence), subject: String::new(), payload: Bytes::from_static(b"{}") }
}

fn due(ring: &mut Ring, now_ms: u64, rank: u32) -> Vec<u64> {
    let timing = Timing::default();
    std::iter::from_fn(|| ring.next_due(now_ms, Some(rank), &timing))
        .map(|publication| publication.revision.sequence())
        .collect()
}

#[test]
fn what_was_seen_is_not_published_again() {
    let mut ring = Ring::default();
    for sequence in 1..=3 {
        ring.hold(0, publication(sequence));
    }
    ring.saw(10, revision(1), Some(revision(3)));
    ring.saw(10, revision(3), Some(revision(3)));
    assert_eq!(ring.first_unseen(), Some(revision(2)));
    assert_eq!(due(&mut ring, 309, 1), Vec::<u64>::new());
    assert_eq!(due(&mut ring, 310, 1), [2]);
    assert_eq!(ring.len(), 0);
}

#[test]
fn each_rank_waits_longer_but_none_beyond_a_second() {
    for (rank, at_ms) in [(0, 0), (1, 300), (2, 600), (3, 900), (4, 1_000), (60, 1_000)] {
        let mut ring = Ring::default();
        ring.hold(0, publication(1));
        if at_ms > 0 {
            assert!(due(&mut ring, at_ms - 1, rank).is_empty(), "rank {rank}");
        }
        assert_eq!(due(&mut ring, at_ms, rank), [1], "rank {rank}");
    }
}

#[test]
fn progress_of_the_publisher_is_waited_for_up_to_a_second() {
    let mut ring = Ring::default();
    ring.hold(0, publication(1));
    ring.hold(0, publication(2));
    ring.saw(250, revision(1), Some(revision(2)));
    assert!(due(&mut ring, 549, 1).is_empty());
    ring.saw(540, revision(1), Some(revision(2)));
    ring.saw(830, revision(1), Some(revision(2)));
    assert!(due(&mut ring, 999, 1).is_empty());
    assert_eq!(due(&mut ring, 1_000, 1), [2]);
}

#[test]
fn what_is_seen_before_it_is_folded_counts_as_seen() {
    let mut ring = Ring::default();
    ring.saw(0, revision(7), Some(revision(5)));
    assert!(!ring.was_seen(revision(6)));
    assert!(ring.was_seen(revision(7)));
    assert!(!ring.was_seen(revision(7)), "once");
}

#[test]
fn the_ring_is_bounded_and_counts_what_it_gives_up() {
    let mut ring = Ring::default();
    for sequence in 0..(CHANGES_MAX as u64 + 10) {
        ring.hold(0, publication(sequence));
    }
    assert_eq!((ring.len(), ring.given_up()), (CHANGES_MAX, 10));
    ring.give_up_old(AGE_MS_MAX + 1);
    assert_eq!(ring.len(), 0);
    assert_eq!(ring.bytes, 0);
}

#[test]
fn a_pulse_spares_every_change_up_to_its_end() {
    let mut ring = Ring::default();
    for sequence in 1..=3 {
        ring.hold(0, publication(sequence));
    }
    assert_eq!(ring.saw_through(revision(2)), 2);
    assert_eq!(ring.first_unseen(), Some(revision(3)));
    assert_eq!(ring.saw_through(revision(2)), 0);
}

#[test]
fn of_too_many_seen_before_they_are_folded_the_earliest_are_published_once_more() {
    let mut ring = Ring::default();
    for sequence in 2..(AHEAD_MAX as u64 + 3) {
        ring.saw(0, revision(sequence), Some(revision(1)));
    }
    assert_eq!(ring.ahead.len(), AHEAD_MAX);
    assert!(!ring.was_seen(revision(2)), "forgotten: a change that comes twice harms nobody");
    assert!(ring.was_seen(revision(3)));
}
