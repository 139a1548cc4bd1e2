//! How long it took until changes came again after the registry that publishes was harmed.

use std::collections::BTreeMap;

use muster_schemas::Timestamp;
use muster_schemas::beacon::Beacon;
use muster_schemas::pulse::CatalogState;

use crate::kind::Kind;
use crate::truth::Truth;

/// A registry whose beacons were not heard for so long does not publish.
const SILENCE_MS: u64 = 600;

#[derive(Debug)]
struct Seen {
    started_at: Timestamp,
    is_warming: bool,
    heard_ms: u64,
}

#[derive(Debug)]
struct Harm {
    kind: Kind,
    at_ms: u64,
    /// Its number among what others suffered.
    number: usize,
}

/// Changes came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// What had been done to the registry that published.
    pub kind: Kind,
    /// From then until the change of an event that was sent after it.
    pub took_ms: u64,
    /// Whether something else was harmed meanwhile, or everybody slowed.
    pub disturbed: bool,
}

/// Who publishes, and what came of harming it.
#[derive(Debug, Default)]
pub struct Takeovers {
    seen: BTreeMap<String, Seen>,
    open: Vec<Harm>,
    over: Vec<Takeover>,
}

impl Takeovers {
    /// A registry's beacon was heard.
    pub fn heard(&mut self, beacon: &Beacon, now_ms: u64) {
        let is_warming = beacon.state == CatalogState::Warming;
        let seen = Seen { started_at: beacon.started_at, is_warming, heard_ms: now_ms };
        self.seen.insert(beacon.replica.to_string(), seen);
    }

    /// The registry that publishes at once, as far as beacons tell: the oldest.
    #[must_use]
    pub fn publisher(&self, now_ms: u64) -> Option<&str> {
        let ranked = self.seen.iter().filter(|(_, seen)| !seen.is_warming && seen.heard_ms + SILENCE_MS > now_ms);
        ranked.min_by_key(|(name, seen)| (seen.started_at, *name)).map(|(name, _)| name.as_str())
    }

    /// A registry is harmed now; the number is that of [`Truth::others_harmed`].
    pub fn harmed(&mut self, registry: &str, kind: Kind, now_ms: u64, number: usize) {
        if self.publisher(now_ms) == Some(registry) {
            self.open.push(Harm { kind, at_ms: now_ms, number });
        }
    }

    /// The change of an event was seen. Those that were sent before the harm may have been published before it, too.
    pub fn flowed(&mut self, sent_ms: u64, published_ms: u64, truth: &Truth, starved: &[(u64, u64)]) {
        for harm in self.open.extract_if(.., |harm| harm.at_ms <= sent_ms) {
            let starved = starved.iter().any(|(from, until)| *from <= published_ms && *until >= harm.at_ms);
            let disturbed = starved || truth.was_disturbed_besides(harm.number, harm.at_ms, published_ms);
            let took_ms = published_ms.saturating_sub(harm.at_ms);
            self.over.push(Takeover { kind: harm.kind, took_ms, disturbed });
        }
    }

    /// All of them so far.
    #[must_use]
    pub fn over(&self) -> &[Takeover] {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The registry of this name, started at that second.
    fn hear(takeovers: &mut Takeovers, name: &str, started: u32, state: &str, now_ms: u64) {
        let beacon = json!({
            "v": 1, "epoch": null, "replica": name, "started_at": format!("2026-11-21T00:00:{started:02}.000Z"),
            "state": state, "revision": 1, "digest": "00000000000000000000000000000000", "fold_versions": [1],
        });
        takeovers.heard(&serde_json::from_value(beacon).unwrap(), now_ms);
    }

    fn two() -> Takeovers {
        let mut takeovers = Takeovers::default();
        hear(&mut takeovers, "r1", 2, "ready", 1_000);
        hear(&mut takeovers, "r2", 1, "ready", 1_000);
        takeovers
    }

    #[test]
    fn the_oldest_that_is_heard_and_not_warming_publishes() {
        let mut takeovers = two();
        hear(&mut takeovers, "r3", 0, "warming", 1_000);
        assert_eq!(takeovers.publisher(1_500), Some("r2"));
        hear(&mut takeovers, "r1", 2, "ready", 1_500);
        assert_eq!(takeovers.publisher(1_700), Some("r1"));
        assert_eq!(takeovers.publisher(2_200), None);
    }

    #[test]
    fn a_takeover_lasts_until_the_change_of_an_event_that_was_sent_after_the_harm() {
        let (mut takeovers, mut truth) = (two(), Truth::default());
        for (name, kind) in [("r2", Kind::RegistryKilled), ("r1", Kind::RegistryFrozen)] {
            let number = truth.others_harmed(1_100);
            takeovers.harmed(name, kind, 1_100, number);
            truth.others_well(number, 1_100);
        }
        takeovers.flowed(1_090, 1_200, &truth, &[]);
        assert_eq!(takeovers.over(), []);
        takeovers.flowed(1_110, 1_600, &truth, &[]);
        takeovers.flowed(1_700, 1_701, &truth, &[]);
        let kind = Kind::RegistryKilled;
        assert_eq!(takeovers.over(), [Takeover { kind, took_ms: 500, disturbed: true }], "r1 did not publish");
    }

    #[test]
    fn a_takeover_is_undisturbed_if_nothing_else_was_harmed() {
        let kind = Kind::RegistryKilled;
        let took = |disturb: fn(&mut Truth), starved: &[(u64, u64)]| {
            let (mut takeovers, mut truth) = (two(), Truth::default());
            let number = truth.others_harmed(1_100);
            takeovers.harmed("r2", kind, 1_100, number);
            disturb(&mut truth);
            takeovers.flowed(1_110, 1_600, &truth, starved);
            takeovers.over()[0].disturbed
        };
        assert!(!took(|_| {}, &[(0, 1_000)]));
        assert!(took(|_| {}, &[(1_200, 1_500)]));
        assert!(took(|truth| truth.broker_harmed(1, 1_200), &[]));
        let others_too = |truth: &mut Truth| {
            truth.others_harmed(1_200);
        };
        assert!(took(others_too, &[]));
    }
}
