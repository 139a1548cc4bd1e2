//! Connections that end at the first disconnect instead of coming back.
//!
//! The client library keeps what was enqueued while disconnected and sends it after reconnecting, minutes later if need
//! be. What must not outlive its reason goes over a connection of this kind: with it dies all that it had not sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectOptions, ReconnectToServer, ServerAddr};

/// Where nobody ever listens. The library offers no way to switch reconnecting off, and counts attempts only while they
/// fail; so the second attempt is sent here, and the third one is one too many.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// The servers to give to the client: the real one, and nowhere.
pub(super) fn pool(server: ServerAddr) -> Vec<ServerAddr> {
    std::iter::once(server).chain(NOWHERE.parse()).collect()
}

/// Options for one connection to the first server of [`pool`]. To be called for each attempt anew.
pub(super) fn options(options: ConnectOptions) -> ConnectOptions {
    let used = AtomicBool::new(false);
    options.max_reconnects(1).reconnect_to_server_callback(move |pool, _| {
        let is_nowhere = used.swap(true, Ordering::Relaxed);
        let chosen = pool.into_iter().find(|server| (server.addr.as_url_str() == NOWHERE) == is_nowhere);
        let delay = Some(Duration::ZERO);
        std::future::ready(chosen.map(|server| ReconnectToServer { addr: server.addr, delay }))
    })
}
