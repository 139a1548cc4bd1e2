//! What the broker itself says: that a client's connection is gone, and that a server is there.

use muster_schemas::alarm::AlarmKind;
use muster_schemas::query::{BrokerServer, ServerState};
use serde::Deserialize;

use super::Replica;
use crate::core::io::{Effect, Effects, Severity};

/// Questions to the broker's servers are no closer together than this, in milliseconds.
const ASK_SERVERS_MS: u64 = 1_000;

/// The same when an agent was asked since: its server's word has to come soon after.
const ASK_SERVERS_AFTER_PROBE_MS: u64 = 40;

/// How often it is looked for servers that nobody hears, in milliseconds.
const LOOK_FOR_UNREACHABLE_MS: u64 = 500;

/// Whoever is connected to those who hold the log sees its end more often than this, in milliseconds.
const ASTRAY_MS: u64 = 2_500;

/// The broker's words for a connection that was closed by its client, or that broke. Anything else says nothing about the
/// client: it was turned away, or the server itself goes.
const GONE: [&str; 6] = [
    "Client Closed",
    "Read Error",
    "Write Error",
    "Stale Connection",
    "Slow Consumer (Pending Bytes)",
    "Slow Consumer (Write Deadline)",
];

/// The parts of the broker's disconnect advisory that matter here.
#[derive(Deserialize)]
struct Advisory {
    server: Server,
    client: Client,
    reason: String,
}

/// The part of a server's answer that matters here.
#[derive(Deserialize)]
struct ServerAnswer {
    server: Server,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    id: String,
}

#[derive(Deserialize)]
struct Client {
    id: u64,
}

/// Which servers nobody hears, and when that was said last.
#[derive(Debug, Default)]
pub(super) struct Unreachable {
    names: Vec<String>,
    looked_ms: u64,
    alarm_ms: Option<u64>,
}

impl Replica {
    /// The broker says that a client is gone.
    pub(super) fn advisory(&mut self, payload: &[u8], effects: &mut Effects) {
        let Ok(advisory) = serde_json::from_slice::<Advisory>(payload) else {
            self.counters.messages_refused += 1;
            return;
        };
        self.counters.advisories += 1;
        if !GONE.contains(&advisory.reason.as_str()) {
            return;
        }
        let Server { name, id } = &advisory.server;
        let connection = (name.as_str(), id.as_str(), advisory.client.id);
        for agent in self.liveness.leases.disconnected(self.now_ms, connection, &advisory.reason) {
            self.counters.disconnects += 1;
            let (client, reason) = (advisory.client.id, &advisory.reason);
            let text = format!("agent {agent} lost its connection {client} to {name}: {reason}; its linger begins");
            self.report(Severity::Info, text, effects);
        }
    }

    /// A broker server answered that it is there.
    pub(super) fn server_answered(&mut self, payload: &[u8], effects: &mut Effects) {
        match serde_json::from_slice::<ServerAnswer>(payload) {
            Ok(answer) => self.liveness.leases.server_answered(self.now_ms, &answer.server.name, &answer.server.id),
            // Nobody may be asked here; the servers' agents tell that they are there.
            Err(_) => return,
        }
        self.decide_at_once(effects);
    }

    /// In a cluster the log's end was not seen for so long that this replica may be on the wrong side of a cut.
    pub(super) fn notice_astray(&mut self) {
        let confirmed_ms = self.continuity.end_confirmed_ms();
        if confirmed_ms.is_none_or(|confirmed_ms| self.now_ms.saturating_sub(confirmed_ms) >= ASTRAY_MS) {
            self.liveness.leases.astray(self.now_ms);
        }
    }

    /// Asks the broker's servers whether they are there, when one of them is silent or a decision waits for its word.
    pub(super) fn ask_servers(&mut self, effects: &mut Effects) {
        let leases = &self.liveness.leases;
        let is_waited_for = leases.is_cluster() && self.liveness.waits_for_servers();
        let is_silent = self.is_first_to_propose() && leases.any_server_silent(self.now_ms);
        let is_time = self.asked_servers_ms.is_none_or(|asked_ms| {
            let has_probed = self.liveness.has_probed_between(asked_ms, self.now_ms);
            let period_ms = if has_probed { ASK_SERVERS_AFTER_PROBE_MS } else { ASK_SERVERS_MS };
            self.now_ms.saturating_sub(asked_ms) >= period_ms
        });
        if self.publish_connected && (is_waited_for || is_silent) && is_time {
            self.asked_servers_ms = Some(self.now_ms);
            effects.push(Effect::AskServers);
        }
    }

    /// The broker servers that agents are on, as this replica sees them.
    pub(super) fn broker_servers(&self, now_ms: u64) -> Vec<BrokerServer> {
        let servers = self.liveness.leases.servers(now_ms).into_iter();
        let shown = servers.map(|server| BrokerServer {
            name: server.name.to_owned(),
            state: server.state,
            heard_age_ms: server.heard_ms.map(|heard_ms| now_ms.saturating_sub(heard_ms)),
            agents: server.agents.into(),
            instances: server.leases,
        });
        shown.collect()
    }

    /// Raises an alarm while servers are unreachable, and says when they are heard again.
    pub(super) fn watch_servers(&mut self, effects: &mut Effects) {
        let watched = &self.unreachable;
        if !self.liveness.leases.is_cluster() || self.now_ms < watched.looked_ms + LOOK_FOR_UNREACHABLE_MS {
            return;
        }
        self.unreachable.looked_ms = self.now_ms;
        let servers = self.liveness.leases.servers(self.now_ms);
        let silent = servers.iter().filter(|server| server.state == ServerState::Unreachable && server.leases > 0);
        let (names, leases): (Vec<String>, Vec<u64>) =
            silent.map(|server| (server.name.to_owned(), server.leases)).unzip();
        let leases: u64 = leases.iter().sum();
        let before = std::mem::replace(&mut self.unreachable.names, names.clone());
        for back in before.iter().filter(|name| !names.contains(name)) {
            let text = format!("broker server {back} is no longer unreachable");
            self.report(Severity::Info, text, effects);
        }
        let is_news = names.iter().any(|name| !before.contains(name));
        let again_ms = self.unreachable.alarm_ms.map_or(0, |ms| ms + super::REPORT_AGAIN_MS);
        if !names.is_empty() && (is_news || self.now_ms >= again_ms) {
            self.unreachable.alarm_ms = Some(self.now_ms);
            let text = format!(
                "nobody hears broker server {}: the {leases} instances of its agents are kept for {} s, or until an operator \
                 ends them; look at the network between the brokers",
                names.join(", "),
                self.settings.timing.unreachable_limit_ms / 1_000,
            );
            self.alarm(AlarmKind::UnreachableServer, text, effects);
        }
    }
}
