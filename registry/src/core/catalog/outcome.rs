//! What became of an event: its outcome, the change that it made, and who has to hear of it.

use std::sync::Arc;

use muster_schemas::agent::{Notice, NoticeCode};
use muster_schemas::refusal::RefusalKind;
use muster_schemas::{AgentId, Change, EpochId, EventKind, Instance};

/// What became of an event. Nothing that arrives in the log is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It changed the catalog.
    Accepted(EventKind),
    /// It said what was known already: only the order and the last sequence of its instance have moved.
    NoOp(EventKind),
    /// It was against a rule and changed nothing.
    Ignored(Reason),
}

impl Outcome {
    /// The word for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::NoOp(_) => "no_op",
            Self::Ignored(reason) => reason.as_str(),
        }
    }

    /// Every word that [`Self::as_str`] can give, so that metrics can begin at zero.
    pub fn all_words() -> impl Iterator<Item = &'static str> {
        ["accepted", "no_op"].into_iter().chain(Reason::ALL.into_iter().map(Reason::as_str))
    }

    /// Whether the event was ignored.
    #[must_use]
    pub fn is_ignored(self) -> bool {
        matches!(self, Self::Ignored(_))
    }
}

/// Why an event was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not JSON, or against a rule that it must obey by itself.
    Malformed,
    /// Over a limit.
    Oversize,
    /// Subject, envelope, data and the owner of the instance disagree.
    IdentityMismatch,
    /// Not above the (incarnation, generation) in force.
    Stale,
    /// The incarnation is more than a day ahead of stream time.
    FutureIncarnation,
    /// A kind or a version of it that this fold does not know.
    UnknownKind,
    /// The instance, the vouching or the registration that it is about is not in the log.
    UnknownInstance,
    /// An operator's eviction of this incarnation is in force.
    Fenced,
    /// No epoch is in force yet.
    NoEpoch,
    /// It names an epoch that is not in force.
    WrongEpoch,
    /// It rests on something that is no longer so.
    Superseded,
    /// A `lapse` before the end of its intent.
    NotDue,
    /// An `expire` for an instance without a lease.
    StaticInstance,
    /// A `carry` into a log that follows no other, or later than ten minutes after it began.
    CarryClosed,
    /// A setting, or a value of one, that this fold does not know.
    UnknownSetting,
    /// More intents are in force than the catalog holds.
    TooManyIntents,
    /// The fold version in force is one that this software does not have.
    UnsupportedFoldVersion,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Oversize,
        Self::IdentityMismatch,
        Self::Stale,
        Self::FutureIncarnation,
        Self::UnknownKind,
        Self::UnknownInstance,
        Self::Fenced,
        Self::NoEpoch,
        Self::WrongEpoch,
        Self::Superseded,
        Self::NotDue,
        Self::StaticInstance,
        Self::CarryClosed,
        Self::UnknownSetting,
        Self::TooManyIntents,
        Self::UnsupportedFoldVersion,
    ];

    /// The word for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::IdentityMismatch => "identity_mismatch",
            Self::Stale => "stale",
            Self::FutureIncarnation => "future_incarnation",
            Self::UnknownKind => "unknown_kind",
            Self::UnknownInstance => "unknown_instance",
            Self::Fenced => "fenced",
            Self::NoEpoch => "no_epoch",
            Self::WrongEpoch => "wrong_epoch",
            Self::Superseded => "superseded",
            Self::NotDue => "not_due",
            Self::StaticInstance => "static_instance",
            Self::CarryClosed => "carry_closed",
            Self::UnknownSetting => "unknown_setting",
            Self::TooManyIntents => "too_many_intents",
            Self::UnsupportedFoldVersion => "unsupported_fold_version",
        }
    }

    /// The code under which the sender, if it is an agent, is told; those without one concern registries and operators,
    /// who see the log themselves.
    pub(super) fn notice_code(self) -> Option<NoticeCode> {
        match self {
            Self::Malformed => Some(NoticeCode::Malformed),
            Self::Oversize => Some(NoticeCode::Oversize),
            Self::IdentityMismatch => Some(NoticeCode::IdentityMismatch),
            Self::Stale => Some(NoticeCode::Stale),
            Self::FutureIncarnation => Some(NoticeCode::FutureIncarnation),
            Self::UnknownKind => Some(NoticeCode::UnknownKind),
            Self::UnknownInstance => Some(NoticeCode::UnknownInstance),
            Self::Fenced => Some(NoticeCode::Fenced),
            _ => None,
        }
    }
}

impl From<RefusalKind> for Reason {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Malformed => Self::Malformed,
            RefusalKind::Oversize => Self::Oversize,
            RefusalKind::IdentityMismatch => Self::IdentityMismatch,
            RefusalKind::UnknownKind => Self::UnknownKind,
        }
    }
}

/// What the second state, the leases, must know of a folded event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum News {
    /// Nothing.
    #[default]
    None,
    /// An instance came, went, or is vouched for differently (a no-op raises its generation). At least one side is there.
    Instance {
        /// As it was held before; none if it was not there.
        before: Option<Arc<Instance>>,
        /// As it is held now; none if it is gone.
        after: Option<Arc<Instance>>,
    },
    /// A new log is in force, and the catalog is empty.
    EpochBegan(EpochId),
}

/// Everything that one event did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What became of it.
    pub outcome: Outcome,
    /// The change that consumers hear of, if it made one.
    pub change: Option<Arc<Change>>,
    /// The bytes of the change's value, where they were written anyway: for [`Change::encode`].
    pub value_bytes: Option<Box<[u8]>>,
    /// What agents are told, by the publishing replica only.
    pub notices: Vec<(AgentId, Notice)>,
    /// What leases must know.
    pub news: News,
    /// For an event that was ignored or odd: what is wrong with it, for the log.
    pub detail: Option<String>,
}

impl Folded {
    pub(super) fn new(outcome: Outcome) -> Self {
        Self { outcome, change: None, value_bytes: None, notices: Vec::new(), news: News::None, detail: None }
    }

    pub(super) fn accepted(kind: EventKind) -> Self {
        Self::new(Outcome::Accepted(kind))
    }

    pub(super) fn ignored(reason: Reason) -> Self {
        Self::new(Outcome::Ignored(reason))
    }

    pub(super) fn no_op(kind: EventKind) -> Self {
        Self::new(Outcome::NoOp(kind))
    }
}
