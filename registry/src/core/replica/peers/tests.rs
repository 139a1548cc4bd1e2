//! Ranks and lags.

use super::*;
use muster_schemas::{Digest, WIRE_VERSION};

fn beacon(replica: &str, started_ms: i64, revision: u64) -> Beacon {
    Beacon {
        v: WIRE_VERSION,
        epoch: Some(EpochId::from_parts(1, 1)),
        replica: ReplicaId::new(replica).unwrap(),
        started_at: Timestamp::from_ms(started_ms),
        state: CatalogState::Ready,
        revision,
        digest: Digest::ZERO,
        fold_versions: vec![1],
        rebuilt: false,
        servers: Vec::new(),
        left: Vec::new(),
    }
}

fn second() -> (Peers, Timing) {
    let mut peers = Peers::new(ReplicaId::new("b").unwrap(), Timestamp::from_ms(100));
    peers.set_listening(0, true);
    (peers, Timing::default())
}

#[test]
fn nobody_is_ranked_before_everybody_could_be_heard() {
    let (peers, timing) = second();
    assert_eq!(peers.rank(599, &timing), None);
    assert_eq!(peers.rank(600, &timing), Some(0));
}

#[test]
fn the_older_stands_before_and_a_tie_is_decided_by_id() {
    let (mut peers, timing) = second();
    peers.heard(500, beacon("z", 50, 1));
    peers.heard(500, beacon("a", 100, 1));
    peers.heard(500, beacon("c", 100, 1));
    assert_eq!(peers.rank(700, &timing), Some(2));
}

#[test]
fn a_silent_or_warming_replica_has_no_rank() {
    let (mut peers, timing) = second();
    peers.heard(100, beacon("a", 50, 1));
    let mut warming = beacon("w", 10, 1);
    warming.state = CatalogState::Warming;
    peers.heard(699, warming);
    assert_eq!(peers.rank(699, &timing), Some(1));
    assert_eq!(peers.rank(700, &timing), Some(0));
}

#[test]
fn a_replica_that_stays_below_anothers_beacon_is_behind() {
    let (mut peers, timing) = second();
    let epoch = Some(EpochId::from_parts(1, 1));
    for now_ms in (1_000..=1_600).step_by(200) {
        peers.heard(now_ms, beacon("a", 50, 10));
        peers.tick(now_ms, &timing, (epoch, 20));
    }
    assert_eq!(peers.rank(1_600, &timing), Some(1), "it still publishes first");
    assert_eq!(peers.proposing_rank(1_600, &timing), Some(0), "but proposes no more");
    peers.heard(1_700, beacon("a", 50, 20));
    peers.tick(1_700, &timing, (epoch, 20));
    assert_eq!(peers.proposing_rank(1_700, &timing), Some(1));
}

#[test]
fn one_that_follows_at_a_steady_distance_is_not_behind() {
    let (mut peers, timing) = second();
    let epoch = Some(EpochId::from_parts(1, 1));
    for step in 0..20 {
        let now_ms = 1_000 + step * 200;
        peers.heard(now_ms, beacon("a", 50, 100 * step + 50));
        peers.tick(now_ms, &timing, (epoch, 100 * step));
    }
    assert_eq!(peers.proposing_rank(4_800, &timing), Some(1));
}

#[test]
fn another_process_with_the_same_id_is_noticed() {
    let (mut peers, _) = second();
    assert_eq!(peers.heard(0, beacon("b", 100, 1)), Heard::Own);
    assert_eq!(peers.heard(0, beacon("b", 101, 1)), Heard::Impostor);
}

#[test]
fn more_replicas_than_can_be_remembered_are_ignored() {
    let (mut peers, timing) = second();
    for number in 0..PEERS_MAX {
        assert_eq!(peers.heard(0, beacon(&format!("r{number}"), 1, 1)), Heard::Peer);
    }
    assert_eq!(peers.heard(0, beacon("one-more", 1, 1)), Heard::TooMany);
    peers.tick(60_000, &timing, (None, 0));
    assert_eq!(peers.heard(60_000, beacon("one-more", 1, 1)), Heard::Peer);
}
