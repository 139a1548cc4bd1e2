//! The seam between core and shell: what happened, and what is to be done.

use muster_schemas::Health;
use muster_schemas::SessionId;
use muster_schemas::agent::DrainRequest;
use muster_schemas::event::DeregisterReason;
use muster_schemas::heartbeat::Connection;
use muster_schemas::subject::Verb;

use super::spec::InstanceSpec;
use super::status::Status;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that is never set.
    pub ms: u64,
    /// Milliseconds since 1970 by the host's clock, from which ids are minted.
    pub wall_ms: u64,
}

/// One vouching of one owner, numbered by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub u64);

/// One request; its answers come back under the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// The connection stands, for the first time or again.
    Connected(Connection),
    /// The connection broke: what was under way may or may not have arrived.
    Disconnected,
    /// An owner wants an instance vouched for.
    Register(ClaimId, InstanceSpec),
    /// Its description changed.
    Update(ClaimId, InstanceSpec),
    /// Its health changed.
    Health(ClaimId, Health),
    /// Take it back.
    Deregister(ClaimId, Withdrawal),
    /// Vouch for it no longer, without a word.
    Forget(ClaimId),
    /// Somebody said something to this agent.
    Heard {
        /// What.
        verb: Verb,
        /// The details.
        payload: &'a [u8],
        /// Where an answer is wanted.
        reply: Option<&'a str>,
    },
    /// An answer to a request; one request can have several.
    Answered(RequestId, Answer<'a>),
}

/// How an instance is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Why.
    pub reason: DeregisterReason,
    /// For people, at most 1 KiB.
    pub detail: Option<String>,
    /// How long it may take to be confirmed, in milliseconds.
    pub within_ms: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A message.
    Message(&'a [u8]),
    /// Nobody listens there.
    NoResponders,
    /// The client did not take it.
    NotSent(&'a str),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Subscribe to everything that is said to this agent.
    Listen,
    /// Publish.
    Publish {
        /// Where.
        subject: String,
        /// What.
        payload: Vec<u8>,
    },
    /// Publish, and hand back what is answered.
    Request {
        /// To be handed back.
        request: RequestId,
        /// Where.
        subject: String,
        /// What.
        payload: Vec<u8>,
    },
    /// Tell the owner.
    Status(ClaimId, Status),
    /// Ask the owner to drain an instance; answers go to `reply`.
    Drain {
        /// Which; none: nobody here owns it.
        claim: Option<ClaimId>,
        /// What is asked.
        request: DrainRequest,
        /// Where the answers go.
        reply: Option<String>,
    },
    /// Another session of this agent took over: everything has ended.
    Superseded(SessionId),
    /// Tell the operator.
    Say(Severity, String),
}

/// How loudly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For whoever looks closely.
    Debug,
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
}

/// Effects, in order; the core pushes, the shell drains.
#[derive(Debug, Default)]
pub struct Effects {
    waiting: Vec<Effect>,
}

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.waiting.push(effect);
    }

    pub(super) fn say(&mut self, severity: Severity, text: impl Into<String>) {
        self.push(Effect::Say(severity, text.into()));
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.waiting.drain(..)
    }
}
