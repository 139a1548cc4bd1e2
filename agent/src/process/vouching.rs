//! Joins supervision to the vouching: what a service wants claimed becomes registrations, and their standing comes back.

mod claim;

use std::sync::Arc;
use std::time::Duration;

use muster_runtime::broker::{BrokerError, Connection, Need, Role};
use muster_runtime::exit::ExitReason;
use muster_schemas::event::{EventKind, Sender};
use muster_schemas::instance::{Locality, Node};
use muster_schemas::{AgentId, Extra, InstanceId, ServiceName, Subjects};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::advertise::Advertised;
use super::identity::Identity;
use super::plan::ServicePlan;
use super::service::Mailbox;
use super::settings::AgentSettings;
use super::vouch::{Heard, Vouch};
use crate::vouch::{Drain, Timing, VouchSettings};
pub use claim::Claim;
use claim::{Claiming, Wanted};

/// Heard and not looked at yet; whoever finds it full waits.
const HEARD_CAPACITY: usize = 64;
/// A session that takes this long to end is not waited for.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// Between two tries to find out what the broker permits.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// One session with the broker, for all services of an agent.
#[derive(Debug)]
pub struct Vouching {
    vouch: Arc<crate::vouch::Vouch>,
    connection: Connection,
    subjects: Subjects,
    agent: AgentId,
    description: Description,
    advertised: watch::Receiver<Option<Advertised>>,
    drains: Option<mpsc::Receiver<Drain>>,
    instances: Vec<(ServiceName, InstanceId)>,
    /// Everything that shares the session.
    tasks: JoinSet<()>,
}

/// What all instances of an agent have in common.
#[derive(Debug, Clone)]
pub struct Description {
    /// The machine; its address is the advertised one.
    pub node: Node,
    /// Where it stands.
    pub locality: Option<Locality>,
}

impl Description {
    fn new(settings: &AgentSettings, identity: &Identity) -> Self {
        let has_place = settings.region.is_some() || settings.zone.is_some();
        Self {
            node: Node {
                id: Some(identity.node_id.as_str().into()),
                name: identity.node.as_str().into(),
                address: None,
                extra: Extra::new(),
            },
            locality: has_place.then(|| Locality {
                region: settings.region.as_ref().map(Into::into),
                zone: settings.zone.as_ref().map(Into::into),
                extra: Extra::new(),
            }),
        }
    }
}

impl Vouching {
    /// Begins a session; the broker may come later.
    ///
    /// # Errors
    /// Settings that cannot lead to any broker.
    pub async fn start(
        settings: &AgentSettings,
        identity: &Identity,
        advertised: watch::Receiver<Option<Advertised>>,
    ) -> Result<Self, BrokerError> {
        let role = Role::new(format!("muster-agent {}", identity.agent)).identity(identity.agent.token());
        let connection = settings.broker.connect_in_background(role).await?;
        let subjects = Subjects::new(settings.broker.prefix.clone(), settings.broker.namespace.clone());
        let timing = Timing { heartbeat_ms: settings.heartbeat_interval.as_ms(), ..Timing::default() };
        let mut vouch = crate::vouch::Vouch::start(VouchSettings {
            client: connection.client().clone(),
            subjects: subjects.clone(),
            agent: identity.agent.clone(),
            timing,
            link_changed: Some(link_changed(&connection)),
        });
        let drains = vouch.take_drains();
        Ok(Self {
            vouch: Arc::new(vouch),
            connection,
            subjects,
            agent: identity.agent.clone(),
            description: Description::new(settings, identity),
            advertised,
            drains,
            instances: Vec::new(),
            tasks: JoinSet::new(),
        })
    }
}

/// What the broker must permit an agent that vouches for these instances.
pub(super) fn needs<'a>(
    subjects: &Subjects,
    agent: &AgentId,
    instances: impl Iterator<Item = (&'a ServiceName, &'a InstanceId)>,
) -> Vec<Need> {
    let sender = Sender::Agent(agent.clone());
    let events = instances.flat_map(|instance| {
        [EventKind::Register, EventKind::Deregister, EventKind::Health]
            .map(|kind| Need::publish(subjects.event(kind, Some(instance), &sender)))
    });
    let own = [Need::publish(subjects.heartbeat(agent)), Need::subscribe(subjects.all_to_agent(agent))];
    own.into_iter().chain(events).collect()
}

