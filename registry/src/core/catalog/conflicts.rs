//! Hosts and ports that more than one instance registered. An index beside the entries: it is derived from them alone.

use std::collections::{BTreeMap, BTreeSet};

use imbl::{OrdMap, OrdSet};
use muster_schemas::agent::instance_key;
use muster_schemas::{AgentId, Instance, InstanceId, ServiceName};

use super::Catalog;
use super::write::filled;

/// Others named on one change, and agents told of it: a default address that a whole fleet registers must not make
/// every change name the whole fleet.
pub const CONFLICTS_PER_CHANGE_MAX: usize = 16;

type Key = (ServiceName, InstanceId);

/// More would let more cores put claims in order, and cost more whenever a catalog is cloned.
const TREES: usize = 4;

/// Who claims the addresses behind one hash; almost always one, and boxed, more do not take room from those.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    One(Key),
    Many(Box<OrdSet<Key>>),
}

/// All claims, by a hash of host and port. The instances themselves settle whether two hashes are equal by chance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Each with its share of the hashes, so that they can be put in order beside each other.
    by_hash: [OrdMap<u64, Claim>; TREES],
    /// How many hashes have more than one claim: while it is 0, nobody need look.
    shared: usize,
}

/// The tree that a hash is in.
fn tree_of(hash: u64) -> usize {
    hash as usize % TREES
}

/// An endpoint's address, as conflicts are about it.
type Address<'a> = (&'a str, u16);

fn addresses(instance: &Instance) -> BTreeSet<Address<'_>> {
    let endpoints = instance.registration.endpoints.iter();
    endpoints.filter_map(|endpoint| Some((endpoint.host.as_deref()?, endpoint.port?))).collect()
}

