//! `doctor`: what is wrong, and what to do.

use std::fs;
use std::path::Path;

use muster_tests::{NatsServer, ProcessBuilder, bin};
use serde_json::{Value, json};

use crate::support::{Ended, SOON, World, home, muster, subjects};

fn verdict<'a>(findings: &'a Value, check: &str) -> &'a str {
    let all = findings.as_array().expect("a list");
    let found = all.iter().find(|finding| finding["check"] == check);
    found.and_then(|finding| finding["verdict"].as_str()).unwrap_or_else(|| panic!("no {check} in {findings}"))
}

#[tokio::test]
async fn a_sound_set_up_with_one_registry_has_that_one_weakness() {
    let world = World::on(NatsServer::builder().settings("server_name: n1").start().await).await;
    let findings = world.run_json(&["doctor"]).await;
    for check in
        ["broker", "jetstream", "as consumer", "as agent", "as operator", "as registry", "stream", "clock", "registry"]
    {
        assert_eq!(verdict(&findings, check), "ok", "{check} in {findings}");
    }
    assert_eq!(verdict(&findings, "replicas"), "warning");
    assert_eq!(verdict(&findings, "advisories"), "warning", "nothing is exported here: {findings}");
    let people = world.run(&["doctor"]).await.expect_code(0);
    assert!(people.stdout.contains("-> run two registries"), "{people:?}");
    assert!(people.stdout.contains("export $SYS.ACCOUNT.*.DISCONNECT from the system account"), "{people:?}");
}

#[tokio::test]
async fn with_the_shipped_configuration_the_broker_tells_of_closed_connections() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy/nats.conf");
    let home = home();
    let text = fs::read_to_string(&shipped).expect("it is shipped");
    let text = text.replace("/data/jetstream", home.path().join("jetstream").to_str().expect("a path"));
    let not_here = |line: &&str| !line.starts_with("port:") && !line.starts_with("http_port:");
    let text: Vec<&str> = text.lines().filter(not_here).collect();
    let world = World::on(NatsServer::builder().without_jetstream().settings(&text.join("\n")).start().await).await;
    let findings = world.run_json(&["doctor"]).await;
    for check in ["broker", "jetstream", "as registry", "advisories", "stream", "registry"] {
        assert_eq!(verdict(&findings, check), "ok", "{check} in {findings}");
    }
}

#[tokio::test]
async fn a_registrys_user_that_may_not_hear_the_brokers_word_is_told() {
    let permissions = r#"permissions: { publish: [">"], subscribe: { allow: [">"], deny: ["$SYS.>"] } }"#;
    let settings = format!("authorization {{ users: [ {{ user: r1, password: secret, {permissions} }} ] }}");
    let broker = NatsServer::builder().settings(&settings).start().await;
    let home = home();
    let password = home.path().join("password");
    fs::write(&password, "secret").unwrap();
    let access = ["--server", &broker.url(), "--user", "r1", "--password-file", password.to_str().unwrap()];
    let registry = ProcessBuilder::new(bin("muster-registry")).args(access).start();
    registry.wait_for_line("does not let this user listen to $SYS.ACCOUNT.*.DISCONNECT", SOON).await;
    registry.wait_for_line("at the log's end", SOON).await;
    let mut process = muster(&home, &["doctor", "--json"]).args(access).start();
    let findings = Ended::of(&mut process).await.expect_code(0).json();
    assert_eq!(verdict(&findings, "advisories"), "no", "{findings}");
}

#[tokio::test]
async fn a_stream_of_another_configuration_is_told_field_by_field() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let stream = subjects().stream_name();
    let config = json!({ "name": stream, "subjects": [subjects().all_events()], "storage": "memory", "retention": "limits",
        "discard": "old", "max_age": 3_600_000_000_000_u64, "num_replicas": 1 });
    let created = client.request(format!("$JS.API.STREAM.CREATE.{stream}"), config.to_string().into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&created.payload).contains("\"error\""), "{created:?}");
    let home = home();
    let ended = Ended::of(&mut muster(&home, &["doctor", "--server", &broker.url()]).start()).await.expect_code(1);
    for told in
        ["storage: expected file, found memory", "max_age: expected none", "nats stream edit", "muster-registry"]
    {
        assert!(ended.stdout.contains(told), "{told} in {ended:?}");
    }
    assert!(ended.stderr.contains("checks failed"), "{ended:?}");
}

#[tokio::test]
async fn what_a_user_may_be_is_found_out_by_trying() {
    let permissions = r#"permissions: {
        publish: ["muster.default.event.*.orders.*.web1", "muster.default.heartbeat.web1", "muster.default.query.>",
                  "muster.default.agent.web1.*", "$JS.API.INFO"]
        subscribe: ["_INBOX.>", "muster.default.agent.web1.>"] }"#;
    let settings = format!("authorization {{ users: [ {{ user: web1, password: secret, {permissions} }} ] }}");
    let broker = NatsServer::builder().settings(&settings).start().await;
    let home = home();
    let password = home.path().join("password");
    fs::write(&password, "secret").unwrap();
    let as_web1 = |arguments: &[&str]| {
        muster(&home, &["doctor", "--json", "--server", &broker.url(), "--user", "web1", "--password-file"])
            .arg(&password)
            .args(arguments)
            .start()
    };
    // There is no registry, which is a failure, and not one of permissions.
    let mut process = as_web1(&["--service", "orders", "--agent-id", "web1", "--role", "agent"]);
    let findings = Ended::of(&mut process).await.expect_code(1).json();
    assert_eq!(verdict(&findings, "as agent"), "ok", "{findings}");
    assert_eq!(verdict(&findings, "as consumer"), "no", "{findings}");

    let mut process = as_web1(&["--service", "payments", "--agent-id", "web1", "--role", "agent"]);
    let ended = Ended::of(&mut process).await.expect_code(77);
    assert_eq!(verdict(&ended.json(), "as agent"), "failed", "{ended:?}");
    assert!(ended.stderr.contains("event.register.payments"), "{ended:?}");
}
