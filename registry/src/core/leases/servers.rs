//! Broker servers, known by the names that heartbeats give them: up to when each was heard, and by whom.
//!
//! In a cluster a silence means something only as long as the agent's server is heard. On a single broker a processed mark is
//! enough: whatever could reach this replica came the same way.

use muster_schemas::query::ServerState;

/// A server that was not heard for so long is asked whether it is there, and no longer named in beacons, in milliseconds.
pub const SERVER_SILENT_MS: u64 = 2_000;

/// Silent for so much lease clock it is unreachable: it was asked a second ago at the latest, and has not answered.
pub const SERVER_UNREACHABLE_MS: u64 = 3_000;

/// After a server began anew its clients wait between their attempts to reach it: they are back after so much lease clock,
/// in milliseconds. Before, their silence means nothing.
const RETURN_MS: u64 = 4_000;

/// Another replica's word that it hears a server holds for so long, in milliseconds: beacons are as old as that at most.
const ELSEWHERE_MS: u64 = 600;

/// Servers remembered, in number; a further one takes the place of one that no agent is on, if there is any.
const SERVERS_MAX: usize = 256;

/// What is known of one server.
#[derive(Debug)]
pub(super) struct Server {
    name: Box<str>,
    /// The life of it that was heard last; empty before any was.
    id: Box<str>,
    heard_ms: Option<u64>,
    /// What the lease clock showed when it was heard first.
    known_at: u64,
    /// What the lease clock showed then: silence counts up to there.
    heard_at: u64,
    /// The last own mark that was heard over it.
    heard_mark: u64,
    /// The lease clock from which on its agents' silence is charged anew: since it was heard again after having been
    /// unreachable, or since its clients should be back after it began anew.
    restarted_at: u64,
    /// Lease clock in all that passed while it was unreachable.
    unreachable_ms: u64,
    /// When another replica last said that it hears it.
    elsewhere_ms: Option<u64>,
    /// What the lease clock showed then.
    elsewhere_at: u64,
    /// Agents that named it last.
    agents: u32,
}

impl Server {
    fn new(name: &str, clock: u64) -> Self {
        Self {
            name: name.into(),
            id: Box::from(""),
            heard_ms: None,
            known_at: clock,
            heard_at: clock,
            heard_mark: 0,
            restarted_at: 0,
            unreachable_ms: 0,
            elsewhere_ms: None,
            elsewhere_at: 0,
            agents: 0,
        }
    }

    fn hear(&mut self, now_ms: u64, clock: u64, id: Option<&str>) {
        let silent_ms = clock.saturating_sub(self.heard_at);
        let id = id.filter(|id| **id != *self.id);
        let began_anew = id.is_some() && !self.id.is_empty();
        if let Some(id) = id {
            self.id = id.into();
        }
        if began_anew {
            self.restarted_at = clock + RETURN_MS;
            self.unreachable_ms += silent_ms + RETURN_MS;
        } else if silent_ms >= SERVER_UNREACHABLE_MS {
            self.restarted_at = self.restarted_at.max(clock);
            self.unreachable_ms += silent_ms;
        }
        if self.heard_ms.is_none() {
            self.known_at = clock;
        }
        self.heard_ms = Some(now_ms);
        self.heard_at = self.heard_at.max(clock);
    }

    fn is_silent(&self, now_ms: u64) -> bool {
        self.heard_ms.is_none_or(|heard_ms| now_ms.saturating_sub(heard_ms) >= SERVER_SILENT_MS)
    }

    fn is_heard_elsewhere(&self, now_ms: u64) -> bool {
        Limit::of(self).is_heard_elsewhere(now_ms)
    }
}

/// How far an agent's silence counts, by its server; of an agent that has named none, by all that may be its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// On the lease clock: silence counts up to there.
    pub(super) heard_at: u64,
    /// On the lease clock: since then nobody has heard it, and whoever is on it is kept for the limit.
    pub(super) unheard_from: u64,
    /// On the lease clock: the charge began anew then.
    pub(super) restarted_at: u64,
    /// Lease clock in all that was not charged.
    pub(super) unreachable_ms: u64,
    elsewhere_ms: Option<u64>,
}

impl Limit {
    fn of(server: &Server) -> Self {
        Self {
            heard_at: server.heard_at,
            unheard_from: server.heard_at.max(server.elsewhere_at),
            restarted_at: server.restarted_at,
            unreachable_ms: server.unreachable_ms,
            elsewhere_ms: server.elsewhere_ms,
        }
    }

    /// Of an agent that may be on it. Nobody knows whether it began anew shortly before it was heard first. It is not left to
    /// another replica that hears the server: that one may not know either which server it is, and leave it to this one.
    fn of_possible(server: &Server) -> Self {
        let known = Self::of(server);
        let restarted_at = known.restarted_at.max(server.known_at + RETURN_MS);
        Self { restarted_at, unheard_from: server.heard_at, elsewhere_ms: None, ..known }
    }

