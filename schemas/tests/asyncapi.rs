//! `asyncapi.yaml` is valid AsyncAPI 3, its examples are the golden payloads and fit their schemas, and its channels are
//! exactly the subjects that the code builds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_schemas::subject::Subject;
use muster_schemas::{EventKind, Namespace, Prefix, Subjects};
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn document() -> Value {
    serde_saphyr::from_str(&read("asyncapi.yaml")).expect("YAML")
}

fn errors(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).expect("a valid schema");
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_document_is_valid_asyncapi_3() {
    let official = json("vendor/asyncapi/asyncapi-3.0.0.json");
    assert_eq!(errors(&official, &document()), Vec::<String>::new());
}

#[test]
fn the_official_schema_refuses_a_broken_document() {
    let official = json("vendor/asyncapi/asyncapi-3.0.0.json");
    let mut broken = document();
    broken["operations"]["beat"]["action"] = Value::from("shout");
    assert_ne!(errors(&official, &broken), Vec::<String>::new());
}

#[test]
fn every_example_is_a_golden_payload_and_fits_its_message_schema() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    let mut examples = 0;
    for (id, message) in messages {
        let Some(reference) = message["payload"]["schema"]["$ref"].as_str() else {
            assert_eq!(id, "agent_probe", "only a probe has no body");
            continue;
        };
        let schema = json(reference);
        for example in message["examples"].as_array().unwrap_or_else(|| panic!("{id} has no example")) {
            let name = example["name"].as_str().expect("a name");
            assert_eq!(example["payload"], json(&format!("golden/{name}.json")), "{name}");
            assert_eq!(errors(&schema, &example["payload"]), Vec::<String>::new(), "{name}");
            examples += 1;
        }
    }
    assert!(examples >= 30, "{examples} examples");
}

#[test]
fn every_reference_within_the_document_leads_somewhere() {
    fn visit(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    match reference.strip_prefix('#') {
                        Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere"),
                        None => assert!(json(reference).is_object(), "{reference} is no schema"),
                    }
                }
                fields.iter().filter(|(key, _)| *key != "examples").for_each(|(_, value)| visit(document, value));
            }
            Value::Array(items) => items.iter().for_each(|item| visit(document, item)),
            _ => {}
        }
    }
    let document = document();
    visit(&document, &document);
}

#[test]
fn every_channel_is_a_subject_that_the_code_understands_and_the_other_way_round() {
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let document = document();
    let mut seen = BTreeMap::new();
    for (id, channel) in document["channels"].as_object().expect("channels") {
        let Some(address) = channel["address"].as_str() else {
            continue;
        };
        let example = address
            .replace("{prefix}", "muster")
            .replace("{namespace}", "default")
            .replace("{bucket}", "17")
            .replace(['{', '}'], "");
        let parsed = subjects.parse(&example).unwrap_or_else(|error| panic!("{id}: {error}"));
        let kind = match parsed {
            Subject::Event { kind, .. } => format!("event_{}", kind.token()),
            Subject::Heartbeat(_) => "heartbeat".into(),
            Subject::Mark(_) => "mark".into(),
            Subject::Change(_) => "change".into(),
            Subject::Pulse(_) => "pulse".into(),
            Subject::Beacon(_) => "beacon".into(),
            Subject::Alarm(_) => "alarm".into(),
            Subject::Query(_) => id.clone(),
            Subject::Agent(_, verb) => format!("agent_{}", verb.as_str()),
        };
        assert_eq!(*id, kind, "{address}");
        seen.insert(kind, address.to_owned());
    }
    for kind in EventKind::ALL {
        assert!(seen.contains_key(&format!("event_{}", kind.token())), "{} has no channel", kind.token());
    }
}
