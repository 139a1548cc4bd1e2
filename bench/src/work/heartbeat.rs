//! Heartbeats that one registry takes while more come than it can take, against a bare subscriber that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::{Client, Subject};
use futures::StreamExt;
use muster_schemas::AgentId;
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_tests::{eventually, free_port, http};

use super::Context;
use crate::measure::{CpuUse, resident_bytes};
use crate::payload::{INSTANCES_EACH, SESSION, agent, fleet, fleet_digest, subjects};
use crate::peers::etcd::{self, Etcd};
use crate::peers::kv;
use crate::report::{FLOOR, MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, child, pipeline, until_instances};

const WORK: &str = "heartbeat rate";
const AGENTS: usize = 1_000;
/// Ten digits from the first to the last, so that it can be written in place.
const FIRST_COUNTER: u64 = 1_000_000_000;
const COUNTER: &str = "1000000000";

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let port = free_port();
    let registry = Registry::start(&broker, &["--http", &format!("127.0.0.1:{port}")]).await?;
    let sink = child(&["sink", &broker.server.url()])?;
    sink.wait_for_line("counting", SOON).await;
    let client = broker.connect().await;
    let events = fleet(AGENTS * INSTANCES_EACH, 0).map(|(subject, bytes)| (subject.into(), bytes));
    pipeline(&client, events, 2_048).await?;
    until_instances(&client, (AGENTS * INSTANCES_EACH) as u64).await;

    let period = Duration::from_secs(if context.quick { 4 } else { 8 });
    let (mut for_sink, mut for_registry) = (Beats::to_floor(), Beats::to_muster());
    let (mut own, mut floor) = (Slope::default(), Slope::default());
    for _ in 0..context.size(3, 1) {
        let cpu = CpuUse::of(sink.pid())?;
        let slope = blast(&client, &mut for_sink, period, async || counted(&client).await).await?;
        floor.add(&slope);
        report.add(WORK, FLOOR, "processor, sink", cpu.us_each(slope.count)?, "us/op", slope.count);
        let cpu = CpuUse::of(registry.pid())?;
        let slope = blast(&client, &mut for_registry, period, async || taken(port).await).await?;
        own.add(&slope);
        report.add(WORK, MUSTER, "processor, registry", cpu.us_each(slope.count)?, "us/op", slope.count);
    }
    report.add(WORK, FLOOR, "rate", floor.rate(), "1/s", floor.count);
    report.add(WORK, MUSTER, "rate", own.rate(), "1/s", own.count);
    report.add(WORK, MUSTER, "instances kept alive", own.rate() * INSTANCES_EACH as f64, "1/s", own.count);
    report.add(WORK, MUSTER, "resident memory", resident_bytes(registry.pid())?, "bytes", 1);
    drop((registry, sink));
    if context.wants(kv::NAME) {
        let slope = refreshes(&broker, &client, period).await?;
        report.add(WORK, kv::NAME, "rate", slope.rate(), "1/s", slope.count);
        report.add(WORK, kv::NAME, "instances kept alive", slope.rate(), "1/s", slope.count);
    }
    drop(broker);
    if let Some(program) = context.etcd(report) {
        let etcd = Etcd::start(&program, Durability::PageCache).await?;
        let (rate, count) = keep_alives(&etcd, period).await?;
        report.add(WORK, etcd::NAME, "rate", rate, "1/s", count);
        report.add(WORK, etcd::NAME, "instances kept alive", rate, "1/s", count);
    }
    Ok(())
}

/// Heartbeats without end, of one agent after the other.
struct Beats {
    ready: Vec<(Subject, Vec<u8>, usize)>,
    next: usize,
    counter: u64,
}

impl Beats {
    fn of(subject: impl Fn(&AgentId) -> String) -> Self {
        let ready = (0..AGENTS).map(|number| {
            let agent: AgentId = agent(number).parse().expect("a name");
            let heartbeat = Heartbeat {
                v: muster_schemas::WIRE_VERSION,
                session: SESSION.parse().expect("a session"),
                counter: FIRST_COUNTER,
                instances: 10,
                digest: fleet_digest(number),
                acked: None,
                conn: Some(Connection("bench".into(), "NBENCH".into(), 17)),
            };
            let bytes = serde_json::to_vec(&heartbeat).expect("plain data");
            let at = bytes.windows(COUNTER.len()).position(|window| window == COUNTER.as_bytes()).expect("a counter");
            (subject(&agent).into(), bytes, at)
        });
        Self { ready: ready.collect(), next: 0, counter: FIRST_COUNTER }
    }

