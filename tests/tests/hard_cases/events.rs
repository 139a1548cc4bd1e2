//! Events that are against a rule: ignored under a name of their own, counted, told to their sender, and nothing else.

use std::time::Duration;

use muster_schemas::agent::NoticeCode;
use muster_schemas::event::EventKind;
use muster_tests::{eventually, throughout};
use serde_json::{Value, json};

use crate::support::{SOON, World, golden, next_notice, subjects, texts};

const SUBJECT: &str = "muster.default.event.register.orders.web1-8080.web1";

/// A registration without lease, changed at one place.
fn registration(pointer: &str, value: Value) -> Vec<u8> {
    let mut event = golden("event.register.json");
    event["data"]["ttl_ms"] = json!(0);
    event["data"]["linger_ms"] = json!(0);
    if !pointer.is_empty() {
        *event.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    }
    event.to_string().into_bytes()
}

/// One bad event.
struct Bad {
    subject: &'static str,
    payload: Vec<u8>,
    code: NoticeCode,
    /// What its sender is told beside the code: field, value and the way out.
    told: Vec<&'static str>,
}

fn bad(subject: &'static str, payload: impl Into<Vec<u8>>, code: NoticeCode, told: &[&'static str]) -> Bad {
    Bad { subject, payload: payload.into(), code, told: told.to_vec() }
}

