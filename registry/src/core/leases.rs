//! Leases: who was heard when, and for how long silence has meant something. Each replica has its own; nothing of it enters
//! the catalog. Leases outlive a change of epoch.
//!
//! Time is an argument (`now_ms`, monotonic). What is charged against a lease is not time but the *lease clock*, which runs
//! only while the replica's own marks come through beside the heartbeats. A lease remembers what the clock showed when it
//! was renewed last, so a heartbeat costs one look-up and one write, and a break in the marks costs one write for all.
//!
//! Bounds: one lease per leased instance of the catalog; one entry per agent with leases or heard within
//! [`AGENT_KEPT_MS`], at most [`STRANGERS_MAX`] of them without leases; heap entries as many as agents, and one more for each
//! lease that fell due sooner than its agent's others. A heartbeat allocates nothing once its agent is known.

mod agent;
mod clock;
mod disconnects;
mod due;
mod expiry_rate;
mod hear;
mod holdings;
mod left;
mod servers;
mod standing;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;

// The standard library's tables hold their keys; this one finds them where they are already.
use hashbrown::HashTable;
use muster_schemas::query::ServerState;
use muster_schemas::{AgentId, ReplicaId, Subjects};

use agent::{Agent, Lease};
use clock::LeaseClock;
use expiry_rate::ExpiryRate;
use left::Left;
use servers::Servers;

pub use agent::AgentView;
pub use clock::{MARK_GAP_MS_MAX, MARK_LATE_MS_MAX};
pub use due::{Due, DueInstance, HANDED_OUT_MS, RETRY_MS};
pub use hear::{Beat, Heard, Unheard, Verdict};
pub use servers::{SERVER_SILENT_MS, SERVER_UNREACHABLE_MS};

/// An agent without leases is forgotten this long after it was heard last, in milliseconds.
pub const AGENT_KEPT_MS: u64 = 60_000;

/// What an unreachable server's agents vouch for is kept so long, in milliseconds of lease clock, unless told otherwise.
pub const UNREACHABLE_LIMIT_MS: u64 = 60_000;

/// Agents without leases, in number; heartbeats of further ones are not taken in until there is room.
pub const STRANGERS_MAX: usize = 100_000;

/// The hasher is fixed, so that a replayed history takes the same course; nothing depends on the order of a map.
type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Who was heard when.
#[derive(Debug)]
pub struct Leases {
    subjects: Subjects,
    own_token: Box<str>,
    clock: LeaseClock,
    /// Agents by number; numbers of forgotten ones are used again.
    agents: Vec<Option<Agent>>,
    free: Vec<u32>,
    by_token: Map<Box<str>, u32>,
    strangers: usize,
    swept: usize,
    leases: Vec<Option<Lease>>,
    free_leases: Vec<u32>,
    /// Leases by the names that they hold.
    by_name: HashTable<u32>,
    /// Agents by the connection that their heartbeats come over; nearly always one.
    by_connection: Map<(Box<str>, u64), Vec<u32>>,
    /// When lingers end, on the lease clock.
    lingers: BinaryHeap<Reverse<u64>>,
    /// Agents whose connection is gone, as far as is known.
    lingering: usize,
    /// When to look at an agent next: (lease clock, agent). An entry that is not its agent's `look_at` is out of date.
    schedule: BinaryHeap<Reverse<(u64, u32)>>,
    rate: ExpiryRate,
    suspects: u64,
    servers: Servers,
    left: Left,
    unreachable_limit_ms: u64,
}

/// A broker server that agents are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it can be heard.
    pub state: ServerState,
    /// When it was heard last, on the monotonic clock.
    pub heard_ms: Option<u64>,
    /// Agents that named it last.
    pub agents: u32,
    /// Leases of these agents.
    pub leases: u64,
}

impl Leases {
    /// No leases, nobody heard.
    #[must_use]
    pub fn new(subjects: Subjects, replica: &ReplicaId) -> Self {
        Self {
            subjects,
            own_token: replica.token().into(),
            clock: LeaseClock::default(),
            agents: Vec::new(),
            free: Vec::new(),
            by_token: Map::default(),
            strangers: 0,
            swept: 0,
            leases: Vec::new(),
            free_leases: Vec::new(),
            by_name: HashTable::new(),
            by_connection: Map::default(),
            lingers: BinaryHeap::new(),
            lingering: 0,
            schedule: BinaryHeap::new(),
            rate: ExpiryRate::default(),
            suspects: 0,
            servers: Servers::default(),
            left: Left::default(),
            unreachable_limit_ms: UNREACHABLE_LIMIT_MS,
        }
    }

    /// Heartbeats may have been lost, or the listening began anew: every present silence counts from zero again.
    pub fn gap(&mut self) {
        self.clock.restart();
    }

    /// The lease clock, in milliseconds: all that was ever charged.
    #[must_use]
    pub fn charged_total_ms(&self) -> u64 {
        self.clock.now()
    }

