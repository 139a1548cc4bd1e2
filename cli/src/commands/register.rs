//! `muster register`: vouches for a service that has no agent, or registers something that needs none.

mod standing;

use std::path::PathBuf;
use std::time::Duration;

use muster_agent::process::advertise;
use muster_agent::process::core::address::AddressRules;
use muster_agent::process::identity::{Identity, IdentitySettings};
use muster_agent::process::settings::{Metadata, Port};
use muster_agent::vouch::{DeregisterOutcome, InstanceSpec, Status, Vouch, VouchSettings, Vouched};
use muster_runtime::broker::{BrokerSettings, Need, Role};
use muster_runtime::settings::Period;
use muster_runtime::stop::Stop;
use muster_schemas::event::{DeregisterReason, EventKind, Sender};
use muster_schemas::instance::{DEFAULT_WEIGHT, Endpoint, Node};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{AgentId, InstanceId, ServiceName, Subjects};
use tokio::time::timeout;

use crate::error::CommandError;
use crate::session::Session;
use standing::Standing;

/// How long a registration without lease may take to be confirmed.
const STATIC_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a deregistration at the end may take.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(5);

const HELP: &str = "\
Examples:
  muster register orders --port http=8080                    until Ctrl-C; then deregistered
  muster register orders --instance blue --port http=8080 --tag eu --metadata team=shop
  muster register cache --port redis=6379 --advertise 10.0.0.7
  muster register printers --instance laser-1 --port ipp=631 --advertise 10.0.0.9 --static
  muster deregister printers laser-1

It checks nothing: the instance counts as healthy as long as this command runs. `muster-agent run` starts and checks a
service as well. Without lease (--static) the instance stays until it is deregistered or evicted, alive or not.

Ends with 0 once it is deregistered, 75 if somebody else has taken over the agent id or the instance.";

/// Register an instance, and vouch for it until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Register {
    /// The service
    service: ServiceName,
    /// Id of the instance [default: the node's name, a dash, the first port]
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// A port, as in http=8080 or admin=http:8081; may be repeated
    #[arg(long, value_name = "NAME=PORT")]
    port: Vec<Port>,
    /// Address or DNS name of the ports [default: the local end of the route to the broker]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Let the route choose a loopback address, which no other host can reach
    #[arg(long)]
    allow_loopback: bool,
    /// A label to filter by; may be repeated
    #[arg(long, value_name = "TEXT")]
    tag: Vec<String>,
    /// A key and a value of your own; may be repeated
    #[arg(long, visible_alias = "meta", value_name = "KEY=VALUE")]
    metadata: Vec<Metadata>,
    /// Version of the service's software
    #[arg(long, value_name = "TEXT")]
    service_version: Option<String>,
    /// Share of the traffic; 0 = none
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_WEIGHT)]
    weight: u16,
    /// How long the registration outlives this command if it is killed
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    ttl: Period,
    /// Register without lease, and return once that is confirmed
    #[arg(long = "static", conflicts_with = "ttl")]
    is_static: bool,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Id to vouch under [default: the node's name, with -2, -3, … where several agents run on one host]
    #[arg(long, value_name = "ID")]
    agent_id: Option<AgentId>,
    /// Directory for the node's id and the locks of the agents' ids [default: as for muster-agent]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Register {
    pub(crate) async fn run(&self, broker: &BrokerSettings, json: bool) -> Result<(), CommandError> {
        let stop = Stop::on_signals().map_err(|error| CommandError::Failed(error.to_string()))?;
        let identity = self.identity()?;
        let role = Role::new(format!("muster register {}", self.service)).identity(identity.agent.token());
        let session = Session::connect_as(broker, json, role.needs_jetstream()).await?;
        let spec = self.spec(broker, &identity).await?;
        let needs = needs(session.subjects(), &spec, &identity.agent);
        session.connection().verify(&needs).await?;
        let vouch = Vouch::start(VouchSettings {
            subjects: session.subjects().clone(),
            ..VouchSettings::new(session.client().clone(), identity.agent.clone())
        });
        let standing = Standing::new(json, &spec);
        let vouched = vouch.register(spec).map_err(|error| CommandError::Usage(error.to_string()))?;
        let outcome = if self.is_static {
            leave_registered(vouched, &standing).await
        } else {
            stay(&vouch, vouched, &standing, &stop).await
        };
        vouch.stop().await;
        outcome
    }

    fn identity(&self) -> Result<Identity, CommandError> {
        let instance = self.instance.as_ref().map(ToString::to_string);
        let first_port = || self.port.first().map(|port| port.number.to_string());
        let which = instance.or_else(first_port).unwrap_or_default();
        let settings = IdentitySettings {
            node: self.node.clone(),
            agent: self.agent_id.clone(),
            state_directory: self.state_dir.clone(),
            purpose: format!("muster register {} {which}", self.service),
        };
        let unsaved = |error: &_| tracing::info!("the agent id may be another next time: {error}");
        Identity::establish(&settings, unsaved).map_err(|error| CommandError::Configuration(error.to_string()))
    }

    async fn spec(&self, broker: &BrokerSettings, identity: &Identity) -> Result<InstanceSpec, CommandError> {
        let instance = match (&self.instance, self.port.first()) {
            (Some(instance), _) => instance.clone(),
            (None, Some(port)) => named(&format!("{}-{}", identity.node, port.number))?,
            (None, None) => named(&identity.node)?,
        };
        let ttl_ms = if self.is_static { 0 } else { self.ttl.as_ms() };
        if ttl_ms == 0 && !self.is_static {
            return Err(CommandError::Usage("--ttl 0ms: must be from 1s to 1h; without lease: --static".into()));
        }
        Ok(InstanceSpec {
            ttl_ms,
            linger_ms: ttl_ms,
            version: self.service_version.clone(),
            endpoints: self.endpoints(broker).await?,
            tags: self.tag.clone(),
            metadata: self.metadata.iter().map(|entry| (entry.0.clone(), entry.1.clone())).collect(),
            weight: self.weight,
            node: Some(Node {
                id: Some(identity.node_id.as_str().into()),
                name: identity.node.as_str().into(),
                address: None,
                extra: Default::default(),
            }),
            ..InstanceSpec::new(self.service.clone(), instance)
        })
    }

    async fn endpoints(&self, broker: &BrokerSettings) -> Result<Vec<Endpoint>, CommandError> {
        if self.port.is_empty() {
            return Ok(Vec::new());
        }
        let rules = AddressRules {
            explicit: self.advertise.clone(),
            allow_loopback: self.allow_loopback,
            ..AddressRules::default()
        };
        let advertised = advertise::find(&rules, &broker.access()?.servers()).await;
        let host = advertised.map_err(|error| CommandError::Usage(error.to_string()))?.host;
        let endpoint = |port: &Port| Endpoint {
            name: port.name.as_str().into(),
            scheme: port.scheme.as_str().into(),
            host: Some(host.as_str().into()),
            port: Some(port.number),
            subject: None,
            extra: Default::default(),
        };
        Ok(self.port.iter().map(endpoint).collect())
    }
}

