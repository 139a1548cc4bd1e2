//! Messages that nobody should send, to everybody who listens: heartbeats, marks, changes, pulses, beacons, and words to
//! agents. Whoever hears them counts them, goes on, and answers as before.

use async_nats::Client;
use muster_schemas::SessionId;
use muster_schemas::agent::ProbeReply;
use muster_schemas::subject::Verb;
use muster_tests::process::Signal;
use serde_json::{Value, json};

use crate::support::{Ended, SOON, World, golden, subjects, texts};

/// What nobody can read, whatever it should be.
fn garbage() -> Vec<Vec<u8>> {
    let nested = "[".repeat(10_000);
    [&b"{"[..], b"null", b"[]", b"7", b"{}", &[0xff, 0xfe, 0], nested.as_bytes(), &[b' '; 200_000]]
        .map(<[u8]>::to_vec)
        .into()
}

/// A golden payload changed at one place.
fn edited(name: &str, pointer: &str, value: Value) -> Vec<u8> {
    let mut message = golden(name);
    *message.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {name}")) = value;
    message.to_string().into_bytes()
}

async fn send(client: &Client, subject: &str, payloads: &[Vec<u8>]) {
    for payload in payloads {
        client.publish(subject.to_owned(), payload.clone().into()).await.expect("sent");
    }
}

#[tokio::test]
async fn bad_heartbeats_are_refused_and_counted_and_renew_nothing() {
    let world = World::start().await;
    let subject = "muster.default.heartbeat.web9";
    let good = golden("heartbeat.json");
    send(&world.client, subject, &[good.to_string().into_bytes()]).await;
    world.until_metric("muster_heartbeats_total", 1).await;

    let mut bad = garbage();
    for (counter, (pointer, value)) in (43..).zip([
        // Of a later version: only its author knows what it renews.
        ("/v", json!(2)),
        ("/v", json!("1")),
        ("/session", json!("not a ulid")),
        ("/digest", json!("short")),
        ("/acked", json!("1")),
        ("/conn", json!([1, 2, 3])),
        ("/conn/0", json!("n".repeat(1_025))),
        // Of a session before the last one.
        ("/session", json!(SessionId::from_parts(1, 1))),
        ("/counter", json!(-1)),
        ("/counter", json!(1.5)),
        // Not above the last counter of its session.
        ("/counter", json!(42)),
    ]) {
        let mut heartbeat = good.clone();
        heartbeat["counter"] = json!(counter);
        *heartbeat.pointer_mut(pointer).expect("a field") = value;
        bad.push(heartbeat.to_string().into_bytes());
    }
    send(&world.client, subject, &bad).await;
    send(&world.client, "muster.default.heartbeat.user%2erpc", &[good.to_string().into_bytes()]).await;
    send(&world.client, "muster.default.heartbeat.a.b.c", &[good.to_string().into_bytes()]).await;
    world.until_metric("muster_heartbeats_refused_total", bad.len() as u64 + 2).await;
    assert_eq!(world.metric("muster_heartbeats_total").await, 1);
    assert_eq!(world.status().await.agents, 1);
}

/// A registry's own marks decide whether leases are charged: nobody else's words may.
#[tokio::test]
async fn bad_marks_do_not_stop_the_lease_clock() {
    let world = World::start().await;
    let mut flood = garbage();
    flood.push(edited("mark.json", "/sent_ms", json!(-1)));
    flood.push(edited("mark.json", "/counter", json!("1")));
    send(&world.client, "muster.default.heartbeat.-.r1", &flood).await;
    send(&world.client, "muster.default.heartbeat.-.r2", &flood).await;
    let charged = world.metric("muster_marks_charged_total").await;
    world.until_above("muster_marks_charged_total", charged + 3).await;
}

#[tokio::test]
async fn bad_changes_pulses_and_beacons_are_counted_and_taken_for_nothing() {
    let world = World::start().await;
    let mut expected = 0;
    for (subject, golden_name) in [
        ("muster.default.change.orders", "change.added.json"),
        ("muster.default.pulse.17", "pulse.json"),
        ("muster.default.beacon.r9", "beacon.json"),
    ] {
        let mut bad = garbage();
        bad.push(edited(golden_name, "/epoch", json!("not a ulid")));
        send(&world.client, subject, &bad).await;
        expected += bad.len() as u64;
    }
    world.until_metric("muster_messages_refused_total", expected).await;
    let status = world.status().await;
    assert_eq!((status.replicas.len(), status.rank), (1, Some(0)));
    assert!(world.registry.lines().len() < 20, "{}", texts(&world.registry.lines()));
}

