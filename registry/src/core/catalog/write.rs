//! The only places that write entries: each keeps every sum, count and index in step, and makes the change, if there is one.

use std::sync::Arc;

use imbl::OrdMap;
use muster_schemas::entry::{Entry, Evidence, Intent, IntentKind, Tombstone};
use muster_schemas::event::Sender;
use muster_schemas::instance::Maintenance;
use muster_schemas::{
    AgentId, Cause, Change, ChangeKind, Digest, EventKind, Instance, InstanceId, Registration, ServiceName, Vouching,
    WIRE_VERSION,
};

use super::outcome::{Folded, News};
use super::service::{Held, Service, Slot};
use super::{Catalog, IntentKey};

/// The event that is being folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing<'a> {
    pub(super) sequence: u64,
    pub(super) kind: EventKind,
    pub(super) sender: &'a Sender,
}

/// Why an instance goes.
pub(super) struct Ending {
    /// The vouching that the tombstone keeps.
    pub(super) vouching: Vouching,
    pub(super) cause: Cause,
    pub(super) evidence: Option<Evidence>,
}

impl Service {
    /// Puts a slot in place of what was there.
    fn put(&mut self, id: InstanceId, slot: Slot, revision: Option<u64>) -> Option<Slot> {
        let id_of_digest = id.clone();
        if let Some(revision) = revision {
            self.revision = revision;
        }
        let after = slot.held.live().cloned();
        let before = self.slots.insert(id, slot);
        self.recount(&id_of_digest, before.as_ref(), after.as_deref());
        before
    }

    fn recount(&mut self, id: &InstanceId, before: Option<&Slot>, after: Option<&Instance>) {
        let before = before.and_then(|slot| slot.held.live());
        if let (Some(before), Some(after)) = (before, after)
            && before.modified_revision == after.modified_revision
        {
            // A no-op: consumers hold the same, and nothing that is counted can differ.
            return;
        }
        if let Some(before) = before {
            self.digest = self.digest.minus(Digest::of_instance(id, before.modified_revision));
            self.live -= 1;
            self.routable -= u32::from(before.is_routable());
        }
        if let Some(after) = after {
            self.digest = self.digest.plus(Digest::of_instance(id, after.modified_revision));
            self.live += 1;
            self.routable += u32::from(after.is_routable());
        }
    }
}

impl Catalog {
    /// Puts an entry in place of whatever is held under its name. `revision`: the service's, if consumers hear of it.
    pub(super) fn put(&mut self, held: Held, last_sequence: u64, revision: Option<u64>) {
        self.put_slot(Slot::new(held, last_sequence), revision);
    }

    fn put_slot(&mut self, slot: Slot, revision: Option<u64>) {
        let held = &slot.held;
        let service_name = held.vouching().service.clone();
        let id = held.vouching().instance.clone();
        let gone_at = match held {
            Held::Gone(tombstone) => Some((tombstone.at, tombstone.revision)),
            Held::Live(_) => None,
        };
        let name = (service_name.clone(), id.clone());
        let after = held.live().cloned();
        self.digest = self.digest.plus(slot.digest);
        if !self.services.contains_key(&service_name) {
            self.services.insert(service_name.clone(), Service::default());
        }
        let Some(service) = self.services.get_mut(&service_name) else {
            return;
        };
        let had_instances = service.live > 0;
        let before = service.put(id, slot, revision);
        let has_instances = service.live > 0;
        self.services_live += u64::from(has_instances);
        self.services_live -= u64::from(had_instances);
        self.instances += u64::from(after.is_some());
        let before = before.map(|slot| self.taken_out(slot));
        if let Some(gone_at) = gone_at {
            // After the old one is out: a tombstone may replace one of the same time.
            self.gone.insert(gone_at, name);
        }
        let before = before.as_ref().and_then(Held::live).map(Arc::as_ref);
        self.claims.replace(before, after.as_deref());
    }

    /// What taking out a slot does to the catalog's own sums, claims excepted.
    fn taken_out(&mut self, slot: Slot) -> Held {
        self.digest = self.digest.minus(slot.digest);
        match &slot.held {
            Held::Live(_) => self.instances -= 1,
            Held::Gone(tombstone) => {
                self.gone.remove(&(tombstone.at, tombstone.revision));
            }
        }
        slot.held
    }

