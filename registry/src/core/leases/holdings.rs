//! Which leases there are: what the catalog holds of each agent, kept up to date with every event.

use std::cmp::Reverse;
use std::sync::Arc;

use muster_schemas::{AgentId, Digest, EventKind, Instance};

use super::Leases;
use super::agent::{Agent, Lease};
use super::standing::Reach;
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::catalog::{Catalog, Folded, News, Outcome, Vouched, name_hash, vouching_digest};

impl Leases {
    /// Follows one folded event; `catalog` is the state after it.
    pub fn folded(&mut self, catalog: &Catalog, folded: &Folded) {
        match &folded.news {
            News::None => {}
            News::EpochBegan(_) => self.drop_leases(),
            News::Instance { before, after } => {
                let agents_own = matches!(
                    folded.outcome,
                    Outcome::Accepted(EventKind::Register | EventKind::Deregister | EventKind::Health)
                        | Outcome::NoOp(EventKind::Register | EventKind::Deregister | EventKind::Health)
                );
                let sequence = agents_own.then(|| catalog.revision());
                self.replace(before.as_deref(), after.as_ref(), sequence);
            }
        }
    }

    /// Follows another catalog from here on. Whoever was heard stays heard.
    pub fn rebuild(&mut self, catalog: &Catalog) {
        self.rebuild_with(catalog, std::iter::empty());
    }

    /// Follows a checkpoint's catalog from here on. Whoever was heard stays heard.
    pub fn begin_from(&mut self, checkpoint: &Checkpoint) {
        self.rebuild_with(checkpoint.catalog(), checkpoint.vouched());
    }

    /// `known`: of all instances in their order, or of none.
    fn rebuild_with(&mut self, catalog: &Catalog, mut known: impl Iterator<Item = Vouched>) {
        self.drop_leases();
        let instances = usize::try_from(catalog.instances_count()).unwrap_or(0);
        self.leases.reserve_exact(instances);
        self.by_name.reserve(instances, |_| 0);
        // Neighbours are often of one agent.
        let mut last: Option<(&AgentId, u32)> = None;
        let all = catalog.services().flat_map(|(_, service)| service.instances());
        for instance in all {
            let vouched = known.next();
            if instance.is_static() {
                continue;
            }
            let agent = &instance.vouching().agent;
            let index = match last {
                Some((known, index)) if known == agent => index,
                _ => self.agent_index(agent),
            };
            last = Some((agent, index));
            self.add_lease_of(index, instance, vouched.unwrap_or_else(|| Vouched::of(instance)), None);
        }
    }

    fn replace(&mut self, before: Option<&Instance>, after: Option<&Arc<Instance>>, sequence: Option<u64>) {
        let after = after.filter(|after| !after.is_static());
        if let Some(before) = before {
            let found = self
                .by_name
                .find_entry(name_hash(before.service(), before.id()), |index| is_named(&self.leases, *index, before));
            if let Ok(found) = found {
                let index = *found.get();
                if let Some(after) = after.filter(|after| same_lease(before, after)) {
                    self.update_lease(index, after, sequence);
                    return;
                }
                found.remove();
                self.remove_lease(index, sequence);
            }
        }
        if let Some(after) = after {
            self.add_lease(after, sequence);
        }
    }

    fn update_lease(&mut self, index: u32, after: &Arc<Instance>, sequence: Option<u64>) {
        let Some(lease) = self.leases.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let digest = vouching_digest(after);
        let vouching = after.vouching();
        let sooner = after.registration.ttl_ms < lease.instance.registration.ttl_ms;
        if let Some(agent) = self.agents.get_mut(lease.agent as usize).and_then(Option::as_mut) {
            let session = agent.session_mut(vouching.session);
            session.digest = session.digest.minus(lease.digest).plus(digest);
            agent.last_event = sequence.unwrap_or(agent.last_event).max(agent.last_event);
        }
        lease.digest = digest;
        lease.instance = Arc::clone(after);
        let agent = lease.agent;
        if sooner {
            self.look_again(index, agent);
        }
    }

    fn add_lease(&mut self, instance: &Arc<Instance>, sequence: Option<u64>) {
        let agent_index = self.agent_index(&instance.vouching().agent);
        self.add_lease_of(agent_index, instance, Vouched::of(instance), sequence);
    }

    fn agent_index(&mut self, agent: &AgentId) -> u32 {
        let known = self.by_token.get(agent.token().as_str()).copied();
        known.unwrap_or_else(|| self.add_agent(agent.clone()))
    }

