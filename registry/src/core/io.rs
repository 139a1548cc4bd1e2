//! What goes into a replica and what comes out of it: the whole seam between the pure core and the async shell.
//!
//! The core pushes effects, the shell drains and performs them in order. Everything that the core asks for carries a
//! number (`check`, `reader`, `probe`, `batch`, …) which the answer repeats; an answer with another number is late and
//! ignored. So a lost answer costs a deadline, never a wrong conclusion. Inputs borrow what they carry: the core copies
//! what it keeps.

use bytes::Bytes;
use muster_schemas::agent::ProbeReply;
use muster_schemas::{AgentId, Revision, Timestamp};

use super::catalog::EventMark;
use super::catalog::checkpoint::Checkpoint;

/// Something happened outside.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// Time passed. The shell sends one every [`Timing::tick_ms`](super::replica::Timing); all of the core's timers run
    /// on it.
    Tick {
        /// The host's clock: for what people read, and for minting epochs. Nothing is decided by it.
        wall: Timestamp,
        /// Fresh random bits (80 are used), for the names of epochs and events.
        random: u128,
    },

    /// The log connection or the heartbeat subscription was established again, or lost. Both are one connection. The
    /// shell sends `true` once the heartbeat subscription has been confirmed by a round trip.
    LogConnected(bool),
    /// The connection that changes, pulses, beacons and marks leave by, and by which those of others are heard. `true`
    /// once its subscriptions have been confirmed by a round trip.
    PublishConnected(bool),

    /// The answer to [`Effect::InspectLog`].
    LogInspected {
        /// Which inspection.
        check: u64,
        /// What was found.
        found: Inspection<'a>,
    },
    /// An event that the log reader delivered.
    Record {
        /// Which reader.
        reader: u64,
        /// The event.
        record: Record<'a>,
    },
    /// The log reader ended, or was restarted from inside so that its position can no longer be trusted.
    ReaderStopped {
        /// Which reader.
        reader: u64,
        /// Why, for people.
        reason: &'a str,
    },

    /// A heartbeat or a mark, its own marks included, in the order of the one subscription that carries both.
    Heartbeat {
        /// The subject that it came on.
        subject: &'a str,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// Which broker servers the log and publish connections are on, by name, and whether there may be others. Told before
    /// [`Self::LogConnected`]; until then there is one broker.
    ConnectedTo {
        /// The servers' names.
        servers: &'a [&'a str],
        /// Whether they belong to a cluster.
        is_cluster: bool,
    },
    /// The broker's advisory that a client's connection is gone.
    Advisory(&'a [u8]),
    /// A broker server's answer to [`Effect::AskServers`].
    ServerAnswered(&'a [u8]),
    /// Heartbeats may have been lost: a slow consumer, or the shell's own queue overflowed.
    HeartbeatsLost,

    /// A change that some replica published. The replica's own come back too unless the shell suppresses the echo; both
    /// are right.
    ChangeHeard(&'a [u8]),
    /// A pulse that some replica published.
    PulseHeard(&'a [u8]),
    /// A beacon of some replica.
    BeaconHeard(&'a [u8]),

    /// The answer to [`Effect::Probe`].
    Probed {
        /// Which probe.
        probe: u64,
        /// What became of it.
        outcome: ProbeOutcome<'a>,
    },
    /// The answer to [`Effect::Announce`].
    Announced {
        /// Which request.
        request: u64,
        /// How many registrations the agent promises; none when it did not answer.
        instances: Option<u32>,
    },
    /// The answer to [`Effect::Propose`].
    Proposed {
        /// Which batch.
        batch: u64,
        /// Every event of it was acknowledged by the stream. `false`: an error or a disconnect; any part of the batch
        /// may be in the log.
        acknowledged: bool,
    },

    /// The answer to [`Effect::ListCheckpoints`].
    CheckpointsListed {
        /// Which question.
        list: u64,
        /// All that are there, in any order; none when the store could not be asked.
        checkpoints: Option<&'a [Revision]>,
    },
    /// The answer to [`Effect::LoadCheckpoint`].
    CheckpointLoaded {
        /// Which request.
        load: u64,
        /// What was found.
        found: Loaded<'a>,
    },
    /// The answer to [`Effect::SaveCheckpoint`].
    CheckpointSaved {
        /// Which request.
        save: u64,
        /// How many bytes were written and read back; none when that failed.
        bytes: Option<u64>,
    },
    /// The answer to [`Effect::TrimLog`].
    LogTrimmed {
        /// How many events went; none when it failed.
        events: Option<u64>,
    },
    /// The answer to [`Effect::SaveState`].
    StateSaved {
        /// Whether it is on the disk.
        saved: bool,
    },
}

/// What was found of a checkpoint.
#[derive(Debug, Clone)]
pub enum Loaded<'a> {
    /// All of it, unharmed.
    Whole(&'a Checkpoint),
    /// It is there and cannot be used, or it is there no more; for people.
    Broken(&'a str),
    /// It is whole as far as that can be told, and only another version of this software can read it; for people.
    Foreign(&'a str),
    /// The store could not be asked, or stopped in the middle. Proves nothing.
    Unreachable(&'a str),
}

/// What the log looked like when it was inspected.
#[derive(Debug, Clone)]
pub enum Inspection<'a> {
    /// It could not be asked: no connection, no leader, a time-out. Proves nothing.
    Unreachable(&'a str),
    /// The broker answered, and there is no such stream.
    Missing,
    /// The stream is there.
    Present(LogFacts<'a>),
}

/// A stream's facts, read in this order: epochs, the event at `own`, and last the numbers, so that whatever the first two
/// say is below the last sequence.
#[derive(Debug, Clone)]
pub struct LogFacts<'a> {
    /// When the stream was created.
    pub created_at: Timestamp,
    /// Sequence of the first event still held; one above the last when there is none.
    pub first_sequence: u64,
    /// Sequence of the last event ever stored; 0 when there never was one.
    pub last_sequence: u64,
    /// How many copies the stream has.
    pub replicas: usize,
    /// Names of the broker servers that hold them, in order; none on a single broker.
    pub servers: &'a [String],
    /// All `epoch` events held, oldest first, at most [`EPOCHS_MAX`] of the newest. Empty for a brief inspection.
    pub epochs: Vec<Record<'a>>,
    /// The event at [`Effect::InspectLog::own`], if it was asked for and is there.
    pub own: Option<Record<'a>>,
}

/// How many of the newest `epoch` events a full inspection returns.
pub const EPOCHS_MAX: usize = 256;

/// One event of the log as the stream holds it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Stream sequence.
    pub sequence: u64,
    /// The stream's timestamp.
    pub at: Timestamp,
    /// Its subject.
    pub subject: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// What became of a probe.
#[derive(Debug, Clone)]
pub enum ProbeOutcome<'a> {
    /// The agent answered.
    Answered(&'a ProbeReply),
    /// The broker said that nobody listens.
    NoResponders,
    /// Nobody answered within the timeout.
    Timeout,
    /// The probe could not be sent, the connection broke, or the answer was unreadable: proves nothing.
    Failed,
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the stream for its facts; answer with [`Input::LogInspected`], [`Inspection::Unreachable`] after
    /// [`Timing::inspect_timeout_ms`](super::replica::Timing) at the latest. The newest number replaces all before it.
    InspectLog {
        /// Repeated in the answer.
        check: u64,
        /// Also fetch all `epoch` events.
        epochs: bool,
        /// Also fetch the event of this sequence: from the stream's leader, not by a direct get, which may lag.
        own: Option<u64>,
        /// Use a connection made for this inspection.
        fresh_connection: bool,
    },
    /// Create the stream if it is missing. No answer: the next inspection shows it.
    CreateStream,
    /// Deliver the log in order from this sequence on as [`Input::Record`]; ends the reader before it.
    ReadLog {
        /// Repeated with every event.
        reader: u64,
        /// The first event wanted. If the stream no longer holds it, the first one that it holds: the core sees the hole.
        from_sequence: u64,
    },

    /// Send on the publish connection, in order with all others of this kind. Dropped, not kept, while disconnected.
    Publish(Outgoing),

    /// Ask the agent what it vouches for; answer with [`Input::Probed`] after
    /// [`Timing::probe_timeout_ms`](super::replica::Timing) at the latest.
    Probe {
        /// Repeated in the answer.
        probe: u64,
        /// Whom.
        agent: AgentId,
    },
    /// Ask all broker servers whether they are there; each that is answers with [`Input::ServerAnswered`].
    AskServers,
    /// Ask the agent to register everything again; answer with [`Input::Announced`].
    Announce {
        /// Repeated in the answer.
        request: u64,
        /// Whom.
        agent: AgentId,
        /// The body of the request.
        payload: Bytes,
    },
    /// Append these events, in order, over the proposal connection, which is closed, not resumed, at the first
    /// disconnect; answer with [`Input::Proposed`] once all are acknowledged, or at the first failure. There is never more
    /// than one batch under way.
    Propose {
        /// Repeated in the answer.
        batch: u64,
        /// The events.
        events: Vec<ProposedEvent>,
    },

    /// Name all checkpoints; answer with [`Input::CheckpointsListed`]. None when there is no store for them yet.
    ListCheckpoints {
        /// Repeated in the answer.
        list: u64,
    },
    /// Read a checkpoint; answer with [`Input::CheckpointLoaded`].
    LoadCheckpoint {
        /// Repeated in the answer.
        load: u64,
        /// Which one.
        checkpoint: Revision,
    },
    /// Write a checkpoint under its revision, then read it back; answer with [`Input::CheckpointSaved`]. One that is there
    /// already is not written again, and read back all the same.
    SaveCheckpoint {
        /// Repeated in the answer.
        save: u64,
        /// What to write.
        checkpoint: Box<Checkpoint>,
    },
    /// Delete these checkpoints. No answer: the next list shows it.
    DeleteCheckpoints(Vec<Revision>),
    /// Trim the head of the log; answer with [`Input::LogTrimmed`].
    TrimLog(Trim),
    /// Write the checkpoint to the local disk in place of the one before; answer with [`Input::StateSaved`].
    SaveState(Box<Checkpoint>),

    /// Join (`true`) or leave (`false`) the queue group that answers queries. `query.status` is answered always.
    Serve(bool),
    /// A sentence for the log.
    Report(Severity, String),
}

/// How much of the log's head may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    /// The first event that must stay.
    pub below: u64,
    /// What must stand there. If something else does, or nothing, then nothing may go.
    pub mark: EventMark,
    /// Events before this time go.
    pub since: Option<Timestamp>,
    /// So many of the oldest events go that the rest take about so many bytes.
    pub bytes_max: Option<u64>,
}

/// A message on the publish connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is, for metrics and tests.
    pub kind: OutgoingKind,
    /// Where to.
    pub subject: String,
    /// The bytes.
    pub payload: Bytes,
}

/// Kinds of messages on the publish connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutgoingKind {
    /// A change, to consumers and other replicas.
    Change,
    /// A pulse, to consumers and other replicas.
    Pulse,
    /// A beacon, to other replicas.
    Beacon,
    /// A mark, through the heartbeat subjects, to itself.
    Mark,
    /// A notice, to an agent.
    Notice,
    /// An alarm, to whoever watches.
    Alarm,
}

/// An event to append to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedEvent {
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Bytes,
}

/// How much a report matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something worth knowing happened.
    Info,
    /// Something is wrong and may mend itself.
    Warning,
    /// Something is wrong and needs a person.
    Error,
}

/// The effects of one or more steps, in order. The core can only push, the shell can only drain.
///
/// Bounded by the inputs: a step pushes a few effects per input, and a few hundred per tick; the shell drains after
/// every step or every small batch of steps.
#[derive(Debug, Default)]
pub struct Effects {
    effects: Vec<Effect>,
}

impl Effects {
    /// No effects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Takes everything out, in order; the space is kept for the next steps.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.effects.drain(..)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// How many effects wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.effects.len()
    }
}
