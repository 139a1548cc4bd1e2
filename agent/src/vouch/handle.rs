//! One vouching, in the hands of its owner.

use std::sync::Arc;
use std::time::Duration;

use muster_schemas::event::DeregisterReason;
use muster_schemas::refusal::Refusal;
use muster_schemas::{AgentId, Health, InstanceId, Revision, ServiceName, Subjects};
use tokio::sync::watch;

use super::desk::{Begin, Desk};
use super::{DeregisterOutcome, InstanceSpec, Pending, Status, VouchError, check};
use crate::core::io::{ClaimId, Withdrawal};

/// How long a dropped vouching is taken back.
const DROPPED_WITHIN_MS: u64 = 5_000;
/// What the session may take beyond the time that its owner gave, before the owner looks no longer.
const OVERTIME: Duration = Duration::from_secs(1);

/// A vouching that does not come to be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the registration is {0}")]
pub struct VouchedError(pub Status);

/// A vouching. Dropping it takes the instance back, as well as that goes without waiting; [`Vouched::forget`] leaves it.
#[derive(Debug)]
pub struct Vouched {
    desk: Arc<Desk>,
    claim: ClaimId,
    subjects: Subjects,
    agent: AgentId,
    service: ServiceName,
    instance: InstanceId,
    news: watch::Receiver<Status>,
    leave_on_drop: bool,
}

impl Vouched {
    pub(super) fn new(
        desk: &Arc<Desk>,
        subjects: Subjects,
        agent: AgentId,
        spec: InstanceSpec,
    ) -> Result<Self, VouchError> {
        let (sender, news) = watch::channel(Status::Pending(Pending::Starting));
        let (service, instance) = (spec.service.clone(), spec.instance.clone());
        match desk.begin(spec, Arc::new(sender)) {
            Ok(claim) => Ok(Self {
                desk: Arc::clone(desk),
                claim,
                subjects,
                agent,
                service,
                instance,
                news,
                leave_on_drop: false,
            }),
            Err(Begin::Held) => Err(VouchError::Held { service, instance }),
            Err(Begin::Closed) => Err(VouchError::Ended),
        }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How it stands, now and later. The channel closes after the last word.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.news.clone()
    }

    /// Waits, without limit, until a registry has confirmed it.
    ///
    /// # Errors
    /// The status, when that will not happen by itself: refused, displaced, superseded, or ended.
    pub async fn registered(&self) -> Result<Revision, VouchedError> {
        let mut news = self.news.clone();
        loop {
            let status = news.borrow_and_update().clone();
            match status {
                Status::Registered { revision, .. } => return Ok(revision),
                Status::Refused(_) => return Err(VouchedError(status)),
                status if status.is_final() => return Err(VouchedError(status)),
                _ => {}
            }
            if news.changed().await.is_err() {
                return Err(VouchedError(Status::Stopped));
            }
        }
    }

    /// Its health changed: told as soon as possible; several changes on the way become one.
    pub fn set_health(&self, health: Health) {
        self.desk.leave(self.claim, |orders| orders.health = Some(health));
    }

    /// Its description changed. Its health included.
    ///
    /// # Errors
    /// The description is against a rule, over a limit, or of another instance. Nothing has changed then.
    pub fn update(&self, spec: InstanceSpec) -> Result<(), Refusal> {
        if (&spec.service, &spec.instance) != (&self.service, &self.instance) {
            let value = format!("{}/{}", spec.service, spec.instance);
            let help = format!("this vouching is for {}/{}", self.service, self.instance);
            return Err(Refusal::malformed("instance", value, help));
        }
        check(&self.subjects, &self.agent, &spec)?;
        self.desk.leave(self.claim, |orders| {
            orders.health = None;
            orders.update = Some(spec);
        });
        Ok(())
    }

    /// Takes the instance back, and waits until a registry shows that it is gone, or until the time is over.
    pub async fn deregister(
        self,
        reason: DeregisterReason,
        detail: Option<String>,
        within: Duration,
    ) -> DeregisterOutcome {
        let mut news = self.news.clone();
        self.start_deregistration(reason, detail, within);
        let end = async {
            loop {
                let status = news.borrow_and_update().clone();
                match status {
                    Status::Deregistered(outcome) => return outcome,
                    status if status.is_final() => return DeregisterOutcome::NothingToRemove,
                    _ => {}
                }
                if news.changed().await.is_err() {
                    return ended_before();
                }
            }
        };
        tokio::time::timeout(within + OVERTIME, end).await.unwrap_or_else(|_| ended_before())
    }

    /// Takes the instance back without waiting here: [`Vouched::status`] ends with [`Status::Deregistered`].
    pub fn start_deregistration(mut self, reason: DeregisterReason, detail: Option<String>, within: Duration) {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.withdraw(Withdrawal { reason, detail, within_ms });
    }

    /// Vouches for it no longer, and leaves it registered: a static instance stays, another one ends with its lease.
    pub fn forget(mut self) {
        self.leave_on_drop = true;
        self.desk.leave(self.claim, |orders| orders.forget = true);
    }

    fn withdraw(&mut self, withdrawal: Withdrawal) {
        self.leave_on_drop = true;
        self.desk.leave(self.claim, |orders| orders.deregister = Some(withdrawal));
    }
}

fn ended_before() -> DeregisterOutcome {
    DeregisterOutcome::Unconfirmed { problem: "the session ended before it was confirmed".to_owned() }
}

impl Drop for Vouched {
    fn drop(&mut self) {
        if !self.leave_on_drop {
            self.withdraw(Withdrawal { reason: DeregisterReason::Stopped, detail: None, within_ms: DROPPED_WITHIN_MS });
        }
    }
}
