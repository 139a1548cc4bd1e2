//! The connection to the broker against real servers, and against the ones nobody wants to meet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt;
use muster_runtime::broker::{BrokerError, BrokerSettings, LinkPhase, Need, Role};
use muster_runtime::exit::{Exit, ExitReason};
use muster_tests::{NatsServer, Proxy, eventually, free_port};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// A second, and what a busy machine adds to it.
const SOON: Duration = Duration::from_millis(1_500);
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Only {
    #[command(flatten)]
    broker: BrokerSettings,
}

fn settings(arguments: &[&str]) -> BrokerSettings {
    Only::parse_from(std::iter::once("test").chain(arguments.iter().copied())).broker
}

fn tls_file(name: &str) -> String {
    format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Connects, which must fail within about a second.
async fn refusal(settings: &BrokerSettings, role: Role) -> BrokerError {
    let begun = Instant::now();
    let error = settings.connect(role).await.expect_err("this broker cannot be used");
    assert!(begun.elapsed() < SOON, "`{error}` took {:?}", begun.elapsed());
    error
}

/// A server that says `INFO {info}` and agrees to everything.
async fn impostor(info: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let greeting = format!("INFO {info}\r\n");
                let _ = write.write_all(greeting.as_bytes()).await;
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.starts_with("PING") {
                        let _ = write.write_all(b"PONG\r\n").await;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_counts_itself_and_has_an_inbox_of_its_own() {
    let server = NatsServer::start().await;
    let role = Role::new("muster-test output").identity("one").needs_jetstream();
    let connection = settings(&["--server", &server.url()]).connect(role).await.unwrap();
    assert_eq!((connection.connects(), connection.is_connected()), (1, true));
    let state = connection.state().borrow().clone();
    assert_eq!((state.phase, state.connects), (LinkPhase::Connected, 1));
    assert!(connection.client().new_inbox().starts_with("_INBOX.one."), "{}", connection.client().new_inbox());
}

#[tokio::test]
async fn an_absent_broker_is_told_within_a_second() {
    let port = free_port();
    let error =
        refusal(&settings(&["--server", &format!("nats://me:secret@127.0.0.1:{port}")]), Role::new("test")).await;
    assert_eq!(error.exit(), Exit::BrokerUnavailable);
    let text = error.to_string();
    assert!(text.contains(&format!("nats://127.0.0.1:{port}")) && text.contains("refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_broker_that_accepts_and_says_nothing_is_told_within_a_second() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = silent.local_addr().unwrap().to_string();
    let error = refusal(&settings(&["--server", &url]), Role::new("test")).await;
    assert!(matches!(&error, BrokerError::Unreachable { reason, .. } if reason.contains("within 1s")), "{error}");
}

#[tokio::test]
async fn one_server_of_the_list_is_enough_wherever_it_stands() {
    let server = NatsServer::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = format!("127.0.0.1:{},{},{}", free_port(), silent.local_addr().unwrap(), server.url());
    let connection = settings(&["--server", &list]).connect(Role::new("test")).await.unwrap();
    let pool = connection.client().server_pool().await.unwrap();
    assert!(pool.len() >= 3, "all servers are known for later: {pool:?}");
}

#[tokio::test]
async fn refused_credentials_are_a_matter_of_permission() {
    let server = NatsServer::builder().settings("authorization { user: me, password: right }").start().await;
    let url = server.url();
    let error = refusal(&settings(&["--server", &url]), Role::new("test")).await;
    assert!(matches!(error, BrokerError::CredentialsRefused { .. }), "{error}");
    assert_eq!(error.exit(), Exit::PermissionDenied);

    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    let arguments = ["--server", &url, "--user", "me", "--password-file", password.to_str().unwrap()];
    std::fs::write(&password, "wrong\n").unwrap();
    let error = refusal(&settings(&arguments), Role::new("test")).await;
    assert!(error.to_string().contains("user `me` and password"), "{error}");
    std::fs::write(&password, "right\n").unwrap();
    settings(&arguments).connect(Role::new("test")).await.unwrap();
}

#[tokio::test]
async fn a_token_and_credentials_in_the_url_are_accepted() {
    let server = NatsServer::builder().settings("authorization { token: sesame }").start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "sesame\n").unwrap();
    let by_file = settings(&["--server", &server.url(), "--token-file", token.to_str().unwrap()]);
    by_file.connect(Role::new("test")).await.unwrap();
    let by_url = settings(&["--server", &format!("nats://sesame@127.0.0.1:{}", server.port())]);
    by_url.connect(Role::new("test")).await.unwrap();
}

#[tokio::test]
async fn an_nkey_is_accepted() {
    let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let server =
        NatsServer::builder().settings(&format!("authorization {{ users: [{{ nkey: {public} }}] }}")).start().await;
    let directory = tempfile::tempdir().unwrap();
    let seed = directory.path().join("seed");
    std::fs::write(&seed, "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n").unwrap();
    let settings = settings(&["--server", &server.url(), "--nkey", seed.to_str().unwrap()]);
    settings.connect(Role::new("test")).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_told() {
    let old = impostor(
        r#"{"server_id":"x","server_name":"old","version":"2.10.29","host":"h","port":1,"max_payload":1048576,"jetstream":true}"#,
    );
    let error = refusal(&settings(&["--server", &old.await.to_string()]), Role::new("test")).await;
    assert_eq!(error.exit(), Exit::BrokerUnavailable);
    assert!(error.to_string().contains("2.10.29") && error.to_string().contains("2.11"), "{error}");
}

#[tokio::test]
async fn a_broker_or_an_account_without_jetstream_is_told_to_those_who_need_it() {
    let without = NatsServer::builder().without_jetstream().start().await;
    let account = "accounts { A { users: [{ user: a, password: a }] } }";
    let without_in_account = NatsServer::builder().settings(account).start().await;
    let url_of_account = format!("nats://a:a@127.0.0.1:{}", without_in_account.port());
    for url in [without.url(), url_of_account] {
        let settings = settings(&["--server", &url]);
        let error = refusal(&settings, Role::new("test").needs_jetstream()).await;
        assert!(matches!(error, BrokerError::NoJetStream { .. }), "{error}");
        assert_eq!(error.exit(), Exit::BrokerUnavailable);
        settings.connect(Role::new("test")).await.unwrap();
    }
}

#[tokio::test]
async fn trouble_with_tls_is_a_matter_of_configuration() {
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", tls_file("server.pem"), tls_file("server.key"));
    let server = NatsServer::builder().settings(&tls).start().await;
    let url = server.url();
    settings(&["--server", &url, "--tls-ca", &tls_file("ca.pem")]).connect(Role::new("test")).await.unwrap();
    let stranger = settings(&["--server", &url, "--tls-ca", &tls_file("stranger.pem")]);
    let error = refusal(&stranger, Role::new("test")).await;
    assert!(matches!(error, BrokerError::Tls { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Configuration);

    let plain = NatsServer::start().await;
    let error =
        refusal(&settings(&["--server", &plain.url(), "--tls-ca", &tls_file("ca.pem")]), Role::new("test")).await;
    assert!(matches!(error, BrokerError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn a_broker_that_demands_a_certificate_gets_one_or_a_clear_error() {
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        tls_file("server.pem"),
        tls_file("server.key"),
        tls_file("ca.pem")
    );
    let server = NatsServer::builder().settings(&tls).start().await;
    let (url, ca, cert, key) = (server.url(), tls_file("ca.pem"), tls_file("server.pem"), tls_file("server.key"));
    let with = ["--server", &url, "--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    settings(&with).connect(Role::new("test")).await.unwrap();
    let error = refusal(&settings(&with[..4]), Role::new("test")).await;
    assert!(matches!(error, BrokerError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_comes_back_at_once_and_counts_it() {
    let mut server = NatsServer::builder().fixed_port().start().await;
    let connection = settings(&["--server", &server.url()]).connect(Role::new("test")).await.unwrap();
    let mut state = connection.state();
    server.kill();
    let lost = state.wait_for(|state| state.phase == LinkPhase::Disconnected);
    tokio::time::timeout(DEADLINE, lost).await.expect("the loss is noticed").unwrap();
    server.restart().await;
    let again = state.wait_for(|state| state.connects == 2 && state.phase == LinkPhase::Connected);
    tokio::time::timeout(DEADLINE, again).await.expect("it comes back").unwrap();
    assert_eq!(connection.connects(), 2);
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn closing_sends_what_is_left_ends_every_clone_and_leaves_no_task_behind() {
    let server = NatsServer::start().await;
    let observer = server.connect().await;
    let mut listening = observer.subscribe("last.words").await.unwrap();
    observer.request("nobody", "".into()).await.unwrap_err();
    let before = tasks();
    let connection = settings(&["--server", &server.url()]).connect(Role::new("test")).await.unwrap();
    let clone = connection.clone();
    let mut subscription = clone.client().subscribe("anything").await.unwrap();
    connection.client().publish("last.words", "goodbye".into()).await.unwrap();
    connection.close().await;
    assert_eq!(tasks(), before, "tasks live on");
    assert!(clone.is_closed());
    assert_eq!(subscription.next().await.map(|message| message.payload), None);
    assert_eq!(next(&mut listening).await, "goodbye");
    clone.close().await;
}

#[tokio::test]
async fn a_connection_that_is_closed_while_the_broker_is_away_never_comes_back() {
    let mut server = NatsServer::start().await;
    let connection = settings(&["--server", &server.url()]).connect(Role::new("test")).await.unwrap();
    let address = server.url().replace("nats://", "");
    server.kill();
    let mut state = connection.state();
    state.wait_for(|state| state.phase == LinkPhase::Disconnected).await.unwrap();
    connection.close().await;
    // Hours pass in no time.
    tokio::time::pause();
    let listener = TcpListener::bind(address).await.unwrap();
    let mut attempts = 0;
    for _ in 0..1_000 {
        let attempt = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
        attempts += u32::from(attempt.is_ok());
    }
    assert!(attempts <= 1, "after the attempt that was under way it tried {} times more", attempts - 1);
}

#[tokio::test]
async fn what_a_connection_that_ends_at_disconnect_had_not_sent_is_never_sent() {
    let server = NatsServer::start().await;
    let watcher = server.connect().await;
    let mut seen = watcher.subscribe("proposals").await.unwrap();
    watcher.flush().await.unwrap();
    let proxy = Proxy::to_port(server.port()).await;
    let settings = settings(&["--server", &proxy.url()]);
    let connection = settings.connect(Role::new("test").ends_at_disconnect()).await.unwrap();
    connection.client().publish("proposals", "in time".into()).await.unwrap();
    assert_eq!(next(&mut seen).await, "in time");

    proxy.cut();
    let _ = connection.client().publish("proposals", "too late".into()).await;
    let mut state = connection.state();
    let closed = state.wait_for(|state| state.phase == LinkPhase::Closed);
    tokio::time::timeout(DEADLINE, closed).await.expect("the connection is closed").unwrap();
    proxy.heal();
    assert!(connection.is_closed() && connection.connects() == 1, "{connection:?}");

    let fresh = settings.connect(Role::new("test").ends_at_disconnect()).await.unwrap();
    fresh.client().publish("proposals", "decided anew".into()).await.unwrap();
    assert_eq!(next(&mut seen).await, "decided anew");
}

async fn next(messages: &mut async_nats::Subscriber) -> String {
    let message = tokio::time::timeout(DEADLINE, messages.next()).await.expect("a message").unwrap();
    String::from_utf8_lossy(&message.payload).into_owned()
}

#[tokio::test]
async fn a_connection_in_the_background_waits_for_its_broker() {
    let mut server = NatsServer::builder().fixed_port().start().await;
    let url = server.url();
    server.kill();
    let settings = settings(&["--server", &url]);
    let connection = settings.connect_in_background(Role::new("test").needs_jetstream()).await.unwrap();
    eventually("an attempt fails and is told", DEADLINE, async || {
        let state = connection.state().borrow().clone();
        (state.last_error.is_some() && state.phase == LinkPhase::Connecting).then_some(()).ok_or(format!("{state:?}"))
    })
    .await;
    server.restart().await;
    tokio::time::timeout(DEADLINE, connection.established()).await.expect("it is established").unwrap();
    assert_eq!(connection.state().borrow().connects, 1);
}

/// May publish to `a.>` but not to `a.secret`, and subscribe to its inbox and `b.*`, in the group `q` to `c`.
const RESTRICTED: &str = r#"authorization { users: [{ user: u, password: p, permissions: {
    publish: { allow: ["a.>"], deny: ["a.secret"] },
    subscribe: { allow: ["_INBOX.u.>", "b.*", "c q"] }
} }] }"#;

async fn restricted(settings_text: &str) -> (NatsServer, muster_runtime::broker::Connection) {
    let server = NatsServer::builder().settings(settings_text).start().await;
    let settings = settings(&["--server", &format!("nats://u:p@127.0.0.1:{}", server.port())]);
    let connection = settings.connect(Role::new("muster-test u").identity("u")).await.unwrap();
    (server, connection)
}

#[tokio::test]
async fn granted_subjects_pass_the_check() {
    let (_server, connection) = restricted(RESTRICTED).await;
    let needs = [Need::publish("a.b"), Need::subscribe("b.c"), Need::queue_subscribe("c", "q")];
    connection.verify(&needs).await.unwrap();
    connection.verify(&[]).await.unwrap();
}

#[tokio::test]
async fn every_refused_subject_is_named_at_once() {
    let (_server, connection) = restricted(RESTRICTED).await;
    let needs = [
        Need::publish("a.b"),
        Need::publish("a.secret"),
        Need::publish("z"),
        Need::subscribe("b.c"),
        Need::subscribe("b.c.d"),
        Need::subscribe("c"),
    ];
    let error = connection.verify(&needs).await.unwrap_err();
    assert_eq!(error.exit(), Exit::PermissionDenied);
    let BrokerError::SubjectsRefused { violations, .. } = &error else { panic!("{error}") };
    let named: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let expected = ["publishing to `a.secret`", "publishing to `z`", "subscribing to `b.c.d`", "subscribing to `c`"];
    assert_eq!(named, expected);
    assert!(error.to_string().contains("muster-test u"), "{error}");
}

#[tokio::test]
async fn an_inbox_that_is_refused_is_named_too() {
    let denied = RESTRICTED.replace("_INBOX.u.>", "_INBOX.other.>");
    let (_server, connection) = restricted(&denied).await;
    let error = connection.verify(&[Need::publish("a.b")]).await.unwrap_err();
    assert!(error.to_string().contains("subscribing to `_INBOX.u."), "{error}");
}

#[tokio::test]
async fn the_check_leaves_nothing_in_a_stream() {
    let server = NatsServer::start().await;
    let connection = settings(&["--server", &server.url()]).connect(Role::new("test")).await.unwrap();
    let jetstream = async_nats::jetstream::new(connection.client().clone());
    let config = async_nats::jetstream::stream::Config {
        name: "LOG".to_owned(),
        subjects: vec!["log.>".to_owned()],
        ..Default::default()
    };
    let mut stream = jetstream.create_stream(config).await.unwrap();
    connection.verify(&[Need::publish("log.a")]).await.unwrap();
    // A message that is stored, so that the earlier one, had it been, would be counted now.
    jetstream.publish("log.b", "x".into()).await.unwrap().await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}
