//! What goes into a view and what comes out of it.

use muster_schemas::change::Change as WireChange;
use muster_schemas::pulse::Pulse;
use muster_schemas::query::Reply;
use muster_schemas::{MinRevision, ServiceName};

use crate::change::Change;
use crate::snapshot::{Lists, State};

/// What a view is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All services.
    Everything,
    /// One service.
    Service(ServiceName),
}

impl Scope {
    /// Whether a service is in it.
    #[must_use]
    pub fn covers(&self, service: &ServiceName) -> bool {
        match self {
            Self::Everything => true,
            Self::Service(own) => own == service,
        }
    }
}

/// One request for a snapshot; an answer to an older one is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Why a request for a snapshot brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskFailure {
    /// The replica has not reached the wanted revision: another may have.
    Behind,
    /// Nobody is there, nobody answered, or the answer was an error.
    Failed,
}

/// What a view is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// A change was received.
    Change(Box<WireChange>),
    /// A pulse was received.
    Pulse(Pulse),
    /// A request was answered, chunks put together.
    Answer(Ticket, Reply),
    /// A request was not answered.
    AskFailed(Ticket, AskFailure),
    /// The connection is gone.
    Disconnected,
    /// The connection is there (again), and the server has taken the subscriptions.
    Connected,
    /// Messages were dropped because they were not read fast enough.
    SlowConsumer,
    /// Time has passed; at least every [`super::view::TICK_MS`].
    Tick,
}

/// What a view wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a registry, and come back with `Answer` or `AskFailed` within seconds.
    Ask(Ask),
    /// Tell the watches of a change; the lists hold it already.
    Changed(Change),
    /// The lists were replaced by a snapshot: tell the watches the differences. Names what led to it.
    Replaced(Lists, &'static str),
    /// Whether the lists are verified has changed.
    Judged(State),
}

/// A request for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// To come back with.
    pub ticket: Ticket,
    /// What to ask for.
    pub target: Scope,
    /// What the answer must have reached.
    pub min_revision: Option<MinRevision>,
}
