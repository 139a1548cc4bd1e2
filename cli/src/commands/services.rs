//! `muster services`: what is registered.

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::Request;
use muster_schemas::subject::Query;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::table;

/// List the services that are registered.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster services\n  muster services --json | jq -r '.services[].service'")]
pub(crate) struct Services {
    /// Also services whose last instance has gone within the last day
    #[arg(long)]
    all: bool,
}

impl Services {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let mut reply = session.ask(&Query::Services, &Request::default()).await?;
        reply.services.retain(|service| self.all || service.total > 0);
        session.print(&reply, || {
            let rows = reply.services.iter().map(|service| {
                [
                    service.service.to_string(),
                    service.total.to_string(),
                    service.routable.to_string(),
                    service.revision.to_string(),
                    service.conflicts.keys().cloned().collect::<Vec<_>>().join(" "),
                ]
            });
            let table = table(&["SERVICE", "INSTANCES", "ROUTABLE", "REVISION", "CONFLICTS"], rows);
            match (reply.services.is_empty(), reply.state) {
                (true, CatalogState::Ready) => "no service is registered".to_owned(),
                (true, _) => "unknown: the log was lost, and the registry waits for agents to come back".to_owned(),
                (false, CatalogState::Ready) => table,
                (false, _) => format!("{table}\nThe log was lost: some may be missing until their agents are back."),
            }
        });
        Ok(())
    }
}
