//! Registrations folded and published, pipelined: from the first publish to the last change at a subscriber.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::{Context, registration};
use crate::floor;
use crate::measure::{CpuUse, resident_bytes};
use crate::payload::{INSTANCES_EACH, fleet, number, subjects};
use crate::peers::etcd::{self, Etcd};
use crate::peers::kv;
use crate::report::{FLOOR, MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, pipeline};

/// Unacknowledged at most.
const WINDOW: usize = 4_096;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    for durability in [Durability::PageCache, Durability::Fsync] {
        measure(&context, durability, report).await?;
    }
    Ok(())
}

async fn measure(context: &Context<'_>, durability: Durability, report: &mut Report) -> Result<()> {
    let work = format!("registration rate, {}", durability.word());
    let (turns, each) = match durability {
        Durability::PageCache => (context.size(4, 2), context.size(100_000, 20_000)),
        Durability::Fsync => (context.size(3, 1), context.size(20_000, 3_000)),
    };
    let broker = Broker::start(durability, "").await?;
    let registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let relay = registration::relay(&broker, &client).await?;
    let mut muster = Tally::default();
    let mut floor = Tally::default();
    let mut key_value = Tally::default();
    let bucket = if context.wants(kv::NAME) { Some(kv::create(&client).await?) } else { None };
    let (registry_cpu, relay_cpu) = (CpuUse::of(registry.pid())?, CpuUse::of(relay.pid())?);
    for turn in 0..turns {
        let events: Vec<(async_nats::Subject, Bytes)> =
            fleet(each, turn * each).map(|(subject, bytes)| (subject.into(), bytes)).collect();
        let floor_subject = async_nats::Subject::from(format!("{}.register", floor::EVENTS));
        let for_floor = events.iter().map(|(_, bytes)| (floor_subject.clone(), bytes.clone()));
        floor.add(each, through(&broker, &client, floor::CHANGES.into(), for_floor, each).await?);
        let for_muster = events.iter().cloned();
        muster.add(each, through(&broker, &client, subjects().all_changes(), for_muster, each).await?);
        if bucket.is_some() {
            key_value.add(each, put_all(&client, &events).await?);
        }
    }
    muster.report(&work, MUSTER, report);
    floor.report(&work, FLOOR, report);
    report.add(&work, MUSTER, "processor, registry", registry_cpu.us_each(muster.count)?, "us/op", muster.count);
    report.add(&work, FLOOR, "processor, relay", relay_cpu.us_each(floor.count)?, "us/op", floor.count);
    report.add(&work, MUSTER, "resident memory", resident_bytes(registry.pid())?, "bytes", muster.count);
    if bucket.is_some() {
        key_value.report(&work, kv::NAME, report);
    }
    drop((registry, relay, broker));
    if let Some(program) = context.etcd(report) {
        let etcd = Etcd::start(&program, durability).await?;
        let count = each.min(context.size(60_000, 10_000));
        let mut tally = Tally::default();
        tally.add(count, etcd_puts(&etcd, count).await?);
        tally.report(&work, etcd::NAME, report);
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    count: u64,
    elapsed: Duration,
}

impl Tally {
    fn add(&mut self, count: usize, elapsed: Duration) {
        self.count += u64::try_from(count).unwrap_or(0);
        self.elapsed += elapsed;
    }

    fn report(&self, work: &str, system: &str, report: &mut Report) {
        report.add(work, system, "rate", self.count as f64 / self.elapsed.as_secs_f64(), "1/s", self.count);
    }
}

/// Until a subscriber has what became of each event.
async fn through(
    broker: &Broker,
    publisher: &Client,
    changes: String,
    events: impl Iterator<Item = (async_nats::Subject, Bytes)>,
    count: usize,
) -> Result<Duration> {
    let consumer = broker.connect().await;
    let mut changes = consumer.subscribe(changes).await?;
    // A round trip: from here on the broker knows of it.
    consumer.request("$JS.API.INFO", "".into()).await?;
    let started = Instant::now();
    let receiving = async {
        let mut seen = 0;
        while seen < count {
            let change = tokio::time::timeout(SOON, changes.next()).await;
            let change = change.with_context(|| format!("{seen} of {count} changes came"))?.context("closed")?;
            seen += usize::from(number(&change.payload).is_some());
        }
        anyhow::Ok(started.elapsed())
    };
    let (_, elapsed) = tokio::try_join!(pipeline(publisher, events, WINDOW), receiving)?;
    Ok(elapsed)
}

/// Puts into a bucket, 64 at a time.
async fn put_all(client: &Client, events: &[(async_nats::Subject, Bytes)]) -> Result<Duration> {
    let started = Instant::now();
    let puts = events.iter().enumerate().map(|(number, (_, bytes))| {
        let key = kv::subject(&format!("orders.{number}"));
        (key.into(), bytes.clone())
    });
    pipeline(client, puts, 64).await?;
    Ok(started.elapsed())
}

/// Puts under leases, 64 at a time. Each lease has as many keys as an agent has instances, and is there before: with each put
/// etcd looks at all keys of its lease.
async fn etcd_puts(etcd: &Etcd, count: usize) -> Result<Duration> {
    let client = etcd.connect().await?;
    let mut leases = Vec::with_capacity(count / INSTANCES_EACH + 1);
    while leases.len() * INSTANCES_EACH < count {
        let granted = futures::future::try_join_all((0..64).map(|_| client.grant(3_600)));
        leases.extend(granted.await?);
    }
    let values: Vec<Bytes> = fleet(count, 0).map(|(_, bytes)| bytes).collect();
    let free = Arc::new(Semaphore::new(64));
    let started = Instant::now();
    let mut puts = tokio::task::JoinSet::new();
    for (number, value) in values.into_iter().enumerate() {
        let permit = Arc::clone(&free).acquire_owned().await?;
        let (client, lease) = (client.clone(), leases[number / INSTANCES_EACH]);
        puts.spawn(async move {
            let put = client.put(&format!("orders/{number}"), value, lease).await;
            drop(permit);
            put
        });
        while let Some(put) = puts.try_join_next() {
            put??;
        }
    }
    while let Some(put) = puts.join_next().await {
        put??;
    }
    Ok(started.elapsed())
}
