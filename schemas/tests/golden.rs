//! Payloads that every later version must read: parsed, written again, and held against the JSON Schema.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use muster_schemas::{
    Event, EventKind, Namespace, Prefix, Subjects, agent, alarm, beacon, change, heartbeat, history, pulse, query,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn json_files(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(name)).expect("the folder is committed");
    entries
        .map(|entry| entry.expect("a readable entry").path())
        .map(|path| {
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), fs::read(&path).expect("readable"))
        })
        .collect()
}

/// The schema that a golden file belongs to: the longest schema name that its name begins with.
fn schema_of<'a>(golden: &str, schemas: &'a BTreeMap<String, Vec<u8>>) -> &'a str {
    let fits = |schema: &&String| golden == schema.as_str() || golden.starts_with(&format!("{schema}."));
    schemas.keys().filter(fits).max_by_key(|name| name.len()).unwrap_or_else(|| panic!("no schema for {golden}"))
}

fn written_again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Value {
    let read: T = serde_json::from_slice(bytes).expect("readable");
    serde_json::to_value(&read).expect("writable")
}

fn event_written_again(kind: EventKind, bytes: &[u8]) -> Value {
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let raw: Value = serde_json::from_slice(bytes).expect("JSON");
    let data = &raw["data"];
    let named = match kind {
        EventKind::Carry => data["entry"].as_object().expect("an entry").values().next().expect("one entry"),
        _ => data,
    };
    let token = |field: &str| named[field].as_str().map_or_else(|| "-".to_owned(), muster_schemas::name::encode_token);
    let sender = raw["source"].as_str().and_then(|source| source.rsplit('/').next()).expect("a source");
    let area = subjects.all_events();
    let area = area.trim_end_matches('>');
    let subject = format!("{area}{}.{}.{}.{sender}", kind.token(), token("service"), token("instance"));
    let event = Event::parse(&subjects, &subject, bytes).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(event.subject(&subjects), subject);
    let bytes = event.encode(subjects.namespace()).expect("within limits");
    assert_eq!(Event::parse(&subjects, &subject, &bytes).as_ref(), Ok(&event));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn read_and_write(schema: &str, bytes: &[u8]) -> Value {
    match schema {
        "heartbeat" => written_again::<heartbeat::Heartbeat>(bytes),
        "mark" => written_again::<heartbeat::Mark>(bytes),
        "change" => written_again::<change::Change>(bytes),
        "pulse" => written_again::<pulse::Pulse>(bytes),
        "beacon" => written_again::<beacon::Beacon>(bytes),
        "alarm" => written_again::<alarm::Alarm>(bytes),
        "query.request" => written_again::<query::Request>(bytes),
        "query.reply" => written_again::<query::Reply>(bytes),
        "query.history" => written_again::<history::HistoryReply>(bytes),
        "query.status" => written_again::<query::Status>(bytes),
        "query.error" => written_again::<query::ErrorReply>(bytes),
        "agent.probe.reply" => written_again::<agent::ProbeReply>(bytes),
        "agent.announce" => written_again::<agent::AnnounceRequest>(bytes),
        "agent.announce.reply" => written_again::<agent::AnnounceReply>(bytes),
        "agent.drain" => written_again::<agent::DrainRequest>(bytes),
        "agent.drain.reply" => written_again::<agent::DrainReply>(bytes),
        "agent.notice" => written_again::<agent::Notice>(bytes),
        event => {
            let kind = event.strip_prefix("event.").and_then(EventKind::from_token);
            event_written_again(kind.unwrap_or_else(|| panic!("{event} is not tested")), bytes)
        }
    }
}

/// Every field of `kept` that carries a value is in `written`, with the same value.
fn assert_kept(path: &str, kept: &Value, written: &Value) {
    match (kept, written) {
        (Value::Object(kept), Value::Object(written)) => {
            for (key, value) in kept {
                let absent = value.is_null() || key == "traceparent";
                match written.get(key) {
                    Some(found) => assert_kept(&format!("{path}.{key}"), value, found),
                    None => assert!(absent, "{path}.{key} was lost"),
                }
            }
        }
        (Value::Array(kept), Value::Array(written)) => {
            assert_eq!(kept.len(), written.len(), "{path}");
            for (index, (kept, written)) in kept.iter().zip(written).enumerate() {
                assert_kept(&format!("{path}[{index}]"), kept, written);
            }
        }
        _ => assert_eq!(kept, written, "{path}"),
    }
}

#[test]
fn every_golden_payload_is_read_and_nothing_in_it_is_lost() {
    let schemas = json_files("json");
    for (name, bytes) in json_files("golden") {
        let written = read_and_write(schema_of(&name, &schemas), &bytes);
        let golden: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_kept(&name, &golden, &written);
    }
}

#[test]
fn every_schema_has_a_golden_payload_and_every_golden_payload_is_valid() {
    let schemas = json_files("json");
    let golden = json_files("golden");
    for schema in schemas.keys() {
        assert!(golden.keys().any(|name| schema_of(name, &schemas) == schema), "no golden payload of {schema}");
    }
    for (name, bytes) in &golden {
        let schema: Value = serde_json::from_slice(&schemas[schema_of(name, &schemas)]).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        let payload: Value = serde_json::from_slice(bytes).expect("JSON");
        let errors: Vec<_> = validator.iter_errors(&payload).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn a_schema_refuses_a_payload_with_a_field_missing_or_wrongly_typed() {
    let schemas = json_files("json");
    let golden = json_files("golden");
    for (name, field) in
        [("heartbeat", "session"), ("change.removed", "digest"), ("pulse", "to"), ("event.register", "data")]
    {
        let schema: Value = serde_json::from_slice(&schemas[schema_of(name, &schemas)]).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        let mut payload: Value = serde_json::from_slice(&golden[name]).expect("JSON");
        assert!(validator.is_valid(&payload), "{name}");
        payload[field] = Value::Bool(true);
        assert!(!validator.is_valid(&payload), "{name} with a wrong {field}");
        payload.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&payload), "{name} without {field}");
    }
}
