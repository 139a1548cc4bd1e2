//! Vouching as a library, with a real broker and registry: what survives lost connections, lost logs and rivals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use muster_agent::vouch::{DeregisterOutcome, InstanceSpec, Status, Timing, Vouch, VouchError, VouchSettings, Vouched};
use muster_schemas::agent::{AnnounceReply, DrainReply};
use muster_schemas::event::DeregisterReason;
use muster_schemas::heartbeat::Heartbeat;
use muster_schemas::query::{ErrorReply, Reply};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{AgentId, Digest, Health, HealthStatus, Namespace, Prefix, Registration, Subjects};
use muster_tests::{NatsServer, Process, ProcessBuilder, Proxy, bin, eventually, throughout};

/// How long anything may take that is expected to happen at once.
const SOON: Duration = Duration::from_secs(20);

fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

fn agent(name: &str) -> AgentId {
    name.parse().expect("an agent id")
}

fn spec(instance: &str) -> InstanceSpec {
    let mut spec = InstanceSpec::new("orders".parse().expect("a name"), instance.parse().expect("an instance id"));
    (spec.ttl_ms, spec.linger_ms) = (2_000, 2_000);
    spec
}

fn registry(broker: &NatsServer) -> Process {
    ProcessBuilder::new(bin("muster-registry"))
        .name("r1")
        .args(["--server", &broker.url(), "--replica-id", "r1", "--listen-period", "200ms"])
        .start()
}

async fn broker_and_registry() -> (NatsServer, Process) {
    let broker = NatsServer::builder().fixed_port().start().await;
    let registry = registry(&broker);
    registry.wait_for_line("answering queries", SOON).await;
    (broker, registry)
}

/// A connection as agents have it: it comes back, soon, and need not be there at first.
async fn client(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(50));
    options.connect(url).await.expect("a client")
}

async fn vouch(url: &str, name: &str) -> Vouch {
    Vouch::start(VouchSettings::new(client(url).await, agent(name)))
}

async fn registered(vouched: &Vouched) {
    until(vouched, "registered", Status::is_registered).await;
}

async fn until(vouched: &Vouched, what: &str, is_so: impl Fn(&Status) -> bool) {
    let status = vouched.status();
    eventually(format!("{} is {what}", vouched.instance()), SOON, async || {
        let status = status.borrow().clone();
        if is_so(&status) { Ok(()) } else { Err(format!("the registration is {status}")) }
    })
    .await;
}

/// What a registry shows of an instance.
async fn shown(client: &async_nats::Client, instance: &str) -> Result<Option<Registration>, String> {
    let query = Query::Instance("orders".parse().expect("a name"), instance.parse().expect("an id"));
    let message = client.request(subjects().query(&query), "".into()).await.map_err(|error| error.to_string())?;
    if let Ok(ErrorReply { error }) = serde_json::from_slice(&message.payload) {
        let not_found = error.code == muster_schemas::query::ErrorCode::NotFound;
        return if not_found { Ok(None) } else { Err(error.to_string()) };
    }
    let reply: Reply = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    let found = reply.services.into_iter().flat_map(|service| service.instances).next();
    Ok(found.map(|found| found.registration.clone()))
}

async fn messages_in_log(client: &async_nats::Client) -> u64 {
    let context = async_nats::jetstream::new(client.clone());
    let stream = context.get_stream(subjects().stream_name()).await.expect("the stream");
    stream.cached_info().state.messages
}

#[tokio::test]
async fn an_instance_is_registered_changed_and_taken_back() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let vouch = vouch(&broker.url(), "web1").await;
    let orders = vouch.register(spec("a")).expect("by the rules");
    let revision = orders.registered().await.expect("registered");
    let live = shown(&observer, "a").await.expect("an answer").expect("registered means shown");
    assert_eq!((live.vouching.agent, live.vouching.generation), (agent("web1"), 1));
    assert!(revision.sequence() > 1, "the first event began the log");
    assert!(matches!(vouch.register(spec("a")), Err(VouchError::Held { .. })));

    orders.set_health(Health { status: HealthStatus::Critical, ..Health::default() });
    eventually("the health is critical", SOON, async || {
        let live = shown(&observer, "a").await?.ok_or("gone")?;
        if live.health.status == HealthStatus::Critical { Ok(()) } else { Err(format!("{live:?}")) }
    })
    .await;
    let mut changed = spec("a");
    changed.version = Some("2".to_owned());
    orders.update(changed).expect("by the rules");
    eventually("the version is 2", SOON, async || {
        let live = shown(&observer, "a").await?.ok_or("gone")?;
        if live.version.as_deref() == Some("2") { Ok(()) } else { Err(format!("{live:?}")) }
    })
    .await;

    let outcome = orders.deregister(DeregisterReason::Stopped, Some("done".to_owned()), SOON).await;
    assert!(matches!(outcome, DeregisterOutcome::Removed { .. }), "{outcome:?}");
    assert!(shown(&observer, "a").await.expect("an answer").is_none());
    let again = vouch.register(spec("a")).expect("free again");
    registered(&again).await;
    vouch.stop().await;
    assert_eq!(*again.status().borrow(), Status::Stopped);
}

