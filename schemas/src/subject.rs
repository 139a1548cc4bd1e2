//! Every subject that Muster uses, built and parsed here and nowhere else.
//!
//! `<prefix>.<namespace>.<area>…`; names stand in subjects as tokens (see [`crate::name::encode_token`]).

use std::fmt;
use std::sync::Arc;

use crate::event::{EventKind, Sender, SenderClass};
use crate::name::{AgentId, InstanceId, NO_NAME, NameError, Namespace, Prefix, ReplicaId, ServiceName, encode_token};
use crate::pulse::BUCKETS;

/// What a broker says when a client of the account is gone, if its configuration exports it to the account.
pub const DISCONNECT_ADVISORIES: &str = "$SYS.ACCOUNT.*.DISCONNECT";

/// Where every broker server answers that it is there.
pub const PING_SERVERS: &str = "$SYS.REQ.ACCOUNT.PING.STATZ";

/// Builds and parses the subjects of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: Prefix,
    namespace: Namespace,
    base: Arc<str>,
}

/// The service and instance that an event is about; log-wide events have none.
pub type Target = Option<(ServiceName, InstanceId)>;

/// A subject, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An event in the stream.
    Event {
        /// What kind.
        kind: EventKind,
        /// About which instance.
        target: Target,
        /// From whom.
        sender: Sender,
    },
    /// An agent's heartbeat.
    Heartbeat(AgentId),
    /// A replica's mark.
    Mark(ReplicaId),
    /// A change of a service.
    Change(ServiceName),
    /// A pulse of a bucket.
    Pulse(u8),
    /// A replica's beacon.
    Beacon(ReplicaId),
    /// An alarm of some kind.
    Alarm(String),
    /// A question to a registry.
    Query(Query),
    /// A word to an agent.
    Agent(AgentId, Verb),
}

/// What can be asked of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Query {
    /// All services, without their instances.
    Services,
    /// One service with its instances.
    Service(ServiceName),
    /// One instance.
    Instance(ServiceName, InstanceId),
    /// Everything, in chunks.
    Snapshot,
    /// What the replica says of itself.
    Status,
    /// What happened to a service, or to one instance.
    History(ServiceName, Option<InstanceId>),
    /// The next chunk of an answer, held by one replica.
    Next(ReplicaId, String),
}

/// Who sent a message of the heartbeat subjects, as a token: the hot path looks senders up and does not parse them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatFrom<'a> {
    /// A heartbeat of the agent with this token.
    Agent(&'a str),
    /// A mark of the replica with this token.
    Replica(&'a str),
}

/// What can be said to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// What do you vouch for?
    Probe,
    /// Register everything again.
    Announce,
    /// Take an instance out and stop it.
    Drain,
    /// This became of what you sent.
    Notice,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 4] = [Self::Probe, Self::Announce, Self::Drain, Self::Notice];

    /// The word in the subject.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Announce => "announce",
            Self::Drain => "drain",
            Self::Notice => "notice",
        }
    }
}

