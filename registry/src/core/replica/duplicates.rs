//! Two living agents that claim the same instance: the larger incarnation has it, the other is told, and an operator should know.

use std::collections::BTreeMap;

use muster_schemas::agent::{Notice, NoticeCode};
use muster_schemas::alarm::AlarmKind;
use muster_schemas::{AgentId, InstanceId, ServiceName};

use super::Replica;
use crate::core::io::Effects;

/// Displaced agents that are waited for; one more is not, and its notice has to do.
pub(super) const DISPLACED_MAX: usize = 64;
/// A displaced agent that is not heard within this time does not live.
const LIVES_MS: u64 = 10_000;

/// Agents from which an instance was taken by another one, and which one that is: it proves nothing before they are heard.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    pub(super) displaced: BTreeMap<AgentId, Displaced>,
}

#[derive(Debug)]
pub(super) struct Displaced {
    since_ms: u64,
    service: ServiceName,
    instance: InstanceId,
}

impl Replica {
    /// Takes note of an agent that is about to be told that another one holds what it held.
    pub(super) fn note_displaced(&mut self, agent: &AgentId, notice: &Notice) {
        let (NoticeCode::Displaced, Some(service), Some(instance)) = (notice.code, &notice.service, &notice.instance)
        else {
            return;
        };
        let displaced = &mut self.duplicates.displaced;
        displaced.retain(|_, displaced| self.now_ms.saturating_sub(displaced.since_ms) < LIVES_MS);
        if displaced.len() < DISPLACED_MAX {
            let (service, instance) = (service.clone(), instance.clone());
            displaced.insert(agent.clone(), Displaced { since_ms: self.now_ms, service, instance });
        }
    }

    /// A heartbeat shows that its agent lives. One that comes from a new life under the same name holds the instance itself.
    pub(super) fn look_for_duplicates(&mut self, agent: &AgentId, effects: &mut Effects) {
        if self.duplicates.displaced.is_empty() {
            return;
        }
        let Some(Displaced { since_ms, service, instance }) = self.duplicates.displaced.remove(agent) else { return };
        let holder = self.catalog.instance(&service, &instance).map(|instance| instance.vouching().agent.clone());
        let Some(holder) = holder.filter(|holder| holder != agent) else { return };
        if self.now_ms.saturating_sub(since_ms) < LIVES_MS {
            let text = format!(
                "agents {agent} and {holder} both live and both registered {service}/{instance}, which {holder} now holds: \
                 give each its own instance id, or stop one"
            );
            self.complain(AlarmKind::DuplicateIds, text, effects);
        }
    }
}