#[tokio::test]
async fn an_agent_that_is_told_nonsense_goes_on_vouching_and_answers() {
    let world = World::start().await;
    let mut agent = world.agent(&["--agent-id", "web1"]).args(["--service", "orders", "--", "sleep", "600"]).start();
    let registered = agent.wait_for_line(": registered after_ms=", SOON).await;
    let id = "web1".parse().expect("a name");
    let before = world.metric("muster_heartbeats_total").await;
    for verb in Verb::ALL {
        let mut bad = garbage();
        if verb == Verb::Probe {
            // A probe has no body; what comes along is not looked at.
            bad.clear();
        }
        if verb == Verb::Notice {
            bad.push(edited("agent.notice.json", "/code", json!("from_the_future")));
            bad.push(edited("agent.notice.json", "/service", json!("")));
        }
        for payload in bad {
            let inbox = world.client.new_inbox();
            let subject = subjects().to_agent(&id, verb);
            world.client.publish_with_reply(subject, inbox, payload.into()).await.expect("sent");
        }
    }
    send(&world.client, "muster.default.agent.web1.salute", &garbage()).await;
    let probe = world.client.request(subjects().to_agent(&id, Verb::Probe), "x".into()).await.expect("an answer");
    let probe: ProbeReply = serde_json::from_slice(&probe.payload).expect("a reply");
    assert!(probe.incarnations.contains_key("orders/web1"), "{probe:?}");
    world.until_above("muster_heartbeats_total", before + 3).await;
    let lines = agent.lines();
    let since = &lines[usize::try_from(registered.index).expect("few lines") + 1..];
    assert!(since.len() <= 5, "{}", texts(since));
    assert_eq!(agent.exit(), None);
}

#[tokio::test]
async fn a_consumer_that_hears_nonsense_keeps_its_list_and_hears_what_is_true() {
    let world = World::start().await;
    let agent = world.agent(&[]).args(["--service", "orders", "--instance", "a", "--", "sleep", "600"]).start();
    agent.wait_for_line(": registered after_ms=", SOON).await;
    let mut watch = world.muster(&["watch", "orders", "--json"]).start();
    watch.wait_for_line("\"list\"", SOON).await;
    let epoch = json!(world.status().await.epoch.expect("an epoch"));
    let mut bad = garbage();
    bad.push(edited("change.added.json", "/v", json!(2)));
    bad.push(edited("change.added.json", "/revision", json!(-1)));
    send(&world.client, "muster.default.change.orders", &bad).await;
    // Well formed, of the epoch in force, and false: a digest shows it.
    let mut lie = golden("change.removed.json");
    let revision = world.status().await.revision;
    for (field, value) in [("epoch", epoch), ("revision", json!(revision + 1)), ("previous_revision", json!(revision))]
    {
        lie[field] = value;
    }
    lie["instance"] = json!("a");
    lie["digest"] = json!("ab".repeat(16));
    send(&world.client, "muster.default.change.orders", &[lie.to_string().into_bytes()]).await;
    for bucket in 0..64 {
        send(&world.client, &format!("muster.default.pulse.{bucket}"), &garbage()).await;
    }
    let second = world.agent(&[]).args(["--service", "orders", "--instance", "b", "--", "sleep", "600"]).start();
    second.wait_for_line(": registered after_ms=", SOON).await;
    watch.wait_for_line("\"instance\":\"b\"", SOON).await;
    let list = world.run_json(&["instances", "orders"]).await;
    assert_eq!(list["services"][0]["total"], 2);
    watch.signal(Signal::SIGINT);
    let ended = Ended::of(&mut watch).await.expect_code(0);
    let updates: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(updates.iter().all(|update| update["change"] != "removed"), "{updates:?}");
    drop((agent, second));
}
