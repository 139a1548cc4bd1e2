//! Which address of this host is advertised: what was said, else interface and CIDR rules, else the route to the broker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address of a network interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// A network, as in `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a network: write address/bits, as in 10.0.0.0/8 or fd00::/8")]
pub struct CidrError {
    /// The text.
    pub value: String,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError { value: text.to_owned() };
        let (network, bits) = text.split_once('/').ok_or_else(error)?;
        let network: IpAddr = network.parse().map_err(|_| error())?;
        let prefix_bits: u8 = bits.parse().map_err(|_| error())?;
        let bits_max = if network.is_ipv4() { 32 } else { 128 };
        if prefix_bits > bits_max {
            return Err(error());
        }
        Ok(Self { network, prefix_bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix_bits)
    }
}

impl Cidr {
    /// Whether `address` lies in this network; never across IPv4 and IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

/// What was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// An address or DNS name to advertise as it is.
    pub explicit: Option<String>,
    /// Interfaces, the first that has a fit address wins.
    pub interfaces: Vec<String>,
    /// Networks, the first that holds an address of this host wins.
    pub networks: Vec<Cidr>,
    /// Loopback addresses may be advertised.
    pub allow_loopback: bool,
}

/// What is advertised, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// An IP literal or DNS name.
    pub host: String,
    /// The rule, in words for the log.
    pub rule: String,
}

/// Why no address can be advertised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The explicit one means "all addresses" and leads nobody anywhere.
    #[error("--advertise {value} is not an address that anyone can connect to: name one of this host's ({available})")]
    Unspecified {
        /// What was said.
        value: String,
        /// The addresses of this host.
        available: String,
    },
    /// The explicit one is neither an address nor a DNS name.
    #[error("--advertise {value:?} is neither an IP address (IPv6 without brackets) nor a DNS name")]
    NoHost {
        /// What was said.
        value: String,
    },
    /// No address of this host fits the interface and CIDR rules.
    #[error(
        "no address of this host fits {rules} (it has {available}): change the rules, or name one with --advertise"
    )]
    NoneFits {
        /// What was configured.
        rules: String,
        /// The addresses of this host.
        available: String,
    },
    /// The route to the broker is loopback, and nobody said that this is enough.
    #[error(
        "the route to the broker leaves from {address}, which no other host can reach: add --allow-loopback to advertise it \
         all the same (enough on a single machine), or name an address with --advertise (this host has {available})"
    )]
    Loopback {
        /// The local end of the route.
        address: IpAddr,
        /// The addresses of this host.
        available: String,
    },
    /// The route to the broker is not known (yet): worth another try.
    #[error("the route to the broker is not known: {reason}; trying again, or name an address with --advertise")]
    NoRoute {
        /// What the system said.
        reason: String,
    },
}

impl AddressError {
    /// Another try may succeed although nobody changes a setting.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NoRoute { .. })
    }
}

/// Chooses the advertised address. `available` are the addresses of interfaces that are up; `route` the local end of
/// the route to the broker, asked for only if no rule before it was configured.
///
/// # Errors
/// [`AddressError`], which names the setting that helps.
pub fn choose(
    rules: &AddressRules,
    available: &[InterfaceAddress],
    route: impl FnOnce() -> Result<IpAddr, String>,
) -> Result<Chosen, AddressError> {
    if let Some(explicit) = &rules.explicit {
        return choose_explicit(explicit, available);
    }
    if !rules.interfaces.is_empty() || !rules.networks.is_empty() {
        return choose_by_rules(rules, available);
    }
    let address = route().map_err(|reason| AddressError::NoRoute { reason })?;
    if address.is_unspecified() {
        let reason = "the system names no local address for it".to_owned();
        return Err(AddressError::NoRoute { reason });
    }
    if address.is_loopback() && !rules.allow_loopback {
        let available = listed(available);
        return Err(AddressError::Loopback { address, available });
    }
    Ok(Chosen { host: address.to_string(), rule: "the route to the broker".to_owned() })
}

fn choose_explicit(explicit: &str, available: &[InterfaceAddress]) -> Result<Chosen, AddressError> {
    let value = explicit.to_owned();
    match explicit.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            Err(AddressError::Unspecified { value, available: listed(available) })
        }
        Ok(_) => Ok(explicitly(value)),
        Err(_) if muster_schemas::instance::is_host(explicit) => Ok(explicitly(value)),
        Err(_) => Err(AddressError::NoHost { value }),
    }
}

fn explicitly(host: String) -> Chosen {
    Chosen { host, rule: "--advertise".to_owned() }
}

/// With both kinds of rule an address must fit one of each. Order: interfaces as listed, then networks as listed, then
/// IPv4 before IPv6, then as the system lists them.
fn choose_by_rules(rules: &AddressRules, available: &[InterfaceAddress]) -> Result<Chosen, AddressError> {
    let rank = |candidate: &InterfaceAddress| -> Option<(usize, usize, bool)> {
        let address = candidate.address;
        if !is_fit(address) || (address.is_loopback() && !rules.allow_loopback) {
            return None;
        }
        let interface = position(&rules.interfaces, |name| *name == candidate.interface)?;
        let network = position(&rules.networks, |network| network.contains(address))?;
        Some((interface, network, address.is_ipv6()))
    };
    let ranked = available.iter().filter_map(|candidate| Some((rank(candidate)?, candidate)));
    let Some(((interface, network, _), chosen)) = ranked.min_by_key(|(rank, _)| *rank) else {
        return Err(AddressError::NoneFits { rules: described(rules), available: listed(available) });
    };
    let mut parts = Vec::new();
    parts.extend(rules.interfaces.get(interface).map(|name| format!("--advertise-interface {name}")));
    parts.extend(rules.networks.get(network).map(|network| format!("--advertise-cidr {network}")));
    Ok(Chosen { host: chosen.address.to_string(), rule: parts.join(" and ") })
}

/// Where the first rule stands that fits; without any rule of this kind everything fits.
fn position<T>(rules: &[T], fits: impl FnMut(&T) -> bool) -> Option<usize> {
    if rules.is_empty() { Some(0) } else { rules.iter().position(fits) }
}

/// Link-local addresses mean nothing without the interface they belong to.
fn is_fit(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_unspecified() && !address.is_link_local() && !address.is_multicast(),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_unicast_link_local() && !address.is_multicast(),
    }
}

fn described(rules: &AddressRules) -> String {
    let interfaces = rules.interfaces.iter().map(|name| format!("--advertise-interface {name}"));
    let networks = rules.networks.iter().map(|network| format!("--advertise-cidr {network}"));
    let mut text = interfaces.chain(networks).collect::<Vec<_>>().join(" ");
    if !rules.allow_loopback {
        text.push_str(" without loopback");
    }
    text
}

fn listed(available: &[InterfaceAddress]) -> String {
    let mut fit: Vec<String> = available
        .iter()
        .filter(|candidate| is_fit(candidate.address) && !candidate.address.is_loopback())
        .map(|candidate| format!("{} {}", candidate.interface, candidate.address))
        .collect();
    fit.truncate(16);
    if fit.is_empty() { "none but loopback".to_owned() } else { fit.join(", ") }
}

#[cfg(test)]
mod tests;
