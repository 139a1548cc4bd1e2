//! What a test can do to its server, and what is then there.

use async_nats::jetstream::{self, stream::Config};
use futures::StreamExt;

use super::*;

async fn stream_with(server: &NatsServer, messages: u64) {
    let context = jetstream::new(server.connect().await);
    let config = Config { name: "LOG".into(), subjects: vec!["log".into()], ..Config::default() };
    context.get_or_create_stream(config).await.unwrap();
    for _ in 0..messages {
        context.publish("log", "message".into()).await.unwrap().await.unwrap();
    }
}

/// How many messages the stream holds; `None` without a stream.
async fn messages_in(server: &NatsServer) -> Option<u64> {
    let context = jetstream::new(server.connect().await);
    let stream = context.get_stream("LOG").await.ok()?;
    Some(stream.get_info().await.unwrap().state.messages)
}

#[tokio::test]
async fn two_servers_run_side_by_side() {
    let (first, second) = (NatsServer::start().await, NatsServer::start().await);
    assert_ne!(first.port(), second.port());
    stream_with(&first, 1).await;
    assert_eq!((messages_in(&first).await, messages_in(&second).await), (Some(1), None));
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let mut server = NatsServer::builder().fixed_port().start().await;
    stream_with(&server, 3).await;
    let url = server.url();
    server.kill();
    assert!(async_nats::connect(&url).await.is_err(), "a killed server accepts connections");
    server.restart().await;
    assert_eq!((server.url(), messages_in(&server).await), (url, Some(3)));
}

#[tokio::test]
async fn a_wiped_store_is_empty() {
    let mut server = NatsServer::builder().fixed_port().start().await;
    stream_with(&server, 3).await;
    server.stop().await;
    server.wipe_store();
    server.restart().await;
    assert_eq!(messages_in(&server).await, None);
}

#[tokio::test]
async fn a_restored_store_holds_what_it_held_when_it_was_copied() {
    let mut server = NatsServer::builder().fixed_port().start().await;
    stream_with(&server, 3).await;
    server.stop().await;
    let backup = server.copy_store();
    server.restart().await;
    stream_with(&server, 2).await;
    assert_eq!(messages_in(&server).await, Some(5));
    server.stop().await;
    server.restore_store(&backup);
    server.restart().await;
    assert_eq!(messages_in(&server).await, Some(3));
}

#[tokio::test]
async fn a_frozen_server_answers_after_it_is_thawed() {
    let server = NatsServer::start().await;
    let client = server.connect().await;
    let mut subscriber = client.subscribe("greeting").await.unwrap();
    server.freeze();
    client.publish("greeting", "hello".into()).await.unwrap();
    client.flush().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), next_text(&mut subscriber)).await;
    assert!(early.is_err(), "a frozen server delivered a message");
    server.thaw();
    let late = tokio::time::timeout(Duration::from_secs(5), next_text(&mut subscriber)).await;
    assert_eq!(late.expect("a thawed server delivers"), "hello");
}

async fn next_text(subscriber: &mut async_nats::Subscriber) -> String {
    let message = subscriber.next().await.expect("the subscription goes on");
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[tokio::test]
async fn settings_reach_the_server() {
    let users = r#"authorization { users: [ { user: "orders", password: "secret" } ] }"#;
    let server = NatsServer::builder().settings(users).pings(1, 2).without_jetstream().start().await;
    let refused = async_nats::connect(server.url()).await.unwrap_err();
    assert_eq!(refused.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
    let options = async_nats::ConnectOptions::with_user_and_password("orders".into(), "secret".into());
    let client = server.connect_with(options).await;
    assert!(!client.server_info().jetstream);
}

#[tokio::test]
#[should_panic(expected = "no_such_setting")]
async fn a_server_that_does_not_start_says_why() {
    NatsServer::builder().settings("no_such_setting: true").start().await;
}

#[tokio::test]
#[should_panic(expected = "fixed_port()")]
async fn only_a_server_with_a_fixed_port_restarts() {
    let mut server = NatsServer::start().await;
    server.kill();
    server.restart().await;
}