fn edited(pointer: &str, value: Value, code: NoticeCode, told: &[&'static str]) -> Bad {
    bad(SUBJECT, registration(pointer, value), code, told)
}

/// Sends each; the sender hears what is wrong with it, and it is counted under its own name alone.
async fn each_is_told_counted_and_changes_nothing(outcome: &str, events: Vec<Bad>) {
    let world = World::start().await;
    let mut notices = world.notices("web1").await;
    let good = world.append(SUBJECT, registration("", Value::Null)).await;
    world.until_folded(good).await;
    let before = world.status().await;
    let mut changes = world.client.subscribe(subjects().all_changes()).await.expect("subscribed");
    let count = events.len() as u64;
    for event in events {
        let shown = String::from_utf8_lossy(&event.payload[..event.payload.len().min(200)]).into_owned();
        world.append(event.subject, event.payload).await;
        let notice = next_notice(&mut notices).await;
        assert_eq!(notice.code, event.code, "{} {shown}", event.subject);
        for part in event.told {
            assert!(notice.help.contains(part), "{part:?} in {:?} about {shown}", notice.help);
        }
    }
    let after = world.status().await;
    let mut expected = before.outcomes.clone();
    *expected.entry(outcome.to_owned()).or_default() += count;
    assert_eq!(after.outcomes, expected);
    world.until_metric(&format!("muster_events_folded_total{{outcome=\"{outcome}\"}}"), count).await;
    assert_eq!((after.digest, after.instances, after.tombstones), (before.digest, 1, 0), "nothing has changed");
    assert_eq!(world.client.server_info().max_payload, 1_048_576);
    let heard = tokio::time::timeout(Duration::ZERO, futures::StreamExt::next(&mut changes)).await;
    assert!(heard.is_err(), "no change: {heard:?}");
}

#[tokio::test]
async fn a_malformed_or_wrongly_typed_event() {
    use NoticeCode::Malformed;
    let events = vec![
        bad(SUBJECT, "{", Malformed, &["event = {", "EOF"]),
        bad(SUBJECT, "", Malformed, &["event = "]),
        bad(SUBJECT, "null", Malformed, &["event = null"]),
        bad(SUBJECT, [0xff, 0xfe, 0x00], Malformed, &["event = "]),
        bad(SUBJECT, "{\"specversion\":\"1.0\",\"id\":\"e1\"}", Malformed, &["missing field `source`"]),
        bad(SUBJECT, "[".repeat(10_000), Malformed, &["event = [["]),
        edited("/specversion", json!("0.3"), Malformed, &["specversion = 0.3", "must be \"1.0\""]),
        edited("/id", json!(7), Malformed, &["event = ", "expected a"]),
        edited("/data/session", json!("not a ulid"), Malformed, &["event = "]),
        edited("/data/generation", json!(0), Malformed, &["data.generation = 0"]),
        edited("/data/generation", json!("1"), Malformed, &["expected u64"]),
        edited("/data/generation", json!(1.5), Malformed, &["expected u64"]),
        edited("/data/ttl_ms", json!(999), Malformed, &["data.ttl_ms = 999", "from 1,000 to 3,600,000"]),
        edited("/data/linger_ms", json!(1), Malformed, &["data.linger_ms = 1"]),
        edited("/data/endpoints/0/port", json!(0), Malformed, &["port = 0"]),
        edited("/data/endpoints/0/host", json!("[::1]"), Malformed, &["host = [::1]"]),
        edited("/data/health/status", json!("fine"), Malformed, &["fine"]),
        edited("/data/service", json!("a\nb"), Malformed, &["control character"]),
        edited("/data", json!({ "service": "orders" }), Malformed, &["missing field"]),
    ];
    each_is_told_counted_and_changes_nothing("malformed", events).await;
}

#[tokio::test]
async fn an_event_whose_subject_is_no_subject_is_malformed_and_its_sender_told_too() {
    use NoticeCode::Malformed;
    let events = vec![
        bad(
            "muster.default.event.register.user%2erpc.web1-8080.web1",
            registration("", Value::Null),
            Malformed,
            &["user%2erpc", "upper case"],
        ),
        bad("muster.default.event.register.-.-.web1", registration("", Value::Null), Malformed, &["reserved"]),
    ];
    each_is_told_counted_and_changes_nothing("malformed", events).await;
}

#[tokio::test]
async fn an_oversize_event() {
    use NoticeCode::Oversize;
    let mut large = registration("", Value::Null);
    large.resize(64 * 1024 + 1, b' ');
    let mut huge = registration("", Value::Null);
    huge.resize(1_000_000, b' ');
    let events = vec![
        bad(SUBJECT, large, Oversize, &["event = 65537", "the limit is 65536"]),
        bad(SUBJECT, huge, Oversize, &["event = 1000000", "the limit is 65536"]),
        edited("/data/tags", json!(vec!["t"; 65]), Oversize, &["data.tags = 65", "the limit is 64"]),
        edited("/data/tags/0", json!("t".repeat(129)), Oversize, &["129", "the limit is 128"]),
        edited("/data/metadata/team", json!("v".repeat(1025)), Oversize, &["1025", "the limit is 1024"]),
        edited("/data/version", json!("v".repeat(129)), Oversize, &["data.version = 129", "the limit is 128"]),
    ];
    each_is_told_counted_and_changes_nothing("oversize", events).await;
}

#[tokio::test]
async fn an_event_that_only_a_later_version_understands() {
    use NoticeCode::UnknownKind;
    let later = json!("io.muster.instance.registered.v2");
    let events = vec![
        edited("/type", later, UnknownKind, &["type = io.muster.instance.registered.v2", "upgrade the registries"]),
        bad(
            "muster.default.event.promote.orders.web1-8080.web1",
            registration("", Value::Null),
            UnknownKind,
            &["\"promote\"", "upgrade the registries"],
        ),
    ];
    each_is_told_counted_and_changes_nothing("unknown_kind", events).await;
}

#[tokio::test]
async fn an_event_whose_subject_envelope_and_data_disagree() {
    use NoticeCode::IdentityMismatch;
    let expected = |pointer: &str, value: &str, told: &[&'static str]| {
        edited(pointer, json!(value), IdentityMismatch, &[&["must agree"], told].concat())
    };
    let events = vec![
        expected("/source", "/muster/default/agent/web2", &["source = ", "/muster/default/agent/web1"]),
        expected("/source", "/muster/prod/agent/web1", &["source = "]),
        expected("/source", "/muster/default/registry/web1", &["source = "]),
        expected("/type", "io.muster.instance.health_changed.v1", &["type = "]),
        expected("/data/service", "users", &["data.service = users", "orders"]),
        expected("/data/instance", "web2-8080", &["data.instance = web2-8080"]),
        expected("/data/agent", "web2", &["data.agent = web2", "web1"]),
    ];
    each_is_told_counted_and_changes_nothing("identity_mismatch", events).await;
}

#[tokio::test]
async fn the_sender_of_a_bad_event_is_told_which_event_and_which_instance_it_was() {
    let world = World::start().await;
    let mut notices = world.notices("web1").await;
    let good = world.append(SUBJECT, registration("", Value::Null)).await;
    world.until_folded(good).await;
    world.append(SUBJECT, registration("/data/weight", json!(-1))).await;
    let notice = next_notice(&mut notices).await;
    assert_eq!(notice.event_id.as_deref(), Some("01KAJ8Q4Y0000000000000000E"));
    assert_eq!(notice.service.as_ref().map(muster_schemas::ServiceName::as_str), Some("orders"));
    assert_eq!(notice.instance.as_ref().map(muster_schemas::InstanceId::as_str), Some("web1-8080"));
    assert_eq!(notice.in_force.map(|(_, generation)| generation), Some(1));
    assert!(notice.stream_time.is_some());
}

#[tokio::test]
async fn an_agent_cannot_say_what_only_registries_and_operators_say() {
    let world = World::start().await;
    let good = world.append(SUBJECT, registration("", Value::Null)).await;
    world.until_folded(good).await;
    let before = world.status().await;
    for name in ["event.epoch.json", "event.expire.json", "event.recovered.json", "event.setting.json"] {
        let mut event = golden(name);
        let kind = EventKind::ALL.into_iter().find(|kind| event["type"] == kind.type_name()).expect("a known kind");
        event["source"] = json!("/muster/default/agent/web1");
        let target = if kind.is_log_wide() { "-.-" } else { "orders.web1-8080" };
        let subject = format!("muster.default.event.{}.{target}.web1", kind.token());
        let sequence = world.append(&subject, event.to_string()).await;
        world.until_folded(sequence).await;
    }
    let after = world.status().await;
    assert_eq!((after.digest, after.epoch, after.fold_version), (before.digest, before.epoch, before.fold_version));
    assert_eq!(after.outcomes["identity_mismatch"], before.outcomes["identity_mismatch"] + 4);
}

#[tokio::test]
async fn fields_that_nobody_knows_are_kept_and_handed_on() {
    let world = World::start().await;
    let mut event = golden("event.register.unknown_fields.json");
    event["data"]["ttl_ms"] = json!(0);
    event["data"]["linger_ms"] = json!(0);
    event["data"]["from_the_future"] = json!({ "deep": [1, null, "ü"] });
    event["data"]["endpoints"][0]["weight_hint"] = json!(3);
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).expect("text").to_owned();
    let (service, instance, agent) = (text("/data/service"), text("/data/instance"), text("/data/agent"));
    let subject = format!("muster.default.event.register.{service}.{instance}.{agent}");
    let sequence = world.append(&subject, event.to_string()).await;
    world.until_folded(sequence).await;
    let held = &world.run_json(&["instances", &service]).await["services"][0]["instances"][0];
    assert_eq!(held["from_the_future"], json!({ "deep": [1, null, "ü"] }));
    assert_eq!(held["endpoints"][0]["weight_hint"], 3);
}

