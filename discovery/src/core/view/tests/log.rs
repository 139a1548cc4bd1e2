//! A log in a few lines: what a registry says of it, and what every list was at every revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use muster_schemas::pulse::{CatalogState, Pulse, bucket};
use muster_schemas::query::{Reply, ServiceReply};
use muster_schemas::{Cause, Change, ChangeKind, Digest, EpochId, Instance, InstanceId, ServiceName, Timestamp};
use serde_json::json;

use crate::core::io::Scope;

pub(super) type Content = BTreeMap<InstanceId, Arc<Instance>>;

#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) epoch: EpochId,
    pub(super) revision: u64,
    pub(super) state: CatalogState,
    /// Every version of every service: revision of the change, list after it.
    versions: OrdMap<ServiceName, OrdMap<u64, Content>>,
}

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a name")
}

pub(super) fn instance_id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name")
}

fn instance(service: &str, id: &str, version: &str, created: u64, modified: u64) -> Arc<Instance> {
    let ulid = "01J00000000000000000000000";
    let value = json!({
        "service": service, "instance": id, "agent": "agent1", "session": ulid, "incarnation": ulid, "generation": 1,
        "ttl_ms": 10_000, "version": version, "created_revision": created, "modified_revision": modified,
    });
    serde_json::from_value(value).expect("an instance")
}

impl Log {
    pub(super) fn new(epoch: u64) -> Self {
        let epoch = EpochId::from_parts(epoch, 0);
        Self { epoch, revision: 10, state: CatalogState::Ready, versions: OrdMap::new() }
    }

    pub(super) fn list(&self, name: &ServiceName) -> (u64, Content) {
        self.list_at(name, u64::MAX)
    }

    /// The revision of the last change of a service not after `revision`, and the list then.
    pub(super) fn list_at(&self, name: &ServiceName, revision: u64) -> (u64, Content) {
        let version = self.versions.get(name).and_then(|versions| versions.get_prev(&revision));
        version.map(|(at, content)| (*at, content.clone())).unwrap_or_default()
    }

    /// An event that changes nothing.
    pub(super) fn pass(&mut self) {
        self.revision += 1;
    }

    pub(super) fn put(&mut self, name: &str, id: &str, version: &str) -> Change {
        let (_, content) = self.list(&service(name));
        let created = content.get(id).map_or(self.revision + 1, |instance| instance.created_revision);
        let value = instance(name, id, version, created, self.revision + 1);
        self.change(name, id, Some(value))
    }

    pub(super) fn remove(&mut self, name: &str, id: &str) -> Change {
        self.change(name, id, None)
    }

    fn change(&mut self, name: &str, id: &str, value: Option<Arc<Instance>>) -> Change {
        self.revision += 1;
        let (name, id) = (service(name), instance_id(id));
        let (previous, mut content) = self.list(&name);
        let previous_revision = if content.is_empty() { 0 } else { previous };
        let before = match &value {
            Some(value) => content.insert(id.clone(), value.clone()),
            None => content.remove(&id),
        };
        let (change, cause) = match (&before, &value) {
            (None, _) => (ChangeKind::Added, Cause::Registered),
            (Some(_), Some(_)) => (ChangeKind::Updated, Cause::Updated),
            (Some(_), None) => (ChangeKind::Removed, Cause::Deregistered),
        };
        let digest = digest(&content);
        self.versions.entry(name.clone()).or_default().insert(self.revision, content);
        Change {
            v: 1,
            epoch: self.epoch,
            revision: self.revision,
            previous_revision,
            service: name,
            instance: id,
            change,
            cause,
            actor: "agent/agent1".into(),
            at: Timestamp::from_ms(0),
            evidence: None,
            conflicts: Vec::new(),
            value,
            digest,
            extra: BTreeMap::new(),
        }
    }

    /// What the publishing replica says of a service's bucket.
    pub(super) fn pulse(&self, bucket_number: u8, from: u64) -> Pulse {
        let in_bucket = self.versions.iter().filter(|(name, _)| bucket(name) == bucket_number);
        let last = in_bucket.filter_map(|(name, versions)| Some((name.clone(), versions.get_max()?.0)));
        Pulse {
            v: 1,
            epoch: self.epoch,
            bucket: bucket_number,
            from,
            to: self.revision,
            services: last.filter(|(_, revision)| *revision > from).collect(),
            head_age_ms: 0,
            state: self.state,
        }
    }

    pub(super) fn reply(&self, target: &Scope) -> Reply {
        let mut services = Vec::new();
        for name in self.versions.keys().filter(|name| target.covers(name)) {
            let (revision, content) = self.list(name);
            services.push(ServiceReply {
                service: name.clone(),
                revision,
                digest: digest(&content),
                total: u32::try_from(content.len()).expect("few"),
                routable: 0,
                instances: content.into_values().collect(),
                conflicts: BTreeMap::new(),
            });
        }
        Reply {
            v: 1,
            epoch: self.epoch,
            revision: self.revision,
            state: self.state,
            head_age_ms: 0,
            next: None,
            services,
        }
    }
}

pub(super) fn digest(content: &Content) -> Digest {
    content.iter().map(|(id, instance)| Digest::of_instance(id, instance.modified_revision)).sum()
}
