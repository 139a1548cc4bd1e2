//! A steady load of changes whose every acknowledgement is remembered, and the moment at which each change was published.

use std::collections::BTreeMap;

use muster_schemas::event::{Event, EventData, Source};
use muster_schemas::{Registration, Subjects};
use serde_json::{Value, json};

use crate::links::Links;
use crate::log::hash_of;

/// The service of the load.
pub(crate) const SERVICE: &str = "load";
/// How many instances it has; static ones, so that nothing but the load itself changes them.
pub(crate) const INSTANCES: u64 = 6;

/// What was acknowledged and what was published.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By sequence.
    acknowledged: BTreeMap<u64, Stored>,
    /// By sequence: when its change was first seen on the wire.
    published: BTreeMap<u64, u64>,
    /// From the acknowledgement to the change, with the moment of the acknowledgement.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// How long each event took to be acknowledged, failures included.
    pub(crate) stored_after: Vec<u64>,
    pub(crate) unacknowledged: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    hash: u64,
    sent_ms: u64,
    acknowledged_ms: u64,
}

/// An event that was acknowledged and published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flowed {
    pub(crate) sent_ms: u64,
    pub(crate) published_ms: u64,
}

impl Ledger {
    /// Says so if it was published before.
    pub(crate) fn acknowledged(&mut self, sequence: u64, hash: u64, took_ms: u64, now_ms: u64) -> Option<Flowed> {
        let stored = Stored { hash, sent_ms: now_ms.saturating_sub(took_ms), acknowledged_ms: now_ms };
        self.acknowledged.insert(sequence, stored);
        self.stored_after.push(took_ms);
        let published_ms = *self.published.get(&sequence)?;
        Some(self.flowed(stored, published_ms))
    }

    /// Says so if it was acknowledged before, and is published for the first time.
    pub(crate) fn published(&mut self, sequence: u64, now_ms: u64) -> Option<Flowed> {
        if self.published.contains_key(&sequence) {
            return None;
        }
        self.published.insert(sequence, now_ms);
        let stored = *self.acknowledged.get(&sequence)?;
        Some(self.flowed(stored, now_ms))
    }

    fn flowed(&mut self, stored: Stored, published_ms: u64) -> Flowed {
        self.gaps.push((published_ms.saturating_sub(stored.acknowledged_ms), stored.acknowledged_ms));
        Flowed { sent_ms: stored.sent_ms, published_ms }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.acknowledged.iter().map(|(sequence, stored)| (*sequence, stored.hash))
    }

    pub(crate) fn never_published(&self) -> usize {
        self.acknowledged.keys().filter(|sequence| !self.published.contains_key(sequence)).count()
    }
}

/// The load's event of this number, and its subject.
pub(crate) fn event(subjects: &Subjects, number: u64) -> (String, Vec<u8>) {
    let source: Source = Source::Agent("load".parse().expect("a name"));
    let data = EventData::Register(registration(number));
    let event = Event { id: format!("{number:032x}"), source, time: None, data };
    (event.subject(subjects), event.encode(subjects.namespace()).expect("small enough"))
}

fn registration(number: u64) -> Registration {
    let value = json!({
        "service": SERVICE, "instance": format!("load-{}", number % INSTANCES), "agent": "load",
        "session": "01J00000000000000000000001", "incarnation": "01J00000000000000000000001",
        "generation": number + 1, "ttl_ms": 0, "metadata": { "number": number.to_string() },
        "health": { "status": "passing" },
    });
    serde_json::from_value(value).expect("a registration")
}

/// Appends one event; its sequence, once it is acknowledged.
pub(crate) async fn append(links: &Links, subject: &str, payload: &[u8]) -> Result<u64, String> {
    let answer = links.ask(subject, payload.to_vec()).await?;
    let value: Value = serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
    value["seq"].as_u64().ok_or_else(|| {
        links.try_another();
        value.to_string()
    })
}

pub(crate) fn hash(payload: &[u8]) -> u64 {
    hash_of(payload)
}
