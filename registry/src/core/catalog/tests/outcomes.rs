//! Every outcome, as the log shows it.

use muster_schemas::EventKind;

use super::*;

fn registered() -> (String, Vec<u8>) {
    let event = Event {
        id: "e".into(),
        source: agent("a"),
        time: None,
        data: EventData::Register(registration(vouching("a", "i", 1, 1))),
    };
    (event.subject(&subjects()), event.encode(&Namespace::default()).unwrap())
}

fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> (String, Vec<u8>) {
    let (subject, payload) = registered();
    let mut value = serde_json::from_slice(&payload).unwrap();
    edit(&mut value);
    (subject, serde_json::to_vec(&value).unwrap())
}

#[track_caller]
fn ignored(event: &(String, Vec<u8>), reason: Reason) {
    let mut bench = Bench::ready();
    let folded = bench.raw(&event.0, &event.1);
    assert_ignored(&folded, reason);
    assert!(folded.detail.is_some());
    assert_eq!(bench.catalog.revision(), bench.sequence);
    assert_eq!(bench.catalog.entries().count(), 0);
}

#[test]
fn what_is_no_event_is_malformed() {
    let (subject, _) = registered();
    ignored(&(subject.clone(), b"{".to_vec()), Reason::Malformed);
    ignored(&(subject, Vec::new()), Reason::Malformed);
    ignored(&("muster.default.change.orders".into(), b"{}".to_vec()), Reason::Malformed);
    ignored(&("elsewhere".into(), b"{}".to_vec()), Reason::Malformed);
    ignored(&edited(|event| event["data"]["ttl_ms"] = 999.into()), Reason::Malformed);
    ignored(
        &edited(|event| event["data"]["maintenance"] = serde_json::json!({ "who": "a", "why": "" })),
        Reason::Malformed,
    );
}

#[test]
fn what_is_over_a_limit_is_oversize() {
    ignored(&edited(|event| event["data"]["tags"] = vec!["t"; 65].into()), Reason::Oversize);
    let (subject, payload) = registered();
    let padding = vec![b' '; 64 * 1024];
    ignored(&(subject, [payload, padding].concat()), Reason::Oversize);
}

#[test]
fn subject_envelope_and_data_must_agree() {
    ignored(&edited(|event| event["source"] = "/muster/default/agent/b".into()), Reason::IdentityMismatch);
    ignored(&edited(|event| event["source"] = "/muster/other/agent/a".into()), Reason::IdentityMismatch);
    ignored(&edited(|event| event["data"]["agent"] = "b".into()), Reason::IdentityMismatch);
    ignored(&edited(|event| event["data"]["service"] = "users".into()), Reason::IdentityMismatch);
    ignored(&edited(|event| event["type"] = EventKind::Health.type_name().into()), Reason::IdentityMismatch);
}

#[test]
fn what_this_version_does_not_know_is_an_unknown_kind() {
    let (subject, payload) = registered();
    ignored(&(subject.replace(".register.", ".applaud."), payload), Reason::UnknownKind);
    ignored(&edited(|event| event["type"] = "io.muster.instance.registered.v2".into()), Reason::UnknownKind);
}

#[test]
fn outcomes_have_words_of_their_own() {
    let words: std::collections::BTreeSet<&str> = Outcome::all_words().collect();
    assert_eq!(words.len(), 2 + Reason::ALL.len());
    assert_eq!(Outcome::Accepted(EventKind::Register).as_str(), "accepted");
    assert_eq!(Outcome::NoOp(EventKind::Register).as_str(), "no_op");
    assert_eq!(Outcome::Ignored(Reason::Stale).as_str(), "stale");
}

#[test]
fn an_event_of_another_namespace_is_none_of_ours() {
    let mut bench = Bench::ready();
    let (subject, payload) = registered();
    let folded = bench.raw(&subject.replace(".default.", ".other."), &payload);
    assert_ignored(&folded, Reason::Malformed);
}
