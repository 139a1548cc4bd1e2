//! The hot path: heartbeats of agents and marks of replicas.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::SessionId;
use crate::name::ReplicaId;
use crate::revision::MinRevision;

/// An agent still vouches for what it vouched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// Wire version.
    pub v: u32,
    /// The agent's life.
    pub session: SessionId,
    /// Rises by one per message in a session; lower or equal is dropped.
    pub counter: u64,
    /// How many leased instances it vouches for.
    pub instances: u32,
    /// Sum over them; static instances left out.
    pub digest: Digest,
    /// Its last acknowledged event; null epoch until a query confirmed it; null before the first.
    #[serde(default)]
    pub acked: Option<MinRevision>,
    /// The connection that carries heartbeats: server name, server id, client id.
    #[serde(default)]
    pub conn: Option<Connection>,
}

/// A broker connection: (server name, server id, client id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Connection(pub String, pub String, pub u64);

/// A replica's own message through the heartbeat subject tree, by which it knows that it could have heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Mark {
    /// Wire version.
    pub v: u32,
    /// The sender.
    pub replica: ReplicaId,
    /// Rises by one per mark.
    pub counter: u64,
    /// The sender's monotonic clock when it was sent, in milliseconds.
    pub sent_ms: u64,
}