#[tokio::test]
async fn a_broker_and_a_registry_that_come_later_find_it_waiting() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    broker.stop().await;
    let vouch = vouch(&broker.url(), "web1").await;
    let orders = vouch.register(spec("a")).expect("by the rules");
    throughout("it is not registered", Duration::from_millis(300), async || {
        let status = orders.status().borrow().clone();
        if status.is_registered() { Err(status) } else { Ok(()) }
    })
    .await;
    broker.restart().await;
    until(&orders, "waiting for a stream", |status| status.to_string().contains("does a registry run")).await;
    let _registry = registry(&broker);
    registered(&orders).await;
}

#[tokio::test]
async fn everything_comes_back_after_the_broker_lost_its_disk() {
    let (mut broker, _registry) = broker_and_registry().await;
    let vouch = vouch(&broker.url(), "web1").await;
    let all: Vec<Vouched> =
        (0..50).map(|number| vouch.register(spec(&format!("i{number}"))).expect("by the rules")).collect();
    for vouched in &all {
        registered(vouched).await;
    }
    broker.kill();
    broker.wipe_store();
    broker.restart().await;
    let observer = broker.connect().await;
    for number in [0, 25, 49] {
        eventually(format!("i{number} is back"), SOON, async || {
            shown(&observer, &format!("i{number}")).await?.map(|_| ()).ok_or("not there".to_owned())
        })
        .await;
    }
    for vouched in &all {
        registered(vouched).await;
    }
}

#[tokio::test]
async fn a_cut_connection_changes_nothing_in_the_log_and_heartbeats_name_the_new_one() {
    let (broker, _registry) = broker_and_registry().await;
    let proxy = Proxy::to_port(broker.port()).await;
    let observer = broker.connect().await;
    let mut heartbeats = observer.subscribe(subjects().heartbeat(&agent("web1"))).await.expect("a subscription");
    let client = client(&proxy.url()).await;
    let vouch = Vouch::start(VouchSettings::new(client.clone(), agent("web1")));
    let orders = vouch.register(spec("a")).expect("by the rules");
    registered(&orders).await;
    let next = async |heartbeats: &mut async_nats::Subscriber| loop {
        let message = tokio::time::timeout(SOON, heartbeats.next()).await.expect("a heartbeat in time");
        let message = message.expect("the subscription lives");
        // A registry's check of its permissions is an empty message.
        if !message.payload.is_empty() {
            return serde_json::from_slice::<Heartbeat>(&message.payload).expect("a heartbeat");
        }
    };
    let before = next(&mut heartbeats).await;
    let live = shown(&observer, "a").await.expect("an answer").expect("registered").vouching;
    let digest = Digest::of_vouching(&live.service, &live.instance, live.incarnation, live.generation);
    assert_eq!((before.digest, before.instances), (digest, 1));
    let messages = messages_in_log(&observer).await;
    for wanted in ["disconnected", "connected", "disconnected", "connected"] {
        if wanted == "connected" {
            proxy.heal();
        } else {
            proxy.cut();
        }
        eventually(format!("the client is {wanted}"), SOON, async || {
            let state = client.connection_state().to_string();
            if state == wanted { Ok(()) } else { Err(state) }
        })
        .await;
    }
    let mut after = next(&mut heartbeats).await;
    for _ in 0..5 {
        after = next(&mut heartbeats).await;
    }
    assert_ne!(after.conn, before.conn);
    assert_eq!(after.session, before.session);
    assert!(after.counter > before.counter);
    let acked = after.acked.expect("acknowledged").epoch();
    throughout("nothing is registered again", Duration::from_secs(3), async || {
        let now = messages_in_log(&observer).await;
        if now == messages { Ok(()) } else { Err(format!("{messages} messages became {now}")) }
    })
    .await;
    assert!(acked.is_some() && orders.status().borrow().is_registered());
}

