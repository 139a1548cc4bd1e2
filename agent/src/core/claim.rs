//! One instance that is vouched for: what its owner wants, what of it is in the log, and what is being done about that.

use muster_schemas::event::DeregisterReason;
use muster_schemas::{Digest, Incarnation, InstanceId, ServiceName, SessionId};

use super::io::RequestId;
use super::spec::InstanceSpec;
use super::status::{Holder, Pending, Status};

/// What the log does not say yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsaid {
    /// Nothing.
    Nothing,
    /// The health.
    Health,
    /// More than the health.
    Whole,
}

/// Why a registry is asked what it shows, without an event of ours to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The vouching begins: an earlier life of ours may have left something.
    Beginning,
    /// Ours was refused as stale, with this (incarnation, generation) in force.
    Stale(Option<(Incarnation, u64)>),
    /// Another session is said to have taken it over.
    Displaced,
    /// A living holder was found some time ago.
    Waiting,
    /// The connection was gone, or this process was frozen.
    Rechecking,
}

/// What is being done; it begins at [`Claim::at_ms`], and is under way once there is a [`Claim::request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing.
    Rest,
    /// An event is sent to the stream.
    Publishing,
    /// A registry is asked whether it shows the event.
    Confirming {
        /// Of the event.
        sequence: u64,
        /// When it was acknowledged.
        since_ms: u64,
    },
    /// A registry is asked what it shows.
    Looking(Why),
    /// The holder of a larger incarnation is asked whether it lives.
    Probing {
        /// Who.
        holder: Holder,
        /// How often nobody was there.
        absent: u32,
    },
}

/// What an event of ours says of the vouching that it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) session: SessionId,
    pub(super) incarnation: Incarnation,
    pub(super) generation: u64,
    /// Static instances are left out of digests.
    pub(super) is_static: bool,
}

/// The last event that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) event_id: String,
    pub(super) order: Order,
    pub(super) said: Unsaid,
}

/// How an owner takes an instance back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) reason: DeregisterReason,
    pub(super) detail: Option<String>,
    /// How long the owner waits; none: not any more, but it is sent as soon as that is possible.
    pub(super) by_ms: Option<u64>,
    pub(super) problem: String,
}

/// One instance that is vouched for.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) spec: InstanceSpec,
    pub(super) status: Status,
    /// None until the vouching begins.
    pub(super) incarnation: Option<Incarnation>,
    /// Of the last event; 0 before the first.
    pub(super) generation: u64,
    /// Of the last registration that was sent. Only once it was acknowledged, health is reported alone.
    pub(super) registered_generation: u64,
    /// Incarnations of the same instance that are known, other than our own present one.
    pub(super) largest_known: Option<Incarnation>,
    pub(super) sent: Option<Sent>,
    /// Acknowledged, and not known to have been refused: what heartbeats answer for.
    pub(super) logged: Option<Order>,
    /// Shown by a registry.
    pub(super) confirmed: Option<Order>,
    pub(super) unsaid: Unsaid,
    pub(super) ending: Option<Ending>,
    pub(super) conflict: Option<String>,
    pub(super) doing: Doing,
    pub(super) request: Option<RequestId>,
    pub(super) at_ms: Option<u64>,
    /// Tries in a row that came to nothing.
    pub(super) attempts: u32,
    /// Times in a row that it was found fenced, or not understood.
    pub(super) fenced: u32,
}

impl Claim {
    pub(super) fn new(spec: InstanceSpec, now_ms: u64) -> Self {
        Self {
            spec,
            status: Status::Pending(Pending::Starting),
            incarnation: None,
            generation: 0,
            registered_generation: 0,
            largest_known: None,
            sent: None,
            logged: None,
            confirmed: None,
            unsaid: Unsaid::Whole,
            ending: None,
            conflict: None,
            doing: Doing::Looking(Why::Beginning),
            request: None,
            at_ms: Some(now_ms),
            attempts: 0,
            fenced: 0,
        }
    }

    /// Something is waiting for an answer, or for its time.
    pub(super) fn is_resting(&self) -> bool {
        self.request.is_none() && matches!(self.doing, Doing::Rest | Doing::Looking(Why::Rechecking))
    }

    /// Acknowledged by then, and not shown by a registry yet.
    pub(super) fn is_confirming_since(&self, ms: u64) -> bool {
        matches!(self.doing, Doing::Confirming { since_ms, .. } if since_ms <= ms)
    }

    /// Refused, fenced, somebody else's, or about to be found so: nothing of it is to be kept alive.
    fn is_given_up(&self) -> bool {
        match &self.status {
            Status::Fenced(_) | Status::Duplicate { .. } | Status::Displaced { .. } => true,
            Status::Refused(_) => self.confirmed.is_none(),
            _ => matches!(self.doing, Doing::Probing { .. } | Doing::Looking(Why::Displaced)),
        }
    }

    /// Its owner waits no longer.
    pub(super) fn is_left(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.by_ms.is_none())
    }

    /// When its owner stops waiting.
    pub(super) fn by_ms(&self) -> Option<u64> {
        self.ending.as_ref().and_then(|ending| ending.by_ms)
    }

    /// What a probe is told: its lease is to be kept.
    pub(super) fn vouched(&self) -> Option<(Incarnation, u64)> {
        let listed = self.ending.is_none() && !self.is_given_up() && !self.spec.is_static();
        self.incarnation.filter(|_| listed).map(|incarnation| (incarnation, self.generation.max(1)))
    }

    /// To be registered again when a registry asks for everything.
    pub(super) fn is_announced(&self) -> bool {
        let is_refused = matches!(self.status, Status::Refused(_));
        self.ending.is_none() && !self.is_given_up() && !is_refused
    }

    /// Nothing of ours can be in the log, now or later.
    pub(super) fn is_absent_from_log(&self) -> bool {
        let under_way = matches!(self.doing, Doing::Publishing | Doing::Confirming { .. });
        self.sent.is_none() || (self.is_given_up() && !(under_way && self.request.is_some()))
    }

    pub(super) fn name(&self) -> (ServiceName, InstanceId) {
        (self.spec.service.clone(), self.spec.instance.clone())
    }

    /// What an event adds to the digest of the heartbeats.
    pub(super) fn share(&self, order: Order) -> Option<Digest> {
        let Order { incarnation, generation, is_static, .. } = order;
        let digest = || Digest::of_vouching(&self.spec.service, &self.spec.instance, incarnation, generation);
        (!is_static).then(digest)
    }
}
