//! What a user reads of the life of a service: one clear line for everything that matters.

use muster_schemas::HealthStatus;

use super::core::supervision::{Saying, StopCause};

/// Logs one line. The service's name is in the span around it.
pub(super) fn say(saying: &Saying) {
    use tracing::{error, info, warn};
    match saying {
        Saying::Started { pid } => info!(pid, "service started"),
        Saying::NotStarted { problem } => error!("service not started: {problem}"),
        Saying::Waiting { waited_ms, limit_ms, failing } => match limit_ms {
            Some(limit_ms) => info!(waited_ms, limit_ms, failing, "waiting until the service is ready"),
            None => info!(waited_ms, failing, "waiting until the service is ready"),
        },
        Saying::Ready { after_ms } => info!(after_ms, "service ready"),
        Saying::NotReady { limit_ms, failing } => {
            error!(limit_ms, failing, "service not ready in time (--ready-within): stopping it");
        }
        Saying::Registered { after_ms } => info!(after_ms, "registered"),
        Saying::HealthChanged { from, to, checks } => {
            let (from, to) = (from.as_str(), to.as_str());
            if to == HealthStatus::Passing.as_str() {
                info!(from, to, "health changed");
            } else {
                warn!(from, to, checks, "health changed");
            }
        }
        Saying::CriticalTooLong { critical_ms } => {
            warn!(critical_ms, "critical for too long (--critical-deregister-after): deregistering, watching on");
        }
        Saying::UsableAgain => info!("no longer critical: registering again"),
        Saying::Stopping { cause } => info!(because = because(*cause), "stopping"),
        Saying::Deregistered { after_ms, confirmed, was_confirmed } => match (confirmed, was_confirmed) {
            (true, true) => info!(after_ms, "deregistered"),
            (_, false) => info!(after_ms, "not registered any more, as far as it was"),
            (false, true) => {
                warn!(after_ms, "no registry confirmed the removal in time: consumers see it at the end of the lease");
            }
        },
        Saying::Terminating { grace_ms } => info!(grace_ms, "stop signal sent to the service"),
        Saying::Killing => warn!("the service did not end in time (--grace): killing its process group"),
        Saying::Exited { end, by_itself } => {
            if *by_itself {
                warn!(code = end.exit_code(), "the service {end}");
            } else {
                info!(code = end.exit_code(), "the service {end}");
            }
        }
        Saying::Leftovers => warn!("the service left processes in its group: ending them as well"),
        Saying::RestartIn { wait_ms, failures } => warn!(wait_ms, failures, "starting the service again after a wait"),
    }
}

fn because(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Signal => "the agent was asked to",
        StopCause::Drain => "a drain was asked for",
        StopCause::Superseded => "another session of this agent took over",
        StopCause::AgentFailed => "the agent cannot go on",
    }
}