#[tokio::test]
async fn a_deregistration_into_a_black_hole_ends_in_its_time() {
    let (broker, _registry) = broker_and_registry().await;
    let proxy = Proxy::to_port(broker.port()).await;
    let vouch = vouch(&proxy.url(), "web1").await;
    let orders = vouch.register(spec("a")).expect("by the rules");
    registered(&orders).await;
    proxy.black_hole();
    let began = std::time::Instant::now();
    let outcome = orders.deregister(DeregisterReason::Stopped, None, Duration::from_secs(1)).await;
    assert!(matches!(outcome, DeregisterOutcome::Unconfirmed { .. }), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn of_two_agents_with_one_instance_the_later_wins_and_the_other_says_so() {
    let (broker, _registry) = broker_and_registry().await;
    let (one, two) = (vouch(&broker.url(), "web1").await, vouch(&broker.url(), "web2").await);
    let first = one.register(spec("a")).expect("by the rules");
    registered(&first).await;
    let second = two.register(spec("a")).expect("by the rules");
    registered(&second).await;
    until(
        &first,
        "displaced",
        |status| matches!(status, Status::Displaced { by: Some(by) } if by.agent == agent("web2")),
    )
    .await;
    let outcome = first.deregister(DeregisterReason::Stopped, None, SOON).await;
    assert_eq!(outcome, DeregisterOutcome::NothingToRemove);
    throughout("the second stays registered", Duration::from_secs(3), async || {
        let status = second.status().borrow().clone();
        if status.is_registered() { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_second_session_of_one_agent_id_supersedes_the_first_and_adopts_its_instance() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let mut changes = observer.subscribe(subjects().all_changes()).await.expect("a subscription");
    let one = vouch(&broker.url(), "web1").await;
    let first = one.register(spec("a")).expect("by the rules");
    registered(&first).await;
    let two = vouch(&broker.url(), "web1").await;
    let second = two.register(spec("a")).expect("by the rules");
    registered(&second).await;
    let winner = tokio::time::timeout(SOON, one.superseded()).await.expect("superseded in time");
    until(&first, "superseded", |status| *status == Status::Superseded).await;
    let live = shown(&observer, "a").await.expect("an answer").expect("registered");
    assert_eq!(live.vouching.session, winner);
    drop(first);
    throughout("it is never removed", Duration::from_secs(3), async || {
        match futures::FutureExt::now_or_never(changes.next()).flatten() {
            Some(change) if change.payload.windows(9).any(|text| text == b"\"removed\"") => {
                Err(String::from_utf8_lossy(&change.payload).into_owned())
            }
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn hundreds_are_registered_and_announced_again_paced() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let vouch = vouch(&broker.url(), "web1").await;
    let all: Vec<Vouched> =
        (0..300).map(|number| vouch.register(spec(&format!("i{number}"))).expect("by the rules")).collect();
    for vouched in &all {
        registered(vouched).await;
    }
    let before = messages_in_log(&observer).await;
    let subject = subjects().to_agent(&agent("web1"), Verb::Announce);
    let body = r#"{"reason":"a test"}"#;
    let answer = observer.request(subject, body.into()).await.expect("an answer");
    let answer: AnnounceReply = serde_json::from_slice(&answer.payload).expect("the reply's type");
    assert_eq!(answer.instances, 300);
    let early = messages_in_log(&observer).await;
    assert!(early < before + 150, "not all at once: {}", early - before);
    eventually("all are registered again", SOON, async || {
        let now = messages_in_log(&observer).await;
        if now >= before + 300 { Ok(()) } else { Err(format!("{} of 300", now - before)) }
    })
    .await;
}

#[tokio::test]
async fn a_drain_is_answered_by_the_owner_or_refused() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let mut vouch = vouch(&broker.url(), "web1").await;
    let mut drains = vouch.take_drains().expect("not taken yet");
    let orders = vouch.register(spec("a")).expect("by the rules");
    registered(&orders).await;
    let ask = async |instance: &str| {
        let subject = subjects().to_agent(&agent("web1"), Verb::Drain);
        let body = format!(r#"{{"service":"orders","instance":"{instance}","deadline_ms":1000}}"#);
        let answer = observer.request(subject, body.into()).await.expect("an answer");
        serde_json::from_slice::<DrainReply>(&answer.payload).expect("the reply's type").result
    };
    assert_eq!(ask("b").await, "refused");
    let owner = async {
        let drain = drains.recv().await.expect("a drain");
        assert_eq!(drain.request.instance.as_str(), "a");
        drain.tell(DrainReply { result: "stopped".to_owned(), detail: None }).await;
    };
    let (answer, ()) = tokio::join!(ask("a"), owner);
    assert_eq!(answer, "stopped");
}

#[tokio::test]
async fn one_drain_more_than_can_wait_for_an_owner_who_does_not_look_is_refused() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let mut vouch = vouch(&broker.url(), "web1").await;
    let mut drains = vouch.take_drains().expect("not taken yet");
    let orders = vouch.register(spec("a")).expect("by the rules");
    registered(&orders).await;
    let (subject, inbox) = (subjects().to_agent(&agent("web1"), Verb::Drain), observer.new_inbox());
    let mut answers = observer.subscribe(inbox.clone()).await.expect("a subscription");
    let body = r#"{"service":"orders","instance":"a","deadline_ms":1000}"#;
    for _ in 0..65 {
        observer.publish_with_reply(subject.clone(), inbox.clone(), body.into()).await.expect("it is sent");
    }
    let answer = tokio::time::timeout(SOON, answers.next()).await.expect("an answer in time").expect("an answer");
    let reply: DrainReply = serde_json::from_slice(&answer.payload).expect("the reply's type");
    assert_eq!(
        (reply.result.as_str(), reply.detail.as_deref()),
        ("refused", Some("too many drains at once: try again"))
    );
    for _ in 0..64 {
        drains.try_recv().expect("the others wait");
    }
    drains.try_recv().expect_err("one too many");
}

#[tokio::test]
async fn a_dropped_vouching_is_taken_back_before_the_session_stops() {
    let (broker, _registry) = broker_and_registry().await;
    let observer = broker.connect().await;
    let vouch = vouch(&broker.url(), "web1").await;
    let orders = vouch.register(spec("a")).expect("by the rules");
    let mut fixed = spec("b");
    (fixed.ttl_ms, fixed.linger_ms) = (0, 0);
    let fixed = vouch.register(fixed).expect("by the rules");
    registered(&orders).await;
    registered(&fixed).await;
    drop(orders);
    fixed.forget();
    vouch.stop().await;
    assert!(shown(&observer, "a").await.expect("an answer").is_none());
    assert!(shown(&observer, "b").await.expect("an answer").is_some(), "a static instance that was left stays");
}

/// What an agent for `orders` may do, and nothing else; the rest is for registries and the test.
const PERMISSIONS: &str = r#"
authorization {
  users = [
    { user: all, password: all }
    { user: web1, password: web1, permissions: {
        publish: { allow: [
          "muster.default.event.register.orders.*.web1", "muster.default.event.deregister.orders.*.web1",
          "muster.default.event.health.orders.*.web1", "muster.default.heartbeat.web1", "muster.default.query.>",
          "muster.default.agent.web1.probe", "muster.default.agent.web1.notice" ] }
        subscribe: { allow: ["muster.default.agent.web1.>", "_INBOX.web1.>"] }
        allow_responses: { max: 3, expires: "1m" }
    } }
  ]
}
"#;

#[tokio::test]
async fn exactly_the_permissions_of_the_contract_are_enough() {
    let broker = NatsServer::builder().fixed_port().settings(PERMISSIONS).start().await;
    let url = broker.url().replace("nats://", "nats://all:all@");
    let registry = ProcessBuilder::new(bin("muster-registry"))
        .name("r1")
        .args(["--server", &url, "--replica-id", "r1", "--listen-period", "200ms"])
        .start();
    registry.wait_for_line("answering queries", SOON).await;
    let violations = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&violations);
    let options = async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX.web1").event_callback(move |event| {
        let count = Arc::clone(&count);
        async move {
            if matches!(event, async_nats::Event::ServerError(_)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let options = options.user_and_password("web1".to_owned(), "web1".to_owned());
    let client = options.connect(broker.url()).await.expect("connected");
    let timing = Timing { self_check_ms: 100, ..Timing::default() };
    let vouch = Vouch::start(VouchSettings { timing, ..VouchSettings::new(client, agent("web1")) });
    let orders = vouch.register(spec("a")).expect("by the rules");
    registered(&orders).await;
    orders.set_health(Health { status: HealthStatus::Warning, ..Health::default() });
    let options = async_nats::ConnectOptions::with_user_and_password("all".to_owned(), "all".to_owned());
    let observer = options.connect(broker.url()).await.expect("connected");
    let probe = observer.request(subjects().to_agent(&agent("web1"), Verb::Probe), "".into()).await;
    assert!(!probe.expect("an answer to a probe").payload.is_empty());
    throughout("it stays registered for more than a TTL", Duration::from_secs(3), async || {
        let status = orders.status().borrow().clone();
        if status.is_registered() { Ok(()) } else { Err(status) }
    })
    .await;
    let outcome = orders.deregister(DeregisterReason::Stopped, None, SOON).await;
    assert!(matches!(outcome, DeregisterOutcome::Removed { .. }), "{outcome:?}");
    assert_eq!(violations.load(Ordering::Relaxed), 0);
}
