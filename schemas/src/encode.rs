//! Writing events: the subject and the bytes.

use serde::Serialize;

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
