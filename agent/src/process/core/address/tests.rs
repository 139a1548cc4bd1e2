//! Which rule chooses which address, and what is said when none does.

use super::*;

fn host() -> Vec<InterfaceAddress> {
    [
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
        ("eth0", "fe80::1"),
        ("eth0", "fd00::5"),
        ("eth0", "10.0.0.5"),
        ("eth0", "10.0.0.6"),
        ("wlan0", "169.254.3.3"),
        ("wlan0", "192.168.1.7"),
        ("docker0", "172.17.0.1"),
    ]
    .into_iter()
    .map(|(interface, address)| InterfaceAddress { interface: interface.to_owned(), address: address.parse().unwrap() })
    .collect()
}

fn rules(interfaces: &[&str], networks: &[&str]) -> AddressRules {
    AddressRules {
        interfaces: interfaces.iter().map(ToString::to_string).collect(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..AddressRules::default()
    }
}

fn route(address: &str) -> impl FnOnce() -> Result<IpAddr, String> {
    let address = address.parse().unwrap();
    move || Ok(address)
}

fn chosen(rules: &AddressRules) -> (String, String) {
    let chosen = choose(rules, &host(), route("10.0.0.5")).unwrap();
    (chosen.host, chosen.rule)
}

#[test]
fn what_was_said_wins_over_every_rule_even_if_it_is_loopback_or_a_name() {
    for explicit in ["192.0.2.9", "127.0.0.1", "::1", "orders.example.com"] {
        let mut rules = rules(&["eth0"], &["10.0.0.0/8"]);
        rules.explicit = Some(explicit.to_owned());
        assert_eq!(chosen(&rules), (explicit.to_owned(), "--advertise".to_owned()));
    }
}

#[test]
fn all_addresses_is_no_address() {
    for explicit in ["0.0.0.0", "::"] {
        let rules = AddressRules { explicit: Some(explicit.to_owned()), ..AddressRules::default() };
        let error = choose(&rules, &host(), route("10.0.0.5")).unwrap_err();
        assert!(matches!(error, AddressError::Unspecified { .. }), "{error}");
        assert!(error.to_string().contains("eth0 10.0.0.5"), "{error}");
    }
}

#[test]
fn what_is_neither_address_nor_name_is_refused() {
    for explicit in ["[::1]", "10.0.0", "10.0.0.5:8080", "a b", ""] {
        let rules = AddressRules { explicit: Some(explicit.to_owned()), ..AddressRules::default() };
        let error = choose(&rules, &host(), route("10.0.0.5")).unwrap_err();
        assert!(matches!(error, AddressError::NoHost { .. }), "{explicit}: {error}");
    }
}

#[test]
fn an_interface_gives_its_first_ipv4_address_before_ipv6() {
    let expected = ("10.0.0.5".to_owned(), "--advertise-interface eth0".to_owned());
    assert_eq!(chosen(&rules(&["eth0"], &[])), expected);
}

#[test]
fn the_first_interface_that_has_a_fit_address_wins() {
    let expected = ("192.168.1.7".to_owned(), "--advertise-interface wlan0".to_owned());
    assert_eq!(chosen(&rules(&["tun0", "wlan0", "eth0"], &[])), expected);
}

#[test]
fn the_first_network_that_holds_an_address_wins() {
    let by = |networks: &[&str]| chosen(&rules(&[], networks)).0;
    assert_eq!(by(&["192.168.0.0/16", "10.0.0.0/8"]), "192.168.1.7");
    assert_eq!(by(&["11.0.0.0/8", "10.0.0.6/32"]), "10.0.0.6");
    assert_eq!(by(&["fd00::/8"]), "fd00::5");
    assert_eq!(by(&["0.0.0.0/0"]), "10.0.0.5");
}

#[test]
fn interface_and_network_together_must_both_fit() {
    let both = rules(&["docker0", "eth0"], &["10.0.0.0/8"]);
    let rule = "--advertise-interface eth0 and --advertise-cidr 10.0.0.0/8";
    assert_eq!(chosen(&both), ("10.0.0.5".to_owned(), rule.to_owned()));
}

#[test]
fn rules_choose_no_loopback_and_no_link_local_address() {
    for rules in [rules(&["lo"], &[]), rules(&[], &["127.0.0.0/8"]), rules(&[], &["169.254.0.0/16", "fe80::/10"])] {
        let error = choose(&rules, &host(), route("10.0.0.5")).unwrap_err();
        assert!(matches!(error, AddressError::NoneFits { .. }), "{error}");
    }
    let mut allowed = rules(&["lo"], &[]);
    allowed.allow_loopback = true;
    assert_eq!(chosen(&allowed).0, "127.0.0.1");
}

#[test]
fn without_rules_the_route_to_the_broker_decides() {
    let expected = ("10.0.0.5".to_owned(), "the route to the broker".to_owned());
    assert_eq!(chosen(&AddressRules::default()), expected);
}

#[test]
fn a_loopback_route_is_refused_with_both_ways_out_unless_it_was_allowed() {
    let error = choose(&AddressRules::default(), &host(), route("127.0.0.1")).unwrap_err();
    let text = error.to_string();
    for part in ["127.0.0.1", "--allow-loopback", "--advertise", "eth0 10.0.0.5"] {
        assert!(text.contains(part), "`{part}` is missing in `{text}`");
    }
    assert!(!error.is_temporary());
    let allowed = AddressRules { allow_loopback: true, ..AddressRules::default() };
    assert_eq!(choose(&allowed, &host(), route("127.0.0.1")).unwrap().host, "127.0.0.1");
}

#[test]
fn an_unknown_route_is_worth_another_try() {
    for route in [Err("no such host".to_owned()), Ok("0.0.0.0".parse().unwrap())] {
        let error = choose(&AddressRules::default(), &host(), || route.clone()).unwrap_err();
        assert!(error.is_temporary(), "{error}");
    }
}

#[test]
fn a_network_is_read_strictly() {
    for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "/8", "10.0.0.0/-1"] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
    assert_eq!("10.0.0.0/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
}