/// Why a subject was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Of another prefix or namespace.
    #[error("subject {subject:?} does not begin with {base:?}: wrong prefix or namespace")]
    Foreign {
        /// The subject.
        subject: String,
        /// What was expected.
        base: String,
    },
    /// An event of a kind that this version does not know.
    #[error("event kind {kind:?} is not known to this version: upgrade the registries first")]
    UnknownKind {
        /// The kind's token.
        kind: String,
    },
    /// Not one of the subjects that exist.
    #[error("subject {subject:?} is none of Muster's: see the protocol reference")]
    Unknown {
        /// The subject.
        subject: String,
    },
    /// A token that is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Subjects {
    /// The subjects of a namespace.
    #[must_use]
    pub fn new(prefix: Prefix, namespace: Namespace) -> Self {
        let base = Arc::from(format!("{prefix}.{namespace}."));
        Self { prefix, namespace, base }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The subject prefix.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    fn under(&self, rest: impl fmt::Display) -> String {
        format!("{}{rest}", self.base)
    }

    /// The stream that holds the namespace's log.
    #[must_use]
    pub fn stream_name(&self) -> String {
        format!("{}_{}", self.prefix.as_str().to_uppercase(), self.namespace)
    }

    /// The object store that holds the namespace's checkpoints.
    #[must_use]
    pub fn checkpoint_bucket(&self) -> String {
        format!("{}_{}_checkpoints", self.prefix.as_str().to_uppercase(), self.namespace)
    }

    /// Everything in the namespace.
    #[must_use]
    pub fn everything(&self) -> String {
        self.under(">")
    }

    /// All events: what the stream stores.
    #[must_use]
    pub fn all_events(&self) -> String {
        self.under("event.>")
    }

    /// One event's subject.
    #[must_use]
    pub fn event(&self, kind: EventKind, target: Option<(&ServiceName, &InstanceId)>, sender: &Sender) -> String {
        let (service, instance) = match target {
            Some((service, instance)) => (service.token(), instance.token()),
            None => (NO_NAME.to_owned(), NO_NAME.to_owned()),
        };
        self.under(format_args!("event.{}.{service}.{instance}.{}", kind.token(), sender.token()))
    }

    /// The agent that the subject of an event names as its sender, also where the rest of the subject is unreadable; none
    /// for kinds that agents do not send. An unknown kind may be one that they do.
    #[must_use]
    pub fn agent_of_event(&self, subject: &str) -> Option<AgentId> {
        let mut tokens = subject.strip_prefix(&*self.base)?.strip_prefix("event.")?.split('.');
        let kind = EventKind::from_token(tokens.next()?);
        if kind.is_some_and(|kind| kind.sender_class() != SenderClass::Agent) {
            return None;
        }
        let sender = tokens.nth(2)?;
        tokens.next().is_none().then(|| AgentId::from_token(sender).ok())?
    }

    /// All events of a kind; of `epoch` the last one names the log in force.
    #[must_use]
    pub fn events_of_kind(&self, kind: EventKind) -> String {
        self.under(format_args!("event.{}.>", kind.token()))
    }

    /// All events about a service, or about one instance.
    #[must_use]
    pub fn events_about(&self, service: &ServiceName, instance: Option<&InstanceId>) -> String {
        let instance = instance.map_or_else(|| "*".to_owned(), InstanceId::token);
        self.under(format_args!("event.*.{}.{instance}.*", service.token()))
    }

    /// All events about the log as a whole.
    #[must_use]
    pub fn log_wide_events(&self) -> String {
        self.under(format_args!("event.*.{NO_NAME}.{NO_NAME}.*"))
    }

    /// All heartbeats and marks.
    #[must_use]
    pub fn all_heartbeats(&self) -> String {
        self.under("heartbeat.>")
    }

    /// An agent's heartbeats.
    #[must_use]
    pub fn heartbeat(&self, agent: &AgentId) -> String {
        self.under(format_args!("heartbeat.{}", agent.token()))
    }

    /// A replica's marks.
    #[must_use]
    pub fn mark(&self, replica: &ReplicaId) -> String {
        self.under(format_args!("heartbeat.{NO_NAME}.{}", replica.token()))
    }

    /// Whose heartbeat or mark a subject is, without parsing the name. `None` if it is neither.
    #[must_use]
    pub fn beat_from<'a>(&self, subject: &'a str) -> Option<BeatFrom<'a>> {
        let rest = subject.strip_prefix(&*self.base)?.strip_prefix("heartbeat.")?;
        match rest.split_once('.') {
            None => Some(BeatFrom::Agent(rest)),
            Some((NO_NAME, replica)) if !replica.contains('.') => Some(BeatFrom::Replica(replica)),
            Some(_) => None,
        }
    }

    /// All changes.
    #[must_use]
    pub fn all_changes(&self) -> String {
        self.under("change.>")
    }

    /// A service's changes.
    #[must_use]
    pub fn change(&self, service: &ServiceName) -> String {
        self.under(format_args!("change.{}", service.token()))
    }

    /// All pulses.
    #[must_use]
    pub fn all_pulses(&self) -> String {
        self.under("pulse.>")
    }

    /// A bucket's pulses.
    #[must_use]
    pub fn pulse(&self, bucket: u8) -> String {
        self.under(format_args!("pulse.{bucket}"))
    }

    /// All beacons.
    #[must_use]
    pub fn all_beacons(&self) -> String {
        self.under("beacon.>")
    }

    /// A replica's beacons.
    #[must_use]
    pub fn beacon(&self, replica: &ReplicaId) -> String {
        self.under(format_args!("beacon.{}", replica.token()))
    }

    /// All alarms.
    #[must_use]
    pub fn all_alarms(&self) -> String {
        self.under("alarm.>")
    }

    /// Alarms of a kind.
    #[must_use]
    pub fn alarm(&self, kind: &str) -> String {
        self.under(format_args!("alarm.{}", encode_token(kind)))
    }

    /// All queries.
    #[must_use]
    pub fn all_queries(&self) -> String {
        self.under("query.>")
    }

    /// Where to ask a query.
    #[must_use]
    pub fn query(&self, query: &Query) -> String {
        match query {
            Query::Services => self.under("query.services"),
            Query::Service(service) => self.under(format_args!("query.service.{}", service.token())),
            Query::Instance(service, instance) => {
                self.under(format_args!("query.instance.{}.{}", service.token(), instance.token()))
            }
            Query::Snapshot => self.under("query.snapshot"),
            Query::Status => self.under("query.status"),
            Query::History(service, None) => self.under(format_args!("query.history.{}", service.token())),
            Query::History(service, Some(instance)) => {
                self.under(format_args!("query.history.{}.{}", service.token(), instance.token()))
            }
            Query::Next(replica, cursor) => {
                self.under(format_args!("query.next.{}.{}", replica.token(), encode_token(cursor)))
            }
        }
    }

    /// The wildcard that one kind of query is served on: the tokens after `query.`, for instance `service.*`.
    #[must_use]
    pub fn query_wildcard(&self, tokens: &str) -> String {
        self.under(format_args!("query.{tokens}"))
    }

    /// The chunks that a replica holds.
    #[must_use]
    pub fn all_next(&self, replica: &ReplicaId) -> String {
        self.under(format_args!("query.next.{}.*", replica.token()))
    }

    /// Everything said to an agent.
    #[must_use]
    pub fn all_to_agent(&self, agent: &AgentId) -> String {
        self.under(format_args!("agent.{}.>", agent.token()))
    }

    /// A word to an agent.
    #[must_use]
    pub fn to_agent(&self, agent: &AgentId, verb: Verb) -> String {
        self.under(format_args!("agent.{}.{}", agent.token(), verb.as_str()))
    }

    /// Understands a subject of this namespace.
    ///
    /// # Errors
    /// [`SubjectError`]: of another namespace, not one of Muster's, or with a token that is not a name.
    pub fn parse(&self, subject: &str) -> Result<Subject, SubjectError> {
        let foreign = || SubjectError::Foreign { subject: subject.into(), base: self.base.to_string() };
        let unknown = || SubjectError::Unknown { subject: subject.into() };
        let rest = subject.strip_prefix(&*self.base).ok_or_else(foreign)?;
        let mut tokens = [""; 6];
        let mut count = 0;
        for token in rest.split('.') {
            *tokens.get_mut(count).ok_or_else(unknown)? = token;
            count += 1;
        }
        match &tokens[..count] {
            ["event", kind, service, instance, sender] => parse_event(kind, service, instance, sender),
            ["heartbeat", NO_NAME, replica] => Ok(Subject::Mark(ReplicaId::from_token(replica)?)),
            ["heartbeat", agent] => Ok(Subject::Heartbeat(AgentId::from_token(agent)?)),
            ["change", service] => Ok(Subject::Change(ServiceName::from_token(service)?)),
            ["pulse", bucket] => parse_bucket(bucket).map(Subject::Pulse).ok_or_else(unknown),
            ["beacon", replica] => Ok(Subject::Beacon(ReplicaId::from_token(replica)?)),
            ["alarm", kind] => Ok(Subject::Alarm(crate::name::decode_token(kind)?)),
            ["query", what @ ..] => Ok(Subject::Query(parse_query(what)?.ok_or_else(unknown)?)),
            ["agent", agent, verb] => {
                let known = Verb::ALL.into_iter().find(|known| known.as_str() == *verb);
                Ok(Subject::Agent(AgentId::from_token(agent)?, known.ok_or_else(unknown)?))
            }
            _ => Err(unknown()),
        }
    }
}

