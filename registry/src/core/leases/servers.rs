//! Broker servers, known by the names that heartbeats give them.

/// Servers remembered, in number; a further one takes the place of the one silent longest.
const SERVERS_MAX: usize = 256;

#[derive(Debug)]
struct Server {
    name: Box<str>,
    heard_ms: u64,
}

/// When each server was heard last.
#[derive(Debug, Default)]
pub(super) struct Servers {
    servers: Vec<Server>,
}

impl Servers {
    /// An agent was heard over a server. `known` is what this returned for that agent last: nearly always still right.
    pub(super) fn hear(&mut self, now_ms: u64, name: &str, known: Option<u32>) -> u32 {
        let is_named = |index: &usize| self.servers.get(*index).is_some_and(|server| *server.name == *name);
        let index = known.map(|known| known as usize).filter(is_named);
        let index = index.or_else(|| self.servers.iter().position(|server| *server.name == *name));
        let index = index.unwrap_or_else(|| self.add(name));
        if let Some(server) = self.servers.get_mut(index) {
            server.heard_ms = now_ms;
        }
        u32::try_from(index).unwrap_or(0)
    }

    fn add(&mut self, name: &str) -> usize {
        let server = Server { name: name.into(), heard_ms: 0 };
        if self.servers.len() < SERVERS_MAX {
            self.servers.push(server);
            return self.servers.len() - 1;
        }
        let silent_longest = self.servers.iter().enumerate().min_by_key(|(_, server)| server.heard_ms);
        let index = silent_longest.map_or(0, |(index, _)| index);
        self.servers[index] = server;
        index
    }

    pub(super) fn name(&self, index: u32) -> Option<&str> {
        self.servers.get(index as usize).map(|server| &*server.name)
    }

    pub(super) fn heard(&self, now_ms: u64, within_ms: u64) -> Vec<String> {
        let recent = |server: &&Server| now_ms.saturating_sub(server.heard_ms) <= within_ms;
        let mut names: Vec<String> = self.servers.iter().filter(recent).map(|server| server.name.to_string()).collect();
        names.sort_unstable();
        names
    }
}