    /// How long nothing could be charged, in milliseconds: since the last charge, or since `since_ms` if there was none.
    #[must_use]
    pub fn uncharged_ms(&self, now_ms: u64, since_ms: u64) -> u64 {
        now_ms.saturating_sub(self.clock.charged_last_ms().unwrap_or(since_ms))
    }

    /// How many leases there are: the fleet that the rate of expiries is a share of.
    #[must_use]
    pub fn leases_count(&self) -> usize {
        self.by_name.len()
    }

    /// Leases that were handed out as due and have neither been renewed nor ended since. A fifth of the fleet is an alarm.
    #[must_use]
    pub fn suspects(&self) -> u64 {
        self.suspects
    }

    /// How many agents were heard in the last `within_ms` milliseconds. Looks at every agent: for status, not for ticks.
    #[must_use]
    pub fn agents_heard(&self, now_ms: u64, within_ms: u64) -> usize {
        let heard = |agent: &&Agent| agent.heard_ms.is_some_and(|at| now_ms.saturating_sub(at) <= within_ms);
        self.agents.iter().flatten().filter(heard).count()
    }

    /// How long an unreachable server keeps what its agents vouch for, in milliseconds of lease clock.
    pub fn keep_unreachable_for(&mut self, limit_ms: u64) {
        self.unreachable_limit_ms = limit_ms;
    }

    /// Which broker servers this replica's connections are on, and whether there may be others: until told otherwise there is
    /// one broker, and a processed mark is enough to have heard it.
    pub fn connected_to(&mut self, own: &[&str], is_cluster: bool) {
        self.servers.connected_to(own, is_cluster);
    }

    /// A broker server answered: its name, and the id of its present life.
    pub fn server_answered(&mut self, now_ms: u64, name: &str, id: &str) {
        self.servers.hear_name(now_ms, self.clock.at(now_ms), (name, id));
    }

    /// These broker servers hold the log: any of them may be the one of an agent that was not heard yet.
    pub fn servers_hold_log(&mut self, now_ms: u64, names: &[String]) {
        self.servers.hold_log(self.clock.at(now_ms), names);
    }

    /// Another replica says that it hears these broker servers.
    pub fn heard_elsewhere(&mut self, now_ms: u64, names: &[String]) {
        self.servers.heard_elsewhere(now_ms, self.clock.now(), names);
    }

    /// In a cluster this replica may be on the wrong side of a cut: that it does not hear a server now does not count towards
    /// the limit for those that are unreachable, and agents may go to other servers unnoticed.
    pub fn astray(&mut self, now_ms: u64) {
        self.servers.astray(now_ms, self.clock.now());
    }

    /// Whether a broker server that agents are on has been silent for so long that it should be asked.
    #[must_use]
    pub fn any_server_silent(&self, now_ms: u64) -> bool {
        self.servers.any_silent(now_ms)
    }

    /// Whether an agent's broker server was heard after a moment, given as a time and as the own mark that was sent last by
    /// then. One that is not known counts as heard with the next mark.
    #[must_use]
    pub fn server_heard_since(&self, agent: &AgentId, ms: u64, mark: u64) -> bool {
        let view = self.agent(agent);
        self.servers.heard_since(view.and_then(|view| view.agent.server_by(&self.servers)), ms, mark)
    }

    /// Whether an agent's broker server was heard within so many milliseconds before now. On a single broker a mark is enough
    /// afterwards.
    #[must_use]
    pub fn server_heard_within(&self, agent: &AgentId, now_ms: u64, within_ms: u64) -> bool {
        let view = self.agent(agent);
        self.servers.heard_within(view.and_then(|view| view.agent.server_by(&self.servers)), now_ms, within_ms)
    }

    /// Names of the broker servers that were heard in the last two seconds, in order.
    #[must_use]
    pub fn servers_heard(&self, now_ms: u64) -> Vec<String> {
        self.servers.heard(now_ms)
    }

    /// The broker servers that agents are on. Looks at every agent: for status, not for ticks.
    #[must_use]
    pub fn servers(&self, now_ms: u64) -> Vec<ServerView<'_>> {
        let mut leases: Map<u32, u64> = Map::default();
        for agent in self.agents.iter().flatten() {
            if let Some(server) = agent.server {
                *leases.entry(server).or_default() += u64::try_from(agent.leases.len()).unwrap_or(u64::MAX);
            }
        }
        let clock = self.clock.now();
        let view = |(index, name, heard_ms, agents)| ServerView {
            name,
            state: self.servers.state(index, now_ms, clock),
            heard_ms,
            agents,
            leases: leases.get(&index).copied().unwrap_or(0),
        };
        let mut servers: Vec<_> = self.servers.in_use().map(view).collect();
        servers.sort_unstable_by_key(|server| server.name);
        servers
    }

    /// Whether there may be other broker servers than those that this replica is connected to.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.servers.is_cluster()
    }

    /// What is known of an agent.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> Option<AgentView<'_>> {
        let index = *self.by_token.get(agent.token().as_str())?;
        let agent = self.agents.get(index as usize)?.as_ref()?;
        Some(AgentView { leases: self, agent })
    }
}
