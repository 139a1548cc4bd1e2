//! The broker's servers: one alone, or a cluster of three, of which one leads the stream. A route may break, a server may stop,
//! and until another leads nothing is stored.

use bytes::Bytes;

use super::faults::Deed;
use super::link::{Link, LinkId, NodeId, Role};
use super::wire::Work;
use super::world::World;

/// Servers of a cluster.
const CLUSTER: usize = 3;

/// The servers, without the connections to them.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) is_cluster: bool,
    /// Whether it tells of connections that break, and answers when asked whether it is there.
    pub(crate) tells: bool,
    /// One that no route leads to, and since when.
    pub(crate) isolated: Option<(usize, u64)>,
    leader: usize,
    /// Before that nobody leads the stream.
    led_from_ms: u64,
}

impl Servers {
    pub(crate) fn name(server: usize) -> String {
        format!("n{server}")
    }

    fn id(server: usize) -> String {
        format!("ID{server}")
    }

    pub(crate) fn of_cluster(&self) -> Vec<String> {
        if self.is_cluster { (0..CLUSTER).map(Self::name).collect() } else { Vec::new() }
    }

    fn count(&self) -> usize {
        if self.is_cluster { CLUSTER } else { 1 }
    }

    /// Whether a message gets from one to the other.
    fn reach(&self, from: usize, to: usize) -> bool {
        from == to || self.isolated.is_none_or(|(isolated, _)| from != isolated && to != isolated)
    }

    /// Whether whoever is connected to a server can append to the stream, and read from it.
    pub(crate) fn has_stream(&self, server: usize, now_ms: u64) -> bool {
        now_ms >= self.led_from_ms && self.isolated.is_none_or(|(isolated, _)| isolated != server)
    }
}

impl World {
    /// Whether what is sent by one connection can be delivered by the other.
    pub(crate) fn reaches(&self, from: LinkId, to: LinkId) -> bool {
        self.servers.reach(self.links[from.0].server, self.links[to.0].server)
    }

    pub(crate) fn has_stream(&self, link: LinkId) -> bool {
        self.servers.has_stream(self.links[link.0].server, self.now_ms)
    }

    /// Whether anybody at all can append.
    pub(crate) fn is_led(&self) -> bool {
        self.now_ms >= self.servers.led_from_ms
    }

    /// A client finds a server.
    pub(crate) fn choose_server(&mut self, link: LinkId) {
        let count = self.servers.count();
        let server = self.random.below(count);
        self.link(link).server = server;
        let Link { node, role, .. } = self.links[link.0];
        self.say(|| format!("{node:?} connects to server n{server} for {role:?}"));
    }

    /// The leader is gone, or steps down: another is elected among those that see each other.
    fn elect(&mut self) {
        let isolated = self.servers.isolated.map(|(isolated, _)| isolated);
        let candidates: Vec<usize> = (0..self.servers.count()).filter(|server| Some(*server) != isolated).collect();
        self.servers.leader = self.random.pick(&candidates).unwrap_or(0);
        let for_ms = self.random.between(300, 4_000);
        self.servers.led_from_ms = self.servers.led_from_ms.max(self.now_ms + for_ms);
        self.say(|| format!("no server leads the stream for {for_ms} ms"));
        self.end_readers(|_| true);
        self.unsettle(for_ms);
    }

    /// Now, and once more when it is over.
    fn unsettle(&mut self, for_ms: u64) {
        self.oracle.registry_disturbed(self.now_ms);
        self.later(for_ms, Deed::Look);
    }

    pub(crate) fn lose_leader(&mut self) -> bool {
        if !self.broker.up || !self.servers.is_cluster {
            return false;
        }
        self.tell(|| "the stream's leader steps down".to_owned());
        self.elect();
        true
    }

