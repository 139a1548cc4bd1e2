//! Three nats-servers in a cluster, with a TCP proxy on each route between two of them, so that any part of the cluster
//! can be cut off or silenced while its own clients stay connected to it.

mod health;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{NatsServer, Proxy, eventually, free_port};

/// How many brokers a cluster has: the fewest that survive the loss of one.
pub const BROKERS: usize = 3;

/// A cluster elects leaders for some seconds, on a busy machine for some more.
const HEALTHY_DEADLINE: Duration = Duration::from_secs(60);

/// Nothing listens there. Servers tell each other this address as their own: nobody finds a way around the proxies.
const NOWHERE: &str = "127.0.0.1:1";

/// How a cluster will be started.
#[derive(Clone, Debug, Default)]
pub struct ClusterBuilder {
    binary: Option<PathBuf>,
    advisories: bool,
    settings: String,
}

impl ClusterBuilder {
    /// Another nats-server than the pinned one.
    #[must_use]
    pub fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = Some(binary);
        self
    }

    /// The brokers tell their clients' account which of its connections are gone.
    #[must_use]
    pub fn advisories(mut self) -> Self {
        self.advisories = true;
        self
    }

    /// Adds text to each server's configuration file. Names, ports, stores, routes and pings are set already.
    #[must_use]
    pub fn settings(mut self, text: &str) -> Self {
        self.settings.push_str(text);
        self.settings.push('\n');
        self
    }

    /// Starts the servers and waits until their JetStream is healthy.
    ///
    /// # Panics
    /// If they do not get there.
    pub async fn start(self) -> Cluster {
        let ports: Vec<u16> = (0..BROKERS).map(|_| free_port()).collect();
        let mut links = BTreeMap::new();
        for from in 0..BROKERS {
            for to in (0..BROKERS).filter(|to| *to != from) {
                links.insert((from, to), Proxy::to_port(ports[to]).await);
            }
        }
        let mut brokers = Vec::new();
        let mut monitors = Vec::new();
        for (broker, port) in ports.iter().enumerate() {
            let monitor = free_port();
            let routes = (0..BROKERS).filter_map(|to| links.get(&(broker, to))).map(Proxy::address);
            let mut builder = NatsServer::builder().fixed_port().pings(1, 2);
            builder = builder.settings(&configuration(broker, *port, monitor, routes)).settings(&self.settings);
            if self.advisories {
                builder = builder.advisories();
            }
            if let Some(binary) = &self.binary {
                builder = builder.binary(binary);
            }
            monitors.push(monitor);
            brokers.push(builder.start().await);
        }
        let cluster = Cluster { brokers, monitors, links };
        cluster.until_healthy().await;
        cluster
    }
}

/// A cluster of [`BROKERS`] servers named `n1`, `n2`, `n3`; whoever does something to one of them names it by its index, from 0.
/// Dropping it kills them and removes their stores.
#[derive(Debug)]
pub struct Cluster {
    brokers: Vec<NatsServer>,
    monitors: Vec<u16>,
    links: BTreeMap<(usize, usize), Proxy>,
}

impl Cluster {
    /// A healthy cluster.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The pinned nats-server unless told otherwise.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The name of a server in the cluster.
    #[must_use]
    pub fn name(index: usize) -> String {
        format!("n{}", index + 1)
    }

    /// One of the servers.
    #[must_use]
    pub fn broker(&self, index: usize) -> &NatsServer {
        &self.brokers[index]
    }

    /// One of the servers, to be killed, restarted, and the like.
    pub fn broker_mut(&mut self, index: usize) -> &mut NatsServer {
        &mut self.brokers[index]
    }

    /// Where clients of one of the servers connect.
    #[must_use]
    pub fn url(&self, index: usize) -> String {
        self.brokers[index].url()
    }

    /// All servers, beginning with this one, as programs take them.
    #[must_use]
    pub fn urls_from(&self, index: usize) -> String {
        let urls: Vec<String> = (0..BROKERS).map(|step| self.url((index + step) % BROKERS)).collect();
        urls.join(",")
    }