    /// Forgets a tombstone, and its service if it was the last thing kept of it.
    pub(super) fn drop_tombstone(&mut self, service_name: &ServiceName, id: &InstanceId) {
        let Some(service) = self.services.get_mut(service_name) else {
            return;
        };
        let slot = service.slots.remove(id);
        let forgotten = service.is_forgotten();
        if forgotten {
            self.services.remove(service_name);
        }
        if let Some(slot) = slot {
            self.taken_out(slot);
        }
    }

    /// Holds a registration from now on: a change, `added` or `updated`.
    pub(super) fn set(&mut self, doing: Doing<'_>, mut registration: Registration, cause: Cause) -> Folded {
        self.share_names(&mut registration.vouching);
        // It is held for long, and readers of JSON leave lists with room for more.
        registration.endpoints.shrink_to_fit();
        registration.tags.shrink_to_fit();
        registration.health.checks.shrink_to_fit();
        let vouching = &registration.vouching;
        let before = self.instance(&vouching.service, &vouching.instance).cloned();
        let maintenance = self.maintenance_of(&vouching.service, &vouching.instance);
        let after = Arc::new(Instance {
            created_revision: before.as_ref().map_or(doing.sequence, |before| before.created_revision),
            modified_revision: doing.sequence,
            maintenance,
            registration,
        });
        let previous_revision = self.previous_revision(after.service());
        let bytes = Entry::Instance(Arc::clone(&after)).canonical_bytes();
        let digest = Digest::of_bytes(&bytes);
        let slot = Slot { held: Held::Live(Arc::clone(&after)), last_sequence: doing.sequence, digest };
        self.put_slot(slot, Some(doing.sequence));
        let conflicts = self.new_conflicts(before.as_deref(), &after);
        let kind = if before.is_some() { ChangeKind::Updated } else { ChangeKind::Added };
        let mut change = self.change(doing, after.vouching(), previous_revision, kind, cause);
        change.value = Some(Arc::clone(&after));
        change.conflicts =
            conflicts.iter().map(|((service, id), _)| muster_schemas::agent::instance_key(service, id)).collect();
        let mut folded = Folded::accepted(doing.kind);
        folded.change = Some(Arc::new(change));
        folded.value_bytes = muster_schemas::entry::instance_of(&bytes).map(Box::from);
        folded.notices = self.conflict_notices(&after, conflicts);
        folded.news = News::Instance { before, after: Some(after) };
        folded
    }

    /// The instance goes and leaves a tombstone: a change, `removed`. Without an instance, only the tombstone is laid.
    pub(super) fn bury(&mut self, doing: Doing<'_>, mut ending: Ending) -> Folded {
        self.share_names(&mut ending.vouching);
        let Ending { vouching, cause, evidence } = ending;
        let before = self.instance(&vouching.service, &vouching.instance).cloned();
        let previous_revision = self.previous_revision(&vouching.service);
        let tombstone = Tombstone {
            vouching: vouching.clone(),
            cause,
            actor: doing.sender.to_string(),
            revision: doing.sequence,
            at: self.stream_time,
            evidence: evidence.clone(),
        };
        let revision = before.is_some().then_some(doing.sequence);
        self.put(Held::Gone(Arc::new(tombstone)), doing.sequence, revision);
        let mut folded = Folded::accepted(doing.kind);
        if before.is_some() {
            let mut change = self.change(doing, &vouching, previous_revision, ChangeKind::Removed, cause);
            change.evidence = evidence;
            folded.change = Some(Arc::new(change));
            folded.news = News::Instance { before, after: None };
        }
        folded
    }

    /// The order and the last sequence of an instance move on, and nothing else.
    pub(super) fn touch(&mut self, doing: Doing<'_>, before: &Arc<Instance>, generation: u64) -> Folded {
        let mut after = Instance::clone(before);
        after.registration.vouching.generation = generation;
        let after = Arc::new(after);
        self.put(Held::Live(Arc::clone(&after)), doing.sequence, None);
        let mut folded = Folded::no_op(doing.kind);
        folded.news = News::Instance { before: Some(Arc::clone(before)), after: Some(after) };
        folded
    }

    /// Puts an intent in force in place of one of its kind.
    pub(super) fn put_intent(&mut self, intent: Arc<Intent>) {
        let key = intent_key(&intent);
        self.take_intent(&key);
        self.digest = self.digest.plus(entry_digest(&intent));
        if let Some(until) = intent.until {
            self.ends.insert((until, intent.sequence), key.clone());
        }
        self.intents.insert(key, intent);
    }

