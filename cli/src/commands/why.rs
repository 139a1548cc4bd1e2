//! `muster why`: what happened to a service or an instance, in plain words, from the log.

use muster_registry::core::catalog::{Catalog, Held};
use muster_schemas::{InstanceId, ServiceName, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::error::CommandError;
use crate::log_read::{self, Entry};
use crate::session::Session;
use crate::show::{condition, instances, table};
use crate::story::sentence;

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
    /// Events that are not shown because they lie further back.
    earlier: usize,
    events: Vec<Line>,
}

impl Why {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let history = log_read::read(session, &self.service, self.instance.as_ref(), self.last).await?;
        if history.about_it == 0 {
            return Err(CommandError::Failed(format!(
                "the log says nothing about {}; `muster services` lists what is registered",
                self.name()
            )));
        }
        let events: Vec<Line> = history.entries.iter().map(|entry| line(session, entry)).collect();
        let biography = Biography {
            service: self.service.clone(),
            instance: self.instance.clone(),
            now: self.now(&history.catalog),
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
            format!("{table}{earlier}\nNow: {}.", biography.now)
        });
        Ok(())
    }

    fn name(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}/{instance}", self.service),
            None => self.service.to_string(),
        }
    }

    fn now(&self, catalog: &Catalog) -> String {
        let Some(instance) = &self.instance else {
            let service = catalog.service(&self.service);
            return match service.map(|service| (service.total(), service.routable())) {
                Some((total, routable)) if total > 0 => {
                    format!("{}, {routable} of them routable", instances(total.into()))
                }
                _ => "no instance".into(),
            };
        };
        match catalog.service(&self.service).and_then(|service| service.held(instance)) {
            Some(Held::Live(live)) => format!("registered, {}", condition(live)),
            Some(Held::Gone(gone)) => {
                let tombstone = gone;
                format!("gone since {}: {} by {}", tombstone.at, tombstone.cause.as_str(), tombstone.actor)
            }
            None => "not registered".into(),
        }
    }
}

fn line(session: &Session, entry: &Entry) -> Line {
    let change = entry.folded.change.as_ref().map(|change| format!("{:?}", change.change).to_lowercase());
    Line {
        revision: entry.sequence,
        at: entry.at,
        instance: entry.instance(session.subjects()).map(|instance| instance.to_string()),
        outcome: entry.folded.outcome.as_str(),
        change,
        text: sentence(session.subjects(), entry),
        event: serde_json::from_slice(&entry.payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&entry.payload).into_owned())),
    }
}
