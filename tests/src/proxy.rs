//! A TCP proxy on one link, through which a test cuts, silences or slows that link alone, or single NATS connections on it.

mod caller;
mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to the bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    #[default]
    Open,
    /// They arrive this much later, in order.
    Delayed(Duration),
    /// They wait. Connections stay open; what fits into the buffers arrives when the flow opens again, as it would
    /// after a partition that was shorter than TCP's patience.
    Held,
}

/// Which bytes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the proxy towards its target.
    ToTarget,
    /// From the target back.
    FromTarget,
}

/// What happens to connections; those whose client calls itself something have flows of their own.
#[derive(Clone, Debug, Default)]
struct Link {
    cut: bool,
    flows: Flows,
    named: Vec<(String, Fate)>,
    /// All cuts so far, of connections whose client's name contains this: whoever looks late still finds what it missed.
    cuts: Vec<String>,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Flows {
    to_target: Flow,
    from_target: Flow,
}

/// What happens to connections of one name.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Cut,
    Flows(Flows),
}

impl Link {
    fn fate_of(&self, caller: Option<&str>) -> Fate {
        let named = caller.and_then(|caller| self.named.iter().find(|(part, _)| caller.contains(part)));
        match named {
            _ if self.cut => Fate::Cut,
            Some((_, fate)) => *fate,
            None => Fate::Flows(self.flows),
        }
    }

    fn flow_of(&self, caller: Option<&str>, direction: Direction) -> Flow {
        match (self.fate_of(caller), direction) {
            (Fate::Cut, _) => Flow::Held,
            (Fate::Flows(flows), Direction::ToTarget) => flows.to_target,
            (Fate::Flows(flows), Direction::FromTarget) => flows.from_target,
        }
    }

    /// Whether a connection that was made after so many cuts is, or was, to be closed.
    fn has_cut(&self, caller: Option<&str>, cuts_before: usize) -> bool {
        let was_cut = |part: &String| part.is_empty() || caller.is_some_and(|caller| caller.contains(part));
        matches!(self.fate_of(caller), Fate::Cut) || self.cuts.iter().skip(cuts_before).any(was_cut)
    }

    fn set_fate(&mut self, part: &str, fate: Fate) {
        self.named.retain(|(named, _)| named != part);
        self.named.push((part.to_owned(), fate));
    }
}

/// A listener on the loopback interface whose connections all lead to one address. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `target`, which need not listen yet.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (link, watched) = watch::channel(Link::default());
        let accepting = tokio::spawn(accept(listener, target, watched));
        Self { address, link, accepting }
    }

    /// Starts a proxy to a port on the loopback interface: to a [`crate::NatsServer`], say.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to_port(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where NATS clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Closes all connections, and each new one as soon as it is made, until [`Self::heal`].
    pub fn cut(&self) {
        self.link.send_modify(|link| {
            link.cut = true;
            link.cuts.push(String::new());
        });
    }

    /// Lets nothing through in either direction, and leaves all connections open, until [`Self::heal`].
    pub fn black_hole(&self) {
        self.set(Direction::ToTarget, Flow::Held);
        self.set(Direction::FromTarget, Flow::Held);
    }

    /// Delays all bytes in both directions, so that a round trip takes twice `delay` more.
    pub fn delay(&self, delay: Duration) {
        self.set(Direction::ToTarget, Flow::Delayed(delay));
        self.set(Direction::FromTarget, Flow::Delayed(delay));
    }

    /// Decides about the bytes in one direction.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.link.send_modify(|link| match direction {
            Direction::ToTarget => link.flows.to_target = flow,
            Direction::FromTarget => link.flows.from_target = flow,
        });
    }

    /// Decides about the bytes of those connections alone whose client's name contains `part`.
    pub fn set_named(&self, part: &str, to_target: Flow, from_target: Flow) {
        self.link.send_modify(|link| link.set_fate(part, Fate::Flows(Flows { to_target, from_target })));
    }

    /// Closes those connections alone whose client's name contains `part`, and each new one as soon as it says its name.
    pub fn cut_named(&self, part: &str) {
        self.link.send_modify(|link| {
            link.set_fate(part, Fate::Cut);
            link.cuts.push(part.to_owned());
        });
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.link.send_modify(|link| *link = Link { cuts: std::mem::take(&mut link.cuts), ..Link::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections end with the task that owns them.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, link: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        // An error concerns the one connection that could not be accepted.
        if let Ok((client, _)) = listener.accept().await
            && !link.borrow().cut
        {
            let cuts_before = link.borrow().cuts.len();
            connections.spawn(connection(client, target, link.clone(), cuts_before));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Lives until either side closes, or the link is cut.
async fn connection(client: TcpStream, target: SocketAddr, link: watch::Receiver<Link>, cuts_before: usize) {
    let (named, caller) = watch::channel(None);
    let (flows, name) = (link.clone(), caller.clone());
    let carried = async {
        let Ok(server) = TcpStream::connect(target).await else {
            return;
        };
        for stream in [&client, &server] {
            // Without it the proxy would add delays that nobody asked for; a socket that refuses is about to close.
            let _ = stream.set_nodelay(true);
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let there = pump::Way { link: flows.clone(), caller: name.clone(), direction: Direction::ToTarget };
        let back = pump::Way { link: flows, caller: name, direction: Direction::FromTarget };
        let mut listening = caller::Listening::new(named);
        tokio::select! {
            () = pump::pump(from_client, to_server, there, |bytes| listening.take(bytes)) => {}
            () = pump::pump(from_server, to_client, back, |_| {}) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        () = until_cut(link, caller, cuts_before) => {}
    }
}

/// Also when the proxy is gone.
async fn until_cut(mut link: watch::Receiver<Link>, mut caller: watch::Receiver<Option<String>>, cuts_before: usize) {
    loop {
        let is_cut = link.borrow_and_update().has_cut(caller.borrow_and_update().as_deref(), cuts_before);
        if is_cut {
            return;
        }
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            // Once it has said its name, the other side is gone.
            Ok(()) = caller.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;