    /// Takes an intent out of force.
    pub(super) fn take_intent(&mut self, key: &IntentKey) -> Option<Arc<Intent>> {
        let intent = self.intents.remove(key)?;
        self.digest = self.digest.minus(entry_digest(&intent));
        if let Some(until) = intent.until {
            self.ends.remove(&(until, intent.sequence));
        }
        Some(intent)
    }

    fn maintenance_of(&self, service: &ServiceName, instance: &InstanceId) -> Option<Box<Maintenance>> {
        let key = (service.clone(), instance.clone(), IntentKind::Maintenance);
        self.intents.get(&key).map(|intent| {
            Box::new(Maintenance { who: intent.who.clone(), why: intent.why.clone(), until: intent.until })
        })
    }

    /// Brings the instance's maintenance in line with its intents: a change if that differs.
    pub(super) fn apply_maintenance(
        &mut self,
        doing: Doing<'_>,
        service: &ServiceName,
        instance: &InstanceId,
        cause: Cause,
    ) -> Folded {
        let wanted = self.maintenance_of(service, instance);
        match self.instance(service, instance) {
            Some(held) if held.maintenance != wanted => {
                let registration = held.registration.clone();
                self.set(doing, registration, cause)
            }
            Some(_) => {
                self.move_last_sequence(doing, service, instance);
                Folded::accepted(doing.kind)
            }
            None => Folded::accepted(doing.kind),
        }
    }

    pub(super) fn move_last_sequence(&mut self, doing: Doing<'_>, service: &ServiceName, instance: &InstanceId) {
        let slots = self.services.get_mut(service).map(|service| &mut service.slots);
        if let Some(slot) = slots.and_then(|slots| slots.get_mut(instance)) {
            slot.last_sequence = doing.sequence;
        }
    }

    fn previous_revision(&self, service: &ServiceName) -> u64 {
        let held = self.services.get(service).filter(|service| service.live > 0);
        held.map_or(0, |service| service.revision)
    }

    fn change(
        &self,
        doing: Doing<'_>,
        vouching: &Vouching,
        previous_revision: u64,
        change: ChangeKind,
        cause: Cause,
    ) -> Change {
        let held = self.epoch.as_ref();
        let epoch = held.map_or_else(|| muster_schemas::EpochId::from_parts(0, 0), |epoch| epoch.id);
        Change {
            v: WIRE_VERSION,
            epoch,
            revision: doing.sequence,
            previous_revision,
            service: vouching.service.clone(),
            instance: vouching.instance.clone(),
            change,
            cause,
            actor: doing.sender.to_string(),
            at: self.stream_time,
            evidence: None,
            conflicts: Vec::new(),
            value: None,
            digest: self.services.get(&vouching.service).map_or(Digest::ZERO, Service::digest),
            extra: std::collections::BTreeMap::new(),
        }
    }

    /// Names that the catalog holds already are held once.
    pub(super) fn share_names(&self, vouching: &mut Vouching) {
        let Some((name, service)) = self.services.get_key_value(&vouching.service) else {
            return;
        };
        vouching.service = name.clone();
        if let Some((id, slot)) = service.slots.get_key_value(&vouching.instance) {
            vouching.instance = id.clone();
            let known: &AgentId = &slot.held.vouching().agent;
            if *known == vouching.agent {
                vouching.agent = known.clone();
            }
        }
    }
}

/// A tree of what is in order already, with full leaves. One after the other, each split would leave half a leaf behind that
/// nothing comes to; so every second one goes first, and the others fill what they left.
pub(super) fn filled<K: Ord + Clone, V: Clone>(ordered: impl ExactSizeIterator<Item = (K, V)>) -> OrdMap<K, V> {
    let mut tree = OrdMap::new();
    let mut others = Vec::with_capacity(ordered.len() / 2);
    for (place, (key, value)) in ordered.enumerate() {
        if place % 2 == 0 {
            tree.insert(key, value);
        } else {
            others.push((key, value));
        }
    }
    tree.extend(others);
    tree
}

pub(super) fn intent_key(intent: &Intent) -> IntentKey {
    (intent.service.clone(), intent.instance.clone(), intent.intent)
}

fn entry_digest(intent: &Arc<Intent>) -> Digest {
    Entry::Intent(Arc::clone(intent)).digest()
}
