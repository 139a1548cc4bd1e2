//! Finds out which address is advertised, and keeps trying while only the name server is to blame.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::core::address::{AddressError, AddressRules, choose};
use super::route::{interfaces, route_to};

/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The advertised address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// An IP literal or DNS name.
    pub host: String,
    /// It belongs to an interface of this host, so that the host can connect to it.
    pub is_own: bool,
}

/// Chooses once; logs which rule it was.
///
/// # Errors
/// [`AddressError`].
pub async fn find(rules: &AddressRules, servers: &str) -> Result<Advertised, AddressError> {
    let available = interfaces();
    let by_rule = rules.explicit.is_some() || !rules.interfaces.is_empty() || !rules.networks.is_empty();
    let route = if by_rule { Err("not asked for".to_owned()) } else { route_to(servers).await };
    let chosen = choose(rules, &available, || route)?;
    let address: Option<IpAddr> = chosen.host.parse().ok();
    let is_own = address.is_some_and(|address| available.iter().any(|found| found.address == address));
    tracing::info!(address = %chosen.host, rule = %chosen.rule, "address to advertise");
    Ok(Advertised { host: chosen.host, is_own })
}

/// Chooses now, or, where another try may succeed, later: until then nothing is registered.
///
/// # Errors
/// [`AddressError`] that no other try would change.
pub async fn find_or_retry(
    rules: AddressRules,
    servers: String,
) -> Result<watch::Receiver<Option<Advertised>>, AddressError> {
    let (sender, receiver) = watch::channel(None);
    match find(&rules, &servers).await {
        Ok(advertised) => drop(sender.send_replace(Some(advertised))),
        Err(error) if error.is_temporary() => {
            tracing::warn!("nothing is registered yet: {error}");
            tokio::spawn(retry(rules, servers, sender));
        }
        Err(error) => return Err(error),
    }
    Ok(receiver)
}

async fn retry(rules: AddressRules, servers: String, sender: watch::Sender<Option<Advertised>>) {
    while !sender.is_closed() {
        tokio::time::sleep(TRY_AGAIN).await;
        match find(&rules, &servers).await {
            Ok(advertised) => {
                sender.send_replace(Some(advertised));
                return;
            }
            Err(error) => muster_runtime::logging::limited("advertise", |suppressed| {
                tracing::warn!(suppressed, "nothing is registered yet: {error}");
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_route_to_a_broker_on_this_host_is_refused_at_once_unless_loopback_is_allowed() {
        let servers = "nats://127.0.0.1:4222".to_owned();
        let error = find_or_retry(AddressRules::default(), servers.clone()).await.unwrap_err();
        assert!(matches!(error, AddressError::Loopback { .. }), "{error}");
        let rules = AddressRules { allow_loopback: true, ..AddressRules::default() };
        let found = find_or_retry(rules, servers).await.unwrap();
        let expected = Advertised { host: "127.0.0.1".to_owned(), is_own: true };
        assert_eq!(*found.borrow(), Some(expected));
    }

    #[tokio::test]
    async fn an_unknown_broker_name_does_not_hold_the_start_up() {
        let found = find_or_retry(AddressRules::default(), "nats://broker.invalid:4222".to_owned()).await.unwrap();
        assert_eq!(*found.borrow(), None);
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_not_own() {
        let rules = AddressRules { explicit: Some("203.0.113.9".to_owned()), ..AddressRules::default() };
        assert!(!find(&rules, "").await.unwrap().is_own);
    }
}
