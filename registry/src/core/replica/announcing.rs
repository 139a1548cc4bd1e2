//! Agents whose word differs from what is held for them: they are asked to announce themselves, at one pace for all.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use muster_schemas::agent::AnnounceRequest;
use muster_schemas::{AgentId, Digest};

use super::{Replica, Timing};
use crate::core::io::{Effect, Effects};

/// Agents in doubt at once; further ones wait for their next heartbeat.
const DOUBTS_MAX: usize = 100_000;
/// A doubt of which nothing was heard for this long is dropped.
const FORGET_MS: u64 = 3_600_000;
/// Requests without an answer that are remembered; an answer to an older one is ignored.
const REQUESTS_MAX: usize = 10_000;
/// The longest time between two requests for the same digest.
const AGAIN_MS_MAX: u64 = 3_600_000;

/// Agents in doubt, and those of them to be asked next.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    doubts: BTreeMap<AgentId, Doubt>,
    queue: VecDeque<AgentId>,
    next_ms: u64,
    last_request: u64,
    requests: BTreeMap<u64, AgentId>,
    /// Agents that announced themselves and differ still; at most one entry each.
    to_probe: VecDeque<AgentId>,
}

#[derive(Debug)]
struct Doubt {
    /// What the agent claims to vouch for; none if only its answer to a probe is in doubt.
    claimed: Option<Digest>,
    touched_ms: u64,
    queued: bool,
    asked_ms: Option<u64>,
    /// How long it is not asked again about the same.
    again_ms: u64,
    announced_ms: Option<u64>,
    /// Stands in the queue to be probed: something that is held for it may not be its own.
    probe_queued: bool,
}

impl Announcing {
    /// An agent's digest is what is held for it.
    pub(super) fn agrees(&mut self, agent: &AgentId) {
        if !self.doubts.is_empty() && self.doubts.get(agent).is_some_and(|doubt| doubt.claimed.is_some()) {
            self.doubts.remove(agent);
        }
    }

    /// An agent's digest differs from what is held for it, and that proves something.
    pub(super) fn differs(&mut self, now_ms: u64, agent: &AgentId, claimed: Digest, timing: &Timing) {
        let has_announced = self.has_announced(now_ms, agent, timing);
        let Some(doubt) = self.doubt(now_ms, agent, timing) else {
            return;
        };
        if doubt.claimed != Some(claimed) {
            doubt.claimed = Some(claimed);
            doubt.again_ms = timing.announce_again_ms;
            if doubt.announced_ms.is_none() {
                doubt.asked_ms = None;
            }
        }
        if has_announced && !std::mem::replace(&mut doubt.probe_queued, true) {
            self.to_probe.push_back(agent.clone());
        }
        self.ask_again(now_ms, agent, timing);
    }

    /// An agent's answer to a probe leaves out what is held for it.
    pub(super) fn unlisted(&mut self, now_ms: u64, agent: &AgentId, timing: &Timing) {
        if self.doubt(now_ms, agent, timing).is_some() {
            self.ask_again(now_ms, agent, timing);
        }
    }

    fn doubt(&mut self, now_ms: u64, agent: &AgentId, timing: &Timing) -> Option<&mut Doubt> {
        if !self.doubts.contains_key(agent) {
            if self.doubts.len() >= DOUBTS_MAX {
                self.doubts.retain(|_, doubt| now_ms.saturating_sub(doubt.touched_ms) < FORGET_MS);
            }
            if self.doubts.len() >= DOUBTS_MAX {
                return None;
            }
            let doubt = Doubt {
                claimed: None,
                touched_ms: now_ms,
                queued: false,
                asked_ms: None,
                again_ms: timing.announce_again_ms,
                announced_ms: None,
                probe_queued: false,
            };
            self.doubts.insert(agent.clone(), doubt);
        }
        let doubt = self.doubts.get_mut(agent)?;
        doubt.touched_ms = now_ms;
        Some(doubt)
    }

    /// Queues an agent, unless it was asked about the same not long ago.
    fn ask_again(&mut self, now_ms: u64, agent: &AgentId, timing: &Timing) {
        let Some(doubt) = self.doubts.get_mut(agent).filter(|doubt| !doubt.queued) else {
            return;
        };
        if let Some(asked_ms) = doubt.asked_ms {
            if now_ms.saturating_sub(asked_ms) < doubt.again_ms {
                return;
            }
            doubt.again_ms = (doubt.again_ms * 2).clamp(timing.announce_again_ms, AGAIN_MS_MAX);
        }
        doubt.queued = true;
        self.queue.push_back(agent.clone());
    }

