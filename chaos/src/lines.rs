//! What a consumer prints, line by line, for the observer.

use std::collections::{BTreeMap, BTreeSet};

use muster_discovery::{Change, Snapshot};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// What the view holds.
    View(ViewLine),
    /// What it delivered.
    Change(ChangeLine),
}

/// A view at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ViewLine {
    /// Whether it calls itself verified.
    pub verified: bool,
    /// The log, if it names a revision.
    pub epoch: Option<String>,
    /// Verified through this sequence.
    pub sequence: u64,
    /// The services with their lists.
    pub services: BTreeMap<String, ServiceLine>,
}

/// One list of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceLine {
    /// Sequence of its last change.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// Who is in it.
    pub instances: BTreeSet<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// `service/instance`.
    pub key: String,
    /// `added`, `updated` or `removed`.
    pub change: String,
    /// Why.
    pub cause: String,
    /// Who.
    pub actor: String,
    /// Whether anything proves it.
    pub has_evidence: bool,
    /// The log, if it has a revision.
    pub epoch: Option<String>,
    /// The sequence of its event.
    pub sequence: u64,
}

impl ViewLine {
    /// Of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let services = snapshot.services().map(|service| {
            let (digest, revision) = snapshot.digest(service.as_str()).unwrap_or_default();
            let instances = snapshot.of_service(service.as_str()).map(|instance| instance.id().to_string()).collect();
            (service.to_string(), ServiceLine { revision, digest: digest.to_string(), instances })
        });
        let services = services.collect();
        let revision = snapshot.revision();
        Self {
            verified: snapshot.is_verified(),
            epoch: revision.map(|revision| revision.epoch().to_string()),
            sequence: revision.map_or(0, |revision| revision.sequence()),
            services,
        }
    }

    /// Everybody in it, as `service/instance`.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        let of_service = |(service, list): (&String, &ServiceLine)| {
            list.instances.iter().map(|instance| format!("{service}/{instance}")).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }
}

impl ChangeLine {
    /// Of a change that a watch delivered.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        let revision = change.why().revision;
        Self {
            key: format!("{}/{}", change.service(), change.id()),
            change: change.as_str().to_owned(),
            cause: change.cause().as_str().to_owned(),
            actor: change.actor().to_owned(),
            has_evidence: change.evidence().is_some_and(|evidence| evidence != &Default::default()),
            epoch: revision.map(|revision| revision.epoch().to_string()),
            sequence: revision.map_or(0, |revision| revision.sequence()),
        }
    }
}
