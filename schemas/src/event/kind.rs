//! The kinds of event, and who may send which.

use std::fmt;

use crate::limits::{CARRY_BYTES_MAX, EVENT_BYTES_MAX};
use crate::name::{AgentId, NameError, Namespace, OperatorName, ReplicaId};

/// The kinds of event; each has a type on the envelope and a token in the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// An agent describes an instance, whole.
    Register,
    /// An agent takes an instance back.
    Deregister,
    /// An agent tells of an instance's health.
    Health,
    /// A registry proposes that an instance is gone.
    Expire,
    /// An operator wants something of an instance.
    Intent,
    /// A registry proposes that a timed intent has ended.
    Lapse,
    /// A log begins.
    Epoch,
    /// An entry comes over from a lost log.
    Carry,
    /// The end of `recovering`.
    Recovered,
    /// A setting that the fold obeys.
    Setting,
}

/// Who may send a kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SenderClass {
    /// Agents.
    Agent,
    /// Registries.
    Registry,
    /// Operators.
    Operator,
}

impl SenderClass {
    /// The word in `source` and `actor`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Registry => "registry",
            Self::Operator => "operator",
        }
    }
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Register,
        Self::Deregister,
        Self::Health,
        Self::Expire,
        Self::Intent,
        Self::Lapse,
        Self::Epoch,
        Self::Carry,
        Self::Recovered,
        Self::Setting,
    ];

    /// The word in the subject.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Deregister => "deregister",
            Self::Health => "health",
            Self::Expire => "expire",
            Self::Intent => "intent",
            Self::Lapse => "lapse",
            Self::Epoch => "epoch",
            Self::Carry => "carry",
            Self::Recovered => "recovered",
            Self::Setting => "setting",
        }
    }

    /// The envelope's `type`.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Register => "io.muster.instance.registered.v1",
            Self::Deregister => "io.muster.instance.deregistered.v1",
            Self::Health => "io.muster.instance.health_changed.v1",
            Self::Expire => "io.muster.instance.expired.v1",
            Self::Intent => "io.muster.intent.set.v1",
            Self::Lapse => "io.muster.intent.lapsed.v1",
            Self::Epoch => "io.muster.log.epoch_began.v1",
            Self::Carry => "io.muster.log.carried_over.v1",
            Self::Recovered => "io.muster.log.recovered.v1",
            Self::Setting => "io.muster.log.setting_changed.v1",
        }
    }

    /// The kind of a subject's token.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.token() == token)
    }

    /// Who may send it.
    #[must_use]
    pub fn sender_class(self) -> SenderClass {
        match self {
            Self::Register | Self::Deregister | Self::Health => SenderClass::Agent,
            Self::Intent => SenderClass::Operator,
            Self::Expire | Self::Lapse | Self::Epoch | Self::Carry | Self::Recovered | Self::Setting => {
                SenderClass::Registry
            }
        }
    }

    /// Is about the log, not about one instance.
    #[must_use]
    pub fn is_log_wide(self) -> bool {
        matches!(self, Self::Epoch | Self::Recovered | Self::Setting)
    }

    /// The largest event of this kind, in bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        if self == Self::Carry { CARRY_BYTES_MAX } else { EVENT_BYTES_MAX }
    }
}

/// Who sent an event: the last token of its subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// An agent.
    Agent(AgentId),
    /// A registry replica.
    Registry(ReplicaId),
    /// An operator.
    Operator(OperatorName),
}

/// The envelope's `source` names the sender; the two are one thing.
pub type Source = Sender;

impl Sender {
    /// What class of sender.
    #[must_use]
    pub fn class(&self) -> SenderClass {
        match self {
            Self::Agent(_) => SenderClass::Agent,
            Self::Registry(_) => SenderClass::Registry,
            Self::Operator(_) => SenderClass::Operator,
        }
    }

    /// The name as a subject token.
    #[must_use]
    pub fn token(&self) -> String {
        match self {
            Self::Agent(agent) => agent.token(),
            Self::Registry(replica) => replica.token(),
            Self::Operator(who) => who.token(),
        }
    }

    /// Parses a subject token.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn from_token(class: SenderClass, token: &str) -> Result<Self, NameError> {
        Ok(match class {
            SenderClass::Agent => Self::Agent(AgentId::from_token(token)?),
            SenderClass::Registry => Self::Registry(ReplicaId::from_token(token)?),
            SenderClass::Operator => Self::Operator(OperatorName::from_token(token)?),
        })
    }

    /// The envelope's `source`: `/muster/<namespace>/<class>/<token>`.
    #[must_use]
    pub fn source(&self, namespace: &Namespace) -> String {
        format!("/muster/{namespace}/{}/{}", self.class().as_str(), self.token())
    }
}

/// As in a change's `actor`: `<class>/<name>`.
impl fmt::Display for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Agent(agent) => agent.as_str(),
            Self::Registry(replica) => replica.as_str(),
            Self::Operator(who) => who.as_str(),
        };
        write!(out, "{}/{name}", self.class().as_str())
    }
}