    pub(crate) fn cut_route(&mut self) -> bool {
        if !self.broker.up || !self.servers.is_cluster || self.servers.isolated.is_some() {
            return false;
        }
        let server = self.random.below(CLUSTER);
        let for_ms =
            if self.random.chance(50) { self.random.between(100, 2_500) } else { self.random.between(2_500, 14_000) };
        self.tell(|| format!("no route leads to server n{server} for {for_ms} ms"));
        self.servers.isolated = Some((server, self.oracle.cut_since(self.now_ms, server)));
        self.end_readers(|log| log.server == server);
        self.unsettle(for_ms);
        self.later(for_ms, Deed::HealRoute);
        if self.servers.leader == server {
            self.elect();
        }
        true
    }

    pub(crate) fn heal_route(&mut self) {
        if let Some((server, since_ms)) = self.servers.isolated.take() {
            self.say(|| format!("routes lead to server n{server} again"));
            self.oracle.healed(server, (since_ms, self.now_ms));
            self.oracle.registry_disturbed(self.now_ms);
        }
    }

    /// A server of the cluster stops: its clients go to the others.
    pub(crate) fn stop_server(&mut self) -> bool {
        if !self.broker.up || !self.servers.is_cluster || self.servers.isolated.is_some() {
            return false;
        }
        let server = self.random.below(CLUSTER);
        self.tell(|| format!("server n{server} stops"));
        // It does not tell of its own clients.
        let tells = std::mem::take(&mut self.servers.tells);
        for link in
            (0..self.links.len()).map(LinkId).filter(|link| self.links[link.0].server == server).collect::<Vec<_>>()
        {
            if self.link(link).up {
                self.cut(link);
                let after_ms = self.random.between(1, 600);
                self.later(after_ms, Deed::Connect(link));
            }
        }
        self.servers.tells = tells;
        self.unsettle(600);
        if self.servers.leader == server {
            self.elect();
        }
        true
    }

    /// Everything is as it should be.
    pub(crate) fn mend_servers(&mut self) {
        self.heal_route();
        self.servers.led_from_ms = self.servers.led_from_ms.min(self.now_ms);
    }

    /// Which servers a registry's connections are on.
    pub(crate) fn names_of_servers(&self, index: usize) -> [String; 2] {
        [Role::Log, Role::Output].map(|role| Servers::name(self.links[self.registries[index].link(role).0].server))
    }

    /// Every server that hears the question, and lets itself be asked, says that it is there.
    pub(crate) fn ask_servers(&mut self, index: usize) {
        let output = self.registries[index].link(Role::Output);
        if !self.servers.tells || !self.links[output.0].up {
            return;
        }
        for server in 0..self.servers.count() {
            if self.servers.reach(self.links[output.0].server, server) {
                let (name, id) = (Servers::name(server), Servers::id(server));
                let answer = format!(r#"{{"server":{{"name":"{name}","id":"{id}"}}}}"#);
                self.deliver(output, Work::ServerAnswered(Bytes::from(answer)));
            }
        }
    }

    /// By which an agent names its connection.
    pub(crate) fn connection(&self, link: LinkId) -> (String, String, u64) {
        let Link { server, life, .. } = self.links[link.0];
        (Servers::name(server), Servers::id(server), client(link, life))
    }

    /// A connection of an agent is gone, and the broker says so.
    pub(crate) fn advise(&mut self, link: LinkId, reason: &str) {
        let Link { server, life, node, .. } = self.links[link.0];
        if !self.servers.tells || !self.broker.up || !matches!(node, NodeId::Agent(_)) {
            return;
        }
        let (name, id, client) = (Servers::name(server), Servers::id(server), client(link, life));
        let advisory =
            format!(r#"{{"server":{{"name":"{name}","id":"{id}"}},"client":{{"id":{client}}},"reason":"{reason}"}}"#);
        for index in 0..self.registries.len() {
            let log = self.registries[index].link(Role::Log);
            if self.servers.reach(server, self.links[log.0].server) {
                self.deliver(log, Work::Advisory(Bytes::from(advisory.clone())));
            }
        }
    }
}

/// The broker's number for a connection: another one each time.
fn client(LinkId(link): LinkId, life: u32) -> u64 {
    link as u64 * 1_000 + u64::from(life)
}
