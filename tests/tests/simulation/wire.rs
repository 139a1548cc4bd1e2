//! What travels between processes and the broker, and what a process is given to do.

use std::rc::Rc;

use bytes::Bytes;
use muster_schemas::pulse::Pulse;
use muster_schemas::subject::Verb;
use muster_schemas::{Change, Timestamp};

use super::link::Role;
use super::stream::Stored;

/// On its way to the broker.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Publish {
        subject: String,
        payload: Bytes,
        reply: Option<String>,
    },
    /// An agent subscribes to what is said to it.
    Listen,
    /// A registry joins or leaves the queue group of queries.
    Serve(bool),
    Inspect {
        check: u64,
        epochs: bool,
        own: Option<u64>,
        fresh: bool,
    },
    CreateStream,
    ReadLog {
        reader: u64,
        from_sequence: u64,
    },
}

/// The stream's facts, as they are told.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) created_at: Timestamp,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    /// Those that hold a copy; none on a single broker.
    pub(crate) servers: Vec<String>,
    pub(crate) epochs: Vec<Rc<Stored>>,
    pub(crate) own: Option<Rc<Stored>>,
}

/// What an inspection found.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Unreachable,
    Missing,
    Present(Facts),
}

/// What came back to a request.
#[derive(Debug, Clone)]
pub(crate) enum Answered {
    Message(Bytes),
    NoResponders,
    /// The client could not send it, or its connection broke.
    Failed,
}

/// What a process is given to do.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Connected(Role),
    Disconnected(Role),
    Heartbeat(Rc<str>, Bytes),
    HeartbeatsLost,
    Advisory(Bytes),
    ServerAnswered(Bytes),
    /// With what consumers read in it: it is the same for all of them.
    Change(Bytes, Rc<Change>),
    Pulse(Bytes, Rc<Pulse>),
    Beacon(Bytes),
    Record {
        reader: u64,
        stored: Rc<Stored>,
    },
    ReaderStopped {
        reader: u64,
    },
    Inspected {
        check: u64,
        found: Found,
    },
    Query {
        subject: String,
        payload: Bytes,
        reply: String,
    },
    Answer {
        request: u64,
        answered: Answered,
    },
    Heard {
        verb: Verb,
        payload: Bytes,
        reply: Option<String>,
    },
    SlowConsumer,
    /// Time to do what is due; a later one than the number says has taken its place.
    Wake(u64),
    Tick,
    /// A request has waited long enough.
    Deadline(u64),
    /// An inspection has.
    InspectDeadline(u64),
    /// Queries that wait for a revision have.
    QueryDeadline,
    FromStore(super::checkpoints::Answered),
}