    fn to_muster() -> Self {
        let subjects = subjects();
        Self::of(|agent| subjects.heartbeat(agent))
    }

    fn to_floor() -> Self {
        Self::of(|agent| format!("floor.heartbeat.{agent}"))
    }

    fn next(&mut self) -> (Subject, bytes::Bytes) {
        if self.next == 0 {
            self.counter += 1;
        }
        let (subject, bytes, at) = &mut self.ready[self.next];
        self.next = (self.next + 1) % AGENTS;
        bytes[*at..*at + COUNTER.len()].copy_from_slice(self.counter.to_string().as_bytes());
        (subject.clone(), bytes::Bytes::copy_from_slice(bytes))
    }
}

/// How many were taken between two looks, and how long that took.
#[derive(Debug, Default)]
struct Slope {
    count: u64,
    elapsed: Duration,
}

impl Slope {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.elapsed += other.elapsed;
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends for a period as fast as the broker takes it, and looks at a count that moves in steps: from its first step to its
/// last.
async fn blast(
    client: &Client,
    beats: &mut Beats,
    period: Duration,
    count: impl AsyncFn() -> Result<u64>,
) -> Result<Slope> {
    let end = Instant::now() + period;
    let sending = async {
        while Instant::now() < end {
            for _ in 0..256 {
                let (subject, bytes) = beats.next();
                client.publish(subject, bytes).await?;
            }
        }
        anyhow::Ok(())
    };
    let looking = async {
        let (mut last, mut steps) = (count().await?, Vec::new());
        while Instant::now() < end {
            let now = count().await?;
            if now != last {
                last = now;
                steps.push((Instant::now(), now));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The first steps may still be of before.
        let first = steps.get(1).context("nothing was taken")?;
        let last = steps.last().context("nothing was taken")?;
        anyhow::Ok(Slope { count: last.1 - first.1, elapsed: last.0 - first.0 })
    };
    let ((), slope) = tokio::try_join!(sending, looking)?;
    client.request("$JS.API.INFO", "".into()).await?;
    Ok(slope)
}

async fn counted(client: &Client) -> Result<u64> {
    let answer = client.request("floor.count", "".into()).await?;
    let text = std::str::from_utf8(&answer.payload)?;
    Ok(text.split(' ').next().context("no count")?.parse()?)
}

async fn taken(port: u16) -> Result<u64> {
    let metrics = http::get(port, "/metrics").await.map_err(anyhow::Error::msg)?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("muster_heartbeats_total "));
    Ok(line.context("no such metric")?.trim().parse()?)
}

/// A bucket's heartbeat: every instance's value is put again before it is too old, and whoever watches is told of each.
async fn refreshes(broker: &Broker, client: &Client, period: Duration) -> Result<Slope> {
    let bucket = kv::create(client).await?;
    let consumer = broker.connect().await;
    let mut entries = kv::watch(&consumer, &bucket).await?;
    let seen = Arc::new(AtomicU64::new(0));
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            while let Some(Ok(_)) = entries.next().await {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let values: Vec<_> = fleet(AGENTS * INSTANCES_EACH, 0)
        .enumerate()
        .map(|(number, (_, bytes))| (Subject::from(kv::subject(&format!("orders.{number}"))), bytes))
        .collect();
    let began = Instant::now();
    let puts = values.iter().cycle().take_while(|_| began.elapsed() < period).cloned();
    let count = pipeline(client, puts, 2_048).await?;
    eventually("the watch has seen every refresh", SOON, async || {
        let seen = seen.load(Ordering::Relaxed);
        if seen >= count { Ok(()) } else { Err(format!("{seen} of {count}")) }
    })
    .await;
    Ok(Slope { count, elapsed: began.elapsed() })
}

async fn keep_alives(etcd: &Etcd, period: Duration) -> Result<(f64, u64)> {
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let client = etcd.connect().await?;
        let lease = client.grant(3_600).await?;
        streams.spawn(async move { client.keep_alive(lease, period).await });
    }
    let mut count = 0;
    while let Some(one) = streams.join_next().await {
        count += one??;
    }
    Ok((count as f64 / period.as_secs_f64(), count))
}
