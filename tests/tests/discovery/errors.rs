//! What cannot work says so at once, and in a way that a program can tell apart.

use std::time::{Duration, Instant};

use muster_discovery::{Discovery, ErrorKind};
use muster_tests::{NatsServer, eventually, free_port};

use crate::support::{Place, SOON, until_verified, versions};

#[tokio::test]
async fn a_broker_that_is_not_there_is_unreachable_within_a_second() {
    let started = Instant::now();
    let url = format!("nats://127.0.0.1:{}", free_port());
    let error = Discovery::connect(&url).await.expect_err("nobody listens there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains(&url), "{error}");
    assert!(!error.may_have_changed());
    assert!(started.elapsed() < Duration::from_secs(1), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_consumer_may_start_without_a_broker_and_finds_it_later() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    broker.kill();
    let builder = Discovery::builder().server(broker.url()).start_disconnected(true);
    let discovery = builder.patience(Duration::from_millis(50)).connect().await.expect("it starts");
    let orders = discovery.instances("orders").await.expect("an answer");
    assert!(orders.unknown_since().is_some() && !orders.is_proven_empty());
    broker.restart().await;
    let place = Place::on(broker, 1).await;
    place.put("orders", "a", "1").await;
    until_verified(&discovery, "orders", &versions(&[("a", "1")])).await;
}

#[tokio::test]
async fn refused_credentials_are_told_from_an_absent_broker() {
    let settings = "authorization { user: shop, password: secret }";
    let broker = NatsServer::builder().settings(settings).start().await;
    let options = async_nats::ConnectOptions::with_user_and_password("shop".into(), "wrong".into());
    let builder = Discovery::builder().server(broker.url()).options(options);
    let error = builder.connect().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
}

#[tokio::test]
async fn a_subject_that_the_broker_refuses_is_an_error_that_names_it() {
    let settings = r#"authorization { users: [
        { user: shop, password: secret, permissions: { publish: ["muster.default.query.>"], subscribe: ["_INBOX.>"] } }
    ] }"#;
    let broker = NatsServer::builder().settings(settings).start().await;
    let options = async_nats::ConnectOptions::with_user_and_password("shop".into(), "secret".into());
    let builder = Discovery::builder().server(broker.url()).options(options).patience(Duration::from_millis(50));
    let discovery = builder.connect().await.expect("connected");
    let error = eventually("a refusal", SOON, async || match discovery.instances("orders").await {
        Err(error) => Ok(error),
        Ok(snapshot) => Err(snapshot.state()),
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("muster.default."), "{error}");
}

#[tokio::test]
async fn settings_against_a_rule_are_refused_before_anything_is_sent() {
    let kind = async |builder: muster_discovery::Builder| builder.connect().await.expect_err("refused").kind();
    assert_eq!(kind(Discovery::builder().namespace("a.b")).await, ErrorKind::InvalidName);
    assert_eq!(kind(Discovery::builder().prefix("")).await, ErrorKind::InvalidName);
    assert_eq!(kind(Discovery::builder().inbox_prefix("in box")).await, ErrorKind::InvalidSetting);
}
