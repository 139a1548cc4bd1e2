//! What readers get: one revision of the catalog with what is known of its age, and what a replica says of itself.

use std::sync::Arc;

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{ServerState, Status};
use muster_schemas::{EpochId, WIRE_VERSION};

use super::{Phase, Replica};
use crate::core::catalog::Catalog;
use crate::core::io::{Effect, Effects};

/// An agent heard within this time counts as being there: the default TTL.
pub(super) const AGENT_HEARD_MS: u64 = 10_000;

/// The catalog at one revision. It stays as it is for as long as somebody holds it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The catalog.
    pub catalog: Catalog,
    /// The log in force.
    pub epoch: Option<EpochId>,
    /// How far it is folded.
    pub revision: u64,
    /// The replica's state: `warming` until it has been at the log's end.
    pub state: CatalogState,
    /// When, by the clock of the steps, this replica was last known to be at the log's end.
    pub head_confirmed_ms: Option<u64>,
    /// Whether queries may be answered from it.
    pub serving: bool,
    /// Why not, if not.
    pub reason: Option<String>,
}

impl Replica {
    /// The catalog as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let reason = self.reason();
        Arc::new(Snapshot {
            catalog: self.catalog.clone(),
            epoch: self.catalog.epoch(),
            revision: self.catalog.revision(),
            state: self.state(),
            head_confirmed_ms: self.continuity.end_confirmed_ms(),
            serving: reason.is_none(),
            reason,
        })
    }

    /// Whether the snapshot differs from the one at the last time that this was asked.
    pub fn snapshot_changed(&mut self) -> bool {
        std::mem::take(&mut self.snapshot_changed)
    }

    /// Joins the queue group when queries can be answered, and leaves it when they cannot.
    pub(super) fn serve_or_not(&mut self, effects: &mut Effects) {
        let serving = self.reason().is_none();
        if serving != self.serving {
            self.serving = serving;
            self.snapshot_changed = true;
            effects.push(Effect::Serve(serving));
        }
    }

    pub(super) fn head_age_ms(&self) -> Option<u64> {
        let confirmed_ms = self.continuity.end_confirmed_ms()?;
        Some(self.now_ms.saturating_sub(confirmed_ms))
    }

    /// Why queries cannot be answered; none if they can.
    fn reason(&self) -> Option<String> {
        if !self.catalog.is_supported() {
            return Some(format!(
                "fold version {} is in force, which this version does not have: upgrade it",
                self.catalog.fold_version()
            ));
        }
        match (self.phase, self.yields_to(), &self.beginning.foreign) {
            (Phase::Live, Some(older), _) => {
                let differs = format!("its catalog differs from that of the older replica {older}");
                return Some(format!("{differs}, although both have read the log anew: see the alarm digest_mismatch"));
            }
            (Phase::Locating, _, Some(reason)) => return Some(reason.clone()),
            (Phase::Locating, _, None) if self.continuity.is_connected() && self.beginning.used_up.is_some() => {
                return self.beginning.used_up.clone();
            }
            _ => {}
        }
        match self.phase {
            Phase::Locating if !self.continuity.is_connected() => Some("not connected to the log".to_owned()),
            Phase::Locating => Some("looking for the log in force".to_owned()),
            Phase::Awaiting(_) if self.somebody_knows_better() => {
                Some("the beginning of the log was trimmed, and only other replicas still know it".to_owned())
            }
            Phase::Awaiting(_) => Some("no log is in force yet".to_owned()),
            Phase::Warming { target } => {
                Some(format!("folding the log: at {} of {target}", self.continuity.position().unwrap_or(0)))
            }
            Phase::Live => match self.head_age_ms() {
                Some(age_ms) if age_ms <= self.settings.timing.head_age_ms_max => None,
                Some(age_ms) => Some(format!("last known to be at the log's end {age_ms} ms ago")),
                None => Some("not yet known to be at the log's end".to_owned()),
            },
        }
    }

    /// What this replica says of itself.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Status {
        let timing = &self.settings.timing;
        let mut replicas: Vec<_> = self.peers.alive(now_ms, timing).map(|beacon| beacon.replica.clone()).collect();
        replicas.push(self.settings.replica.clone());
        replicas.sort();
        let confirmed_ms = self.continuity.end_confirmed_ms();
        let outcomes = self.counters.outcomes.iter();
        let servers = self.broker_servers(now_ms);
        let unreachable = servers.iter().filter(|server| server.state == ServerState::Unreachable);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Status {
            v: WIRE_VERSION,
            replica: self.settings.replica.clone(),
            version: self.settings.software_version.clone(),
            fold_version: self.catalog.fold_version(),
            started_at: self.settings.started_at,
            state: self.state(),
            reason: self.reason(),
            epoch: self.catalog.epoch(),
            revision: self.catalog.revision(),
            head_age_ms: confirmed_ms.map(|ms| now_ms.saturating_sub(ms)),
            digest: self.catalog.digest(),
            rank: self.rank,
            replicas,
            services: self.catalog.services_count(),
            instances: self.catalog.instances_count(),
            tombstones: count(self.catalog.tombstones_count()),
            intents: count(self.catalog.intents_count()),
            agents: count(self.liveness.leases.agents_heard(now_ms, AGENT_HEARD_MS)),
            unreachable_instances: unreachable.map(|server| server.instances).sum(),
            servers,
            advisories: self.counters.advisories,
            outcomes: outcomes.map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        }
    }
}
