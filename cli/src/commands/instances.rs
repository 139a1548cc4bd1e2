//! `muster instances`: who provides a service.

use muster_schemas::ServiceName;
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{Filter, Reply, Request};
use muster_schemas::subject::Query;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::{self, condition, endpoints, table, yes_no};

/// List the instances of a service.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster instances orders\n  muster instances orders --routable --tag primary\n  \
                        muster instances orders --json | jq '.services[0].instances[].endpoints'")]
pub(crate) struct Instances {
    /// The service
    service: ServiceName,
    /// Only those that may be used
    #[arg(long)]
    routable: bool,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only those of this version
    #[arg(long, value_name = "VERSION")]
    of_version: Option<String>,
}

impl Instances {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let filter =
            Filter { routable: self.routable.then_some(true), version: self.of_version.clone(), tag: self.tag.clone() };
        let request = Request { filter: Some(filter), ..Request::default() };
        let reply = session.ask(&Query::Service(self.service.clone()), &request).await?;
        session.print(&reply, || self.people(&reply));
        Ok(())
    }

    fn people(&self, reply: &Reply) -> String {
        let service = reply.services.first();
        let total = service.map_or(0, |service| service.total);
        let instances = service.map(|service| service.instances.as_slice()).unwrap_or_default();
        if instances.is_empty() {
            return match (total, reply.state) {
                (0, CatalogState::Ready) => format!("{} has no instance", self.service),
                (0, _) => format!("unknown: the log was lost, and {} may come back", self.service),
                _ => format!("{} has {}, and none fits", self.service, show::instances(total.into())),
            };
        }
        let rows = instances.iter().map(|instance| {
            let registration = &instance.registration;
            [
                instance.id().to_string(),
                endpoints(instance),
                condition(instance),
                yes_no(instance.is_routable()),
                registration.version.clone().unwrap_or_default().to_string(),
                registration.tags.join(","),
                registration.vouching.agent.to_string(),
            ]
        });
        let mut text = table(&["INSTANCE", "ENDPOINTS", "HEALTH", "ROUTABLE", "VERSION", "TAGS", "AGENT"], rows);
        for (address, instances) in service.iter().flat_map(|service| &service.conflicts) {
            text.push_str(&format!("\nconflict: {address} is registered by {}", instances.join(" and ")));
        }
        text
    }
}
