//! Reading in one pass is held against what serde derives from the types: the same values, the same bytes, the same errors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// As serde would read it by the types alone, level by level.
#[derive(Deserialize)]
#[serde(expecting = "struct Instance")]
struct Nested {
    #[serde(flatten)]
    registration: NestedRegistration,
    created_revision: u64,
    modified_revision: u64,
    #[serde(default)]
    maintenance: Option<Box<Maintenance>>,
}

#[derive(Deserialize)]
struct NestedRegistration {
    #[serde(flatten)]
    vouching: Vouching,
    ttl_ms: u64,
    #[serde(default)]
    linger_ms: u64,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    endpoints: Vec<NestedEndpoint>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default = "default_weight")]
    weight: u16,
    #[serde(default)]
    locality: Option<NestedLocality>,
    #[serde(default)]
    node: Option<NestedNode>,
    #[serde(default)]
    health: Health,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "struct Endpoint")]
struct NestedEndpoint {
    name: String,
    scheme: String,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "struct Locality")]
struct NestedLocality {
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "struct Node")]
struct NestedNode {
    #[serde(default)]
    id: Option<String>,
    name: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

fn kept(fields: BTreeMap<String, Value>) -> Extra {
    let mut extra = Extra::new();
    fields.into_iter().for_each(|(name, value)| drop(extra.insert(name, value)));
    extra
}

impl From<Nested> for Instance {
    fn from(nested: Nested) -> Self {
        let Nested { registration, created_revision, modified_revision, maintenance } = nested;
        let endpoint = |from: NestedEndpoint| Endpoint {
            name: from.name.into(),
            scheme: from.scheme.into(),
            host: from.host.map(Into::into),
            port: from.port,
            subject: from.subject.map(Into::into),
            extra: kept(from.extra),
        };
        let locality = |from: NestedLocality| Locality {
            region: from.region.map(Into::into),
            zone: from.zone.map(Into::into),
            extra: kept(from.extra),
        };
        let node = |from: NestedNode| Node {
            id: from.id.map(Into::into),
            name: from.name.into(),
            address: from.address.map(Into::into),
            extra: kept(from.extra),
        };
        let registration = Registration {
            vouching: registration.vouching,
            ttl_ms: registration.ttl_ms,
            linger_ms: registration.linger_ms,
            version: registration.version.map(Into::into),
            endpoints: registration.endpoints.into_iter().map(endpoint).collect(),
            tags: registration.tags.into_iter().map(Into::into).collect(),
            metadata: registration.metadata.into(),
            weight: registration.weight,
            locality: registration.locality.map(locality).map(Into::into),
            node: registration.node.map(node).map(Into::into),
            health: registration.health,
            extra: kept(registration.extra),
        };
        Self { registration, created_revision, modified_revision, maintenance }
    }
}

fn nested(text: &str) -> Result<Instance, serde_json::Error> {
    serde_json::from_str::<Nested>(text).map(Instance::from)
}

fn flat(text: &str) -> Result<Instance, serde_json::Error> {
    serde_json::from_str(text)
}

fn largest() -> Map<String, Value> {
    let value = json!({
        "service": "orders", "instance": "a", "agent": "web1", "session": "01J00000000000000000000001",
        "incarnation": "01J00000000000000000000001", "generation": 1, "ttl_ms": 10,
        "linger_ms": 5, "version": "1", "tags": ["t"], "metadata": { "k": "v" }, "weight": 7,
        "endpoints": [{ "name": "http", "scheme": "http", "host": "h", "port": 80, "new": 1 }],
        "locality": { "region": "r", "zone": "z", "new": 2 }, "node": { "id": "i", "name": "n", "address": "a" },
        "health": { "status": "warning" }, "maintenance": { "who": "ada", "why": "disk" },
        "from-elsewhere": { "deep": [0.1] }, "created_revision": 2, "modified_revision": 3,
    });
    value.as_object().cloned().unwrap_or_default()
}

/// What went wrong, without the place where it was noticed.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(0)),
        Just(json!(1.5)),
        Just(json!(1e300)),
        Just(json!(70_000)),
        Just(json!(u64::MAX)),
        Just(json!("")),
        Just(json!("01J00000000000000000000001")),
        Just(json!("a b\u{0}\u{1f980}")),
        Just(json!([])),
        Just(json!([1, "x"])),
        Just(json!({})),
        Just(json!({ "name": 1 })),
        Just(json!({ "status": "odd" })),
        Just(json!({ "a": { "b": [null] } })),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let mut keys: Vec<String> = largest().keys().cloned().collect();
    keys.push("unheard-of".into());
    prop::sample::select(keys)
}

