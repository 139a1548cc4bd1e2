//! How a lease stands: until when it may be silent, and whether that time is used up.

use muster_schemas::event::ExpiryCause;

use super::agent::{Agent, Lease};
use super::clock::LeaseClock;
use super::servers::{SERVER_UNREACHABLE_MS, Servers};

/// However often a silence's charge begins again, it ends after so many TTLs in all.
const TTLS_IN_ALL_MAX: u64 = 3;

/// A lease that would be due if its server were heard is looked at again after so much lease clock, in milliseconds.
const UNHEARD_AGAIN_MS: u64 = 200;

/// The same, if the server is unreachable.
const UNREACHABLE_AGAIN_MS: u64 = 1_000;

/// All that decides how a lease stands, besides itself and its agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) clock: &'a LeaseClock,
    pub(super) servers: &'a Servers,
    /// How long an unreachable server keeps what its agents vouch for.
    pub(super) unreachable_limit_ms: u64,
}

/// How a lease stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its time is used up.
    Due(ExpiryCause),
    /// To be looked at again when the lease clock shows this.
    Until(u64),
}

impl Reach<'_> {
    /// When a silence is used up, on the lease clock: a TTL after the renewal or the last restart of the charge, but no later
    /// than three TTLs after the renewal.
    fn silent_at(&self, agent: &Agent, lease: &Lease) -> u64 {
        let ttl_ms = lease.instance.registration.ttl_ms;
        let renewed_at = agent.renewed_at(lease);
        let server = self.servers.limit(agent.server_by(self.servers));
        let restarted_at = self.clock.restarted_at().max(server.map_or(0, |server| server.restarted_at));
        let uncharged_ms = server.map_or(0, |server| server.unreachable_ms.saturating_sub(agent.unreachable_before_ms));
        let in_one_go = renewed_at.max(restarted_at) + ttl_ms;
        let in_all = renewed_at + TTLS_IN_ALL_MAX * ttl_ms + uncharged_ms;
        in_one_go.min(in_all)
    }

    /// When the linger after a broken connection is over, if the broker told of one.
    fn lingers_to(&self, agent: &Agent, lease: &Lease) -> Option<u64> {
        let broke = agent.disconnected.as_ref()?;
        let is_concerned = lease.instance.vouching().session == broke.session;
        let from = broke.at.max(self.clock.restarted_at());
        is_concerned.then(|| from + lease.instance.registration.linger_ms)
    }

    /// When to look at a lease, on the lease clock: no later than it falls due.
    pub(super) fn due_at(&self, agent: &Agent, lease: &Lease) -> u64 {
        let silent_at = self.silent_at(agent, lease);
        let due = self.lingers_to(agent, lease).map_or(silent_at, |lingers_to| lingers_to.min(silent_at));
        if agent.is_suspect(lease) { due.max(lease.not_before) } else { due }
    }

    /// How a lease stands. Silence counts only up to the moment when the agent's server was heard.
    pub(super) fn standing(&self, now_ms: u64, agent: &Agent, lease: &Lease) -> Standing {
        let clock = self.clock.now();
        let due_at = self.due_at(agent, lease);
        if due_at > clock {
            return Standing::Until(due_at);
        }
        let silent_at = self.silent_at(agent, lease);
        let server = self.servers.limit(agent.server_by(self.servers));
        let heard_at = server.map_or(clock, |server| server.heard_at);
        let limit_at = server.map_or(clock, |server| server.unheard_from) + self.unreachable_limit_ms;
        // Before all else: a silence, or a linger, that was over while the server was still heard is believed only when the
        // server is heard once more, and that may never be.
        if limit_at <= clock && !server.is_some_and(|server| server.is_heard_elsewhere(now_ms)) {
            return Standing::Due(ExpiryCause::Unreachable);
        }
        if silent_at <= server.map_or(clock, |server| server.heard_at.min(clock)) {
            return Standing::Due(ExpiryCause::Silent);
        }
        if self.lingers_to(agent, lease).is_some_and(|lingers_to| lingers_to <= clock) {
            return Standing::Due(ExpiryCause::Disconnected);
        }
        if clock.saturating_sub(heard_at) < SERVER_UNREACHABLE_MS {
            return Standing::Until(clock + UNHEARD_AGAIN_MS);
        }
        if server.is_some_and(|server| server.is_heard_elsewhere(now_ms)) {
            return Standing::Until(clock + UNREACHABLE_AGAIN_MS);
        }
        Standing::Until(limit_at.min(clock + UNREACHABLE_AGAIN_MS))
    }

    /// Whether it is left to another replica: its time is used up, and only that one hears its server.
    pub(super) fn is_left(&self, now_ms: u64, agent: &Agent, lease: &Lease) -> bool {
        let clock = self.clock.now();
        let is_silent = |heard_at: u64| clock.saturating_sub(heard_at) >= SERVER_UNREACHABLE_MS;
        let server = self.servers.limit(agent.server_by(self.servers));
        self.due_at(agent, lease) <= clock
            && server.is_some_and(|server| is_silent(server.heard_at) && server.is_heard_elsewhere(now_ms))
    }
}
