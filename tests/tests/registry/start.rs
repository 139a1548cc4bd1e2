//! How a registry comes up, or refuses to, and how it goes.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, free_port};
use serde_json::json;

use crate::support::{SOON, answered, ask, listen, next_change, register, start_ready, start_registry, subjects};

async fn ends_with(registry: &mut Process, code: i32) {
    let status: ExitStatus = registry.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(code), "{status}");
}

#[tokio::test]
async fn it_creates_the_stream_and_accepts_it_at_the_next_start() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut registry = start_ready(&broker, &client, "r1", &["--stream-replicas", "1"]).await;
    assert!(registry.stop(SOON).await.success());
    let mut stream = jetstream::new(client.clone()).get_stream(subjects().stream_name()).await.unwrap();
    let configuration = &stream.info().await.unwrap().config;
    assert_eq!(configuration.subjects, [subjects().all_events()]);
    assert!(configuration.deny_delete && configuration.allow_direct);
    let _registry = start_ready(&broker, &client, "r1", &["--stream-replicas", "1"]).await;
}

#[tokio::test]
async fn a_stream_of_another_configuration_ends_it_with_78_and_is_left_as_it_is() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let context = jetstream::new(client);
    let configuration = jetstream::stream::Config {
        name: subjects().stream_name(),
        subjects: vec![subjects().all_events()],
        max_age: Duration::from_secs(3600),
        ..Default::default()
    };
    let mut stream = context.create_stream(configuration).await.unwrap();
    let before = stream.info().await.unwrap().config.clone();
    let mut registry = start_registry(&broker, "r1", &[]);
    ends_with(&mut registry, 78).await;
    let said = registry.wait_for_line("max_age", SOON).await.text;
    assert!(said.contains("max_age: expected none, found 3600s"), "{said}");
    assert!(said.contains("deny_delete: expected true, found false"), "{said}");
    assert_eq!(stream.info().await.unwrap().config, before);
}

#[tokio::test]
async fn without_a_broker_it_ends_with_69_at_once() {
    let started_at = Instant::now();
    let server = format!("nats://127.0.0.1:{}", free_port());
    let mut registry = ProcessBuilder::new(bin("muster-registry")).args(["--server", &server]).start();
    ends_with(&mut registry, 69).await;
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn missing_permissions_end_it_with_77_and_are_named() {
    let users = r#"authorization { users = [ { user: registry, password: secret, permissions: {
        publish: { allow: [">"], deny: ["muster.default.change.>"] }, subscribe: ">" } } ] }"#;
    let broker = NatsServer::builder().settings(users).start().await;
    let server = broker.url().replace("nats://", "nats://registry:secret@");
    let mut registry = ProcessBuilder::new(bin("muster-registry")).args(["--server", &server]).start();
    ends_with(&mut registry, 77).await;
    let said = registry.wait_for_line("refuses", SOON).await.text;
    assert!(said.contains("publishing to `muster.default.change.permission-check`"), "{said}");
}

#[tokio::test]
async fn asked_to_stop_it_leaves_the_others_to_answer_and_ends_with_0() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, &client, "r1", &[]).await;
    let _second = start_ready(&broker, &client, "r2", &[]).await;
    let asking = async {
        for _ in 0..500 {
            let reply = ask(&client, "query.services", &json!({})).await;
            assert!(reply.is_ok(), "{reply:?}");
        }
    };
    let (status, ()) = tokio::join!(first.stop(SOON), asking);
    assert_eq!(status.code(), Some(0), "{status}");
    answered(&client, "query.services", json!({})).await;
}