#[test]
fn nothing_that_is_known_is_taken_for_unknown() {
    let instance = flat(&Value::from(largest()).to_string()).unwrap();
    assert_eq!(instance.registration.extra.keys().collect::<Vec<_>>(), ["from-elsewhere"]);
    assert_eq!(Value::from(largest()), serde_json::to_value(&instance).unwrap(), "and nothing is lost");
}

#[test]
fn a_field_twice_an_array_and_text_that_ends_early_are_read_alike() {
    let whole = Value::from(largest()).to_string();
    let twice = |field: &str| whole.replacen('{', &format!("{{{field},"), 1);
    let mut texts: Vec<String> = (0..whole.len()).step_by(7).map(|end| whole[..end].to_owned()).collect();
    texts.extend([r#""ttl_ms":1"#, r#""service":"x""#, r#""created_revision":1"#, r#""new":1,"new":2"#].map(twice));
    texts.extend(["[]", "null", "1", "[\"orders\"]"].map(str::to_owned));
    for text in texts {
        match (flat(&text), nested(&text)) {
            (Ok(flat), Ok(nested)) => assert_eq!(flat, nested, "{text}"),
            (Err(flat), Err(nested)) => {
                assert_eq!((flat.classify(), reason(&flat)), (nested.classify(), reason(&nested)), "{text}");
            }
            (flat, nested) => panic!("{text}: {flat:?} but {nested:?}"),
        }
    }
}

proptest! {
    #[test]
    fn one_odd_field_gives_the_same_value_and_bytes_or_the_same_error(
        key in key(),
        odd in prop::option::of(odd_value()),
    ) {
        let mut object = largest();
        match odd {
            Some(odd) => drop(object.insert(key, odd)),
            None => drop(object.remove(&key)),
        }
        let text = Value::from(object).to_string();
        match (flat(&text), nested(&text)) {
            (Ok(flat), Ok(nested)) => {
                prop_assert_eq!(serde_json::to_vec(&flat).unwrap(), serde_json::to_vec(&nested).unwrap());
                prop_assert_eq!(flat, nested);
            }
            (Err(flat), Err(nested)) => prop_assert_eq!(reason(&flat), reason(&nested)),
            (flat, nested) => prop_assert!(false, "{}: {:?} but {:?}", text, flat, nested),
        }
    }

    #[test]
    fn many_odd_fields_in_any_order_give_the_same_value_or_an_error_in_both(
        changes in prop::collection::vec((key(), prop::option::of(odd_value())), 0..6),
        order in any::<prop::sample::Index>(),
    ) {
        let mut object = largest();
        for (key, odd) in changes {
            match odd {
                Some(odd) => drop(object.insert(key, odd)),
                None => drop(object.remove(&key)),
            }
        }
        let mut fields: Vec<String> = object.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        if !fields.is_empty() {
            let middle = order.index(fields.len());
            fields.rotate_left(middle);
        }
        let text = format!("{{{}}}", fields.join(","));
        match (flat(&text), nested(&text)) {
            (Ok(flat), Ok(nested)) => prop_assert_eq!(flat, nested),
            (Err(_), Err(_)) => {}
            (flat, nested) => prop_assert!(false, "{}: {:?} but {:?}", text, flat, nested),
        }
    }
}