fn parse_event(kind: &str, service: &str, instance: &str, sender: &str) -> Result<Subject, SubjectError> {
    let kind = EventKind::from_token(kind).ok_or_else(|| SubjectError::UnknownKind { kind: kind.into() })?;
    let target = if kind.is_log_wide() && service == NO_NAME && instance == NO_NAME {
        None
    } else {
        Some((ServiceName::from_token(service)?, InstanceId::from_token(instance)?))
    };
    Ok(Subject::Event { kind, target, sender: Sender::from_token(kind.sender_class(), sender)? })
}

fn parse_bucket(token: &str) -> Option<u8> {
    let bucket: u8 = token.parse().ok()?;
    // Only the text that the encoder writes: no sign, no leading zeros.
    (bucket < BUCKETS && bucket.to_string() == token).then_some(bucket)
}

fn parse_query(what: &[&str]) -> Result<Option<Query>, NameError> {
    Ok(Some(match what {
        ["services"] => Query::Services,
        ["service", service] => Query::Service(ServiceName::from_token(service)?),
        ["instance", service, instance] => {
            Query::Instance(ServiceName::from_token(service)?, InstanceId::from_token(instance)?)
        }
        ["snapshot"] => Query::Snapshot,
        ["status"] => Query::Status,
        ["history", service] => Query::History(ServiceName::from_token(service)?, None),
        ["history", service, instance] => {
            Query::History(ServiceName::from_token(service)?, Some(InstanceId::from_token(instance)?))
        }
        ["next", replica, cursor] => Query::Next(ReplicaId::from_token(replica)?, crate::name::decode_token(cursor)?),
        _ => return Ok(None),
    }))
}
