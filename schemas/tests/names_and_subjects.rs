//! Names, tokens and subjects: what is parsed is what was built, and nothing else is accepted.

use muster_schemas::event::Sender;
use muster_schemas::name::{NameError, decode_token, encode_token};
use muster_schemas::subject::{BeatFrom, Query, Subject, SubjectError, Verb};
use muster_schemas::{
    AgentId, EventKind, InstanceId, Namespace, OperatorName, Prefix, ReplicaId, ServiceName, Subjects,
};
use proptest::prelude::*;

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

fn name() -> impl Strategy<Value = String> {
    let text = prop_oneof![4 => "[a-zA-Z0-9_.:/ -]{1,40}", 1 => "\\PC{1,14}", 1 => "[*>.%]{1,20}"];
    text.prop_filter("a name", |text| ServiceName::new(text).is_ok())
}

fn sender(kind: EventKind, name: &str) -> Sender {
    Sender::from_token(kind.sender_class(), &encode_token(name)).expect("a sender")
}

proptest! {
    #[test]
    fn every_subject_that_is_built_is_parsed_to_what_it_was_built_from(
        service in name(), instance in name(), other in name(), which in 0..EventKind::ALL.len(), bucket in 0_u8..64,
    ) {
        let subjects = subjects();
        let service = ServiceName::new(&service).expect("a name");
        let instance = InstanceId::new(&instance).expect("a name");
        let agent = AgentId::new(&other).expect("a name");
        let replica = ReplicaId::new(&other).expect("a name");
        let kind = EventKind::ALL[which];
        let target = (!kind.is_log_wide()).then(|| (service.clone(), instance.clone()));
        let from = sender(kind, &other);
        let event = subjects.event(kind, target.as_ref().map(|(service, instance)| (service, instance)), &from);
        let mut cases = vec![
            (event, Subject::Event { kind, target, sender: from }),
            (subjects.heartbeat(&agent), Subject::Heartbeat(agent.clone())),
            (subjects.mark(&replica), Subject::Mark(replica.clone())),
            (subjects.change(&service), Subject::Change(service.clone())),
            (subjects.pulse(bucket), Subject::Pulse(bucket)),
            (subjects.beacon(&replica), Subject::Beacon(replica.clone())),
            (subjects.alarm(&other), Subject::Alarm(other.clone())),
        ];
        cases.extend(Verb::ALL.map(|verb| (subjects.to_agent(&agent, verb), Subject::Agent(agent.clone(), verb))));
        cases.extend([
            Query::Services, Query::Service(service.clone()), Query::Instance(service.clone(), instance.clone()),
            Query::Snapshot, Query::Status, Query::History(service.clone(), None),
            Query::History(service, Some(instance)), Query::Next(replica, other),
        ].map(|query| (subjects.query(&query), Subject::Query(query))));
        for (text, expected) in cases {
            prop_assert_eq!(subjects.parse(&text), Ok(expected), "{}", text);
        }
    }

    #[test]
    fn the_sender_of_a_heartbeat_or_mark_is_seen_without_parsing_its_name(name in name()) {
        let subjects = subjects();
        let agent = AgentId::new(&name).expect("a name");
        let replica = ReplicaId::new(&name).expect("a name");
        let (heartbeat, mark, beacon) = (subjects.heartbeat(&agent), subjects.mark(&replica), subjects.beacon(&replica));
        let token = encode_token(&name);
        prop_assert_eq!(subjects.beat_from(&heartbeat), Some(BeatFrom::Agent(token.as_str())));
        prop_assert_eq!(subjects.beat_from(&mark), Some(BeatFrom::Replica(token.as_str())));
        prop_assert_eq!(subjects.beat_from(&beacon), None);
    }

    #[test]
    fn a_token_is_decoded_only_if_it_is_the_one_that_the_encoder_writes(text in "[a-zA-Z0-9%._\\-é ]{0,20}") {
        if let Ok(name) = decode_token(&text) {
            prop_assert_eq!(encode_token(&name), text);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(muster\\.default\\.)?[a-z.%>*-]{0,60}") {
        let _ = subjects().parse(&text);
    }
}

#[test]
fn dots_slashes_and_unicode_are_percent_encoded_in_upper_case_hex() {
    assert_eq!(encode_token("user.rpc"), "user%2Erpc");
    assert_eq!(encode_token("a/b c"), "a%2Fb%20c");
    assert_eq!(encode_token("ü"), "%C3%BC");
    assert!(decode_token("user%2erpc").is_err(), "lower-case hex");
    assert!(decode_token("%61").is_err(), "an encoded letter");
    assert!(decode_token("a.b").is_err(), "a bare dot");
    assert!(decode_token("%FF").is_err(), "not UTF-8");
}

#[test]
fn a_name_has_at_most_128_bytes_after_encoding() {
    assert!(ServiceName::new(&"a".repeat(128)).is_ok());
    assert!(matches!(ServiceName::new(&"a".repeat(129)), Err(NameError::TooLong { bytes: 129, max: 128, .. })));
    let dots = format!("{}{}", ".".repeat(42), "aa");
    assert_eq!(ServiceName::new(&dots).map(|name| name.token().len()), Ok(128));
    assert!(matches!(ServiceName::new(&format!("{dots}a")), Err(NameError::TooLong { bytes: 129, .. })));
}

#[test]
fn empty_reserved_and_control_names_are_refused_with_the_way_out() {
    for (text, expected) in [("", "empty"), ("-", "reserved"), ("a\nb", "control"), ("a\0b", "control")] {
        let message = OperatorName::new(text).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_namespace_is_plain_and_short() {
    assert!("prod-eu_1".parse::<Namespace>().is_ok());
    assert!(matches!("a.b".parse::<Namespace>(), Err(NameError::Characters { .. })));
    assert!(matches!("a".repeat(33).parse::<Namespace>(), Err(NameError::TooLong { bytes: 33, max: 32, .. })));
}

#[test]
fn subjects_of_other_namespaces_kinds_and_shapes_are_told_apart() {
    let subjects = subjects();
    assert!(matches!(subjects.parse("other.default.change.a"), Err(SubjectError::Foreign { .. })));
    assert!(matches!(subjects.parse("muster.prod.change.a"), Err(SubjectError::Foreign { .. })));
    let future = subjects.parse("muster.default.event.promote.orders.web1.web1");
    assert_eq!(future, Err(SubjectError::UnknownKind { kind: "promote".into() }));
    for text in
        ["muster.default.pulse.64", "muster.default.pulse.07", "muster.default.query.all", "muster.default.change"]
    {
        assert!(matches!(subjects.parse(text), Err(SubjectError::Unknown { .. })), "{text}");
    }
    assert!(matches!(subjects.parse("muster.default.change.a%2eb"), Err(SubjectError::Name(_))));
    assert!(matches!(subjects.parse("muster.default.event.register.-.-.web1"), Err(SubjectError::Name(_))));
}

#[test]
fn the_stream_is_named_after_prefix_and_namespace() {
    assert_eq!(subjects().stream_name(), "MUSTER_default");
}
