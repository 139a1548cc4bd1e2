//! Where owners leave what they want, and the session picks it up. The latest word counts, so nothing here grows beyond one
//! entry per handle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_schemas::{Health, InstanceId, ServiceName};
use tokio::sync::{Notify, watch};

use super::{InstanceSpec, Status};
use crate::core::io::{ClaimId, Withdrawal};

/// What is wanted of one vouching and not picked up yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Begin, with this description and this place for news.
    pub(super) register: Option<(InstanceSpec, Arc<watch::Sender<Status>>)>,
    /// Its description changed.
    pub(super) update: Option<InstanceSpec>,
    /// Its health changed.
    pub(super) health: Option<Health>,
    /// Take it back.
    pub(super) deregister: Option<Withdrawal>,
    /// Vouch no longer, without a word.
    pub(super) forget: bool,
}

#[derive(Debug, Default)]
struct Open {
    orders: BTreeMap<ClaimId, Orders>,
    held: BTreeSet<(ServiceName, InstanceId)>,
    last_claim: u64,
    closed: bool,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    open: Mutex<Open>,
    left: Notify,
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change below is complete in itself, so what a panicking owner leaves is usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new claim; none if there is one for the instance.
    pub(super) fn begin(&self, spec: InstanceSpec, news: Arc<watch::Sender<Status>>) -> Result<ClaimId, Begin> {
        let mut open = self.open();
        if open.closed {
            return Err(Begin::Closed);
        }
        if !open.held.insert((spec.service.clone(), spec.instance.clone())) {
            return Err(Begin::Held);
        }
        open.last_claim += 1;
        let claim = ClaimId(open.last_claim);
        let orders = Orders { register: Some((spec, news)), ..Orders::default() };
        open.orders.insert(claim, orders);
        drop(open);
        self.left.notify_one();
        Ok(claim)
    }

    /// Leaves orders for a claim.
    pub(super) fn leave(&self, claim: ClaimId, order: impl FnOnce(&mut Orders)) {
        let mut open = self.open();
        if !open.closed {
            order(open.orders.entry(claim).or_default());
        }
        drop(open);
        self.left.notify_one();
    }

    /// Another handle may be made for the instance.
    pub(super) fn release(&self, service: &ServiceName, instance: &InstanceId) {
        self.open().held.remove(&(service.clone(), instance.clone()));
    }

    /// Nothing more is taken in; what was left is still picked up.
    pub(super) fn close(&self) {
        self.open().closed = true;
        self.left.notify_one();
    }

    /// What was left since the last look, and whether the desk is closed.
    pub(super) fn pick_up(&self) -> (BTreeMap<ClaimId, Orders>, bool) {
        let mut open = self.open();
        (std::mem::take(&mut open.orders), open.closed)
    }

    /// Waits until something is left.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }
}

/// Why a claim was not begun.
pub(super) enum Begin {
    /// There is one for the instance.
    Held,
    /// The session has ended.
    Closed,
}
