//! `muster deregister`: take back what no living agent vouches for.

use std::time::Duration;

use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, Sender};
use muster_schemas::instance::Vouching;
use muster_schemas::query::{ErrorCode, QueryError, Request};
use muster_schemas::subject::Verb;
use muster_schemas::{Instance, InstanceId, MinRevision, ServiceName, Timestamp};
use tokio::time::timeout;

use crate::error::CommandError;
use crate::session::Session;

/// How long an agent may take to say that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Take back a static instance, or one whose agent is gone.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  muster deregister printers laser-1\n\n\
                        An instance with a living agent would be registered again: use `muster maintenance on`\n\
                        to keep it from being used, or `muster evict` to keep it out.")]
pub(crate) struct Deregister {
    /// The service
    service: ServiceName,
    /// The instance
    instance: InstanceId,
    /// Why, for its biography
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

impl Deregister {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let reply = session.instance(&self.service, &self.instance, &Request::default()).await?;
        let found = reply.services.first().and_then(|service| service.instances.first());
        let instance = found.ok_or_else(|| QueryError::not_found(&self.service, Some(&self.instance)))?;
        if !instance.is_static() && agent_answers(session, instance).await {
            return Err(CommandError::Failed(format!(
                "agent {} lives and vouches for {}/{}: it would register it again; use `muster maintenance on {} {}` to \
                 keep it from being used, or `muster evict {} {}` to keep it out",
                instance.vouching().agent,
                self.service,
                self.instance,
                self.service,
                self.instance,
                self.service,
                self.instance
            )));
        }
        let sequence = session.append(&self.event(instance)).await?;
        let request = Request { min_revision: Some(MinRevision(None, sequence)), ..Request::default() };
        match session.instance(&self.service, &self.instance, &request).await {
            Err(CommandError::Query(QueryError { code: ErrorCode::NotFound, .. })) => {
                let done =
                    serde_json::json!({ "service": self.service, "instance": self.instance, "revision": sequence });
                session.print(&done, || format!("deregistered {}/{}", self.service, self.instance));
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Err(CommandError::Failed(format!(
                "{}/{} was registered again in the meantime; `muster why {} {}` tells by whom",
                self.service, self.instance, self.service, self.instance
            ))),
        }
    }

    /// As its agent would say it: nobody else may.
    fn event(&self, instance: &Instance) -> Event {
        let vouching = instance.vouching();
        Event {
            id: crate::commands::event_id(),
            source: Sender::Agent(vouching.agent.clone()),
            time: Some(Timestamp::from_ms(chrono::Utc::now().timestamp_millis())),
            data: EventData::Deregister(Deregistration {
                vouching: Vouching { generation: vouching.generation + 1, ..vouching.clone() },
                reason: DeregisterReason::Operator,
                detail: self.why.clone(),
            }),
        }
    }
}

async fn agent_answers(session: &Session, instance: &Instance) -> bool {
    let subject = session.subjects().to_agent(&instance.vouching().agent, Verb::Probe);
    let answer = timeout(PROBE_TIMEOUT, session.client().request(subject, bytes::Bytes::new())).await;
    matches!(answer, Ok(Ok(_)))
}
