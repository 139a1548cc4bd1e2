//! Brings an agent up: from its settings to running services.

use std::time::{Duration, Instant};

use muster_runtime::broker::{BrokerError, Need, Role};
use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::metrics::Metrics;
use muster_runtime::stop::Stop;
use muster_schemas::Subjects;
use tokio::sync::mpsc;

use super::advertise::find_or_retry;
use super::agent::{Agent, AgentError, with_ids};
use super::child;
use super::identity::{Identity, IdentitySettings};
use super::meters::Meters;
use super::plan::ServicePlan;
use super::settings::AgentSettings;
use super::signals::{self, Wanted};
use super::vouching::{Vouching, needs};

/// Between two tries to reach a broker that is required.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Runs the services of `settings` until the last has ended; returns the code to end with.
///
/// # Errors
/// [`AgentError`], before any service was started.
pub async fn run(mut settings: AgentSettings) -> Result<u8, AgentError> {
    let mut signals = signals::catch().map_err(AgentError::own)?;
    child::reap_orphans().map_err(AgentError::own)?;
    let (metrics, stop) = (Metrics::new(), Stop::new());
    let meters = Meters::register(&metrics);
    let http = settings.http.start(&metrics, &stop).await.map_err(AgentError::own)?;
    let services = std::mem::take(&mut settings.services);
    let identity = identity(&settings, &services)?;
    let services = with_ids(services, &identity.node)?;
    let servers = settings.broker.access().map_err(AgentError::own)?.servers();
    let advertised = find_or_retry(settings.address_rules(), servers).await.map_err(AgentError::own)?;
    if settings.require_registration {
        let subjects = Subjects::new(settings.broker.prefix.clone(), settings.broker.namespace.clone());
        let instances = services.iter().map(|(plan, instance)| (&plan.service, instance));
        let needs = needs(&subjects, &identity.agent, instances);
        wait_for_broker(&settings, &identity, &needs, &mut signals).await?;
    }
    let vouch = Vouching::start(&settings, &identity, advertised.clone()).await.map_err(AgentError::own)?;
    let agent = Agent {
        services,
        vouch,
        advertised,
        meters,
        http,
        signals,
        registration_within: settings.require_registration.then(|| settings.registration_within.as_duration()),
        is_of_file: settings.is_of_file(),
    };
    let code = agent.run().await;
    stop.request();
    Ok(code)
}

fn identity(settings: &AgentSettings, services: &[ServicePlan]) -> Result<Identity, AgentError> {
    let purposes = services.iter().map(|plan| {
        let instance = plan.instance_id("").map(|instance| instance.to_string()).unwrap_or_default();
        format!("{} {instance}", plan.service)
    });
    let wanted = IdentitySettings {
        node: settings.node.clone(),
        agent: settings.agent_id.clone(),
        state_directory: settings.state_dir.clone(),
        purpose: purposes.collect::<Vec<_>>().join("; "),
    };
    let warn = |error: &_| tracing::warn!("the agent's id may not be its own, and the node's id is new: {error}");
    let identity = Identity::establish(&wanted, warn).map_err(AgentError::own)?;
    tracing::info!(agent = %identity.agent, node = identity.node, node_id = identity.node_id, "agent");
    Ok(identity)
}

/// Tries until the broker answers and permits, refuses, or the time is up.
async fn wait_for_broker(
    settings: &AgentSettings,
    identity: &Identity,
    needs: &[Need],
    signals: &mut mpsc::Receiver<Wanted>,
) -> Result<(), AgentError> {
    let deadline = Instant::now() + settings.registration_within.as_duration();
    let tried = || async {
        let role = Role::new(format!("muster-agent {} try", identity.agent)).identity(identity.agent.token());
        settings.broker.connect(role).await?.verify(needs).await
    };
    loop {
        let error: BrokerError = tokio::select! {
            tried = tried() => match tried {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Some(Wanted::Stop(signal)) = signals.recv() => {
                let code = u8::try_from(signal as i32).unwrap_or_default().saturating_add(128);
                let problem = format!("ended by {signal} while waiting for the broker");
                return Err(AgentError::Failed { problem, code });
            }
        };
        let is_absent = error.exit() == Exit::BrokerUnavailable;
        if !is_absent || Instant::now() + TRY_AGAIN >= deadline {
            return Err(AgentError::of(&error));
        }
        muster_runtime::logging::limited("required broker", |suppressed| {
            tracing::warn!(suppressed, "waiting for the broker (--require-registration): {error}");
        });
        tokio::time::sleep(TRY_AGAIN).await;
    }
}
