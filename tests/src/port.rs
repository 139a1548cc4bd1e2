//! Choosing a free port on the loopback interface for something that must come back on the same one.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems hand out by themselves (Linux: from 32768). In that range any outgoing connection could
/// take the port while its server is down, even a connection *to* that server, which then talks to itself.
const RANGE: Range<u16> = 15_000..32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
/// Locks on the claimed ports, held while this process lives: other tests stay away from a port whose server is down.
static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nothing listens on and that no other test of this machine will choose while this process lives.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn free_port() -> u16 {
    let directory = env::temp_dir().join("muster-test-ports");
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
    let count = RANGE.end - RANGE.start;
    // Each process begins elsewhere, so that processes seldom try the same ports.
    let start = u16::try_from((u64::from(process::id()) * 97) % u64::from(count)).expect("a remainder fits");
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let port = RANGE.start + (start + step) % count;
        let Ok(claim) = File::create(directory.join(port.to_string())) else {
            continue;
        };
        if claim.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            CLAIMS.lock().expect("nothing panics while it holds the claims").push(claim);
            return port;
        }
    }
    panic!("no port of {RANGE:?} is free on the loopback interface");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_chosen_port_is_free_and_is_not_chosen_twice() {
        let ports: BTreeSet<u16> = (0..20).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 20);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        }
    }

    #[test]
    fn a_port_that_is_in_use_is_not_chosen() {
        let taken: Vec<TcpListener> =
            (0..50).filter_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok()).collect();
        let chosen: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        for listener in &taken {
            assert!(!chosen.contains(&listener.local_addr().unwrap().port()));
        }
    }
}