/// What the broker must grant to a registry, and to the connection that answers queries; documented as such.
const EXACT_PERMISSIONS: &str = r#"
authorization { users = [
    { user: test, password: secret }
    { user: registry, password: secret, permissions: {
        publish: { allow: [
            "muster.default.event.expire.>", "muster.default.event.lapse.>", "muster.default.event.epoch.>",
            "muster.default.event.carry.>", "muster.default.event.recovered.>", "muster.default.event.setting.>",
            "muster.default.heartbeat.-.*", "muster.default.change.*", "muster.default.pulse.*",
            "muster.default.beacon.*", "muster.default.alarm.*",
            "muster.default.agent.*.probe", "muster.default.agent.*.announce", "muster.default.agent.*.notice",
            "$JS.API.INFO", "$JS.API.STREAM.INFO.MUSTER_default", "$JS.API.STREAM.CREATE.MUSTER_default",
            "$JS.API.STREAM.MSG.GET.MUSTER_default", "$JS.API.CONSUMER.CREATE.MUSTER_default.>",
            "$JS.API.CONSUMER.DELETE.MUSTER_default.>", "$JS.API.CONSUMER.MSG.NEXT.MUSTER_default.>",
            "$SYS.REQ.ACCOUNT.PING.STATZ", "$JS.API.STREAM.PURGE.MUSTER_default", "$JS.FC.>",
            "$JS.API.STREAM.INFO.OBJ_MUSTER_default_checkpoints", "$JS.API.STREAM.CREATE.OBJ_MUSTER_default_checkpoints",
            "$JS.API.STREAM.PURGE.OBJ_MUSTER_default_checkpoints",
            "$JS.API.CONSUMER.CREATE.OBJ_MUSTER_default_checkpoints",
            "$JS.API.CONSUMER.CREATE.OBJ_MUSTER_default_checkpoints.>",
            "$JS.API.DIRECT.GET.OBJ_MUSTER_default_checkpoints.>", "$O.MUSTER_default_checkpoints.>", "_INBOX.r1.>"
        ] }
        subscribe: { allow: [
            "muster.default.heartbeat.>", "muster.default.change.>", "muster.default.pulse.>",
            "muster.default.beacon.>", "$SYS.ACCOUNT.*.DISCONNECT", "_INBOX.r1.>"
        ] } } }
    { user: answers, password: secret, permissions: {
        publish: { allow: ["_INBOX.>"] }
        subscribe: { allow: ["muster.default.query.>", "$SRV.>", "_INBOX.r1.>"] } } }
] }"#;

#[tokio::test]
async fn exactly_the_documented_permissions_are_enough_and_answers_need_few() {
    let broker = NatsServer::builder().settings(EXACT_PERMISSIONS).start().await;
    let options = async_nats::ConnectOptions::new().user_and_password("test".into(), "secret".into());
    let client = broker.connect_with(options).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret\n").unwrap();
    let password = password.path().to_str().unwrap();
    let identities = ["--user", "registry", "--password-file", password];
    let answers = ["--answers-user", "answers", "--answers-password-file", password];
    let periods = ["--checkpoint-period", "1s", "--history-age", "0s"];
    let arguments = [&identities[..], &answers, &periods].concat();
    let mut registry = start_ready(&broker, &client, "r1", &arguments).await;
    let mut changes = listen(&client, "change.orders").await;
    let sequence = register(&client, "orders", "a", 1).await;
    assert_eq!(next_change(&mut changes).await.revision, sequence);
    answered(&client, "query.service.orders", json!({ "min_revision": [null, sequence] })).await;
    client.request("$SRV.PING.muster-registry.r1", "".into()).await.unwrap();
    for number in 0..5 {
        let sequence = register(&client, "orders", "a", 2 + number).await;
        registry.wait_for_line(&format!("-{sequence:020} of"), SOON).await;
    }
    registry.wait_for_line("head was trimmed", SOON).await;
    assert!(registry.stop(SOON).await.success());
    let again = start_ready(&broker, &client, "r1", &arguments).await;
    again.wait_for_line("begins from checkpoint", SOON).await;
    let then = answered(&client, "query.service.orders", json!({ "at": [null, sequence + 4] })).await;
    assert_eq!(then.revision, sequence + 4);
    let history = client.request("muster.default.query.history.orders", "".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&history.payload).contains("\"begins_at\""), "{history:?}");
    let refused: Vec<_> =
        registry.lines().into_iter().chain(again.lines()).filter(|line| line.text.contains("refuses")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
