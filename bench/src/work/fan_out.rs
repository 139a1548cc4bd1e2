//! One change to a thousand and ten thousand consumers, up to the last of them, against a relay that knows nothing; and
//! what the pulses cost the broker while nothing happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::Client;
use hdrhistogram::Histogram;
use muster_schemas::pulse;

use super::{Context, registration};
use crate::floor;
use crate::measure::{CpuUse, histogram};
use crate::payload::{LONG_TTL_MS, Subject, event, subjects};
use crate::raw_consumers::RawConsumers;
use crate::report::{FLOOR, MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON};

const SERVICE: &str = "orders";
/// Descriptors that everything else in this process needs.
const OTHER_DESCRIPTORS: u64 = 200;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    measure(&context, 1_000, "fan-out to 1,000 consumers", report).await?;
    let soft = open_files_max().unwrap_or(1_024);
    if soft < 10_000 + OTHER_DESCRIPTORS {
        report.missing("fan-out to 10,000 consumers", format!("a process may open {soft} files here: raise ulimit -n"));
        return Ok(());
    }
    measure(&context, 10_000, "fan-out to 10,000 consumers", report).await
}

/// How many files this process may open.
fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn measure(context: &Context<'_>, consumers: usize, work: &str, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let _registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let _relay = registration::relay(&broker, &client).await?;
    let subjects = subjects();
    let service = SERVICE.parse()?;
    let (change, bucket) = (subjects.change(&service), subjects.pulse(pulse::bucket(&service)));
    let told = RawConsumers::connect(
        broker.server.port(),
        consumers,
        |_| vec![change.clone(), bucket.clone(), floor::CHANGES.to_owned()],
        Arc::new(|_| {}),
    );
    let told = told.await?;
    let times = context.size(40, 8) * if consumers > 1_000 { 1 } else { 3 } / 2;
    let (mut own, mut bare) = (histogram(), histogram());
    let mut bytes = 0;
    for turn in 0..=times {
        let (to, event) = event(subject(turn));
        bytes = event.len();
        let to_floor = format!("{}.register", floor::EVENTS);
        last_served(&client, to_floor, event.clone(), &told, &mut bare, turn).await?;
        last_served(&client, to, event, &told, &mut own, turn).await?;
    }
    for (system, histogram) in [(MUSTER, &own), (FLOOR, &bare)] {
        report.last_subscriber(work, system, histogram);
    }
    report.add(work, MUSTER, "event", bytes as f64, "bytes", 1);
    idle_pulses(context, &broker, &told, report).await
}

fn subject(turn: usize) -> Subject<'static> {
    let generation = u64::try_from(turn).unwrap_or(0) + 1;
    Subject { service: SERVICE, instance: 0, agent: 0, generation, number: turn, ttl_ms: LONG_TTL_MS }
}

/// From the publish until every consumer has one message more. Pulses are told apart by waiting until they are over.
async fn last_served(
    client: &Client,
    to: String,
    event: bytes::Bytes,
    told: &RawConsumers,
    histogram: &mut Histogram<u64>,
    turn: usize,
) -> Result<()> {
    quiet(told).await;
    let wanted = told.received() + told.len() as u64;
    let began = Instant::now();
    client.publish(to, event).await?;
    client.flush().await?;
    while told.received() < wanted {
        anyhow::ensure!(began.elapsed() < SOON, "{} of {wanted} were told", told.received());
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    if turn > 0 {
        histogram.record(u64::try_from(began.elapsed().as_nanos())?)?;
    }
    Ok(())
}

/// Until a pulse has just been told to all: the next is two seconds away, save the one that follows a change.
async fn quiet(told: &RawConsumers) {
    let mut last = told.received();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(150) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if told.received() != last {
            last = told.received();
            since = Instant::now();
        }
    }
}

async fn idle_pulses(context: &Context<'_>, broker: &Broker, told: &RawConsumers, report: &mut Report) -> Result<()> {
    let work = if told.len() > 1_000 { "idle pulses to 10,000 consumers" } else { "idle pulses to 1,000 consumers" };
    let before = told.received();
    let cpu = CpuUse::of(broker.pid())?;
    tokio::time::sleep(Duration::from_secs(if context.quick { 6 } else { 20 })).await;
    let percent = cpu.percent()?;
    report.add(work, MUSTER, "broker processor", percent, "% of a core", told.received() - before);
    Ok(())
}
