//! Leases whose time is used up, agent by agent, at a bounded rate; and what a probe's answer does to them.

use std::cmp::Reverse;
use std::sync::Arc;

use muster_schemas::agent::{ProbeReply, instance_key};
use muster_schemas::entry::Evidence;
use muster_schemas::event::ExpiryCause;
use muster_schemas::{AgentId, Instance};

use super::Leases;
use super::agent::{Agent, Lease};
use super::standing::{Reach, Standing};
use crate::core::catalog::Catalog;

/// A lease that was handed out comes back after so much lease clock, in milliseconds, if nothing has become of it.
pub const HANDED_OUT_MS: u64 = 5_000;

/// After a decision that came to nothing it comes back after so much, in milliseconds.
pub const RETRY_MS: u64 = 1_000;

/// Agents looked at in one call: after a long break many turn out not to be due after all.
pub(super) const LOOKED_AT_MAX: usize = 1_000;

/// An agent that may be gone, with those of its instances whose time is used up. Probe it before anything is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The agent.
    pub agent: AgentId,
    /// The instances.
    pub instances: Vec<DueInstance>,
}

/// One instance whose lease is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueInstance {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Sequence of the last event about it when it fell due: what an `expire` names.
    pub observed_sequence: u64,
    /// Why it is due.
    pub cause: ExpiryCause,
    /// When it was heard last, what was charged since, and over which server; the replica adds itself and the probe.
    pub evidence: Evidence,
}

impl Leases {
    /// The next agent with leases that are used up, within the rate of expiries. It is not handed out again for
    /// [`HANDED_OUT_MS`] of lease clock; [`Self::retry`] shortens that; a heartbeat, a probe's answer ([`Self::vouched`]) or
    /// the removal of the instance ends it. `None`: nothing due, or the rate is used up for now, or so many were looked at in
    /// vain that the rest has to wait for the next call.
    pub fn next_due(&mut self, now_ms: u64, catalog: &Catalog) -> Option<Due> {
        let available = self.rate.available(now_ms, self.leases_count());
        let clock = self.clock.now();
        for _ in 0..LOOKED_AT_MAX {
            let Reverse((look_at, index)) = *self.schedule.peek()?;
            if look_at > clock || available == 0 {
                return None;
            }
            self.schedule.pop();
            let agent = self.agents.get(index as usize).and_then(Option::as_ref);
            if agent.is_none_or(|agent| agent.look_at != Some(look_at)) {
                // An entry out of date: another, sooner one has taken its place.
                continue;
            }
            let taken = self.take_due(now_ms, index, available);
            if let Some(due) = self.hand_out(index, &taken, catalog) {
                self.rate.spend(due.instances.len());
                return Some(due);
            }
        }
        None
    }

    /// Marks what is due of one agent as handed out, and settles when to look at it next.
    fn take_due(&mut self, now_ms: u64, index: u32, available: usize) -> Vec<(u32, ExpiryCause)> {
        let clock = self.clock.now();
        let reach =
            Reach { clock: &self.clock, servers: &self.servers, unreachable_limit_ms: self.unreachable_limit_ms };
        let mut taken = Vec::new();
        let mut look_at: Option<u64> = None;
        let mut is_left = false;
        let Some(agent) = self.agents.get_mut(index as usize).and_then(Option::as_mut) else {
            return taken;
        };
        for place in 0..agent.leases.len() {
            let lease_index = agent.leases[place];
            let Some(lease) = self.leases.get_mut(lease_index as usize).and_then(Option::as_mut) else {
                continue;
            };
            is_left |= reach.is_left(now_ms, agent, lease);
            let due = match reach.standing(now_ms, agent, lease) {
                Standing::Due(cause) if taken.len() < available => {
                    if !agent.is_suspect(lease) {
                        agent.suspects += 1;
                        self.suspects += 1;
                    }
                    lease.handed_out_at = clock;
                    lease.not_before = clock + HANDED_OUT_MS;
                    taken.push((lease_index, cause));
                    // Renewed right now, it would be due a TTL from now.
                    clock + HANDED_OUT_MS.min(lease.instance.registration.ttl_ms)
                }
                Standing::Due(_) => clock,
                Standing::Until(at) => at,
            };
            look_at = Some(look_at.map_or(due, |sooner| sooner.min(due)));
        }
        agent.look_at = look_at;
        self.schedule.extend(look_at.map(|look_at| Reverse((look_at, index))));
        if is_left {
            self.left.add(index);
        }
        taken
    }

