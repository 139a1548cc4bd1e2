//! `muster maintenance` and `muster evict`: what an operator wants of an instance, with who and why.

use chrono::Utc;
use muster_runtime::settings::Period;
use muster_schemas::entry::IntentKind;
use muster_schemas::event::{Event, EventData, IntentSet, Sender};
use muster_schemas::query::{ErrorCode, QueryError, Reply, Request};
use muster_schemas::{Incarnation, InstanceId, MinRevision, OperatorName, ServiceName, Timestamp};
use nix::unistd::{Uid, User};

use crate::commands::event_id;
use crate::error::CommandError;
use crate::session::Session;

/// Keep an instance from being used, or allow it again. It stays registered and goes on being checked.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster maintenance on orders web1-8080 --why 'disk swap' --for 2h\n  \
                        muster maintenance on orders web1-8080 --why 'move' --until 2026-11-21T18:00:00Z\n  \
                        muster maintenance off orders web1-8080")]
pub(crate) struct MaintenanceCommand {
    /// `on` keeps it from being used, `off` allows it again
    #[arg(value_parser = ["on", "off"])]
    switch: String,
    #[command(flatten)]
    wish: Wish,
}

/// Take an instance out and keep this incarnation out: only a larger one, or `--clear`, comes back.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster evict orders web1-8080 --why 'answers with the wrong tenant'\n  \
                        muster evict orders web1-8080 --clear")]
pub(crate) struct Evict {
    #[command(flatten)]
    wish: Wish,
    /// Lift the eviction
    #[arg(long)]
    clear: bool,
}

#[derive(clap::Args)]
struct Wish {
    /// The service
    service: ServiceName,
    /// The instance
    instance: InstanceId,
    /// Why; consumers and biographies show it
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Who wants it [default: the user's name]
    #[arg(long, value_name = "NAME")]
    who: Option<OperatorName>,
    /// How long; without it until cleared
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<Period>,
    /// Until when, as in 2026-11-21T18:00:00Z; without it until cleared
    #[arg(long, value_name = "TIME", conflicts_with = "period")]
    until: Option<Timestamp>,
}

impl MaintenanceCommand {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let (kind, done) = if self.switch == "on" {
            (IntentKind::Maintenance, "in maintenance")
        } else {
            (IntentKind::Clear, "out of maintenance")
        };
        let sequence = self.wish.append(session, kind, None).await?;
        let instance = self.wish.found(session, Some(sequence)).await?;
        let is_on = instance.as_ref().is_some_and(|instance| instance.maintenance.is_some());
        if instance.is_some() && is_on != (kind == IntentKind::Maintenance) {
            return Err(self.wish.overtaken());
        }
        self.wish.print(session, sequence, done);
        Ok(())
    }
}

impl Evict {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        if self.clear {
            let sequence = self.wish.append(session, IntentKind::Clear, None).await?;
            self.wish.found(session, Some(sequence)).await?;
            self.wish.print(session, sequence, "no longer evicted");
            return Ok(());
        }
        let found = self.wish.found(session, None).await?;
        let not_found = || QueryError::not_found(&self.wish.service, Some(&self.wish.instance));
        let incarnation = found.ok_or_else(not_found)?.vouching().incarnation;
        let sequence = self.wish.append(session, IntentKind::Evict, Some(incarnation)).await?;
        match self.wish.found(session, Some(sequence)).await? {
            Some(instance) if instance.vouching().incarnation == incarnation => Err(self.wish.overtaken()),
            _ => {
                self.wish.print(session, sequence, "evicted");
                Ok(())
            }
        }
    }
}

impl Wish {
    async fn append(
        &self,
        session: &Session,
        kind: IntentKind,
        incarnation: Option<Incarnation>,
    ) -> Result<u64, CommandError> {
        let who = self.who()?;
        let now_ms = Utc::now().timestamp_millis();
        let until = self.end(now_ms)?;
        let event = Event {
            id: event_id(),
            source: Sender::Operator(who.clone()),
            time: Some(Timestamp::from_ms(now_ms)),
            data: EventData::Intent(IntentSet {
                service: self.service.clone(),
                instance: self.instance.clone(),
                intent: kind,
                who,
                why: self.why.clone(),
                until,
                incarnation,
            }),
        };
        session.append(&event).await
    }

    /// When it ends, by this host's clock; by the broker's it is ended.
    fn end(&self, now_ms: i64) -> Result<Option<Timestamp>, CommandError> {
        let after = self.period.map(|period| Timestamp::from_ms(now_ms.saturating_add_unsigned(period.as_ms())));
        match self.until {
            Some(until) if until.as_ms() <= now_ms => {
                Err(CommandError::Usage(format!("--until {until} is over already: name a time to come, or --for 2h")))
            }
            until => Ok(until.or(after)),
        }
    }

    fn who(&self) -> Result<OperatorName, CommandError> {
        let by_variable = || std::env::var("USER").ok().and_then(|user| user.parse().ok());
        let by_number = || User::from_uid(Uid::current()).ok().flatten()?.name.parse().ok();
        let missing = || CommandError::Usage("who wants it is not known: give --who NAME".into());
        self.who.clone().or_else(by_variable).or_else(by_number).ok_or_else(missing)
    }

    /// The instance at a revision, if it is registered there.
    async fn found(
        &self,
        session: &Session,
        sequence: Option<u64>,
    ) -> Result<Option<std::sync::Arc<muster_schemas::Instance>>, CommandError> {
        let min_revision = sequence.map(|sequence| MinRevision(None, sequence));
        let request = Request { min_revision, ..Request::default() };
        match session.instance(&self.service, &self.instance, &request).await {
            Ok(Reply { mut services, .. }) => Ok(services.pop().and_then(|mut service| service.instances.pop())),
            Err(CommandError::Query(QueryError { code: ErrorCode::NotFound, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn overtaken(&self) -> CommandError {
        let (service, instance) = (&self.service, &self.instance);
        CommandError::Failed(format!(
            "the registry did not accept it, or something came in between: `muster why {service} {instance}` tells"
        ))
    }

    fn print(&self, session: &Session, sequence: u64, done: &str) {
        let value = serde_json::json!({
            "service": self.service, "instance": self.instance, "revision": sequence, "result": done,
        });
        session.print(&value, || format!("{}/{} is {done}", self.service, self.instance));
    }
}
