//! The seam to the vouching: what supervision needs of it, and what it hears from it.

use muster_schemas::agent::DrainReply;
use muster_schemas::{InstanceId, ServiceName};
use tokio::sync::mpsc;

use super::plan::ServicePlan;
use super::service::{Claims, Mailbox};

/// What concerns the agent as a whole, or comes from outside.
#[derive(Debug)]
pub enum Heard {
    /// Another session of this agent took over.
    Superseded {
        /// For people.
        detail: String,
    },
    /// The broker will not let the agent do its work.
    Refused {
        /// For people.
        detail: String,
        /// The code that it stands for.
        code: u8,
    },
    /// Somebody wants an instance drained.
    Drain {
        /// The service.
        service: ServiceName,
        /// The instance.
        instance: InstanceId,
        /// How long it may take, in milliseconds.
        within_ms: u64,
        /// Told of progress, and of the end.
        reply: mpsc::Sender<DrainReply>,
    },
}

/// Vouches for instances.
pub trait Vouch {
    /// For one service.
    type Claims: Claims + 'static;

    /// Prepares to vouch for an instance; what becomes of it goes to `mailbox`.
    fn claims(&mut self, plan: &ServicePlan, instance: InstanceId, mailbox: Mailbox) -> Self::Claims;

    /// What was heard, from now on.
    fn heard(&mut self) -> mpsc::Receiver<Heard>;

    /// Ends the session, once nothing is vouched for any more.
    fn finish(self) -> impl Future<Output = ()> + Send;
}
