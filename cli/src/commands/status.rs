//! `muster status`: what a registry says of itself.

use chrono::Utc;
use muster_schemas::query::BrokerServer;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::{instances, moment, period, table};

/// Say what a registry says of itself.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  muster status --json | jq .state")]
pub(crate) struct StatusCommand {}

fn rank(rank: u32) -> String {
    match rank {
        0 => "0 (publishes)".to_owned(),
        rank => rank.to_string(),
    }
}

fn server(server: &BrokerServer) -> String {
    let agents = if server.agents == 1 { "agent" } else { "agents" };
    format!("{} ({}, {} {agents})", server.name, server.state.as_str(), server.agents)
}

impl StatusCommand {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let status = session.status().await?;
        session.print(&status, || {
            let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
            let state = serde_json::to_value(status.state).ok().and_then(|state| state.as_str().map(str::to_owned));
            let reason = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let replicas = status.replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let outcomes = status
                .outcomes
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(outcome, count)| format!("{outcome} {count}"));
            let servers = status.servers.iter().map(server);
            let unreachable = status.unreachable_instances;
            let rows = [
                ("replica", status.replica.to_string()),
                ("version", format!("{}, fold {}", status.version, status.fold_version)),
                ("started", moment(status.started_at, Utc::now())),
                ("state", format!("{}{reason}", known(state))),
                ("epoch", known(status.epoch.map(|epoch| epoch.to_string()))),
                ("revision", status.revision.to_string()),
                ("end of log seen", known(status.head_age_ms.map(|age| format!("{} ago", period(age))))),
                ("digest", status.digest.to_string()),
                ("rank", known(status.rank.map(rank))),
                ("replicas heard", replicas),
                ("broker servers", servers.collect::<Vec<_>>().join(", ")),
                ("unreachable", if unreachable == 0 { "none".into() } else { instances(unreachable) }),
                ("disconnects told of", status.advisories.to_string()),
                ("services", status.services.to_string()),
                ("instances", status.instances.to_string()),
                ("agents", status.agents.to_string()),
                ("intents", status.intents.to_string()),
                ("tombstones", status.tombstones.to_string()),
                ("events so far", outcomes.collect::<Vec<_>>().join(", ")),
            ];
            table(&["WHAT", "VALUE"], rows.map(|(what, value)| [what.to_owned(), value]))
        });
        Ok(())
    }
}
