//! What the system says of this host's addresses: those of its interfaces, and where the route to the broker leaves from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::core::address::InterfaceAddress;

/// How long a name server may take.
const LOOKUP_WITHIN: Duration = Duration::from_secs(2);

/// The addresses of all interfaces that are up; none if the system does not tell.
#[must_use]
pub fn interfaces() -> Vec<InterfaceAddress> {
    let found = getifaddrs().into_iter().flatten();
    let up = found.filter(|found| found.flags.contains(InterfaceFlags::IFF_UP));
    up.filter_map(|found| {
        let address = ip_of(&found.address?)?;
        Some(InterfaceAddress { interface: found.interface_name, address })
    })
    .collect()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The local end of the route to the first of `servers` (`scheme://host:port`, separated by commas) whose name is known.
///
/// # Errors
/// What the system says of the last of them.
pub async fn route_to(servers: &str) -> Result<IpAddr, String> {
    let mut reason = "no server is configured".to_owned();
    for server in servers.split(',') {
        let place = server.split_once("://").map_or(server, |(_, place)| place);
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        match tokio::time::timeout(LOOKUP_WITHIN, tokio::net::lookup_host(place)).await {
            Err(_) => reason = format!("looking up {place} took longer than {} ms", LOOKUP_WITHIN.as_millis()),
            Ok(Err(error)) => reason = format!("looking up {place}: {error}"),
            Ok(Ok(addresses)) => {
                for address in addresses {
                    match local_end(address) {
                        Ok(local) => return Ok(local),
                        Err(error) => reason = format!("there is no route to {address}: {error}"),
                    }
                }
            }
        }
    }
    Err(reason)
}

/// Connecting a datagram socket sends nothing: it only asks for the route.
fn local_end(remote: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_its_loopback_address() {
        let found = interfaces();
        let has_loopback = found.iter().any(|found| found.address == Ipv4Addr::LOCALHOST);
        assert!(has_loopback, "{found:?}");
    }

    #[tokio::test]
    async fn the_route_to_a_loopback_address_leaves_from_it() {
        assert_eq!(route_to("nats://127.0.0.1:4222").await.unwrap(), Ipv4Addr::LOCALHOST);
        assert_eq!(route_to("nats://me:secret@127.0.0.1:4222,nats://x").await.unwrap(), Ipv4Addr::LOCALHOST);
    }

    #[tokio::test]
    async fn the_route_to_another_host_leaves_from_an_address_of_this_one() {
        let found = interfaces();
        let Some(own) = found.iter().find(|found| !found.address.is_loopback() && found.address.is_ipv4()) else {
            return;
        };
        let route = route_to(&format!("nats://{}:4222", own.address)).await.unwrap();
        assert!(found.iter().any(|found| found.address == route), "{route} of {found:?}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_named() {
        let reason = route_to("nats://broker.invalid:4222").await.unwrap_err();
        assert!(reason.contains("broker.invalid:4222"), "{reason}");
    }
}
