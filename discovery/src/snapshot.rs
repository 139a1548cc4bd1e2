//! What readers get: an immutable list, and whether it is verified.

use std::fmt;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use muster_schemas::{Digest, Instance, InstanceId, Revision, ServiceName, Timestamp};

/// All lists of a view. Persistent: a copy costs nothing, and two versions share what is equal.
pub type Lists = OrdMap<ServiceName, ServiceList>;

/// Whether a list can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Complete: equal to what the registries hold, as of at most a few seconds ago.
    Verified,
    /// The last good list is kept, but nothing has confirmed it since then.
    Unknown {
        /// Until when the list was known to be right; if it never was, when the view began.
        since: Timestamp,
    },
}

impl State {
    /// Nothing confirms the list at present.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self != Self::Verified
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => out.write_str("verified"),
            Self::Unknown { since } => write!(out, "unknown since {since}"),
        }
    }
}

/// The three answers, never confused.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// There are instances, and the list of them is verified. It may still be that none of them is routable.
    Instances(&'a Snapshot),
    /// Verified: there is none.
    ProvenEmpty,
    /// Not known. The snapshot holds the last good list, which may be empty.
    UnknownSince(Timestamp, &'a Snapshot),
}

/// One service's list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceList {
    /// Sequence of the last change; 0 if there was none in this log.
    pub(crate) revision: u64,
    /// The list is right through this sequence at least.
    pub(crate) complete_through: u64,
    /// Digest over the instances that are in the log, as changes and replies name it.
    pub(crate) digest: Digest,
    /// What readers see.
    pub(crate) instances: OrdMap<InstanceId, Arc<Instance>>,
    /// Those of them that the log in force does not prove: from a lost log, or from disk.
    pub(crate) kept: OrdSet<InstanceId>,
}

impl ServiceList {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// How many instances the log in force proves.
    pub(crate) fn proven(&self) -> usize {
        self.instances.len() - self.kept.len()
    }
}

/// The instances of one service, or of all, at one moment. Never changes: ask again, or watch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) lists: Lists,
    pub(crate) state: State,
    pub(crate) revision: Option<Revision>,
    pub(crate) confirmed_at: Option<Timestamp>,
    /// Place in the order of what was published to watches.
    pub(crate) serial: u64,
}

impl Snapshot {
    /// A list of which nothing is known.
    pub(crate) fn unknown(since: Timestamp) -> Self {
        let state = State::Unknown { since };
        Self { lists: Lists::new(), state, revision: None, confirmed_at: None, serial: 0 }
    }

    /// The instances that may be used now: passing or warning, not in maintenance, weight above 0.
    /// In byte order of service and instance id.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.all().filter(|instance| instance.is_routable())
    }

    /// Every instance, also those that must not be used now. In byte order of service and instance id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.lists.values().flat_map(ServiceList::all)
    }

    /// Every instance of one service.
    pub fn of_service(&self, service: &str) -> impl Iterator<Item = &Arc<Instance>> {
        self.lists.get(service).into_iter().flat_map(ServiceList::all)
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, service: &str, id: &str) -> Option<&Arc<Instance>> {
        self.lists.get(service)?.instances.get(id)
    }

    /// The services that have instances, in byte order.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.lists.iter().filter(|(_, list)| !list.instances.is_empty()).map(|(name, _)| name)
    }

    /// How many instances there are, routable or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.values().map(|list| list.instances.len()).sum()
    }

    /// Holds no instance. Proves nothing by itself: see [`Snapshot::is_proven_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.values().all(|list| list.instances.is_empty())
    }

    /// Whether the list can be relied on.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Complete: equal to what the registries hold.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.state == State::Verified
    }

    /// There is no instance, and that is certain.
    #[must_use]
    pub fn is_proven_empty(&self) -> bool {
        self.is_verified() && self.is_empty()
    }

    /// Since when the list is not confirmed; none while it is verified.
    #[must_use]
    pub fn unknown_since(&self) -> Option<Timestamp> {
        match self.state {
            State::Verified => None,
            State::Unknown { since } => Some(since),
        }
    }

    /// The three answers in a form that the compiler holds apart.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        match self.state {
            State::Unknown { since } => Answer::UnknownSince(since, self),
            State::Verified if self.is_empty() => Answer::ProvenEmpty,
            State::Verified => Answer::Instances(self),
        }
    }

    /// The position in the log through which the list is complete; none before anything was heard of a log.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// When the list was last known to be complete.
    #[must_use]
    pub fn confirmed_at(&self) -> Option<Timestamp> {
        self.confirmed_at
    }

    /// A service's digest and the revision of its last change, for comparing two views of the same log; none for a
    /// service without instances.
    #[must_use]
    pub fn digest(&self, service: &str) -> Option<(Digest, u64)> {
        self.lists.get(service).filter(|list| list.proven() > 0).map(|list| (list.digest, list.revision))
    }
}
