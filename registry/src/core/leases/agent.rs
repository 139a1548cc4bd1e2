//! What is remembered of one agent, and of one lease.

use std::sync::Arc;

use muster_schemas::{AgentId, Digest, Instance, SessionId, Timestamp};

use super::Leases;
use super::servers::Servers;

/// An agent that holds leases or was heard.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) token: Box<str>,
    /// Its lives of which anything is known: the one heard last, and those that leases are left of. Nearly always one.
    pub(super) sessions: Vec<Session>,
    /// The life heard last.
    pub(super) heard_session: Option<SessionId>,
    pub(super) heard_ms: Option<u64>,
    /// When an earlier life was first refused since it was last said that two run at once.
    pub(super) earlier_refused_ms: Option<u64>,
    /// What its last heartbeat claimed, and since when that has differed from what is held.
    pub(super) claimed: Digest,
    pub(super) differs_since_ms: Option<u64>,
    /// Sequence of the last accepted event of its own.
    pub(super) last_event: u64,
    /// The server that it named last, and for how long that had been unreachable in all by then.
    pub(super) server: Option<u32>,
    pub(super) unreachable_before_ms: u64,
    /// When it was named.
    pub(super) server_named_ms: u64,
    /// The heartbeat that named it: life and counter.
    pub(super) server_named_by: Option<(SessionId, u64)>,
    /// The connection that its last heartbeat came over: server id, client id.
    pub(super) connection: Option<(Box<str>, u64)>,
    /// The broker says that this connection is gone.
    pub(super) disconnected: Option<Disconnected>,
    /// Its leases, by number.
    pub(super) leases: Vec<u32>,
    /// When to look at it next, on the lease clock.
    pub(super) look_at: Option<u64>,
    /// How many of its leases were handed out as due since it was heard last.
    pub(super) suspects: u64,
}

/// What the broker said of an agent's connection.
#[derive(Debug)]
pub(super) struct Disconnected {
    /// The life that was heard over it.
    pub(super) session: SessionId,
    /// What the lease clock showed.
    pub(super) at: u64,
    /// Why, in the broker's words.
    pub(super) reason: Box<str>,
}

/// One life of an agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Sum over what is registered in it, and how much that is.
    pub(super) digest: Digest,
    pub(super) leases: u32,
    /// Of its last heartbeat.
    pub(super) counter: u64,
    pub(super) heard: Option<LastBeat>,
}

/// When a life was heard last.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastBeat {
    /// What the lease clock showed.
    pub(super) clock: u64,
    /// What the host's clock showed, for people.
    pub(super) at: Timestamp,
}

/// One instance's lease.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) instance: Arc<Instance>,
    /// Its share of its session's digest.
    pub(super) digest: Digest,
    /// What the lease clock showed when it began, or when a probe's answer listed it; 0 if heartbeats alone renew it.
    pub(super) since: u64,
    /// What the lease clock showed when it was handed out as due; of no meaning once it has been renewed after that.
    pub(super) handed_out_at: u64,
    /// While that counts: not to be handed out again before the lease clock shows this.
    pub(super) not_before: u64,
    pub(super) agent: u32,
    /// Its place among its agent's leases.
    pub(super) place: u32,
}

impl Agent {
    pub(super) fn new(id: AgentId, token: Box<str>) -> Self {
        Self {
            id,
            token,
            sessions: Vec::new(),
            heard_session: None,
            heard_ms: None,
            earlier_refused_ms: None,
            claimed: Digest::ZERO,
            differs_since_ms: None,
            last_event: 0,
            server: None,
            unreachable_before_ms: 0,
            server_named_ms: 0,
            server_named_by: None,
            connection: None,
            disconnected: None,
            leases: Vec::new(),
            look_at: None,
            suspects: 0,
        }
    }

    /// The server that it is on, as far as that is known.
    pub(super) fn server_by(&self, servers: &Servers) -> Option<u32> {
        self.server.filter(|_| servers.still_holds(self.server_named_ms))
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// The entry of a life, made if need be.
    pub(super) fn session_mut(&mut self, id: SessionId) -> &mut Session {
        let place = self.sessions.iter().position(|session| session.id == id);
        let place = place.unwrap_or_else(|| {
            // Nearly always the only one.
            self.sessions.reserve_exact(1);
            self.sessions.push(Session { id, digest: Digest::ZERO, leases: 0, counter: 0, heard: None });
            self.sessions.len() - 1
        });
        &mut self.sessions[place]
    }

    /// Drops lives of which nothing is left.
    pub(super) fn forget_sessions(&mut self) {
        let heard = self.heard_session;
        self.sessions.retain(|session| session.leases > 0 || Some(session.id) == heard);
    }

    /// Whether a lease was handed out as due and has not been renewed since.
    pub(super) fn is_suspect(&self, lease: &Lease) -> bool {
        lease.handed_out_at > self.renewed_at(lease)
    }

    /// When a lease was renewed last, on the lease clock: by a heartbeat of its own session, or by beginning.
    pub(super) fn renewed_at(&self, lease: &Lease) -> u64 {
        let heard = self.session(lease.instance.vouching().session).and_then(|session| session.heard);
        lease.since.max(heard.map_or(0, |beat| beat.clock))
    }
}

/// What is known of an agent, to read.
#[derive(Debug, Clone, Copy)]
pub struct AgentView<'a> {
    pub(super) leases: &'a Leases,
    pub(super) agent: &'a Agent,
}

impl<'a> AgentView<'a> {
    /// The agent.
    #[must_use]
    pub fn id(&self) -> &'a AgentId {
        &self.agent.id
    }

    /// Its life that was heard last.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.agent.heard_session
    }

    /// When it was heard last, on the monotonic clock.
    #[must_use]
    pub fn heard_ms(&self) -> Option<u64> {
        self.agent.heard_ms
    }

    /// The broker server that it named last.
    #[must_use]
    pub fn server(&self) -> Option<&'a str> {
        self.leases.servers.name(self.agent.server?)
    }

    /// The leased instances that are held for it, of all its lives.
    pub fn instances(self) -> impl Iterator<Item = &'a Arc<Instance>> + use<'a> {
        let leases = self.leases;
        let places = self.agent.leases.iter();
        places.filter_map(|index| Some(&leases.leases.get(*index as usize)?.as_ref()?.instance))
    }
}