fn named(text: &str) -> Result<InstanceId, CommandError> {
    InstanceId::new(text)
        .map_err(|error| CommandError::Usage(format!("{error}; give the instance's id with --instance")))
}

/// What vouching needs of the broker, which would otherwise refuse it without a word.
fn needs(subjects: &Subjects, spec: &InstanceSpec, agent: &AgentId) -> Vec<Need> {
    let sender = Sender::Agent(agent.clone());
    let event = |kind| Need::publish(subjects.event(kind, Some((&spec.service, &spec.instance)), &sender));
    let mut needs = vec![
        Need::subscribe(subjects.all_to_agent(agent)),
        Need::publish(subjects.to_agent(agent, Verb::Probe)),
        Need::publish(subjects.to_agent(agent, Verb::Notice)),
        Need::publish(subjects.query(&Query::Instance(spec.service.clone(), spec.instance.clone()))),
        event(EventKind::Register),
    ];
    if !spec.is_static() {
        needs.push(Need::publish(subjects.heartbeat(agent)));
        needs.push(event(EventKind::Deregister));
    }
    needs
}

/// Waits until it is registered, and goes.
async fn leave_registered(vouched: Vouched, standing: &Standing) -> Result<(), CommandError> {
    let mut news = vouched.status();
    let settled = news.wait_for(|status| !matches!(status, Status::Pending(_)));
    let outcome = match timeout(STATIC_TIMEOUT, settled).await {
        Ok(Ok(status)) => standing.is_registered(&status),
        _ => {
            let seconds = STATIC_TIMEOUT.as_secs();
            Err(CommandError::Failed(format!(
                "{} after {seconds} s; start a registry with `muster-registry`, or run `muster doctor`",
                standing.sentence(&vouched.status().borrow())
            )))
        }
    };
    if outcome.is_ok() {
        standing.tell(&vouched.status().borrow());
    }
    vouched.forget();
    outcome
}

/// Vouches until it is asked to stop, or cannot go on.
async fn stay(vouch: &Vouch, vouched: Vouched, standing: &Standing, stop: &Stop) -> Result<(), CommandError> {
    let mut news = vouched.status();
    loop {
        let status = news.borrow_and_update().clone();
        standing.tell(&status);
        if matches!(status, Status::Refused(_)) || status.is_final() {
            vouched.forget();
            return standing.is_registered(&status);
        }
        tokio::select! {
            () = stop.requested() => break,
            session = vouch.superseded() => {
                tracing::info!(%session, "superseded");
                standing.tell(&Status::Superseded);
                return standing.is_registered(&Status::Superseded);
            }
            changed = news.changed() => if changed.is_err() { break },
        }
    }
    let outcome = vouched.deregister(DeregisterReason::Stopped, None, DEREGISTER_TIMEOUT).await;
    standing.tell(&Status::Deregistered(outcome.clone()));
    match outcome {
        DeregisterOutcome::Unconfirmed { problem } => Err(CommandError::Failed(format!(
            "the deregistration is not confirmed ({problem}); what is left of it ends with its lease"
        ))),
        _ => Ok(()),
    }
}
