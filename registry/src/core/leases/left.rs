//! Agents whose silence is left to whoever hears their broker server.
//!
//! Replicas that heard different heartbeats last take an agent to be on different servers, and each of these may be heard by
//! another of them: then each leaves the agent to another, for ever. So whoever leaves an agent says where it was heard last,
//! and whoever heard an earlier heartbeat last believes that. In the end all take it to be on one server; who hears that one
//! leaves it to nobody.

use std::collections::BTreeSet;

use muster_schemas::beacon::LeftAgent;

use super::Leases;
use super::agent::Agent;

/// Agents that a beacon names, in number: it has to remain small.
pub(super) const NAMED_MAX: usize = 8;

/// Agents that wait to be named, in number: those whose turn comes soonest. Further ones come again a second later.
pub(super) const WAITING_MAX: usize = 256;

/// Agents that are to be named. They have their turns in the order of their indices, round and round: however many there are,
/// each comes again only after all the others.
#[derive(Debug, Default)]
pub(super) struct Left {
    agents: BTreeSet<u32>,
    /// Where the next turn begins.
    next: u32,
}

impl Left {
    pub(super) fn add(&mut self, agent: u32) {
        self.agents.insert(agent);
        if self.agents.len() > WAITING_MAX {
            let last = self.agents.range(..self.next).next_back().or(self.agents.last()).copied();
            last.map(|last| self.agents.remove(&last));
        }
    }

    fn take(&mut self) -> Vec<u32> {
        let in_turn = self.agents.range(self.next..).chain(self.agents.range(..self.next));
        let taken: Vec<u32> = in_turn.take(NAMED_MAX).copied().collect();
        for agent in &taken {
            self.agents.remove(agent);
            self.next = agent.saturating_add(1);
        }
        taken
    }
}

impl Leases {
    /// Some of the agents that this replica leaves to others, to be named in its next beacon.
    pub fn take_left(&mut self) -> Vec<LeftAgent> {
        let taken = self.left.take();
        taken.into_iter().filter_map(|index| self.left_agent(index)).collect()
    }

    /// How many wait to be named.
    #[cfg(test)]
    pub(super) fn left_waiting(&self) -> usize {
        self.left.agents.len()
    }

    fn left_agent(&self, index: u32) -> Option<LeftAgent> {
        let agent = self.agents.get(index as usize)?.as_ref()?;
        let (session, counter) = agent.server_named_by?;
        let server = self.servers.name(agent.server?)?.to_owned();
        Some(LeftAgent { agent: agent.id.clone(), session, counter, server })
    }

    /// Another replica leaves these, and says where it heard them last.
    pub fn left_by_other(&mut self, now_ms: u64, left: &[LeftAgent]) {
        let clock = self.clock.now();
        for left in left {
            let index = self.by_token.get(left.agent.token().as_str());
            let agent = index.and_then(|index| self.agents.get_mut(*index as usize)?.as_mut());
            let Some(agent) = agent.filter(|agent| agent.was_heard_later(left)) else {
                continue;
            };
            agent.server = self.servers.named(clock, &left.server, agent.server);
            agent.unreachable_before_ms = self.servers.limit(agent.server).map_or(0, |limit| limit.unreachable_ms);
            agent.server_named_ms = now_ms;
            agent.server_named_by = Some((left.session, left.counter));
        }
    }
}

impl Agent {
    /// Whether another replica heard a later heartbeat. One that was not heard at all may be on any server here, and is left to
    /// nobody. Of two lives the one counts in which something is registered: a clock that was set back makes the later one
    /// smaller.
    fn was_heard_later(&self, left: &LeftAgent) -> bool {
        let holds_leases = |session| self.session(session).is_some_and(|session| session.leases > 0);
        match self.server_named_by {
            None => false,
            Some((session, counter)) if session == left.session => left.counter > counter,
            Some((session, _)) => holds_leases(left.session) && (!holds_leases(session) || left.session > session),
        }
    }
}
