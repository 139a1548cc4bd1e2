//! Chains of epochs.

use super::*;
use muster_schemas::{Namespace, Prefix, ReplicaId, Source, Timestamp};

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

fn id(number: u64) -> EpochId {
    EpochId::from_parts(number, 0)
}

fn event(epoch: u64, previous: Option<u64>) -> (String, Vec<u8>) {
    let event = Event {
        id: "x".to_owned(),
        source: Source::Registry(ReplicaId::new("r1").unwrap()),
        time: None,
        data: EventData::Epoch(EpochBegan {
            epoch: id(epoch),
            previous_epoch: previous.map(id),
            namespace: Namespace::default(),
            datacenter: None,
            fold_version: 1,
        }),
    };
    (event.subject(&subjects()), event.encode(&Namespace::default()).unwrap())
}

fn chain(epochs: &[(u64, Option<u64>)]) -> Option<(u64, EpochId)> {
    let events: Vec<_> = epochs.iter().map(|(epoch, previous)| event(*epoch, *previous)).collect();
    let records: Vec<_> = (1..)
        .zip(&events)
        .map(|(sequence, (subject, payload))| Record { sequence, at: Timestamp::from_ms(0), subject, payload })
        .collect();
    in_force(&subjects(), &records)
}

#[test]
fn the_first_of_several_writers_wins_and_a_late_one_is_not_where_a_replica_begins() {
    assert_eq!(chain(&[]), None);
    assert_eq!(chain(&[(5, None), (6, None), (7, None)]), Some((1, id(5))));
    assert_eq!(chain(&[(5, None), (8, Some(5)), (9, Some(5)), (6, Some(8))]), Some((2, id(8))));
}

#[test]
fn the_first_epoch_of_a_stream_may_follow_a_lost_one() {
    assert_eq!(chain(&[(5, Some(3)), (6, Some(3))]), Some((1, id(5))));
}

#[test]
fn a_larger_epoch_that_somebody_names_counts_only_after_the_end_was_confirmed() {
    let mut known = KnownEpochs::default();
    known.named(100, id(9));
    assert!(!known.is_outdated(id(5), None));
    assert!(!known.is_outdated(id(5), Some(100)));
    assert!(known.is_outdated(id(5), Some(101)));
    assert!(!known.is_outdated(id(9), Some(101)));
    assert_eq!(known.predecessor(), Some(id(9)));
}