/// Notified whenever the connection breaks or stands again.
fn link_changed(connection: &Connection) -> Arc<Notify> {
    let notify = Arc::new(Notify::new());
    let (told, mut state) = (Arc::clone(&notify), connection.state());
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            told.notify_one();
        }
    });
    notify
}

impl Vouch for Vouching {
    type Claims = Claim;

    fn claims(&mut self, plan: &ServicePlan, instance: InstanceId, mailbox: Mailbox) -> Claim {
        self.instances.push((plan.service.clone(), instance.clone()));
        let (wanted, desired) = watch::channel(Wanted::default());
        let claiming = Claiming {
            vouch: Arc::clone(&self.vouch),
            connection: self.connection.clone(),
            plan: plan.clone(),
            instance: instance.clone(),
            description: self.description.clone(),
            advertised: self.advertised.clone(),
            mailbox,
        };
        let span = tracing::info_span!("service", service = %plan.service, instance = %instance);
        self.tasks.spawn(claiming.run(desired).instrument(span));
        Claim::new(wanted)
    }

    fn heard(&mut self) -> mpsc::Receiver<Heard> {
        let (sender, heard) = mpsc::channel(HEARD_CAPACITY);
        self.tasks.spawn(superseded(Arc::clone(&self.vouch), sender.clone()));
        if let Some(drains) = self.drains.take() {
            tokio::spawn(drained(drains, sender.clone()));
        }
        let instances = self.instances.iter().map(|(service, instance)| (service, instance));
        let needs = needs(&self.subjects, &self.agent, instances);
        tokio::spawn(permitted(self.connection.clone(), needs, sender));
        heard
    }

    async fn finish(mut self) {
        let end = async {
            // Each ends once nobody wants anything of it any more.
            while self.tasks.join_next().await.is_some() {}
            if let Some(vouch) = Arc::into_inner(self.vouch) {
                vouch.stop().await;
            }
        };
        if tokio::time::timeout(FINISH_WITHIN, end).await.is_err() {
            tracing::debug!("the session did not end in time");
        }
    }
}

async fn superseded(vouch: Arc<crate::vouch::Vouch>, heard: mpsc::Sender<Heard>) {
    tokio::select! {
        session = vouch.superseded() => {
            let detail = format!("superseded: another process runs under the same agent id, in session {session}");
            let _ = heard.send(Heard::Superseded { detail }).await;
        }
        () = heard.closed() => {}
    }
}

async fn drained(mut drains: mpsc::Receiver<Drain>, heard: mpsc::Sender<Heard>) {
    while let Some(drain) = drains.recv().await {
        let (reply, mut replies) = mpsc::channel(HEARD_CAPACITY);
        let request = drain.request.clone();
        tokio::spawn(async move {
            while let Some(reply) = replies.recv().await {
                drain.tell(reply).await;
            }
        });
        let event = Heard::Drain {
            service: request.service,
            instance: request.instance,
            within_ms: request.deadline_ms,
            reply,
        };
        if heard.send(event).await.is_err() {
            return;
        }
    }
}

/// Says loudly what the broker would refuse in silence; tries again, for permissions may be mended.
async fn permitted(connection: Connection, needs: Vec<Need>, heard: mpsc::Sender<Heard>) {
    loop {
        let checked = match connection.established().await {
            Ok(()) => connection.verify(&needs).await,
            refused => refused,
        };
        let Err(error) = checked else { return };
        let (detail, code) = (error.to_string(), error.exit().code());
        if heard.send(Heard::Refused { detail, code }).await.is_err() {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use muster_schemas::agent::DrainRequest;

    use super::*;

    #[tokio::test]
    async fn what_is_heard_while_too_much_was_not_looked_at_waits_and_nothing_is_lost() {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let nobody = options.connect("127.0.0.1:1").await.unwrap();
        let (sender, drains) = mpsc::channel(8);
        let (heard, mut hears) = mpsc::channel(2);
        tokio::spawn(drained(drains, heard));
        for number in 0..8 {
            let request = DrainRequest {
                service: ServiceName::new("orders").unwrap(),
                instance: InstanceId::new(&format!("i{number}")).unwrap(),
                deadline_ms: 1_000,
            };
            sender.send(Drain::of_nobody(request, nobody.clone())).await.unwrap();
        }
        // Two were heard, a third is at the door, and the others are still where they came in.
        let waiting = async {
            while sender.capacity() != 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("three have been taken");
        for number in 0..8 {
            let Some(Heard::Drain { instance, .. }) = hears.recv().await else { panic!("{number} is missing") };
            assert_eq!(instance.as_str(), format!("i{number}"));
        }
    }
}
