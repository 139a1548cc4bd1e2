//! Agents that are being asked whether they are there, and what their silence is worth.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_schemas::entry::Evidence;
use muster_schemas::event::ExpiryCause;
use muster_schemas::{AgentId, Incarnation, Instance, InstanceId, ServiceName};

use super::Timing;
use super::liveness::Liveness;
use crate::core::leases::{Due, DueInstance};

/// A server that was heard so shortly before an agent was asked was within reach then: enough for whoever asks once more as soon
/// as it hears that.
pub(super) const REACHED_BEFORE_MS: u64 = 50;
/// The same of one that was heard so shortly afterwards: enough for its answer to a question of the same moment.
const REACHED_AFTER_MS: u64 = 150;

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) agent: AgentId,
    pub(super) sent_ms: u64,
    /// The own mark sent last by then.
    pub(super) sent_mark: u64,
    /// The agent's server was within reach when it was asked.
    pub(super) within_reach: bool,
    /// Whose time is used up.
    pub(super) due: Vec<DueInstance>,
    /// All that was held for the agent when it was asked: only of that can its answer say that it is not its own.
    pub(super) held: BTreeMap<(ServiceName, InstanceId), (Incarnation, u64)>,
}

impl Probing {
    /// An instance that the answer leaves out, with the sequence that was observed before asking; none if it was not held
    /// then, or is another vouching by now.
    pub(super) fn was_held(&self, instance: Arc<Instance>) -> Option<DueInstance> {
        let key = (instance.service().clone(), instance.id().clone());
        let (incarnation, observed_sequence) = *self.held.get(&key)?;
        let evidence = Evidence::default();
        (incarnation == instance.vouching().incarnation).then_some(DueInstance {
            instance,
            observed_sequence,
            cause: ExpiryCause::Disowned,
            evidence,
        })
    }
}

/// An instance given up, with what that rests on.
#[derive(Debug)]
pub(super) struct Convinced {
    pub(super) instance: Arc<Instance>,
    pub(super) observed_sequence: u64,
    pub(super) cause: ExpiryCause,
    pub(super) evidence: Evidence,
    /// A heartbeat after this moment contradicts a silence.
    pub(super) asked_ms: u64,
    /// The own mark sent last by then.
    pub(super) asked_mark: u64,
    /// The agent's server was within reach when it was asked.
    pub(super) within_reach: bool,
    /// What was decided any longer ago is decided anew.
    pub(super) decided_ms: u64,
}

impl Liveness {
    /// Drops probes to which no answer came at all.
    pub(super) fn drop_lost_probes(&mut self, now_ms: u64, timing: &Timing) {
        let is_lost = |probing: &Probing| now_ms.saturating_sub(probing.sent_ms) > 3 * timing.probe_timeout_ms;
        while let Some(first) = self.probes.first_entry().filter(|first| is_lost(first.get())) {
            let agent = first.remove().agent;
            self.leases.retry(&agent);
        }
    }

    /// Whether an agent was asked at a moment or after it, and before another.
    pub(super) fn has_probed_between(&self, from_ms: u64, before_ms: u64) -> bool {
        let probing = self.probes.values().map(|probing| probing.sent_ms);
        let unconfirmed = self.unconfirmed.iter().map(|waiting| waiting.asked_ms);
        probing.chain(unconfirmed).any(|ms| (from_ms..before_ms).contains(&ms))
    }

    /// Notes whose broker server shows that it was within reach when they were asked.
    fn note_reach(&mut self, now_ms: u64) {
        let leases = &self.leases;
        for probing in self.probes.values_mut().filter(|probing| !probing.within_reach) {
            probing.within_reach = now_ms.saturating_sub(probing.sent_ms) <= REACHED_AFTER_MS
                && leases.server_heard_since(&probing.agent, probing.sent_ms, probing.sent_mark);
        }
        for waiting in self.unconfirmed.iter_mut().filter(|waiting| !waiting.within_reach) {
            let agent = &waiting.instance.vouching().agent;
            waiting.within_reach = now_ms.saturating_sub(waiting.asked_ms) <= REACHED_AFTER_MS
                && leases.server_heard_since(agent, waiting.asked_ms, waiting.asked_mark);
        }
    }

    /// Believes the silence of those whose broker server was heard after they were asked. If it was out of reach then, perhaps
    /// behind a cut that has healed since, they are asked once more, and only once: now it is there. What has waited for its word in vain is
    /// decided anew.
    pub(super) fn confirm(&mut self, now_ms: u64, timing: &Timing) {
        self.note_reach(now_ms);
        for mut waiting in std::mem::take(&mut self.unconfirmed) {
            let agent = &waiting.instance.vouching().agent;
            let is_heard = self.leases.server_heard_since(agent, waiting.asked_ms, waiting.asked_mark);
            if is_heard && !waiting.within_reach {
                self.ask_once_more(waiting);
            } else if is_heard {
                waiting.decided_ms = now_ms;
                self.convinced.push(waiting);
            } else if now_ms.saturating_sub(waiting.asked_ms) > timing.probe_timeout_ms + timing.server_word_ms {
                self.leases.retry(agent);
            } else {
                self.unconfirmed.push(waiting);
            }
        }
    }

    /// Of one agent all that was asked together is asked together again.
    fn ask_once_more(&mut self, waiting: Convinced) {
        let Convinced { instance, observed_sequence, cause, evidence, asked_ms, .. } = waiting;
        let agent = instance.vouching().agent.clone();
        let instance = DueInstance { instance, observed_sequence, cause, evidence };
        match self.again.back_mut().filter(|(since_ms, due)| *since_ms == asked_ms && due.agent == agent) {
            Some((_, due)) => due.instances.push(instance),
            None => self.again.push_back((asked_ms, Due { agent, instances: vec![instance] })),
        }
    }
}