/// In order, each once.
fn hashes(instance: &Instance) -> Vec<u64> {
    let endpoints = instance.registration.endpoints.iter();
    let addresses = endpoints.filter_map(|endpoint| Some((endpoint.host.as_deref()?, endpoint.port?)));
    let mut hashes: Vec<u64> = addresses.map(address_hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// FNV-1a-64: the same in every process, unlike the standard library's hashes.
fn address_hash((host, port): Address<'_>) -> u64 {
    let bytes = host.bytes().chain([0]).chain(port.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn key(instance: &Instance) -> Key {
    (instance.service().clone(), instance.id().clone())
}

/// The claims of many instances, before they are put in order: a list for each tree.
#[derive(Debug, Default)]
pub(super) struct ClaimList([Vec<(u64, Claim)>; TREES]);

/// Addresses of most instances: how much room their claims are given.
const ADDRESSES_EACH: usize = 2;

/// All claims of one tree.
#[derive(Debug)]
pub(super) struct UnorderedClaims(Vec<(u64, Claim)>);

/// All claims of one tree, in order.
#[derive(Debug)]
pub(super) struct ClaimTree {
    by_hash: OrdMap<u64, Claim>,
    shared: usize,
}

impl ClaimList {
    /// Makes room for those of so many instances.
    pub(super) fn expect(&mut self, instances: usize) {
        self.0.iter_mut().for_each(|list| list.reserve_exact(instances * ADDRESSES_EACH / TREES));
    }

    pub(super) fn add(&mut self, instance: &Instance) {
        for hash in hashes(instance) {
            self.0[tree_of(hash)].push((hash, Claim::One(key(instance))));
        }
    }

    /// Takes over those of another list.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.0.iter_mut().zip(&mut other.0).for_each(|(own, other)| own.append(other));
    }

    pub(super) fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }

    /// By trees, in their order.
    pub(super) fn unordered(self) -> [UnorderedClaims; TREES] {
        self.0.map(UnorderedClaims)
    }
}

impl UnorderedClaims {
    /// The same as if each instance had made its claims in turn.
    pub(super) fn put_in_order(self) -> ClaimTree {
        let Self(mut all) = self;
        all.sort_unstable_by_key(|(hash, _)| *hash);
        all.dedup_by(|(hash, next), (kept_hash, kept)| {
            if let (true, Claim::One(key)) = (hash == kept_hash, next) {
                kept.add(key.clone());
            }
            hash == kept_hash
        });
        let shared = all.iter().filter(|(_, claim)| matches!(claim, Claim::Many(_))).count();
        ClaimTree { by_hash: filled(all.into_iter()), shared }
    }
}

impl Claim {
    /// Whether it has become one of many by this.
    fn add(&mut self, key: Key) -> bool {
        match self {
            Self::Many(keys) => {
                keys.insert(key);
                false
            }
            Self::One(first) if *first == key => false,
            Self::One(first) => {
                *self = Self::Many(Box::new([first.clone(), key].into_iter().collect()));
                true
            }
        }
    }
}

impl Claims {
    /// Of trees in their order; `None` if one is missing.
    pub(super) fn of(trees: Vec<ClaimTree>) -> Option<Self> {
        let shared = trees.iter().map(|tree| tree.shared).sum();
        let by_hash = trees.into_iter().map(|tree| tree.by_hash).collect::<Vec<_>>().try_into().ok()?;
        Some(Self { by_hash, shared })
    }

    /// Whether [`Catalog::conflicts_of`] says the same of every service that has not changed in between. May be false
    /// though it does.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.shared == 0 && other.shared == 0)
            || self.by_hash.iter().zip(&other.by_hash).all(|(own, other)| own.ptr_eq(other))
    }

    /// Puts one instance's claims in place of what it claimed before.
    pub(super) fn replace(&mut self, before: Option<&Instance>, after: Option<&Instance>) {
        if let (Some(before), Some(after)) = (before, after)
            && before.registration.endpoints == after.registration.endpoints
        {
            return;
        }
        if let Some(before) = before {
            for hash in hashes(before) {
                self.remove(hash, &key(before));
            }
        }
        if let Some(after) = after {
            for hash in hashes(after) {
                self.insert(hash, key(after));
            }
        }
    }

    fn insert(&mut self, hash: u64, key: Key) {
        let tree = &mut self.by_hash[tree_of(hash)];
        match tree.get_mut(&hash) {
            None => {
                tree.insert(hash, Claim::One(key));
            }
            Some(claim) => self.shared += usize::from(claim.add(key)),
        }
    }

    fn remove(&mut self, hash: u64, key: &Key) {
        let tree = &mut self.by_hash[tree_of(hash)];
        match tree.get_mut(&hash) {
            Some(Claim::One(only)) if only == key => {
                tree.remove(&hash);
            }
            Some(claim @ Claim::Many(_)) => {
                let Claim::Many(keys) = &mut *claim else { return };
                keys.remove(key);
                if keys.len() == 1
                    && let Some(last) = keys.get_min().cloned()
                {
                    *claim = Claim::One(last);
                    self.shared -= 1;
                }
            }
            _ => {}
        }
    }

    fn others<'a>(&'a self, hash: u64, own: &'a Key) -> impl Iterator<Item = &'a Key> {
        let many = match self.by_hash[tree_of(hash)].get(&hash) {
            Some(Claim::Many(keys)) => Some(keys),
            _ => None,
        };
        many.into_iter().flat_map(|keys| keys.iter()).filter(move |key| *key != own)
    }
}

impl Catalog {
    /// The services' hosts and ports that more than one instance registered: `host:port` (IPv6 in brackets) to the
    /// instances' keys, as in `ServiceReply::conflicts`. Costs nothing while no address anywhere is registered twice.
    #[must_use]
    pub fn conflicts_of(&self, service: &ServiceName) -> BTreeMap<String, Vec<String>> {
        let mut conflicts = BTreeMap::new();
        let service = (self.claims.shared > 0).then(|| self.service(service)).flatten();
        for instance in service.into_iter().flat_map(super::Service::instances) {
            let own = key(instance);
            for address in addresses(instance) {
                let text = address_text(address);
                // Whoever shares it with an instance before this one has been listed with that.
                if conflicts.contains_key(&text) {
                    continue;
                }
                let others = self.claimants(address, &own, usize::MAX);
                if !others.is_empty() {
                    let keys: BTreeSet<&Key> = others.iter().map(|(key, _)| *key).chain([&own]).collect();
                    let keys = keys.into_iter().map(|(service, id)| instance_key(service, id));
                    conflicts.insert(text, keys.collect());
                }
            }
        }
        conflicts
    }

    /// All claims as they are now, to be held against those of another revision; none while nothing is shared.
    #[must_use]
    pub fn claims(&self) -> Claims {
        if self.claims.shared > 0 { self.claims.clone() } else { Claims::default() }
    }

    /// How many addresses are registered by more than one instance (equal hashes by chance included, which do not happen).
    #[must_use]
    pub fn conflicting_addresses(&self) -> usize {
        self.claims.shared
    }

    /// Others that registered an address of `after` that `before` did not have: a conflict that this change creates.
    /// At most [`CONFLICTS_PER_CHANGE_MAX`], in order of their names.
    pub(super) fn new_conflicts(&self, before: Option<&Instance>, after: &Instance) -> Vec<(Key, AgentId)> {
        if self.claims.shared == 0 {
            return Vec::new();
        }
        let own = key(after);
        let known = before.map(addresses).unwrap_or_default();
        let mut found = BTreeMap::new();
        for address in addresses(after).difference(&known) {
            for (key, agent) in self.claimants(*address, &own, CONFLICTS_PER_CHANGE_MAX) {
                found.insert(key.clone(), agent.clone());
            }
        }
        found.into_iter().take(CONFLICTS_PER_CHANGE_MAX).collect()
    }

    fn claimants<'a>(&'a self, address: Address<'_>, own: &'a Key, limit: usize) -> Vec<(&'a Key, &'a AgentId)> {
        let others = self.claims.others(address_hash(address), own);
        let real = others.filter_map(|key| {
            let instance = self.instance(&key.0, &key.1)?;
            let claims = addresses(instance).contains(&address);
            claims.then(|| (key, &instance.vouching().agent))
        });
        real.take(limit).collect()
    }
}

fn address_text((host, port): Address<'_>) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
