//! `muster why`: what happened to a service or an instance, in plain words, from the log.

use muster_registry::core::catalog::{Catalog, Held};
use muster_registry::past::{Entry, History, Past, PastError, Wanted};
use muster_schemas::query::{ErrorCode, QueryError, Request};
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, MinRevision, ServiceName, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::{condition, instances, table};
use crate::story::sentence;

const NOT_REGISTERED: &str = "not registered";
const NO_INSTANCE: &str = "no instance";

/// Say what happened to a service or an instance, in plain words, from the log.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster why orders web1-8080\n  muster why orders --last 20\n  \
                        muster why orders web1-8080 --json | jq '.events[-1].event'")]
pub(crate) struct Why {
    /// The service
    service: ServiceName,
    /// The instance; without it, all of the service's
    instance: Option<InstanceId>,
    /// The last so many events
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    last: usize,
}

#[derive(Serialize)]
struct Line {
    revision: u64,
    at: Timestamp,
    instance: Option<String>,
    outcome: &'static str,
    change: Option<String>,
    text: String,
    event: Value,
}

#[derive(Serialize)]
struct Biography {
    service: ServiceName,
    instance: Option<InstanceId>,
    now: String,
    /// The first revision that the log still holds, if its beginning is gone.
    log_begins_at: Option<u64>,
    /// From this revision on a checkpoint stands for what is gone.
    known_from: Option<u64>,
    /// Events that are not shown because they lie further back.
    earlier: usize,
    events: Vec<Line>,
}

impl Why {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let history = self.read(session).await?;
        let begins_at = (history.span.first > 1).then_some(history.span.first);
        let now = if history.is_whole {
            self.now(&history.catalog)
        } else {
            self.now_by_a_registry(session, &history).await?
        };
        let is_there = now != NOT_REGISTERED && now != NO_INSTANCE;
        if history.about_it == 0 && (begins_at.is_none() || !is_there) {
            let log = begins_at
                .map_or("the log".to_owned(), |first| format!("what is left of the log, from revision {first} on,"));
            let name = self.name();
            let reason = format!("{log} says nothing about {name}; `muster services` lists what is registered");
            return Err(CommandError::Failed(reason));
        }
        let events: Vec<Line> = history.entries.iter().map(|entry| line(session, entry)).collect();
        let biography = Biography {
            service: self.service.clone(),
            instance: self.instance.clone(),
            now,
            log_begins_at: begins_at,
            known_from: history.known_from,
            earlier: history.earlier,
            events,
        };
        session.print(&biography, || {
            let rows = biography.events.iter().map(|line| {
                let instance = line.instance.clone().unwrap_or_else(|| "(log)".into());
                [line.at.to_string(), line.revision.to_string(), instance, line.text.clone()]
            });
            let table = table(&["WHEN", "REVISION", "INSTANCE", "WHAT"], rows);
            let earlier = match biography.earlier {
                0 => String::new(),
                1 => "\n1 earlier event is not shown (--last).".to_owned(),
                count => format!("\n{count} earlier events are not shown (--last)."),
            };
            let begins = match biography.log_begins_at {
                Some(first) => {
                    let known = biography.known_from.map(|from| format!("; what was so at {from}, a checkpoint says"));
                    let known = known.unwrap_or_default();
                    format!("\nThe log begins at revision {first}: what came before is no longer in it{known}.")
                }
                None => String::new(),
            };
            format!("{table}{begins}{earlier}\nNow: {}.", biography.now)
        });
        Ok(())
    }

    /// From the log itself; a registry is asked only which log it is, where nothing else tells.
    async fn read(&self, session: &Session) -> Result<History, CommandError> {
        let past = Past::new(session.client().clone(), session.subjects().clone());
        let (service, instance) = (&self.service, self.instance.as_ref());
        let kept_max = self.last;
        let mut wanted = Wanted { service, instance, until: None, kept_max, exact_changes: false, in_force: None };
        match past.history(&wanted).await {
            Err(PastError::NeedsEpoch) => {}
            told => return Ok(told?),
        }
        let status = session.status().await?;
        let epoch = status.epoch.ok_or_else(|| {
            let reason = status.reason.unwrap_or_else(|| "it is warming up".to_owned());
            CommandError::Failed(format!("registry {} does not know the log yet ({reason}); try again", status.replica))
        })?;
        wanted.in_force = Some((epoch, status.fold_version));
        Ok(past.history(&wanted).await?)
    }

    fn name(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}/{instance}", self.service),
            None => self.service.to_string(),
        }
    }

    /// What is left of the log may not tell; what is gone for good is told from it.
    async fn now_by_a_registry(&self, session: &Session, history: &History) -> Result<String, CommandError> {
        let catalog = &history.catalog;
        let min_revision = history.entries.back().map(|newest| MinRevision(None, newest.sequence));
        let request = Request { min_revision, ..Request::default() };
        let Some(instance) = &self.instance else {
            let reply = session.ask(&Query::Service(self.service.clone()), &request).await?;
            return Ok(counted(reply.services.first().map(|service| (service.total, service.routable))));
        };
        match session.instance(&self.service, instance, &request).await {
            Ok(reply) => {
                let live = reply.services.first().and_then(|service| service.instances.first());
                Ok(live.map_or_else(|| self.now(catalog), |live| format!("registered, {}", condition(live))))
            }
            Err(CommandError::Query(QueryError { code: ErrorCode::NotFound, .. })) => {
                let gone = catalog.tombstone(&self.service, instance).is_some();
                Ok(if gone { self.now(catalog) } else { NOT_REGISTERED.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn now(&self, catalog: &Catalog) -> String {
        let Some(instance) = &self.instance else {
            let service = catalog.service(&self.service);
            return counted(service.map(|service| (service.total(), service.routable())));
        };
        match catalog.service(&self.service).and_then(|service| service.held(instance)) {
            Some(Held::Live(live)) => format!("registered, {}", condition(live)),
            Some(Held::Gone(gone)) => {
                let tombstone = gone;
                format!("gone since {}: {} by {}", tombstone.at, tombstone.cause.as_str(), tombstone.actor)
            }
            None => NOT_REGISTERED.into(),
        }
    }
}

/// How many instances a service has, and how many of them are routable.
fn counted(service: Option<(u32, u32)>) -> String {
    match service {
        Some((total, routable)) if total > 0 => format!("{}, {routable} of them routable", instances(total.into())),
        _ => NO_INSTANCE.into(),
    }
}

fn line(session: &Session, entry: &Entry) -> Line {
    let change = entry.folded.change.as_ref().map(|change| format!("{:?}", change.change).to_lowercase());
    Line {
        revision: entry.sequence,
        at: entry.at,
        instance: entry.instance(session.subjects()).map(|instance| instance.to_string()),
        outcome: if entry.is_doubtful { "unknown" } else { entry.folded.outcome.as_str() },
        change,
        text: sentence(session.subjects(), entry),
        event: serde_json::from_slice(&entry.payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&entry.payload).into_owned())),
    }
}
