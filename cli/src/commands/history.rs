//! `muster history`: the changes of a service or an instance, as consumers were told, up to now or to a point in the past.

use muster_schemas::history::{At, HistoryEvent, HistoryReply};
use muster_schemas::query::Request;
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, ServiceName};

use crate::error::CommandError;
use crate::session::Session;
use crate::show::{condition, table};
use crate::story::cause;

/// List what happened to a service or an instance, event by event, as consumers were told
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster history orders\n  muster history orders web1-8080 --last 20\n  \
                        muster history orders --at 2026-11-21T09:30:00Z --json | jq '.events[].change'")]
pub(crate) struct HistoryCommand {
    /// The service
    service: ServiceName,
    /// The instance; without it, all of the service's
    instance: Option<InstanceId>,
    /// Only up to this revision, or this time
    #[arg(long, value_name = "REVISION|TIME", value_parser = crate::at::parse)]
    at: Option<At>,
    /// The last so many events, at most 1000
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    last: u32,
}

impl HistoryCommand {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let query = Query::History(self.service.clone(), self.instance.clone());
        let request = Request { at: self.at, limit: Some(self.last), ..Request::default() };
        let reply = session.history(&query, &request).await?;
        session.print(&reply, || people(&reply));
        Ok(())
    }
}

fn people(reply: &HistoryReply) -> String {
    let rows = reply.events.iter().map(|event| {
        let instance = event.instance.as_ref().map_or_else(|| "(log)".to_owned(), ToString::to_string);
        [event.at.to_string(), event.revision.to_string(), instance, event.kind.clone(), what(event)]
    });
    let table = table(&["WHEN", "REVISION", "INSTANCE", "EVENT", "CHANGE"], rows);
    let begins = match reply.begins_at {
        0 | 1 => String::new(),
        first => format!("\nThe log begins at revision {first}: what came before is no longer in it."),
    };
    let earlier = match reply.earlier {
        0 => String::new(),
        1 => "\n1 earlier event is not shown (--last, --at).".to_owned(),
        count => format!("\n{count} earlier events are not shown (--last, --at)."),
    };
    format!("{table}{begins}{earlier}\nup to revision {} of epoch {}", reply.revision, reply.epoch)
}

fn what(event: &HistoryEvent) -> String {
    let Some(change) = &event.change else {
        return match event.outcome.as_str() {
            "accepted" => String::new(),
            outcome => format!("none ({outcome})"),
        };
    };
    let kind = format!("{:?}", change.change).to_lowercase();
    let told = cause(change.cause, &change.actor, change.evidence.as_ref());
    match &change.value {
        Some(value) => format!("{kind}: {told}, {}", condition(value)),
        None => format!("{kind}: {told}"),
    }
}
