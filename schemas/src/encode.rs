//! Writing events: the subject and the bytes.

use serde::Serialize;

use crate::change::Change;
use crate::event::{Event, EventData};
use crate::name::Namespace;
use crate::refusal::Refusal;
use crate::subject::Subjects;
use crate::timestamp::Timestamp;

#[derive(Serialize)]
struct Envelope<'a, D> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    type_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    datacontenttype: &'static str,
    data: &'a D,
}

impl Event {
    /// The subject that the event belongs under.
    #[must_use]
    pub fn subject(&self, subjects: &Subjects) -> String {
        subjects.event(self.data.kind(), self.data.target(), &self.source)
    }

    /// The event's bytes.
    ///
    /// # Errors
    /// A [`Refusal`] when it is larger than its kind may be.
    pub fn encode(&self, namespace: &Namespace) -> Result<Vec<u8>, Refusal> {
        let bytes = match &self.data {
            EventData::Register(data) => self.envelope(namespace, data),
            EventData::Deregister(data) => self.envelope(namespace, data),
            EventData::Health(data) => self.envelope(namespace, data),
            EventData::Expire(data) => self.envelope(namespace, data),
            EventData::Intent(data) => self.envelope(namespace, data),
            EventData::Lapse(data) => self.envelope(namespace, data),
            EventData::Epoch(data) => self.envelope(namespace, data),
            EventData::Carry(data) => self.envelope(namespace, data),
            EventData::Recovered(data) => self.envelope(namespace, data),
            EventData::Setting(data) => self.envelope(namespace, data),
        };
        let max = self.data.kind().bytes_max();
        if bytes.len() > max { Err(Refusal::too_large("event", bytes.len(), max)) } else { Ok(bytes) }
    }

    fn envelope<D: Serialize>(&self, namespace: &Namespace, data: &D) -> Vec<u8> {
        let envelope = Envelope {
            specversion: "1.0",
            id: &self.id,
            source: self.source.source(namespace),
            type_name: self.data.kind().type_name(),
            time: self.time,
            datacontenttype: "application/json",
            data,
        };
        // Serialising plain data with string keys into memory cannot fail.
        serde_json::to_vec(&envelope).unwrap_or_default()
    }
}

impl Change {
    /// The change's bytes, as serde would write them. `value` is the bytes of [`Change::value`], if whoever has the instance
    /// has written it already: it is by far the largest part.
    #[must_use]
    pub fn encode(&self, value: Option<&[u8]>) -> Vec<u8> {
        // Serialising plain data with string keys into memory cannot fail.
        // What others wrote into these might hold the same letters.
        let is_plain = self.value.is_some() && self.evidence.is_none() && self.extra.is_empty();
        let Some(value) = value.filter(|_| is_plain) else {
            return serde_json::to_vec(self).unwrap_or_default();
        };
        let mut without = Vec::with_capacity(CHANGE_BYTES);
        let _ = serde_json::to_writer(&mut without, &Self { value: None, ..self.clone() });
        // No other text can hold this: a quotation mark in a text is escaped.
        let Some(place) = without.windows(NO_VALUE.len()).position(|window| window == NO_VALUE) else {
            return without;
        };
        let (before, after) = without.split_at(place + NO_VALUE.len());
        let before = &before[..before.len() - NULL.len()];
        let mut bytes = Vec::with_capacity(before.len() + value.len() + after.len());
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(after);
        bytes
    }
}

/// What stands in a change without a value.
const NO_VALUE: &[u8] = b"\"value\":null";
const NULL: &[u8] = b"null";
/// More than the rest of a change takes as a rule.
const CHANGE_BYTES: usize = 512;
