//! Lists and watches, from a registry that works.

use std::collections::BTreeSet;

use futures::StreamExt;
use muster_discovery::{Cause, Discovery, Update};
use muster_tests::NatsServer;
use tokio::task::JoinSet;

use crate::support::{Mirror, Place, SOON, subjects, until_verified, versions};

#[tokio::test]
async fn a_watch_delivers_the_list_and_every_change_with_its_cause_until_the_service_is_proven_empty() {
    let place = Place::start().await;
    place.put("orders", "a", "1").await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let mut watch = discovery.watch("orders").expect("a name");
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "1")])).await;
    assert!(mirror.changes.is_empty(), "the first delivery is the whole list");

    place.put("orders", "b", "1").await;
    place.put("orders", "a", "2").await;
    mirror.until(&mut watch, &versions(&[("a", "2"), ("b", "1")])).await;
    place.remove("orders", "a").await;
    place.remove("orders", "b").await;
    mirror.until(&mut watch, &versions(&[])).await;
    let told: Vec<String> = mirror.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "added orders/b: registered by agent/agent-1",
            "updated orders/a: updated by agent/agent-1",
            "removed orders/a: deregistered by agent/agent-1",
            "removed orders/b: deregistered by agent/agent-1",
        ]
    );
    let before = mirror.changes[3].before().expect("the old value");
    assert_eq!(before.registration.version.as_deref(), Some("1"));
    assert!(discovery.instances("orders").await.expect("a list").is_proven_empty());
}

#[tokio::test]
async fn a_service_that_nobody_registered_is_proven_empty_and_a_name_with_dots_is_a_name() {
    let place = Place::start().await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    assert!(discovery.instances("user.rpc v2/é").await.expect("a list").is_proven_empty());
    place.put("user.rpc v2/é", "a", "1").await;
    until_verified(&discovery, "user.rpc v2/é", &versions(&[("a", "1")])).await;
}

#[tokio::test]
async fn a_list_larger_than_a_message_is_pulled_in_chunks_of_one_revision() {
    let broker = NatsServer::builder().settings("max_payload: 32768").start().await;
    let place = Place::on(broker, 1).await;
    let mut wanted = versions(&[]);
    let mut last = 0;
    for number in 0..300 {
        let id = format!("instance-{number}");
        last = place.put("orders", &id, "1").await;
        place.put("users", &id, "1").await;
        wanted.insert(id, "1".to_owned());
    }
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    until_verified(&discovery, "orders", &wanted).await;
    let all = discovery.all_instances().await.expect("a list");
    assert_eq!((all.len(), all.is_verified()), (600, true));
    assert!(all.revision().is_some_and(|revision| revision.sequence() > last));
}

#[tokio::test]
async fn a_watch_of_all_services_sees_each_of_them() {
    let place = Place::start().await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let mut watch = discovery.watch_all();
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[])).await;
    place.put("orders", "a", "1").await;
    place.put("users", "b", "1").await;
    mirror.until(&mut watch, &versions(&[("a", "1"), ("b", "1")])).await;
    assert_eq!(mirror.changes.iter().map(|change| change.service().as_str()).collect::<Vec<_>>(), ["orders", "users"]);
}

#[tokio::test]
async fn a_filtered_watch_sees_an_instance_leave_with_the_true_cause() {
    let place = Place::start().await;
    place.put("orders", "a", "1").await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let mut ones = discovery.watch("orders").expect("a name").version("1");
    let mut mirror = Mirror::default();
    mirror.until(&mut ones, &versions(&[("a", "1")])).await;
    place.put("orders", "a", "2").await;
    mirror.until(&mut ones, &versions(&[])).await;
    let change = mirror.changes.last().expect("a change");
    assert_eq!((change.as_str(), change.cause()), ("removed", Cause::Updated));
}

#[tokio::test]
async fn an_existing_connection_serves_as_well() {
    let place = Place::start().await;
    place.put("orders", "a", "1").await;
    let client = place.broker.connect().await;
    let discovery = Discovery::builder().client(client).connect().await.expect("connected");
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
    let first = tokio::time::timeout(SOON, discovery.watch("orders").expect("a name").next()).await;
    assert!(matches!(first, Ok(Some(Update::List(list))) if list.len() == 1));
}

#[tokio::test]
async fn of_many_lists_wanted_at_once_a_few_are_asked_for_at_a_time() {
    let broker = NatsServer::start().await;
    let silent = broker.connect().await;
    let mut fewest = usize::MAX;
    // A machine that stands still for longer than a question lasts sees the next ones early; not three times in a row.
    for _ in 0..3 {
        let mut questions = silent.subscribe(subjects().query_wildcard("service.*")).await.expect("a subscription");
        silent.flush().await.expect("the server has it");
        let discovery = Discovery::connect(broker.url()).await.expect("connected");
        let mut readers = JoinSet::new();
        for number in 0..40 {
            let discovery = discovery.clone();
            readers.spawn(async move { discovery.instances(format!("s{number}")).await.map(drop) });
        }
        // A question that nobody answers is repeated before it ends: until then no other takes its turn.
        let mut asked = BTreeSet::new();
        loop {
            let question = tokio::time::timeout(SOON, questions.next()).await.expect("in time").expect("a question");
            if !asked.insert(question.subject) {
                break;
            }
        }
        fewest = fewest.min(asked.len());
    }
    assert!(fewest <= 8, "{fewest} at once");
}
