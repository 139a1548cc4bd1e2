//! The observer's own reading and folding of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use muster_registry::core::catalog::{Catalog, Service};
use muster_registry::core::io::Record;
use muster_schemas::change::ChangeKind;
use muster_schemas::{Cause, Change, Subjects, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::links::Links;
use crate::time::Clock;

/// The broker's number for "no message found".
const NO_MESSAGE_FOUND: u64 = 10037;

/// One list after one change.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) digest: String,
    pub(crate) instances: BTreeSet<String>,
}

/// All lists of one epoch, with all their changes.
pub(crate) type History = BTreeMap<String, Vec<Entry>>;

/// A removal that the log holds.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) key: String,
    pub(crate) cause: Cause,
    pub(crate) actor: String,
    pub(crate) evidence: Option<String>,
    pub(crate) sequence: u64,
    pub(crate) registered_ms: u64,
    pub(crate) at_ms: u64,
}

/// The log as far as it was read.
#[derive(Debug)]
pub(crate) struct LogWatch {
    subjects: Subjects,
    clock: Clock,
    catalog: Catalog,
    /// By sequence, from 1: a hash of the event.
    hashes: Vec<u64>,
    /// By sequence, from 1: when it was stored.
    stored_ms: Vec<u64>,
    pub(crate) epochs: BTreeMap<String, History>,
    registered_ms: BTreeMap<String, u64>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) unexplained: u64,
}

/// One event as it stands in the stream.
struct Stored {
    at: Timestamp,
    subject: String,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

impl LogWatch {
    pub(crate) fn new(subjects: Subjects, clock: Clock) -> Self {
        Self {
            subjects,
            clock,
            catalog: Catalog::default(),
            hashes: Vec::new(),
            stored_ms: Vec::new(),
            epochs: BTreeMap::new(),
            registered_ms: BTreeMap::new(),
            removals: Vec::new(),
            unexplained: 0,
        }
    }

    /// How far it was read.
    pub(crate) fn position(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// A hash of the event at this sequence, if it was read.
    pub(crate) fn hash_at(&self, sequence: u64) -> Option<u64> {
        self.hashes.get(usize::try_from(sequence).ok()?.checked_sub(1)?).copied()
    }

    /// When the event after this sequence was stored, if it was read.
    pub(crate) fn next_stored_ms(&self, sequence: u64) -> Option<u64> {
        self.stored_ms.get(usize::try_from(sequence).ok()?).copied()
    }

    /// Folds the next event.
    pub(crate) fn fold(&mut self, event: FetchedEvent) {
        self.hashes.push(hash_of(&event.0.payload));
        let Stored { at, subject, payload } = event.0;
        self.stored_ms.push(self.clock.of_wall(at.as_ms()));
        let record = Record { sequence: self.hashes.len() as u64, at, subject: &subject, payload: &payload };
        let folded = self.catalog.fold(&self.subjects, &record);
        if let Some(epoch) = self.catalog.epoch() {
            self.epochs.entry(epoch.to_string()).or_default();
        }
        if let Some(change) = folded.change {
            self.changed(&change);
        }
    }

    fn changed(&mut self, change: &Change) {
        let instances = self.catalog.service(&change.service).into_iter().flat_map(Service::instances);
        let instances = instances.map(|instance| instance.id().to_string()).collect();
        let entry = Entry { sequence: change.revision, digest: change.digest.to_string(), instances };
        let history = self.epochs.entry(change.epoch.to_string()).or_default();
        history.entry(change.service.to_string()).or_default().push(entry);
        let key = format!("{}/{}", change.service, change.instance);
        let at_ms = self.clock.of_wall(change.at.as_ms());
        if matches!(change.cause, Cause::Registered | Cause::Updated) {
            self.registered_ms.insert(key.clone(), at_ms);
        }
        if change.change != ChangeKind::Removed {
            return;
        }
        let proven = change.evidence.as_ref().is_some_and(|evidence| *evidence != Default::default());
        if change.actor.is_empty() || (change.cause == Cause::Expired && !proven) {
            self.unexplained += 1;
        }
        self.removals.push(Removal {
            registered_ms: self.registered_ms.get(&key).copied().unwrap_or(0),
            key,
            cause: change.cause,
            actor: change.actor.clone(),
            evidence: change.evidence.as_ref().and_then(|evidence| serde_json::to_string(evidence).ok()),
            sequence: change.revision,
            at_ms,
        });
    }
}

/// An event that was read.
pub(crate) struct FetchedEvent(Stored);

impl FetchedEvent {
    pub(crate) fn hash(&self) -> u64 {
        hash_of(&self.0.payload)
    }
}

pub(crate) fn hash_of(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

/// Reads the event of a sequence from the stream's leader; none if there is none yet.
pub(crate) async fn fetch(links: &Links, stream: &str, sequence: u64) -> Result<Option<FetchedEvent>, String> {
    let request = json!({ "seq": sequence }).to_string();
    let answer = links.ask(&format!("$JS.API.STREAM.MSG.GET.{stream}"), request.into_bytes()).await?;
    let found: Found = match serde_json::from_slice(&answer.payload) {
        Ok(Response::Ok(found)) => found,
        Ok(Response::Err { error }) if error.error_code().0 == NO_MESSAGE_FOUND => return Ok(None),
        Ok(Response::Err { error }) => return Err(error.to_string()),
        Err(error) => return Err(error.to_string()),
    };
    let message = StreamMessage::try_from(found.message).map_err(|error| error.to_string())?;
    Ok(Some(FetchedEvent(Stored {
        at: Timestamp::from_nanoseconds(message.time.unix_timestamp_nanos()),
        subject: message.subject.to_string(),
        payload: message.payload.to_vec(),
    })))
}