    fn add_lease_of(&mut self, agent_index: u32, instance: &Arc<Instance>, vouched: Vouched, sequence: Option<u64>) {
        let Vouched { digest, name_hash: hash } = vouched;
        let index = self.free_leases.pop().unwrap_or_else(|| {
            self.leases.push(None);
            u32::try_from(self.leases.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(agent) = self.agents.get_mut(agent_index as usize).and_then(Option::as_mut) else {
            return;
        };
        if agent.leases.is_empty() {
            self.strangers -= 1;
        }
        let session = agent.session_mut(instance.vouching().session);
        session.digest = session.digest.plus(digest);
        session.leases += 1;
        // Only a registration says by itself that the agent lives: what is carried over, or read from a checkpoint, goes on
        // from the last heartbeat, if one was heard in that life.
        let begins_now = sequence.is_some() || session.heard.is_none();
        agent.last_event = sequence.unwrap_or(agent.last_event).max(agent.last_event);
        let place = u32::try_from(agent.leases.len()).unwrap_or(u32::MAX);
        agent.leases.push(index);
        self.leases[index as usize] = Some(Lease {
            instance: Arc::clone(instance),
            digest,
            since: if begins_now { self.clock.now() } else { 0 },
            handed_out_at: 0,
            not_before: 0,
            agent: agent_index,
            place,
        });
        self.by_name.insert_unique(hash, index, |other| {
            let other = self.leases.get(*other as usize).and_then(Option::as_ref);
            other.map_or(0, |lease| name_hash(lease.instance.service(), lease.instance.id()))
        });
        self.look_again(index, agent_index);
    }

    fn remove_lease(&mut self, index: u32, sequence: Option<u64>) {
        let Some(lease) = self.leases.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.free_leases.push(index);
        let Some(agent) = self.agents.get_mut(lease.agent as usize).and_then(Option::as_mut) else {
            return;
        };
        agent.last_event = sequence.unwrap_or(agent.last_event).max(agent.last_event);
        if agent.is_suspect(&lease) && agent.suspects > 0 {
            agent.suspects -= 1;
            self.suspects -= 1;
        }
        agent.leases.swap_remove(lease.place as usize);
        if let Some(moved) = agent.leases.get(lease.place as usize)
            && let Some(moved) = self.leases.get_mut(*moved as usize).and_then(Option::as_mut)
        {
            moved.place = lease.place;
        }
        let session = agent.session_mut(lease.instance.vouching().session);
        session.digest = session.digest.minus(lease.digest);
        session.leases -= 1;
        agent.forget_sessions();
        if agent.leases.is_empty() {
            self.strangers += 1;
            agent.look_at = None;
        }
    }

    /// A new log: its catalog is empty. The agents, and when they were heard, stay.
    fn drop_leases(&mut self) {
        self.leases.clear();
        self.free_leases.clear();
        self.by_name.clear();
        self.schedule.clear();
        self.suspects = 0;
        self.strangers = 0;
        for agent in self.agents.iter_mut().flatten() {
            agent.leases.clear();
            agent.look_at = None;
            agent.suspects = 0;
            agent.last_event = 0;
            agent.differs_since_ms = None;
            for session in &mut agent.sessions {
                session.digest = Digest::ZERO;
                session.leases = 0;
            }
            // Lives that are not heard any more stay here: what is registered or carried over in them next was heard then.
            self.strangers += 1;
        }
    }

    pub(super) fn add_agent(&mut self, id: AgentId) -> u32 {
        let token: Box<str> = id.token().into();
        let agent = Agent::new(id, token.clone());
        let index = self.free.pop().unwrap_or_else(|| {
            self.agents.push(None);
            u32::try_from(self.agents.len() - 1).unwrap_or(u32::MAX)
        });
        self.agents[index as usize] = Some(agent);
        self.by_token.insert(token, index);
        self.strangers += 1;
        index
    }

    /// Only for one without leases.
    pub(super) fn remove_agent(&mut self, index: usize) {
        if let Some(agent) = self.agents.get_mut(index).and_then(Option::take) {
            self.by_token.remove(&agent.token);
            self.strangers -= 1;
            self.servers.leave(agent.server);
            self.lingering -= usize::from(agent.disconnected.is_some());
            if let Ok(index) = u32::try_from(index) {
                self.forget_connection(agent.connection, index);
                self.free.push(index);
            }
        }
    }

    /// Sees to it that an agent is looked at no later than a lease of it falls due.
    pub(super) fn look_again(&mut self, lease: u32, agent_index: u32) {
        let reach =
            Reach { clock: &self.clock, servers: &self.servers, unreachable_limit_ms: self.unreachable_limit_ms };
        let lease = self.leases.get(lease as usize).and_then(Option::as_ref);
        let agent = self.agents.get_mut(agent_index as usize).and_then(Option::as_mut);
        if let (Some(lease), Some(agent)) = (lease, agent) {
            let due = reach.due_at(agent, lease);
            if agent.look_at.is_none_or(|look_at| due < look_at) {
                agent.look_at = Some(due);
                self.schedule.push(Reverse((due, agent_index)));
            }
        }
    }
}

/// Whether it is the lease of this instance.
fn is_named(leases: &[Option<Lease>], index: u32, instance: &Instance) -> bool {
    let lease = leases.get(index as usize).and_then(Option::as_ref);
    lease.is_some_and(|lease| lease.instance.id() == instance.id() && lease.instance.service() == instance.service())
}

/// Whether a lease goes on: the same agent's vouching in the same life. Anything else begins a new one.
fn same_lease(before: &Instance, after: &Instance) -> bool {
    let (before, after) = (before.vouching(), after.vouching());
    before.agent == after.agent && before.session == after.session && before.incarnation == after.incarnation
}
