//! What the broker says of agents' connections: one that was closed begins the linger of what was vouched for over it.

use std::cmp::Reverse;

use muster_schemas::AgentId;

use super::Leases;
use super::agent::{Agent, Disconnected};

/// Lingers whose end is waited for with a mark of its own; the end of further ones is noticed with the next ordinary mark.
pub(super) const LINGERS_MAX: usize = 10_000;

impl Leases {
    /// The broker says that a connection was closed or broke. Returns the agents whose heartbeats came over it; a connection
    /// that nobody was heard over, or that was replaced by a newer one, means nothing.
    pub fn disconnected(
        &mut self,
        now_ms: u64,
        (server, server_id, client_id): (&str, &str, u64),
        reason: &str,
    ) -> Vec<AgentId> {
        let clock = self.clock.at(now_ms);
        self.servers.hear_name(now_ms, clock, (server, server_id));
        let Some(agents) = self.by_connection.get(&(server_id.into(), client_id)).cloned() else {
            return Vec::new();
        };
        agents.into_iter().filter_map(|index| self.begin_linger(index, clock, reason)).collect()
    }

    fn begin_linger(&mut self, index: u32, clock: u64, reason: &str) -> Option<AgentId> {
        let agent = self.agents.get_mut(index as usize)?.as_mut()?;
        let session = agent.heard_session.filter(|_| agent.disconnected.is_none())?;
        self.lingering += 1;
        agent.disconnected = Some(Disconnected { session, at: clock, reason: reason.into() });
        let id = agent.id.clone();
        let leases = agent.leases.clone();
        let concerned = |lease: &u32| {
            let lease = self.leases.get(*lease as usize)?.as_ref()?;
            (lease.instance.vouching().session == session).then_some(lease.instance.registration.linger_ms)
        };
        let mut lingers: Vec<u64> = leases.iter().filter_map(concerned).collect();
        lingers.sort_unstable();
        lingers.dedup();
        let room = LINGERS_MAX.saturating_sub(self.lingers.len());
        self.lingers.extend(lingers.into_iter().take(room).map(|linger_ms| Reverse(clock + linger_ms)));
        for lease in leases {
            self.look_again(lease, index);
        }
        Some(id)
    }

    /// Whether the broker said of any agent that its connection is gone, and nothing was heard of it since.
    #[must_use]
    pub fn any_lingering(&self) -> bool {
        self.lingering > 0
    }

    /// Whether a linger is over, but for the mark that would show it. Asked for once for each.
    pub fn wants_mark(&mut self, now_ms: u64) -> bool {
        let clock = self.clock.at(now_ms);
        let mut wanted = false;
        while self.lingers.peek().is_some_and(|Reverse(end)| *end <= clock) {
            self.lingers.pop();
            wanted = true;
        }
        wanted
    }

    /// An agent's heartbeat came over this connection. A newer one than before ends the linger.
    pub(super) fn heard_over(&mut self, index: u32, server_id: &str, client_id: u64) {
        let Some(agent) = self.agents.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if agent.connection.as_ref().is_some_and(|(id, client)| **id == *server_id && *client == client_id) {
            return;
        }
        self.lingering -= usize::from(agent.disconnected.take().is_some());
        let connection = (Box::<str>::from(server_id), client_id);
        let before = agent.connection.replace(connection.clone());
        self.forget_connection(before, index);
        self.by_connection.entry(connection).or_default().push(index);
    }

    /// An agent is heard over this connection no longer.
    pub(super) fn forget_connection(&mut self, connection: Option<(Box<str>, u64)>, index: u32) {
        let Some(connection) = connection else { return };
        if let Some(agents) = self.by_connection.get_mut(&connection) {
            agents.retain(|agent| *agent != index);
            if agents.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }
}

impl Agent {
    /// What the broker said of the connection, for people.
    pub(super) fn broker_reason(&self) -> Option<String> {
        self.disconnected.as_ref().map(|broke| broke.reason.to_string())
    }
}