    fn hand_out(&self, index: u32, taken: &[(u32, ExpiryCause)], catalog: &Catalog) -> Option<Due> {
        let agent = self.agents.get(index as usize)?.as_ref()?;
        let instances: Vec<DueInstance> = taken
            .iter()
            .filter_map(|(lease, cause)| {
                let lease = self.leases.get(*lease as usize)?.as_ref()?;
                let name = lease.instance.vouching();
                Some(DueInstance {
                    instance: Arc::clone(&lease.instance),
                    observed_sequence: catalog.last_sequence(&name.service, &name.instance)?,
                    cause: *cause,
                    evidence: self.evidence(agent, lease, *cause),
                })
            })
            .collect();
        let agent = agent.id.clone();
        (!instances.is_empty()).then_some(Due { agent, instances })
    }

    fn evidence(&self, agent: &Agent, lease: &Lease, cause: ExpiryCause) -> Evidence {
        let heard = agent.session(lease.instance.vouching().session).and_then(|session| session.heard);
        let clock = self.clock.now();
        let server = self.servers.limit(agent.server_by(&self.servers));
        let counted_to = server.map_or(clock, |server| server.heard_at.min(clock));
        let unheard_ms = clock.saturating_sub(server.map_or(clock, |server| server.unheard_from));
        Evidence {
            last_heartbeat_at: heard.map(|beat| beat.at),
            charged_ms: Some(counted_to.saturating_sub(agent.renewed_at(lease))),
            broker_reason: agent.broker_reason(),
            server: agent.server.and_then(|server| self.servers.name(server)).map(str::to_owned),
            detail: (cause == ExpiryCause::Unreachable).then(|| format!("nobody heard its server for {unheard_ms} ms")),
            ..Evidence::default()
        }
    }

    /// An agent answered a probe: what it lists lives. Returns what is held for it and not listed: after an announcement,
    /// that is disowned.
    pub fn vouched(&mut self, agent: &AgentId, reply: &ProbeReply) -> Vec<Arc<Instance>> {
        let clock = self.clock.now();
        let mut unlisted = Vec::new();
        let Some(index) = self.by_token.get(agent.token().as_str()).copied() else {
            return unlisted;
        };
        let Some(agent) = self.agents.get_mut(index as usize).and_then(Option::as_mut) else {
            return unlisted;
        };
        // Whoever answers is connected, whatever was said of an earlier connection.
        self.lingering -= usize::from(agent.disconnected.take().is_some());
        for lease_index in agent.leases.clone() {
            let Some(lease) = self.leases.get_mut(lease_index as usize).and_then(Option::as_mut) else {
                continue;
            };
            let name = lease.instance.vouching();
            // Of two processes under one agent id the earlier one may list it as it was before the later one registered it.
            let listed = reply.incarnations.get(&instance_key(&name.service, &name.instance));
            if listed.is_none_or(|(incarnation, _)| *incarnation < name.incarnation) {
                unlisted.push(Arc::clone(&lease.instance));
                continue;
            }
            if agent.is_suspect(lease) && agent.suspects > 0 {
                agent.suspects -= 1;
                self.suspects -= 1;
            }
            lease.since = clock;
        }
        unlisted
    }

    /// A decision about an agent came to nothing (a probe that could not be sent, a proposal that failed): it is made anew
    /// [`RETRY_MS`] of lease clock from now.
    pub fn retry(&mut self, agent: &AgentId) {
        let again_at = self.clock.now() + RETRY_MS;
        let Some(index) = self.by_token.get(agent.token().as_str()).copied() else {
            return;
        };
        let Some(agent) = self.agents.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let mut handed_out = false;
        for lease_index in &agent.leases {
            if let Some(lease) = self.leases.get_mut(*lease_index as usize).and_then(Option::as_mut)
                && agent.renewed_at(lease) < lease.handed_out_at
            {
                lease.not_before = lease.not_before.min(again_at);
                handed_out = true;
            }
        }
        if handed_out && agent.look_at.is_none_or(|look_at| again_at < look_at) {
            agent.look_at = Some(again_at);
            self.schedule.push(Reverse((again_at, index)));
        }
    }
}
