//! Clocks that are wrong.

use muster_schemas::Incarnation;
use muster_schemas::agent::NoticeCode;
use serde_json::json;

use crate::support::{SOON, World, golden, next_notice};

/// Milliseconds from the Unix epoch to the year 2100.
const YEAR_2100_MS: u64 = 4_102_444_800_000;

#[tokio::test]
async fn an_incarnation_from_the_year_2100_is_refused_with_the_time_to_mint_from() {
    let world = World::start().await;
    let mut notices = world.notices("web1").await;
    let subject = "muster.default.event.register.orders.web1-8080.web1";
    let mut event = golden("event.register.json");
    event["data"]["ttl_ms"] = json!(0);
    event["data"]["linger_ms"] = json!(0);
    event["data"]["incarnation"] = json!(Incarnation::from_parts(YEAR_2100_MS, 7));
    world.append(subject, event.to_string()).await;
    let notice = next_notice(&mut notices).await;
    assert_eq!(notice.code, NoticeCode::FutureIncarnation);
    assert!(notice.help.contains("stream_time"), "{}", notice.help);
    assert_eq!((notice.in_force, world.status().await.instances), (None, 0));
    assert_eq!(world.outcome("future_incarnation").await, 1);

    // What the notice asks for is accepted at once: the year 2100 has left no trace.
    let stream_ms = u64::try_from(notice.stream_time.expect("stream time").as_ms()).expect("after 1970");
    event["data"]["incarnation"] = json!(Incarnation::from_parts(stream_ms, 8));
    let sequence = world.append(subject, event.to_string()).await;
    world.until_folded(sequence).await;
    assert_eq!(world.status().await.instances, 1);
}

#[tokio::test]
async fn one_a_little_ahead_is_accepted_and_one_more_than_a_day_is_not() {
    const HOUR_MS: u64 = 3_600_000;
    let world = World::start().await;
    let mut notices = world.notices("web1").await;
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let now_ms = u64::try_from(now_ms).expect("before the year 500,000,000");
    for (instance, ahead_ms, accepted) in [("a", 23 * HOUR_MS, true), ("b", 25 * HOUR_MS, false)] {
        let mut event = golden("event.register.json");
        event["data"]["instance"] = json!(instance);
        event["data"]["ttl_ms"] = json!(0);
        event["data"]["linger_ms"] = json!(0);
        event["data"]["endpoints"] = json!([]);
        event["data"]["incarnation"] = json!(Incarnation::from_parts(now_ms + ahead_ms, 7));
        let subject = format!("muster.default.event.register.orders.{instance}.web1");
        let sequence = world.append(&subject, event.to_string()).await;
        world.until_folded(sequence).await;
        assert_eq!(world.ask(&format!("query.instance.orders.{instance}"), "").await.is_ok(), accepted, "{instance}");
    }
    assert_eq!(next_notice(&mut notices).await.instance.expect("about an instance").as_str(), "b");
}

/// Stands between a program and the system's clock, and adds what `CLOCK_AHEAD_SECONDS` says.
const WRONG_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *ahead = getenv("CLOCK_AHEAD_SECONDS");
    if (result == 0 && ahead && clock == CLOCK_REALTIME)
        now->tv_sec += atoll(ahead);
    return result;
}
"#;

/// Only where programs can be given another clock: Linux, with the compiler that Rust needs anyway.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_agent_whose_clock_is_in_the_year_2100_registers_by_the_streams() {
    let world = World::start().await;
    let source = world.directory.path().join("clock.c");
    std::fs::write(&source, WRONG_CLOCK).expect("written");
    let library = source.with_extension("so");
    let built = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("cc runs").success());
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let ahead_s = YEAR_2100_MS / 1_000 - now_s;
    let agent = world
        .agent(&[])
        .args(["--service", "orders", "--instance", "a", "--", "sleep", "600"])
        .env("LD_PRELOAD", &library)
        .env("CLOCK_AHEAD_SECONDS", ahead_s.to_string())
        .start();
    let line = agent.wait_for_line(": registered after_ms=", SOON).await;
    assert!(line.text.contains("2100-"), "its clock is wrong indeed: {}", line.text);
    let reply = world.ask("query.instance.orders.a", "").await.expect("it is there");
    let minted_ms = reply.services[0].instances[0].vouching().incarnation.time_ms();
    assert!(minted_ms / 1_000 < now_s + 3_600, "minted at {minted_ms}");
    assert_eq!(world.outcome("future_incarnation").await, 1);
}
