//! Asking for whole services, one question at a time and many at once, against bare request-reply with as many bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::Client;
use hdrhistogram::Histogram;
use muster_schemas::subject::Query;

use super::Context;
use crate::measure::{CpuUse, histogram};
use crate::payload::{LONG_TTL_MS, Subject, event, subjects};
use crate::peers::etcd::{self, Etcd};
use crate::report::{FLOOR, MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, child, pipeline, until_instances};

const SIZES: [(usize, &str); 4] = [
    (1, "query of 1 instance"),
    (10, "query of 10 instances"),
    (100, "query of 100 instances"),
    (1_000, "query of 1,000 instances"),
];

fn in_flight(size: usize) -> usize {
    if size >= 1_000 { 16 } else { 256 }
}

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let registry = Registry::start(&broker, &[]).await?;
    let echo = child(&["echo", &broker.server.url()])?;
    echo.wait_for_line("echoing", SOON).await;
    let client = broker.connect().await;
    let mut total = 0;
    for (size, _) in SIZES {
        let events = services(size).map(|(subject, bytes)| (subject.into(), bytes));
        total += pipeline(&client, events, 512).await?;
    }
    until_instances(&client, total).await;
    for (size, work) in SIZES {
        let service = service(size).parse()?;
        let question = subjects().query(&Query::Service(service));
        let bytes = client.request(question.clone(), "".into()).await?.payload.len();
        let bare = format!("floor.echo.{bytes}");
        report.add(work, MUSTER, "reply", bytes as f64, "bytes", 1);
        let mut systems = [(FLOOR, bare, echo.pid()), (MUSTER, question, registry.pid())]
            .map(|(name, subject, pid)| (name, subject, pid, Load::default()));
        for _ in 0..context.size(4, 2) {
            for (_, subject, pid, load) in &mut systems {
                load.turn(&client, subject, *pid, in_flight(size), context.quick).await?;
            }
        }
        for (name, _, _, load) in &systems {
            load.report(work, name, report)?;
        }
    }
    drop((registry, echo, broker));
    if let Some(program) = context.etcd(report) {
        etcd_reads(&program, context.quick, report).await?;
    }
    Ok(())
}

fn service(size: usize) -> String {
    format!("of-{size}")
}

fn services(size: usize) -> impl Iterator<Item = (String, bytes::Bytes)> {
    let name = service(size);
    (0..size).map(move |number| {
        let subject = Subject {
            service: &name,
            instance: number,
            agent: size + number / 10,
            generation: 1,
            number,
            ttl_ms: LONG_TTL_MS,
        };
        event(subject)
    })
}

struct Load {
    alone: Histogram<u64>,
    count: u64,
    elapsed: Duration,
    cpu_us: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { alone: histogram(), count: 0, elapsed: Duration::ZERO, cpu_us: 0.0 }
    }
}

impl Load {
    async fn turn(&mut self, client: &Client, subject: &str, pid: u32, at_once: usize, quick: bool) -> Result<()> {
        let (alone, period) = if quick { (300, 500) } else { (2_000, 1_500) };
        for _ in 0..alone {
            let began = Instant::now();
            client.request(subject.to_owned(), "".into()).await?;
            self.alone.record(u64::try_from(began.elapsed().as_nanos())?)?;
        }
        let cpu = CpuUse::of(pid)?;
        let (count, elapsed) = flood(client, subject, at_once, Duration::from_millis(period)).await?;
        self.cpu_us += cpu.us_each(count)? * count as f64;
        self.count += count;
        self.elapsed += elapsed;
        Ok(())
    }

    fn report(&self, work: &str, system: &str, report: &mut Report) -> Result<()> {
        report.latency(work, system, &self.alone);
        report.add(work, system, "rate", self.count as f64 / self.elapsed.as_secs_f64(), "1/s", self.count);
        report.add(work, system, "processor", self.cpu_us / self.count as f64, "us/op", self.count);
        Ok(())
    }
}

/// Asks for a period, so many at once.
async fn flood(client: &Client, subject: &str, at_once: usize, period: Duration) -> Result<(u64, Duration)> {
    let (count, started) = (AtomicU64::new(0), Instant::now());
    let askers = (0..at_once).map(|_| async {
        while started.elapsed() < period {
            client.request(subject.to_owned(), "".into()).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(askers).await?;
    Ok((count.load(Ordering::Relaxed), started.elapsed()))
}

async fn etcd_reads(program: &std::path::Path, quick: bool, report: &mut Report) -> Result<()> {
    let etcd = Etcd::start(program, Durability::PageCache).await?;
    let client = etcd.connect().await?;
    let lease = client.grant(3_600).await?;
    for (size, work) in SIZES.into_iter().filter(|(size, _)| *size < 1_000) {
        for (number, (_, value)) in services(size).enumerate() {
            client.put(&format!("{}/{number:04}", service(size)), value, lease).await?;
        }
        let prefix = format!("{}/", service(size));
        let (count, started) = (AtomicU64::new(0), Instant::now());
        let period = Duration::from_millis(if quick { 1_000 } else { 4_000 });
        let askers = (0..64).map(|_| async {
            while started.elapsed() < period {
                client.range(&prefix).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(askers).await?;
        let count = count.load(Ordering::Relaxed);
        report.add(work, etcd::NAME, "rate", count as f64 / started.elapsed().as_secs_f64(), "1/s", count);
    }
    Ok(())
}
