//! A registry inside of another program, which lives on when it has ended.

use std::net::TcpListener;

use async_nats::Client;
use clap::Parser;
use muster_registry::{RegistryError, RegistrySettings};
use muster_runtime::stop::Stop;
use muster_tests::{NatsServer, eventually, free_port};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{SOON, answered};

#[derive(Parser)]
struct Only {
    #[command(flatten)]
    registry: RegistrySettings,
}

fn start(arguments: &[&str], stop: &Stop) -> JoinHandle<Result<(), RegistryError>> {
    let usual = ["test", "--replica-id", "r1", "--listen-period", "200ms"];
    let settings = Only::try_parse_from(usual.iter().chain(arguments)).expect("settings").registry;
    tokio::spawn(muster_registry::run(settings, stop.clone()))
}

async fn ends(registry: JoinHandle<Result<(), RegistryError>>) -> Result<(), RegistryError> {
    tokio::time::timeout(SOON, registry).await.expect("it ends in time").expect("it does not panic")
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// The names of the registry's connections, as the broker lists them.
async fn connections(client: &Client) -> Vec<String> {
    let reply = client.request("$SYS.REQ.ACCOUNT.PING.CONNZ", "".into()).await.expect("the broker answers");
    let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    let listed = reply["data"]["connections"].as_array().expect("a list").iter();
    let names = listed.filter_map(|connection| connection["name"].as_str());
    names.filter(|name| name.starts_with("muster-registry")).map(str::to_owned).collect()
}

#[tokio::test]
async fn on_return_its_connections_are_closed_its_tasks_ended_and_its_address_is_free() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let http = format!("127.0.0.1:{}", free_port());
    let (before, stop) = (tasks(), Stop::new());
    let registry = start(&["--server", &broker.url(), "--http", &http], &stop);
    answered(&client, "query.services", json!({})).await;
    assert!(connections(&client).await.len() >= 3, "log, output and queries");

    stop.request();
    ends(registry).await.expect("it was asked to");
    assert_eq!(tasks(), before, "tasks live on");
    TcpListener::bind(&http).expect("the address is free");
    eventually("the broker lists no connection", SOON, async || match connections(&client).await {
        names if names.is_empty() => Ok(()),
        names => Err(names.join(", ")),
    })
    .await;
}

#[tokio::test]
async fn one_that_does_not_come_up_leaves_nothing_behind_either() {
    let users = r#"authorization { users = [ { user: registry, password: secret, permissions: {
        publish: { allow: [">"], deny: ["muster.default.change.>"] }, subscribe: ">" } } ] }"#;
    let broker = NatsServer::builder().settings(users).start().await;
    let server = broker.url().replace("nats://", "nats://registry:secret@");
    let (before, http) = (tasks(), format!("127.0.0.1:{}", free_port()));
    let registry = start(&["--server", &server, "--http", &http], &Stop::new());
    ends(registry).await.expect_err("the broker refuses");
    assert_eq!(tasks(), before, "tasks live on");
    TcpListener::bind(&http).expect("the address is free");
}

#[tokio::test]
async fn it_ends_in_time_although_the_broker_is_gone() {
    let mut broker = NatsServer::start().await;
    let (client, stop) = (broker.connect().await, Stop::new());
    let registry = start(&["--server", &broker.url()], &stop);
    answered(&client, "query.services", json!({})).await;
    broker.kill();
    stop.request();
    ends(registry).await.expect("it was asked to");
}
