//! What the broker allows this user to be, found out by trying.

use muster_runtime::broker::{BrokerError, Need};
use muster_schemas::event::{EventKind, Sender};
use muster_schemas::pulse::bucket;
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{AgentId, InstanceId, OperatorName, ReplicaId, ServiceName, Subjects};

use super::{Finding, Verdict};
use crate::session::Session;

/// A name that nobody has.
const NOBODY: &str = "muster-doctor";

/// What a user can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Role {
    /// Asks and watches.
    Consumer,
    /// Vouches for instances of a service.
    Agent,
    /// Sets intents, deregisters, reads the log.
    Operator,
    /// Is a registry.
    Registry,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Consumer, Self::Agent, Self::Operator, Self::Registry];

    pub(super) fn check(self) -> &'static str {
        match self {
            Self::Consumer => "as consumer",
            Self::Agent => "as agent",
            Self::Operator => "as operator",
            Self::Registry => "as registry",
        }
    }

    pub(super) fn may(self) -> &'static str {
        match self {
            Self::Consumer => "may ask and watch",
            Self::Agent => "may register, heartbeat and deregister",
            Self::Operator => "may set maintenance, evict, and read the log",
            Self::Registry => "may publish changes, pulses and epochs",
        }
    }

    fn needs(self, subjects: &Subjects, service: &ServiceName, agent: &AgentId) -> Vec<Need> {
        match self {
            Self::Consumer => vec![
                Need::subscribe(subjects.change(service)),
                Need::subscribe(subjects.pulse(bucket(service))),
                Need::publish(subjects.query(&Query::Service(service.clone()))),
            ],
            Self::Agent => of_agent(subjects, service, agent),
            Self::Operator => of_operator(subjects, service, agent),
            Self::Registry => of_registry(subjects, service),
        }
    }
}

/// A finding for a role that the broker refuses, with its refusal; without one the role is granted.
pub(super) async fn check(
    session: &Session,
    role: Role,
    service: &ServiceName,
    agent: &AgentId,
) -> (Finding, Option<BrokerError>) {
    let needs = role.needs(session.subjects(), service, agent);
    match session.connection().verify(&needs).await {
        Ok(()) => (Finding::ok(role.check(), role.may()), None),
        Err(BrokerError::SubjectsRefused { connection, violations }) => {
            let refused: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let found = format!("the broker refuses {}", refused.join(", "));
            let help = "fine, if this user is something else; else grant it";
            let finding = Finding::bad(role.check(), Verdict::No, found, help);
            (finding, Some(BrokerError::SubjectsRefused { connection, violations }))
        }
        Err(error) => {
            let help = "look at the broker's own log";
            (Finding::bad(role.check(), Verdict::Failed, error.to_string(), help), Some(error))
        }
    }
}

fn of_agent(subjects: &Subjects, service: &ServiceName, agent: &AgentId) -> Vec<Need> {
    let mut needs = vec![
        Need::subscribe(subjects.all_to_agent(agent)),
        Need::publish(subjects.heartbeat(agent)),
        Need::publish(subjects.to_agent(agent, Verb::Probe)),
        Need::publish(subjects.to_agent(agent, Verb::Notice)),
    ];
    if let Ok(instance) = InstanceId::new(NOBODY) {
        let sender = Sender::Agent(agent.clone());
        let kinds = [EventKind::Register, EventKind::Deregister, EventKind::Health];
        let event = |kind| Need::publish(subjects.event(kind, Some((service, &instance)), &sender));
        needs.extend(kinds.map(event));
        needs.push(Need::publish(subjects.query(&Query::Instance(service.clone(), instance.clone()))));
    }
    needs
}

fn of_operator(subjects: &Subjects, service: &ServiceName, agent: &AgentId) -> Vec<Need> {
    let stream = subjects.stream_name();
    let mut needs = vec![
        Need::publish(subjects.query(&Query::Status)),
        Need::publish(subjects.to_agent(agent, Verb::Probe)),
        Need::publish(format!("$JS.API.CONSUMER.CREATE.{stream}.{NOBODY}")),
    ];
    if let (Ok(instance), Ok(who)) = (InstanceId::new(NOBODY), OperatorName::new(NOBODY)) {
        let sender = Sender::Operator(who);
        needs.push(Need::publish(subjects.event(EventKind::Intent, Some((service, &instance)), &sender)));
    }
    needs
}

fn of_registry(subjects: &Subjects, service: &ServiceName) -> Vec<Need> {
    let mut needs = vec![
        Need::subscribe(subjects.all_heartbeats()),
        Need::subscribe(subjects.all_changes()),
        Need::subscribe(subjects.all_beacons()),
        Need::publish(subjects.change(service)),
        Need::publish(subjects.pulse(bucket(service))),
        Need::queue_subscribe(subjects.query(&Query::Snapshot), NOBODY),
    ];
    if let Ok(replica) = ReplicaId::new(NOBODY) {
        needs.push(Need::publish(subjects.beacon(&replica)));
        needs.push(Need::publish(subjects.event(EventKind::Epoch, None, &Sender::Registry(replica))));
    }
    needs
}
