//! What a reader of events refuses, and that the refusal names field, value and way out.

use muster_schemas::refusal::RefusalKind::{IdentityMismatch, Malformed, Oversize, UnknownKind};
use muster_schemas::refusal::{Refusal, RefusalKind};
use muster_schemas::{Event, Namespace, Prefix, Subjects};
use serde_json::{Value, json};

const SUBJECT: &str = "muster.default.event.register.orders.web1-8080.web1";

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/event.register.json")).expect("JSON")
}

fn parse_at(subject: &str, payload: &[u8]) -> Result<Event, Refusal> {
    Event::parse(&Subjects::new(Prefix::default(), Namespace::default()), subject, payload)
}

fn refused(pointer: &str, value: Value) -> (RefusalKind, String) {
    let mut event = golden();
    *event.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    let refusal = parse_at(SUBJECT, event.to_string().as_bytes()).expect_err(pointer);
    assert!(!refusal.help.is_empty(), "{pointer}: no way out");
    (refusal.kind, refusal.field)
}

#[test]
fn the_golden_registration_is_accepted() {
    assert!(parse_at(SUBJECT, golden().to_string().as_bytes()).is_ok());
}

#[test]
fn what_is_not_an_event_is_malformed() {
    for payload in ["", "null", "[]", "{", "\u{feff}{}", "{\"specversion\":\"1.0\"}"] {
        assert_eq!(parse_at(SUBJECT, payload.as_bytes()).expect_err(payload).kind, Malformed, "{payload:?}");
    }
    assert_eq!(parse_at(SUBJECT, &[0xff, 0xfe]).expect_err("bytes").kind, Malformed);
}

#[test]
fn subject_envelope_and_data_must_name_the_same_sender_service_and_instance() {
    let cases = [
        ("/source", json!("/muster/default/agent/web2"), "source"),
        ("/source", json!("/muster/prod/agent/web1"), "source"),
        ("/source", json!("/muster/default/registry/web1"), "source"),
        ("/type", json!("io.muster.instance.health_changed.v1"), "type"),
        ("/data/service", json!("users"), "data.service"),
        ("/data/instance", json!("web2-8080"), "data.instance"),
        ("/data/agent", json!("web2"), "data.agent"),
    ];
    for (pointer, value, field) in cases {
        assert_eq!(refused(pointer, value), (IdentityMismatch, field.into()), "{pointer}");
    }
}

#[test]
fn a_type_of_a_later_version_is_unknown_and_not_malformed() {
    assert_eq!(refused("/type", json!("io.muster.instance.registered.v2")), (UnknownKind, "type".into()));
    let subject = "muster.default.event.promote.orders.web1-8080.web1";
    assert_eq!(parse_at(subject, b"{}").expect_err("unknown").kind, UnknownKind);
}

#[test]
fn wrong_types_and_values_against_a_rule_are_malformed() {
    let cases = [
        ("/specversion", json!("0.3")),
        ("/id", json!("")),
        ("/id", json!(7)),
        ("/data", json!("text")),
        ("/data/service", json!(5)),
        ("/data/session", json!("01kaj8q1v0000000000000000b")),
        ("/data/incarnation", json!("not a ulid")),
        ("/data/generation", json!(0)),
        ("/data/generation", json!(9_007_199_254_740_992_u64)),
        ("/data/generation", json!(1.5)),
        ("/data/ttl_ms", json!(999)),
        ("/data/ttl_ms", json!(3_600_001)),
        ("/data/ttl_ms", json!(-1)),
        ("/data/linger_ms", json!(10_001)),
        ("/data/weight", json!(65_536)),
        ("/data/endpoints/0/port", json!(0)),
        ("/data/endpoints/0/port", json!(70_000)),
        ("/data/endpoints/0/host", json!("[::1]")),
        ("/data/endpoints/0/host", json!("300.1.1.1")),
        ("/data/endpoints/0/host", json!("-a.example")),
        ("/data/endpoints/0/host", Value::Null),
        ("/data/endpoints/0/name", json!("")),
        ("/data/health/status", json!("fine")),
        ("/data/metadata", json!({ "muster.x": "reserved" })),
    ];
    for (pointer, value) in cases {
        assert_eq!(refused(pointer, value.clone()).0, Malformed, "{pointer} = {value}");
    }
    let endpoint = json!({ "name": "http", "scheme": "http", "host": "h", "port": 1 });
    assert_eq!(refused("/data/endpoints", json!([endpoint, endpoint])).0, Malformed, "names are unique");
}

#[test]
fn whatever_is_over_a_limit_is_refused_with_size_and_limit() {
    let endpoints: Vec<Value> =
        (0..65).map(|n| json!({ "name": format!("e{n}"), "scheme": "tcp", "host": "h", "port": 1 })).collect();
    let metadata: Value = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        ("/data/endpoints", json!(endpoints)),
        ("/data/tags", json!(vec!["t"; 65])),
        ("/data/tags/0", json!("t".repeat(129))),
        ("/data/metadata", metadata),
        ("/data/metadata/team", json!("v".repeat(1025))),
        ("/data/metadata", json!({ "k".repeat(129): "v" })),
        ("/data/version", json!("v".repeat(129))),
        ("/data/health/checks/0/output", json!("o".repeat(1025))),
    ];
    for (pointer, value) in cases {
        assert_eq!(refused(pointer, value).0, Oversize, "{pointer}");
    }
    let mut event = golden();
    event["extension"] = json!("x".repeat(64 * 1024));
    let refusal = parse_at(SUBJECT, event.to_string().as_bytes()).expect_err("oversize");
    assert_eq!((refusal.kind, refusal.field.as_str()), (Oversize, "event"));
    assert!(refusal.help.contains("65536"), "{}", refusal.help);
}

#[test]
fn just_within_the_limits_is_accepted() {
    let mut event = golden();
    event["data"]["tags"] = json!(vec!["t".repeat(128); 64]);
    event["data"]["version"] = json!("v".repeat(128));
    event["data"]["metadata"] = json!({ "k".repeat(128): "v".repeat(1024) });
    event["data"]["ttl_ms"] = json!(3_600_000);
    assert!(parse_at(SUBJECT, event.to_string().as_bytes()).is_ok());
}

#[test]
fn an_agent_cannot_write_what_only_a_registry_writes() {
    let mut event = golden();
    event["data"]["modified_revision"] = json!(7);
    assert_eq!(parse_at(SUBJECT, event.to_string().as_bytes()).expect_err("refused").kind, Malformed);
}

#[test]
fn an_eviction_must_name_the_incarnation_that_was_read() {
    let mut event: Value = serde_json::from_str(include_str!("../golden/event.intent.evict.json")).expect("JSON");
    let subject = "muster.default.event.intent.orders.web1-8080.alice";
    assert!(parse_at(subject, event.to_string().as_bytes()).is_ok());
    event["data"].as_object_mut().expect("data").remove("incarnation");
    assert_eq!(parse_at(subject, event.to_string().as_bytes()).expect_err("refused").field, "data.incarnation");
}

#[test]
fn an_intent_of_another_operator_than_its_sender_is_refused() {
    let event: Value = serde_json::from_str(include_str!("../golden/event.intent.evict.json")).expect("JSON");
    let subject = "muster.default.event.intent.orders.web1-8080.mallory";
    assert_eq!(parse_at(subject, event.to_string().as_bytes()).expect_err("refused").kind, IdentityMismatch);
}