    /// Closes all routes of one server, and each new one, until [`Self::heal`]. Its clients stay connected to it.
    pub fn cut_off(&self, index: usize) {
        self.links_of(index).for_each(Proxy::cut);
    }

    /// Lets nothing through on the routes of one server, which stay open, until [`Self::heal`] or until the servers notice.
    pub fn black_hole(&self, index: usize) {
        self.links_of(index).for_each(Proxy::black_hole);
    }

    /// Closes the routes between two servers; both still reach the third.
    pub fn cut_between(&self, one: usize, other: usize) {
        [(one, other), (other, one)].iter().filter_map(|pair| self.links.get(pair)).for_each(Proxy::cut);
    }

    /// Lets everything through again, everywhere.
    pub fn heal(&self) {
        self.links.values().for_each(Proxy::heal);
    }

    fn links_of(&self, index: usize) -> impl Iterator<Item = &Proxy> {
        self.links.iter().filter(move |((from, to), _)| *from == index || *to == index).map(|(_, proxy)| proxy)
    }

    /// Whether a server says that it has caught up with everything it holds a copy of.
    ///
    /// # Errors
    /// What it said instead.
    pub async fn is_healthy(&self, index: usize) -> Result<(), String> {
        health::healthy(self.monitors[index]).await.map_err(|reason| format!("{}: {reason}", Self::name(index)))
    }

    /// Whether all servers are in the cluster under one leader, with routes to all others, and have caught up with everything they hold a copy of.
    ///
    /// # Errors
    /// What is missing.
    pub async fn all_healthy(&self) -> Result<(), String> {
        for index in 0..BROKERS {
            self.is_healthy(index).await?;
            let routes = health::routed_servers(self.monitors[index]).await?;
            if routes != BROKERS - 1 {
                return Err(format!("{} has routes to {routes} servers", Self::name(index)));
            }
            // Without it nobody is told that a stream is not there.
            health::has_meta_leader(self.monitors[index]).await?;
        }
        Ok(())
    }

    /// Waits for [`Self::all_healthy`].
    ///
    /// # Panics
    /// After a minute.
    pub async fn until_healthy(&self) {
        eventually("the cluster is healthy", HEALTHY_DEADLINE, async || self.all_healthy().await).await;
    }

    /// Which server leads a stream, asked of this one.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn leader_of(&self, stream: &str, asked: usize) -> Result<usize, String> {
        let name = health::stream_leader(self.monitors[asked], stream).await?;
        let index = (0..BROKERS).find(|index| Self::name(*index) == name);
        index.ok_or_else(|| format!("stream {stream} is led by {name:?}"))
    }

    /// Waits until some server leads a stream, and says which.
    ///
    /// # Panics
    /// After a minute.
    pub async fn leader(&self, stream: &str) -> usize {
        eventually(format!("stream {stream} has a leader"), HEALTHY_DEADLINE, async || {
            let mut said = String::new();
            for asked in 0..BROKERS {
                match self.leader_of(stream, asked).await {
                    Ok(leader) => return Ok(leader),
                    Err(reason) => said = reason,
                }
            }
            Err(said)
        })
        .await
    }
}

fn configuration(broker: usize, port: u16, monitor: u16, routes: impl Iterator<Item = SocketAddr>) -> String {
    let routes: Vec<String> = routes.map(|address| format!("nats-route://{address}")).collect();
    format!(
        "server_name: {name}\n\
         http: \"127.0.0.1:{monitor}\"\n\
         cluster {{\n  name: muster\n  listen: \"127.0.0.1:{port}\"\n  advertise: \"{NOWHERE}\"\n  no_advertise: true\n  \
         routes: [{routes}]\n}}",
        name = Cluster::name(broker),
        routes = routes.join(", "),
    )
}

#[cfg(test)]
mod tests;