    /// The closer of the two in every respect.
    fn and(self, other: Self) -> Self {
        Self {
            heard_at: self.heard_at.min(other.heard_at),
            unheard_from: self.unheard_from.min(other.unheard_from),
            restarted_at: self.restarted_at.max(other.restarted_at),
            unreachable_ms: self.unreachable_ms.max(other.unreachable_ms),
            elsewhere_ms: self.elsewhere_ms.min(other.elsewhere_ms),
        }
    }

    pub(super) fn is_heard_elsewhere(&self, now_ms: u64) -> bool {
        self.elsewhere_ms.is_some_and(|ms| now_ms.saturating_sub(ms) <= ELSEWHERE_MS)
    }
}

/// When each server was heard last.
#[derive(Debug, Default)]
pub(super) struct Servers {
    servers: Vec<Server>,
    is_cluster: bool,
    /// The servers that this replica's own connections are on: what a mark passes through.
    own: Vec<Box<str>>,
    /// The servers that hold the log: as far as is known, all that there are.
    log: Vec<Box<str>>,
    /// The last own mark.
    mark: u64,
    /// When this replica was last known to be on the wrong side of a cut.
    astray_ms: Option<u64>,
    /// What the lease clock showed then.
    astray_at: u64,
}

impl Servers {
    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Which servers this replica is connected to, and whether there may be others.
    pub(super) fn connected_to(&mut self, own: &[&str], is_cluster: bool) {
        self.own = own.iter().map(|name| Box::from(*name)).collect();
        self.is_cluster = is_cluster;
    }

    /// An agent was heard over a server. `known` is what this returned for that agent last: nearly always still right.
    /// None if there is no room for one more.
    pub(super) fn hear(
        &mut self,
        now_ms: u64,
        clock: u64,
        (name, id): (&str, &str),
        known: Option<u32>,
    ) -> Option<u32> {
        let index = self.named(clock, name, known)?;
        self.servers.get_mut(index as usize)?.hear(now_ms, clock, Some(id));
        Some(index)
    }

    /// An agent is on a server, whether that was heard or not. `known` and the result are as in [`Self::hear`].
    pub(super) fn named(&mut self, clock: u64, name: &str, known: Option<u32>) -> Option<u32> {
        let is_named = |index: &usize| self.servers.get(*index).is_some_and(|server| *server.name == *name);
        let before = known.map(|known| known as usize);
        let index = before.filter(is_named).or_else(|| self.index_of(name)).or_else(|| self.add(name, clock));
        if before != index {
            self.leave(known);
            if let Some(server) = index.and_then(|index| self.servers.get_mut(index)) {
                server.agents += 1;
            }
        }
        u32::try_from(index?).ok()
    }

    /// An agent that named this server does so no longer.
    pub(super) fn leave(&mut self, index: Option<u32>) {
        if let Some(server) = index.and_then(|index| self.servers.get_mut(index as usize)) {
            server.agents = server.agents.saturating_sub(1);
        }
    }

    /// A server was heard by something else than a heartbeat; one that neither holds the log nor was named by an agent does
    /// not matter.
    pub(super) fn hear_name(&mut self, now_ms: u64, clock: u64, (name, id): (&str, &str)) {
        if let Some(index) = self.index_of(name) {
            self.servers[index].hear(now_ms, clock, Some(id));
        }
    }

    /// An own mark was processed: whatever it came through was there.
    pub(super) fn mark(&mut self, now_ms: u64, clock: u64, counter: u64) {
        self.mark = counter;
        let own = std::mem::take(&mut self.own);
        for name in &own {
            if let Some(index) = self.index_of(name) {
                self.servers[index].hear(now_ms, clock, None);
                self.servers[index].heard_mark = counter;
            }
        }
        self.own = own;
    }

    /// Which servers hold the log.
    pub(super) fn hold_log(&mut self, clock: u64, names: &[String]) {
        if self.log.iter().map(|name| &**name).eq(names.iter().map(String::as_str)) {
            return;
        }
        for name in names {
            if self.index_of(name).is_none() {
                self.add(name, clock);
            }
        }
        self.log = names.iter().map(|name| Box::from(name.as_str())).collect();
    }

    fn holds_log(&self, server: &Server) -> bool {
        self.log.contains(&server.name)
    }

    /// This replica may be on the wrong side of a cut: whom it does not hear, others may hear.
    pub(super) fn astray(&mut self, now_ms: u64, clock: u64) {
        self.astray_ms = Some(now_ms);
        self.astray_at = clock;
    }

