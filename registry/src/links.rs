//! The connections of a registry, one per role, and what the broker must grant to each.

use muster_runtime::broker::{BrokerError, Connection, Need, Role};
use muster_schemas::event::{EventKind, Sender};
use muster_schemas::subject::{DISCONNECT_ADVISORIES, PING_SERVERS, Query, Verb};
use muster_schemas::{AgentId, ReplicaId, ServiceName, Subjects};

use crate::broker_api;
use crate::core_thread::CoreThread;
use crate::error::RegistryError;
use crate::settings::RegistrySettings;

/// Messages that may wait in one subscription. The flow control of the log reader's consumer lets the broker be 32 MiB
/// ahead, which must fit.
const WAITING_MESSAGES_MAX: usize = 131_072;

/// The connections, one per role, so that heavy input delays neither output nor answers. Log and output are served by the
/// core's thread, which hands from one to the other.
pub(crate) struct Links {
    pub(crate) log: Connection,
    pub(crate) output: Connection,
    pub(crate) queries: Connection,
    /// Whether the broker lets this user listen to its disconnect advisories.
    pub(crate) hears_advisories: bool,
}

impl Links {
    pub(crate) async fn connect(
        settings: &RegistrySettings,
        subjects: &Subjects,
        replica: &ReplicaId,
        core: &CoreThread,
    ) -> Result<Self, RegistryError> {
        let connect = async |role: Role| {
            let broker = settings.broker.clone();
            core.run(async move { broker.connect(role).await }).await
        };
        let log = role(replica, "log").subscription_capacity(WAITING_MESSAGES_MAX);
        let mut links = Self {
            log: connect(log.needs_jetstream()).await?,
            output: connect(role(replica, "output").needs_jetstream().deaf_to_itself()).await?,
            queries: settings.answers_broker().connect(role(replica, "queries")).await?,
            hears_advisories: false,
        };
        let (log, output, mut queries) = needs(subjects, replica);
        // Answers that the broker refuses would look like a registry that is not there.
        let replies = settings.reply_prefixes().into_iter();
        queries.extend(replies.map(|prefix| Need::publish(format!("{prefix}permission-check"))));
        let verified =
            tokio::try_join!(links.log.verify(&log), links.output.verify(&output), links.queries.verify(&queries));
        if let Err(error) = verified {
            links.close().await;
            return Err(error.into());
        }
        links.hears_advisories = links.may_hear_advisories().await;
        links.check_asking_servers().await;
        Ok(links)
    }

    /// Without them everything works, at the speed of heartbeats.
    async fn may_hear_advisories(&self) -> bool {
        let outcome = self.log.verify(&[Need::subscribe(DISCONNECT_ADVISORIES)]).await;
        let refused = |error: &BrokerError| {
            tracing::warn!(
                "the broker does not let this user listen to {DISCONNECT_ADVISORIES}: whoever is killed with its agent is                  noticed by its heartbeats alone: {error}"
            );
        };
        outcome.inspect_err(refused).is_ok()
    }

    /// In a cluster a server with dead agents only cannot be told from one that is cut off unless it can be asked.
    async fn check_asking_servers(&self) {
        if self.output.client().server_info().cluster.is_none() {
            return;
        }
        if let Err(error) = self.output.verify(&[Need::publish(PING_SERVERS)]).await {
            tracing::warn!(
                "the broker does not let this user ask {PING_SERVERS}: what dies together with all other agents on its broker                  server is kept for as long as --unreachable-limit says: {error}"
            );
        }
    }

    pub(crate) async fn close(&self) {
        tokio::join!(self.log.close(), self.output.close(), self.queries.close());
    }
}

/// One more connection of this replica, as the broker lists it.
pub(crate) fn role(replica: &ReplicaId, purpose: &str) -> Role {
    Role::new(format!("muster-registry {replica} {purpose}")).identity(replica.token())
}

/// What the broker must grant to the log, output and query connections.
fn needs(subjects: &Subjects, replica: &ReplicaId) -> (Vec<Need>, Vec<Need>, Vec<Need>) {
    let stream = subjects.stream_name();
    let api = |verb: String| Need::publish(broker_api::subject(&verb));
    let log =
        vec![Need::subscribe(subjects.all_heartbeats()), api(format!("CONSUMER.CREATE.{stream}.permission-check"))];
    // Names that nobody has, for subjects with a name in them.
    let service: Option<ServiceName> = "permission-check".parse().ok();
    let agent: Option<AgentId> = "permission-check".parse().ok();
    let registry = Sender::Registry(replica.clone());
    let mut output = vec![
        Need::subscribe(subjects.all_changes()),
        Need::subscribe(subjects.all_pulses()),
        Need::subscribe(subjects.all_beacons()),
        Need::publish(subjects.pulse(0)),
        Need::publish(subjects.beacon(replica)),
        Need::publish(subjects.mark(replica)),
        Need::publish(subjects.alarm("permission-check")),
        Need::publish(subjects.event(EventKind::Epoch, None, &registry)),
        api(format!("STREAM.INFO.{stream}")),
        api(format!("STREAM.MSG.GET.{stream}")),
    ];
    output.extend(service.map(|service| Need::publish(subjects.change(&service))));
    let verbs = [Verb::Probe, Verb::Announce, Verb::Notice];
    output.extend(agent.into_iter().flat_map(|agent| verbs.map(|verb| Need::publish(subjects.to_agent(&agent, verb)))));
    let queries = vec![
        Need::queue_subscribe(subjects.query(&Query::Snapshot), "permission-check"),
        Need::subscribe(subjects.all_next(replica)),
    ];
    (log, output, queries)
}
