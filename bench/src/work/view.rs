//! Reading a consumer's view that stands already.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use muster_discovery::Discovery;

use super::Context;
use crate::payload::{LONG_TTL_MS, Subject, event};
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, pipeline, until_instances};

const INSTANCES: usize = 100;
const WORK: &str = "view of 100 instances";

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let _registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let events = (0..INSTANCES).map(|number| {
        let subject =
            Subject { service: "orders", instance: number, agent: 0, generation: 1, number, ttl_ms: LONG_TTL_MS };
        let (subject, bytes) = event(subject);
        (subject.into(), bytes)
    });
    pipeline(&client, events, 100).await?;
    until_instances(&client, INSTANCES as u64).await;
    let discovery = Discovery::connect(broker.server.url()).await?;
    let reads = context.size(2_000_000, 200_000);
    anyhow::ensure!(discovery.instances("orders").await?.all().count() == INSTANCES, "the view is not whole");
    let began = Instant::now();
    for _ in 0..reads {
        black_box(discovery.instances("orders").await?);
    }
    report.add(WORK, MUSTER, "read", began.elapsed().as_nanos() as f64 / reads as f64, "ns/op", reads as u64);
    let list = discovery.instances("orders").await?;
    let began = Instant::now();
    for _ in 0..reads / 100 {
        black_box(list.instances().map(|instance| instance.registration.weight).max());
    }
    let each = began.elapsed().as_nanos() as f64 / (reads / 100 * INSTANCES) as f64;
    report.add(WORK, MUSTER, "look at each instance", each, "ns/op", reads as u64);
    Ok(())
}
