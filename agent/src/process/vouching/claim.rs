//! One service's claim: brings the registration to what is wanted at the moment, one step at a time.

use std::sync::Arc;
use std::time::Duration;

use muster_runtime::broker::Connection;
use muster_schemas::event::DeregisterReason;
use muster_schemas::{Health, InstanceId};
use tokio::sync::watch;

use super::Description;
use crate::process::advertise::Advertised;
use crate::process::core::supervision::{Input, REMOVAL_SEEN_WITHIN_MS, Withdrawal};
use crate::process::plan::ServicePlan;
use crate::process::service::{Claims, Mail, Mailbox};
use crate::vouch::{Pending, Status, Vouch, Vouched};

/// How long a removal is waited for while there is no connection and no registration was confirmed.
const UNHEARD_WITHIN: Duration = Duration::from_millis(200);

/// What is wanted at the moment; only the newest matters.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Raised by every claim and withdrawal.
    turn: u64,
    claim: Option<Health>,
    withdrawal: Option<(DeregisterReason, String)>,
}

/// The supervision's side of a claim.
#[derive(Debug)]
pub struct Claim {
    wanted: watch::Sender<Wanted>,
}

impl Claim {
    pub(super) fn new(wanted: watch::Sender<Wanted>) -> Self {
        Self { wanted }
    }
}

impl Claims for Claim {
    fn register(&mut self, health: Health) {
        self.wanted.send_modify(|wanted| {
            wanted.turn += 1;
            wanted.claim = Some(health);
        });
    }

    fn tell(&mut self, health: Health) {
        self.wanted.send_modify(|wanted| wanted.claim = Some(health));
    }

    fn deregister(&mut self, withdrawal: Withdrawal, detail: String) {
        let reason = match withdrawal {
            Withdrawal::Stopped => DeregisterReason::Stopped,
            Withdrawal::Drained => DeregisterReason::Operator,
            Withdrawal::ChildExited => DeregisterReason::ChildExited,
            Withdrawal::CriticalTooLong => DeregisterReason::CriticalTooLong,
        };
        self.wanted.send_modify(|wanted| {
            wanted.turn += 1;
            wanted.claim = None;
            wanted.withdrawal = Some((reason, detail));
        });
    }
}

/// The vouching's side of a claim.
pub(super) struct Claiming {
    pub(super) vouch: Arc<Vouch>,
    pub(super) connection: Connection,
    pub(super) plan: ServicePlan,
    pub(super) instance: InstanceId,
    pub(super) description: Description,
    pub(super) advertised: watch::Receiver<Option<Advertised>>,
    pub(super) mailbox: Mailbox,
}

/// An instance that is vouched for, and what of it was passed on already.
struct Held {
    vouched: Vouched,
    status: watch::Receiver<Status>,
    health: Health,
    turn: u64,
    was_registered: bool,
    conflict: Option<String>,
}

impl Claiming {
    /// Until the service is no longer supervised.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let mut held: Option<Held> = None;
        let mut settled_turn = 0;
        loop {
            let now = wanted.borrow_and_update().clone();
            match (&now.claim, held.as_mut()) {
                (Some(health), None) => {
                    if let Some(host) = self.host() {
                        held = self.register(health.clone(), &host, now.turn);
                    }
                }
                (Some(health), Some(held)) => self.keep(held, health, now.turn).await,
                (None, _) if now.turn != settled_turn => {
                    settled_turn = now.turn;
                    let confirmed = self.withdraw(held.take(), now.withdrawal).await;
                    self.report(Input::Removed { confirmed }).await;
                }
                (None, _) => {}
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() {
                    // Nobody took it back: the service lives on, and the next agent takes it over.
                    held.into_iter().for_each(|held| held.vouched.forget());
                    return;
                },
                // The address came to be known.
                Ok(()) = self.advertised.changed() => {}
                status = changed(&mut held) => self.stands(held.as_mut(), status).await,
            }
        }
    }

    fn host(&self) -> Option<String> {
        self.advertised.borrow().as_ref().map(|advertised| advertised.host.clone())
    }

    fn register(&self, health: Health, host: &str, turn: u64) -> Option<Held> {
        let spec = self.plan.spec(self.instance.clone(), host, &self.description, health.clone());
        match self.vouch.register(spec) {
            Ok(vouched) => {
                Some(Held { status: vouched.status(), vouched, health, turn, was_registered: false, conflict: None })
            }
            Err(error) => {
                tracing::error!("not registered: {error}");
                None
            }
        }
    }

    async fn keep(&self, held: &mut Held, health: &Health, turn: u64) {
        if held.health != *health {
            held.health = health.clone();
            held.vouched.set_health(health.clone());
        }
        // Claimed anew before it had been taken back: what is confirmed already is confirmed for the new claim, too.
        if held.turn != turn {
            held.turn = turn;
            if held.was_registered {
                self.report(Input::Registered).await;
            }
        }
    }

    async fn withdraw(&self, held: Option<Held>, withdrawal: Option<(DeregisterReason, String)>) -> bool {
        let (Some(held), Some((reason, detail))) = (held, withdrawal) else {
            return false;
        };
        let within = if held.was_registered || self.connection.is_connected() {
            Duration::from_millis(REMOVAL_SEEN_WITHIN_MS)
        } else {
            UNHEARD_WITHIN
        };
        held.vouched.deregister(reason, Some(detail), within).await.is_confirmed()
    }

    /// Passes on how the instance stands now.
    async fn stands(&self, held: Option<&mut Held>, status: Status) {
        let Some(held) = held else { return };
        let is_registered = status.is_registered();
        match &status {
            Status::Registered { conflict, .. } => {
                if let Some(other) = conflict.as_ref().filter(|other| held.conflict.as_ref() != Some(other)) {
                    tracing::warn!("conflict: another instance has the same host and port: {other}");
                }
                held.conflict.clone_from(conflict);
            }
            Status::Duplicate { holder } => tracing::warn!(
                agent = %holder.agent,
                "another agent vouches for this instance: waiting until it is gone (or give this one another --instance)"
            ),
            Status::Displaced { .. } => tracing::error!(
                "displaced: another agent registered this instance, and this one is no longer registered; stop one of the \
                 two, or give them different ids with --instance"
            ),
            Status::Refused(_) | Status::Fenced(_) => tracing::error!("not registered, the registration is {status}"),
            // The link says by itself that there is no connection.
            Status::Pending(Pending::Retrying { .. } | Pending::Confirming { problem: Some(_) }) => {
                let key = format!("pending {}/{}", self.plan.service, self.instance);
                muster_runtime::logging::limited(&key, |suppressed| {
                    tracing::warn!(suppressed, "not registered yet: the registration is {status}");
                });
            }
            _ => tracing::debug!("the registration is {status}"),
        }
        if is_registered != held.was_registered {
            held.was_registered = is_registered;
            self.report(if is_registered { Input::Registered } else { Input::Unconfirmed }).await;
        }
    }

    /// A service that has ended hears nothing any more.
    async fn report(&self, input: Input) {
        let _ = self.mailbox.send(Mail::Happened(input)).await;
    }
}

/// The next status; never, while nothing is held, or once its session has ended.
async fn changed(held: &mut Option<Held>) -> Status {
    if let Some(held) = held
        && held.status.changed().await.is_ok()
    {
        return held.status.borrow_and_update().clone();
    }
    std::future::pending().await
}
