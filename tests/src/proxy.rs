//! A TCP proxy on one link, through which a test cuts, silences or slows that link alone.

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

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    cut: bool,
    to_target: Flow,
    from_target: Flow,
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
        self.link.send_modify(|link| link.cut = true);
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
            Direction::ToTarget => link.to_target = flow,
            Direction::FromTarget => link.from_target = flow,
        });
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.link.send_replace(Link::default());
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
            connections.spawn(connection(client, target, link.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Lives until either side closes, or the link is cut.
async fn connection(client: TcpStream, target: SocketAddr, mut link: watch::Receiver<Link>) {
    let flows = link.clone();
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
        tokio::select! {
            () = pump::pump(from_client, to_server, flows.clone(), |link| link.to_target) => {}
            () = pump::pump(from_server, to_client, flows, |link| link.from_target) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        // Also when the proxy is gone.
        _ = link.wait_for(|link| link.cut) => {}
    }
}

#[cfg(test)]
mod tests;