    /// Whether what was heard of an agent's server then still holds: while this replica was on the wrong side of a cut, the agent
    /// may have gone elsewhere. The lease clock cannot tell: where marks do not come through it stands still meanwhile.
    pub(super) fn still_holds(&self, named_ms: u64) -> bool {
        !self.is_cluster || self.astray_ms.is_none_or(|astray_ms| named_ms > astray_ms)
    }

    /// Another replica says that it hears these.
    pub(super) fn heard_elsewhere(&mut self, now_ms: u64, clock: u64, names: &[String]) {
        for name in names {
            if let Some(index) = self.index_of(name) {
                self.servers[index].elsewhere_ms = Some(now_ms);
                self.servers[index].elsewhere_at = clock;
            }
        }
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| *server.name == *name)
    }

    fn add(&mut self, name: &str, clock: u64) -> Option<usize> {
        let server = Server::new(name, clock);
        if self.servers.len() < SERVERS_MAX {
            self.servers.push(server);
            return Some(self.servers.len() - 1);
        }
        let is_unused = |server: &Server| server.agents == 0 && !self.holds_log(server);
        let unused = self.servers.iter().enumerate().filter(|(_, server)| is_unused(server));
        let (index, _) = unused.min_by_key(|(_, server)| server.heard_ms)?;
        self.servers[index] = server;
        Some(index)
    }

    pub(super) fn name(&self, index: u32) -> Option<&str> {
        self.servers.get(index as usize).map(|server| &*server.name)
    }

    /// The servers that an agent may be on: the one that it named, else all that hold the log. None where there is no other
    /// than the own.
    fn may_be_of(&self, index: Option<u32>) -> impl Iterator<Item = &Server> {
        let named = index.and_then(|index| self.servers.get(index as usize)).filter(|_| self.is_cluster);
        let any =
            self.servers.iter().filter(move |server| self.is_cluster && index.is_none() && self.holds_log(server));
        named.into_iter().chain(any)
    }

    /// How far an agent's silence counts, if that depends on a server.
    pub(super) fn limit(&self, index: Option<u32>) -> Option<Limit> {
        let of = if index.is_some() { Limit::of } else { Limit::of_possible };
        let limit = self.may_be_of(index).map(of).reduce(Limit::and)?;
        Some(Limit { unheard_from: limit.unheard_from.max(self.astray_at), ..limit })
    }

    /// Whether the server was heard after a moment, given as a time and as the own mark sent last.
    pub(super) fn heard_since(&self, index: Option<u32>, ms: u64, mark: u64) -> bool {
        let since = |server: &Server| server.heard_mark > mark || server.heard_ms.is_some_and(|heard_ms| heard_ms > ms);
        let mut servers = self.may_be_of(index).peekable();
        match servers.peek() {
            None => self.mark > mark,
            Some(_) => servers.all(since),
        }
    }

    /// Whether the server was heard within so many milliseconds before now. Of an agent that no server is known of, as above.
    pub(super) fn heard_within(&self, index: Option<u32>, now_ms: u64, within_ms: u64) -> bool {
        let is_recent = |heard_ms: u64| now_ms.saturating_sub(heard_ms) <= within_ms;
        self.may_be_of(index).all(|server| server.heard_ms.is_some_and(is_recent))
    }

    /// Whether any server that agents are on, or may be, should be asked if it is there.
    pub(super) fn any_silent(&self, now_ms: u64) -> bool {
        let matters = |server: &&Server| server.agents > 0 || self.holds_log(server);
        self.is_cluster && self.servers.iter().filter(matters).any(|server| server.is_silent(now_ms))
    }

    pub(super) fn state(&self, index: u32, now_ms: u64, clock: u64) -> ServerState {
        let Some(server) = self.may_be_of(Some(index)).next() else {
            return ServerState::Heard;
        };
        if clock.saturating_sub(server.heard_at) < SERVER_UNREACHABLE_MS {
            return if server.is_silent(now_ms) { ServerState::Silent } else { ServerState::Heard };
        }
        if server.is_heard_elsewhere(now_ms) { ServerState::Elsewhere } else { ServerState::Unreachable }
    }

    /// The servers that agents are on: number, name, when heard, how many agents.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (u32, &str, Option<u64>, u32)> {
        let named = self.servers.iter().enumerate().filter(|(_, server)| server.agents > 0);
        named.filter_map(|(index, server)| {
            Some((u32::try_from(index).ok()?, &*server.name, server.heard_ms, server.agents))
        })
    }

    /// Names of the servers heard in the last two seconds, in order.
    pub(super) fn heard(&self, now_ms: u64) -> Vec<String> {
        let recent = self.servers.iter().filter(|server| !server.is_silent(now_ms));
        let mut names: Vec<String> = recent.map(|server| server.name.to_string()).collect();
        names.sort_unstable();
        names
    }
}