    /// The next agent to ask, when its turn has come.
    fn next_to_ask(&mut self, now_ms: u64, timing: &Timing) -> Option<(u64, AgentId)> {
        while now_ms >= self.next_ms {
            let agent = self.queue.pop_front()?;
            // Whoever agrees by now is no longer in doubt.
            if let Some(doubt) = self.doubts.get_mut(&agent) {
                doubt.queued = false;
                doubt.asked_ms = Some(now_ms);
                doubt.announced_ms = None;
                let period_ms = 1_000 / u64::from(timing.announce_per_second.max(1));
                // What a slow tick left over is made good, but no more than a few.
                self.next_ms = (self.next_ms + period_ms).max(now_ms.saturating_sub(4 * timing.tick_ms));
                self.last_request += 1;
                self.requests.insert(self.last_request, agent.clone());
                if self.requests.len() > REQUESTS_MAX {
                    self.requests.pop_first();
                }
                return Some((self.last_request, agent));
            }
        }
        None
    }

    /// An agent answered the request, or did not.
    pub(super) fn announced(&mut self, now_ms: u64, request: u64, instances: Option<u32>) {
        let agent = self.requests.remove(&request);
        if let Some(doubt) = agent.and_then(|agent| self.doubts.get_mut(&agent)) {
            doubt.announced_ms = instances.map(|_| now_ms);
        }
    }

    /// Whether an agent was asked, has answered, and has had the time to register what it vouches for.
    pub(super) fn has_announced(&self, now_ms: u64, agent: &AgentId, timing: &Timing) -> bool {
        let announced_ms = self.doubts.get(agent).and_then(|doubt| doubt.announced_ms);
        announced_ms.is_some_and(|ms| now_ms.saturating_sub(ms) >= timing.announced_settle_ms)
    }

    /// The next agent that announced itself and differs still.
    pub(super) fn next_to_probe(&mut self) -> Option<AgentId> {
        while let Some(agent) = self.to_probe.pop_front() {
            // Whoever agrees by now is no longer in doubt.
            if let Some(doubt) = self.doubts.get_mut(&agent) {
                doubt.probe_queued = false;
                return Some(agent);
            }
        }
        None
    }

    /// Forgets what was begun: another replica asks from now on. What an answer to a probe of this replica left out is its own
    /// to clear up: the others may have no reason to probe that agent, and it may have nothing left to send heartbeats for.
    pub(super) fn stand_back(&mut self) {
        self.doubts.retain(|_, doubt| doubt.claimed.is_none());
        self.queue.retain(|agent| self.doubts.contains_key(agent));
        self.requests.retain(|_, agent| self.doubts.contains_key(agent));
        self.to_probe.clear();
    }
}

impl Replica {
    /// Whether this replica is the one that asks agents whose heartbeats differ: as long as an older one is behind, it cannot.
    pub(super) fn asks_agents(&self) -> bool {
        self.is_first_to_propose() && self.may_ask_agents()
    }

    /// Whether this replica knows that it is at the log's end.
    fn may_ask_agents(&self) -> bool {
        let recent = |age_ms: u64| age_ms <= self.settings.timing.pulse_head_age_ms_max;
        self.decides()
            && self.publish_connected
            && self.proposing_delay_ms().is_some()
            && self.head_age_ms().is_some_and(recent)
    }

    /// Asks whoever is in doubt, at the pace of all.
    pub(super) fn ask_to_announce(&mut self, effects: &mut Effects) {
        if !self.is_first_to_propose() {
            self.liveness.announcing.stand_back();
        }
        if !self.may_ask_agents() {
            return;
        }
        while let Some((request, agent)) = self.liveness.announcing.next_to_ask(self.now_ms, &self.settings.timing) {
            let body = AnnounceRequest {
                reason: "what you vouch for differs from what is registered".to_owned(),
                epoch: self.catalog.epoch(),
            };
            self.counters.announces += 1;
            // Serialising plain data with string keys into memory cannot fail.
            let payload = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
            effects.push(Effect::Announce { request, agent, payload });
        }
    }
}

#[cfg(test)]
mod tests;
