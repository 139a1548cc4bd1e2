//! The other replicas, as their beacons show them: who is older, who is silent, who is behind.

use std::collections::BTreeMap;

use muster_schemas::beacon::Beacon;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{EpochId, ReplicaId, Timestamp};

use super::Timing;

/// At most this many other replicas are remembered; a beacon of one more is ignored and counted.
const PEERS_MAX: usize = 64;
/// A replica that has been silent for this many silence limits is forgotten.
const FORGET_AFTER_SILENCES: u64 = 100;

/// A position that can be compared before any log is known.
pub type Position = (Option<EpochId>, u64);

/// The other replicas.
#[derive(Debug, Clone)]
pub struct Peers {
    own: (Timestamp, ReplicaId),
    /// Since when beacons could have been heard without interruption; none while they cannot.
    listening_since_ms: Option<u64>,
    peers: BTreeMap<ReplicaId, Peer>,
    own_lag: Lag,
}

#[derive(Debug, Clone)]
struct Peer {
    beacon: Beacon,
    heard_ms: u64,
    lag: Lag,
}

/// How long a replica has been below a position that it should have reached.
#[derive(Debug, Clone, Default)]
struct Lag {
    target: Option<(Position, u64)>,
}

impl Lag {
    fn observe(&mut self, now_ms: u64, own: Position, best: Position) {
        if self.target.is_some_and(|(target, _)| own >= target) {
            self.target = None;
        }
        if self.target.is_none() && best > own {
            self.target = Some((best, now_ms));
        }
    }

    fn is_behind(&self, now_ms: u64, behind_ms: u64) -> bool {
        self.target.is_some_and(|(_, since_ms)| now_ms.saturating_sub(since_ms) >= behind_ms)
    }
}

fn position(beacon: &Beacon) -> Position {
    (beacon.epoch, beacon.revision)
}

/// What came of a beacon.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Another replica's.
    Peer,
    /// The own one.
    Own,
    /// Another process uses the own replica id.
    Impostor,
    /// One more replica than can be remembered.
    TooMany,
}

impl Peers {
    /// Nobody is known yet; nothing can be heard.
    #[must_use]
    pub fn new(replica: ReplicaId, started_at: Timestamp) -> Self {
        Self { own: (started_at, replica), listening_since_ms: None, peers: BTreeMap::new(), own_lag: Lag::default() }
    }

    /// Beacons can be heard from now on (`true`), or no longer. After an interruption nobody is ranked until everybody
    /// has had the time to be heard.
    pub fn set_listening(&mut self, now_ms: u64, listening: bool) {
        self.listening_since_ms = listening.then_some(now_ms);
    }

    /// Takes in a beacon.
    pub fn heard(&mut self, now_ms: u64, beacon: Beacon) -> Heard {
        if beacon.replica == self.own.1 {
            return if beacon.started_at == self.own.0 { Heard::Own } else { Heard::Impostor };
        }
        if let Some(peer) = self.peers.get_mut(&beacon.replica) {
            peer.beacon = beacon;
            peer.heard_ms = now_ms;
            return Heard::Peer;
        }
        if self.peers.len() >= PEERS_MAX {
            return Heard::TooMany;
        }
        let lag = Lag::default();
        let heard_ms = now_ms;
        self.peers.insert(beacon.replica.clone(), Peer { beacon, heard_ms, lag });
        Heard::Peer
    }

    /// Brings the lags up to date and forgets who has long been gone. Called on every tick.
    pub fn tick(&mut self, now_ms: u64, timing: &Timing, own: Position) {
        let forget_ms = timing.beacon_silence_ms * FORGET_AFTER_SILENCES;
        self.peers.retain(|_, peer| now_ms.saturating_sub(peer.heard_ms) < forget_ms);
        let best = self.alive(now_ms, timing).map(position).max().map_or(own, |best| best.max(own));
        self.own_lag.observe(now_ms, own, best);
        for peer in self.peers.values_mut() {
            peer.lag.observe(now_ms, position(&peer.beacon), best);
        }
    }

    /// Beacons of the replicas that are not silent.
    pub fn alive<'a>(&'a self, now_ms: u64, timing: &Timing) -> impl Iterator<Item = &'a Beacon> {
        let silence_ms = timing.beacon_silence_ms;
        self.peers
            .values()
            .filter(move |peer| now_ms.saturating_sub(peer.heard_ms) < silence_ms)
            .map(|peer| &peer.beacon)
    }

    /// How many older replicas publish or stand before this one to do so; none while beacons have not been listened to
    /// for as long as makes silence mean something.
    #[must_use]
    pub fn rank(&self, now_ms: u64, timing: &Timing) -> Option<u32> {
        let not_warming = |peer: &Peer| peer.beacon.state != CatalogState::Warming;
        self.has_listened(now_ms, timing).then(|| self.count_older(now_ms, timing, not_warming))
    }

    /// The rank among all that are heard, those included that only find their way into the log.
    #[must_use]
    pub fn rank_with_warming(&self, now_ms: u64, timing: &Timing) -> Option<u32> {
        self.has_listened(now_ms, timing).then(|| self.count_older(now_ms, timing, |_| true))
    }

    /// The rank among those that are not behind; none when this replica is behind itself.
    #[must_use]
    pub fn proposing_rank(&self, now_ms: u64, timing: &Timing) -> Option<u32> {
        if !self.has_listened(now_ms, timing) || self.own_lag.is_behind(now_ms, timing.behind_ms) {
            return None;
        }
        Some(self.count_older(now_ms, timing, |peer| {
            peer.beacon.state != CatalogState::Warming && !peer.lag.is_behind(now_ms, timing.behind_ms)
        }))
    }

    fn has_listened(&self, now_ms: u64, timing: &Timing) -> bool {
        self.listening_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= timing.beacon_silence_ms)
    }

    fn count_older(&self, now_ms: u64, timing: &Timing, counts: impl Fn(&Peer) -> bool) -> u32 {
        let older = self.peers.values().filter(|peer| {
            now_ms.saturating_sub(peer.heard_ms) < timing.beacon_silence_ms
                && (peer.beacon.started_at, &peer.beacon.replica) < (self.own.0, &self.own.1)
                && counts(peer)
        });
        u32::try_from(older.count()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
