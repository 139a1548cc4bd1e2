//! Vouching on a broker: registers instances, heartbeats for them, answers for them, takes them back.
//!
//! ```no_run
//! # async fn example(client: async_nats::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use muster_agent::vouch::{InstanceSpec, Vouch, VouchSettings};
//! use muster_schemas::event::DeregisterReason;
//!
//! let vouch = Vouch::start(VouchSettings::new(client, "web1".parse()?));
//! let orders = vouch.register(InstanceSpec::new("orders".parse()?, "web1-8080".parse()?))?;
//! orders.registered().await?;
//! // …
//! let outcome = orders.deregister(DeregisterReason::Stopped, None, Duration::from_secs(5)).await;
//! println!("{outcome:?}");
//! vouch.stop().await;
//! # Ok(())
//! # }
//! ```

mod desk;
mod drain;
mod handle;
mod link;
mod shell;

use std::sync::Arc;

use async_nats::Client;
use muster_schemas::event::{Event, EventData, Sender};
use muster_schemas::refusal::Refusal;
use muster_schemas::{AgentId, Incarnation, InstanceId, Namespace, Prefix, ServiceName, SessionId, Subjects, Vouching};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub use crate::core::spec::{DEFAULT_TTL_MS, InstanceSpec};
pub use crate::core::status::{DeregisterOutcome, Holder, Pending, Status};
pub use crate::core::timing::Timing;
pub use drain::Drain;
pub use handle::{Vouched, VouchedError};

use desk::Desk;

/// Drains that wait for the owner; one more is refused.
const DRAINS_WAITING: usize = 64;

/// What a session of vouching needs.
#[derive(Debug, Clone)]
pub struct VouchSettings {
    /// The connection: events, heartbeats, queries and what is said to the agent all go over it. It may still be in the
    /// making; it must reconnect by itself.
    pub client: Client,
    /// Of the namespace.
    pub subjects: Subjects,
    /// This agent; one process may run under it at a time.
    pub agent: AgentId,
    /// The durations.
    pub timing: Timing,
    /// Notified when the connection breaks or stands again; without it the vouching looks ten times a second.
    pub link_changed: Option<Arc<Notify>>,
}

impl VouchSettings {
    /// The usual prefix, namespace and durations.
    #[must_use]
    pub fn new(client: Client, agent: AgentId) -> Self {
        Self {
            client,
            subjects: Subjects::new(Prefix::default(), Namespace::default()),
            agent,
            timing: Timing::default(),
            link_changed: None,
        }
    }
}

/// Why an instance was not taken on. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VouchError {
    /// The description is against a rule or over a limit.
    #[error("{0}")]
    Refused(Refusal),
    /// There is a handle for the same instance already.
    #[error(
        "{service}/{instance} is vouched for already: wait for its deregistration, or give this one another instance id"
    )]
    Held {
        /// The service.
        service: ServiceName,
        /// The instance.
        instance: InstanceId,
    },
    /// The session has ended.
    #[error("this session has ended: begin a new one")]
    Ended,
}

impl From<Refusal> for VouchError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// One session of an agent. Dropping it ends the session like [`Vouch::stop`], without waiting here.
#[derive(Debug)]
pub struct Vouch {
    desk: Arc<Desk>,
    subjects: Subjects,
    agent: AgentId,
    superseded: watch::Receiver<Option<SessionId>>,
    drains: Option<mpsc::Receiver<Drain>>,
    task: JoinHandle<()>,
}

impl Vouch {
    /// Begins a session as soon as the connection stands. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(settings: VouchSettings) -> Self {
        let desk = Arc::new(Desk::default());
        let (superseded_sender, superseded) = watch::channel(None);
        let (drain_sender, drains) = mpsc::channel(DRAINS_WAITING);
        let (subjects, agent) = (settings.subjects.clone(), settings.agent.clone());
        let task = tokio::spawn(shell::run(settings, Arc::clone(&desk), superseded_sender, drain_sender));
        Self { desk, subjects, agent, superseded, drains: Some(drains), task }
    }

    /// Vouches for an instance from now on: registers it as soon as that is possible, and again whenever that is needed.
    ///
    /// # Errors
    /// [`VouchError`]: it is refused here already. What a registry says comes by [`Vouched::status`].
    pub fn register(&self, spec: InstanceSpec) -> Result<Vouched, VouchError> {
        self.check(&spec)?;
        Vouched::new(&self.desk, self.subjects.clone(), self.agent.clone(), spec)
    }

    /// Whether a description obeys every rule and limit.
    ///
    /// # Errors
    /// [`VouchError::Refused`].
    pub fn check(&self, spec: &InstanceSpec) -> Result<(), VouchError> {
        Ok(check(&self.subjects, &self.agent, spec)?)
    }

    /// Waits until another process has taken over this agent id, which usually never happens; returns its session. All
    /// vouching has ended then, and the process should end with code 75.
    pub async fn superseded(&self) -> SessionId {
        let mut superseded = self.superseded.clone();
        loop {
            if let Some(session) = *superseded.borrow_and_update() {
                return session;
            }
            if superseded.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What operators ask to be drained; can be taken once. Who does not take it refuses.
    pub fn take_drains(&mut self) -> Option<mpsc::Receiver<Drain>> {
        self.drains.take()
    }

    /// Ends the session: deregistrations that are under way come to their end first, and what is still vouched for then is
    /// left to end with its lease, or to go on under the next session.
    pub async fn stop(mut self) {
        self.desk.close();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Vouch {
    fn drop(&mut self) {
        self.desk.close();
    }
}

/// Reads the registration as a registry will.
fn check(subjects: &Subjects, agent: &AgentId, spec: &InstanceSpec) -> Result<(), Refusal> {
    let registration = spec.registration(Vouching {
        service: spec.service.clone(),
        instance: spec.instance.clone(),
        agent: agent.clone(),
        session: SessionId::from_parts(0, 0),
        incarnation: Incarnation::from_parts(0, 0),
        generation: muster_schemas::limits::INTEGER_MAX,
    });
    registration.validate()?;
    let event = Event {
        id: SessionId::from_parts(0, 0).to_string(),
        source: Sender::Agent(agent.clone()),
        time: Some(muster_schemas::Timestamp::default()),
        data: EventData::Register(registration),
    };
    event.encode(subjects.namespace()).map(|_| ())
}
