//! Facts in the log: CloudEvents 1.0 in structured mode, read strictly where identity is concerned.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

mod data;
mod kind;
mod read;

pub use data::*;
pub use kind::{EventKind, Sender, SenderClass, Source};

use crate::timestamp::Timestamp;

/// A fact in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id, a ULID unless a user gives another text.
    pub id: String,
    /// Who sent it.
    pub source: Sender,
    /// When, by the sender's clock; informative, never folded.
    pub time: Option<Timestamp>,
    /// What it says.
    pub data: EventData,
}
