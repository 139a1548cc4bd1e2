//! `muster snapshot`: everything that is registered, at one revision.

use muster_schemas::history::At;
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::Request;
use muster_schemas::subject::Query;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::{condition, endpoints, table};

/// Print everything that is registered, at one revision.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster snapshot\n  muster snapshot --json > before.json\n  \
                        muster snapshot --at 1234\n  muster snapshot --at 2026-11-21T09:30:00Z")]
pub(crate) struct Snapshot {
    /// As it was at this revision, or at this time by the broker's clock
    #[arg(long, value_name = "REVISION|TIME", value_parser = crate::at::parse)]
    at: Option<At>,
}

impl Snapshot {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let reply = session.ask(&Query::Snapshot, &Request { at: self.at, ..Request::default() }).await?;
        session.print(&reply, || {
            let rows = reply.services.iter().flat_map(|service| {
                service.instances.iter().map(|instance| {
                    [
                        instance.service().to_string(),
                        instance.id().to_string(),
                        endpoints(instance),
                        condition(instance),
                        instance.modified_revision.to_string(),
                    ]
                })
            });
            let table = table(&["SERVICE", "INSTANCE", "ENDPOINTS", "HEALTH", "REVISION"], rows);
            let doubt = match reply.state {
                CatalogState::Ready => "",
                _ => "\nThe log was lost: some may be missing until their agents are back.",
            };
            format!("{table}\nrevision {} of epoch {}{doubt}", reply.revision, reply.epoch)
        });
        Ok(())
    }
}