/// Ten thousand bad events are ten thousand counts, and hardly a line in the log.
#[tokio::test]
async fn a_flood_of_bad_events_is_counted_and_not_logged() {
    const FLOOD: u64 = 10_000;
    let world = World::start().await;
    let good = world.append(SUBJECT, registration("", Value::Null)).await;
    world.until_folded(good).await;
    let lines_before = world.registry.lines().len();
    let bad = registration("/data/ttl_ms", json!(999));
    for _ in 1..FLOOD {
        world.client.publish(SUBJECT, bad.clone().into()).await.expect("sent");
    }
    let last = world.append(SUBJECT, bad).await;
    assert_eq!(last, good + FLOOD);
    eventually("all are folded", SOON, async || match world.outcome("malformed").await {
        FLOOD => Ok(()),
        count => Err(format!("{count} are")),
    })
    .await;
    throughout("the registry answers", Duration::from_secs(1), async || {
        world.ask("query.service.orders", "").await.map(|_| ()).map_err(|error| format!("{error:?}"))
    })
    .await;
    let lines = world.registry.lines().split_off(lines_before);
    assert!(lines.len() <= 3, "{} lines:{}", lines.len(), texts(&lines));
    assert_eq!(world.status().await.instances, 1);
    world.run(&["instances", "orders"]).await.expect_code(0);
}
