//! What a watch delivers: changes with their cause, and how two lists differ.

use std::fmt;
use std::sync::Arc;

use muster_schemas::change::Change as WireChange;
use muster_schemas::entry::Evidence;
use muster_schemas::{Cause, Instance, InstanceId, Revision, ServiceName, Timestamp};

use crate::snapshot::{Lists, Snapshot, State};

/// What a watch delivers. The first is always [`Update::List`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// The whole list as the watch begins; what follows are differences to it.
    List(Arc<Snapshot>),
    /// One instance came, changed or went.
    Change(Change),
    /// Whether the list is verified has changed; the list itself has not.
    State(State),
}

/// What happened to one instance, as this watch sees it: with a filter, an instance that begins to match is `Added`, one
/// that no longer does is `Removed`, with the true cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not in the list, and is now.
    Added {
        /// The instance.
        instance: Arc<Instance>,
        /// Who caused it, and why.
        why: Arc<Why>,
    },
    /// It was in the list, and is different now.
    Updated {
        /// What it is now.
        instance: Arc<Instance>,
        /// What it was.
        before: Arc<Instance>,
        /// Who caused it, and why.
        why: Arc<Why>,
    },
    /// It was in the list, and is no longer.
    Removed {
        /// What it was.
        before: Arc<Instance>,
        /// Who caused it, and why.
        why: Arc<Why>,
    },
}

/// Cause, actor and evidence of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The cause; [`Cause::Resync`] if the view found out by itself, after a gap or an outage.
    pub cause: Cause,
    /// `agent/<agent>`, `registry/<replica>` or `operator/<who>`; `discovery` for [`Cause::Resync`].
    pub actor: String,
    /// When, in the time of the log; for [`Cause::Resync`] when the view found out.
    pub at: Timestamp,
    /// The position in the log of the event that caused it; for [`Cause::Resync`] of the snapshot.
    pub revision: Option<Revision>,
    /// What convinced whoever caused it.
    pub evidence: Option<Evidence>,
    /// Other instances that registered the same host and port, as `<service>/<instance>` in subject tokens.
    pub conflicts: Vec<String>,
}

impl Why {
    pub(crate) fn of(change: &WireChange) -> Self {
        Self {
            cause: change.cause,
            actor: change.actor.clone(),
            at: change.at,
            revision: Some(Revision(change.epoch, change.revision)),
            evidence: change.evidence.clone(),
            conflicts: change.conflicts.clone(),
        }
    }

    pub(crate) fn resync(at: Timestamp, revision: Option<Revision>, detail: &str) -> Self {
        Self {
            cause: Cause::Resync,
            actor: "discovery".to_owned(),
            at,
            revision,
            evidence: Some(Evidence { detail: Some(detail.to_owned()), ..Evidence::default() }),
            conflicts: Vec::new(),
        }
    }
}

impl Change {
    /// The change that leads from one value to the other; none if neither is there.
    pub(crate) fn between(
        before: Option<Arc<Instance>>,
        after: Option<Arc<Instance>>,
        why: impl FnOnce() -> Arc<Why>,
    ) -> Option<Self> {
        match (before, after) {
            (None, None) => None,
            (None, Some(instance)) => Some(Self::Added { instance, why: why() }),
            (Some(before), Some(instance)) => Some(Self::Updated { instance, before, why: why() }),
            (Some(before), None) => Some(Self::Removed { before, why: why() }),
        }
    }

    /// What the instance is now; none if it was removed.
    #[must_use]
    pub fn instance(&self) -> Option<&Arc<Instance>> {
        match self {
            Self::Added { instance, .. } | Self::Updated { instance, .. } => Some(instance),
            Self::Removed { .. } => None,
        }
    }

    /// What the instance was; none if it was added.
    #[must_use]
    pub fn before(&self) -> Option<&Arc<Instance>> {
        match self {
            Self::Updated { before, .. } | Self::Removed { before, .. } => Some(before),
            Self::Added { .. } => None,
        }
    }

    fn either(&self) -> &Arc<Instance> {
        match self {
            Self::Added { instance, .. } | Self::Updated { instance, .. } => instance,
            Self::Removed { before, .. } => before,
        }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.either().service()
    }

    /// The instance's id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        self.either().id()
    }

    /// Cause, actor and evidence.
    #[must_use]
    pub fn why(&self) -> &Arc<Why> {
        match self {
            Self::Added { why, .. } | Self::Updated { why, .. } | Self::Removed { why, .. } => why,
        }
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.why().cause
    }

    /// Who caused it: `agent/<agent>`, `registry/<replica>`, `operator/<who>`, or `discovery` for [`Cause::Resync`].
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.why().actor
    }

    /// What convinced whoever caused it.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        self.why().evidence.as_ref()
    }

    /// `added`, `updated` or `removed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Added { .. } => "added",
            Self::Updated { .. } => "updated",
            Self::Removed { .. } => "removed",
        }
    }

    /// The same change, seen through a filter.
    pub(crate) fn filtered(self, lets_through: impl Fn(&Instance) -> bool) -> Option<Self> {
        let (before, after, why) = match self {
            Self::Added { instance, why } => (None, Some(instance), why),
            Self::Updated { instance, before, why } => (Some(before), Some(instance), why),
            Self::Removed { before, why } => (Some(before), None, why),
        };
        let through = |value: &Arc<Instance>| lets_through(value);
        Self::between(before.filter(through), after.filter(through), || why)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause().as_str();
        write!(out, "{} {}/{}: {cause} by {}", self.as_str(), self.service(), self.id(), self.actor())
    }
}

/// Whether a consumer would tell the two apart: positions in the log and the generation, which every sending raises, do
/// not count.
pub(crate) fn differ(before: &Arc<Instance>, after: &Arc<Instance>) -> bool {
    if Arc::ptr_eq(before, after) {
        return false;
    }
    let mut positioned = Instance::clone(before);
    positioned.created_revision = after.created_revision;
    positioned.modified_revision = after.modified_revision;
    positioned.registration.vouching.generation = after.vouching().generation;
    positioned != **after
}

/// What leads from one state of the lists to another: what came and changed first, then what went, so that whoever
/// applies it in order is never left with less than either list.
pub(crate) fn differences(before: &Lists, after: &Lists, why: &Arc<Why>) -> Vec<Change> {
    use imbl::ordmap::DiffItem;

    let mut present = Vec::new();
    let mut gone = Vec::new();
    let mut compare = |before: Option<&Arc<Instance>>, after: Option<&Arc<Instance>>| {
        if let (Some(before), Some(after)) = (before, after)
            && !differ(before, after)
        {
            return;
        }
        let list = if after.is_some() { &mut present } else { &mut gone };
        list.extend(Change::between(before.cloned(), after.cloned(), || why.clone()));
    };
    for item in before.diff(after) {
        match item {
            DiffItem::Add(_, list) => list.all().for_each(|instance| compare(None, Some(instance))),
            DiffItem::Remove(_, list) => list.all().for_each(|instance| compare(Some(instance), None)),
            DiffItem::Update { old: (_, old), new: (_, new) } => {
                for item in old.instances.diff(&new.instances) {
                    match item {
                        DiffItem::Add(_, instance) => compare(None, Some(instance)),
                        DiffItem::Remove(_, instance) => compare(Some(instance), None),
                        DiffItem::Update { old: (_, old), new: (_, new) } => compare(Some(old), Some(new)),
                    }
                }
            }
        }
    }
    present.append(&mut gone);
    present
}
