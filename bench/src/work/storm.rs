//! Two hundred services of fifty instances restart within a minute, before a thousand consumers of five services each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt;
use hdrhistogram::Histogram;
use muster_schemas::event::{DeregisterReason, Deregistration, Event, EventData, Source};
use muster_schemas::pulse;

use super::Context;
use crate::measure::{Begun, CpuUse, histogram, open_loop};
use crate::payload::{LONG_TTL_MS, Subject, event, number, registration, subjects};
use crate::raw_consumers::RawConsumers;
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, pipeline, until_instances};

const WORK: &str = "storm of restarts";
const SERVICES: usize = 200;
const CONSUMERS: usize = 1_000;
const SERVICES_EACH: usize = 5;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let instances = SERVICES * context.size(50, 10);
    let seconds = context.size(60, 12);
    let names: Vec<String> = (0..SERVICES).map(|number| format!("storm-{number:03}")).collect();
    let subject = |number: usize| Subject {
        service: &names[number % SERVICES],
        instance: number,
        agent: number / 10,
        generation: 1,
        number,
        ttl_ms: LONG_TTL_MS,
    };
    let broker = Broker::start(Durability::PageCache, "").await?;
    let registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let first = (0..instances).map(|number| {
        let (to, bytes) = event(subject(number));
        (to.into(), bytes)
    });
    pipeline(&client, first, 2_048).await?;
    until_instances(&client, instances as u64).await;

    let begun = Arc::new(Begun::new(2 * instances));
    let latencies = Arc::new(Mutex::new(histogram()));
    let expired = Arc::new(AtomicU64::new(0));
    // How many have been told of each, and how long the last of them had to wait.
    let told_of: Arc<Vec<AtomicU64>> = Arc::new((0..2 * instances).map(|_| AtomicU64::new(0)).collect());
    let last_told = Arc::new(Mutex::new(histogram()));
    let listeners = CONSUMERS * SERVICES_EACH / SERVICES;
    let told = RawConsumers::connect(
        broker.server.port(),
        CONSUMERS,
        |consumer| subjects_of(&names, consumer),
        Arc::new({
            let (begun, latencies, expired) = (Arc::clone(&begun), Arc::clone(&latencies), Arc::clone(&expired));
            let (told_of, last_told) = (Arc::clone(&told_of), Arc::clone(&last_told));
            move |payload: &[u8]| {
                if payload.windows(17).any(|window| window == b"\"cause\":\"expired\"") {
                    expired.fetch_add(1, Ordering::Relaxed);
                }
                let Some(number) = number(payload) else { return };
                let Some(latency) = begun.since(number) else { return };
                let mut latencies = latencies.lock().expect("nothing panics while it records");
                latencies.saturating_record(latency);
                if told_of[number].fetch_add(1, Ordering::Relaxed) + 1 == listeners as u64 {
                    last_told.lock().expect("as above").saturating_record(latency);
                }
            }
        }),
    );
    let told = told.await?;
    let (of_registry, of_broker) = (CpuUse::of(registry.pid())?, CpuUse::of(broker.pid())?);
    let inbox = client.new_inbox();
    let mut acknowledged = client.subscribe(inbox.clone()).await?;
    tokio::spawn(async move { while acknowledged.next().await.is_some() {} });
    let per_second = u32::try_from(instances / seconds)?;
    let again: Vec<_> = (0..instances).map(|number| restart(subject(number), instances + number)).collect();
    open_loop(per_second, 0..instances, |index| {
        let ((away, gone), (to, back)) = again[index].clone();
        let (client, inbox, begun) = (&client, inbox.clone(), &begun);
        async move {
            client.publish_with_reply(away, inbox.clone(), gone).await?;
            begun.begin(instances + index);
            client.publish_with_reply(to, inbox, back).await?;
            Ok(())
        }
    })
    .await?;
    until_instances(&client, instances as u64).await;
    let wanted = (instances * CONSUMERS * SERVICES_EACH / SERVICES) as u64;
    let latencies = once_told(&latencies, wanted).await;
    report.latency(WORK, MUSTER, &latencies);
    report.last_subscriber(WORK, MUSTER, &last_told.lock().expect("as above"));
    report.add(WORK, MUSTER, "not delivered", wanted.saturating_sub(latencies.len()) as f64, "messages", wanted);
    report.add(WORK, MUSTER, "false removals", expired.load(Ordering::Relaxed) as f64, "", instances as u64);
    report.add(WORK, MUSTER, "processor, registry", of_registry.percent()?, "% of a core", 2 * instances as u64);
    report.add(WORK, MUSTER, "processor, broker", of_broker.percent()?, "% of a core", told.received());
    Ok(())
}

/// Waits until so many have been told, or for long enough; then how long it took for each.
async fn once_told(latencies: &Mutex<Histogram<u64>>, wanted: u64) -> Histogram<u64> {
    let look = || latencies.lock().expect("nothing panics while it records").clone();
    let deadline = std::time::Instant::now() + SOON;
    while look().len() < wanted && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    look()
}

/// Five services, not the same five for everybody; each consumer hears their changes and pulses.
fn subjects_of(names: &[String], consumer: usize) -> Vec<String> {
    let subjects = subjects();
    let mine = (0..SERVICES_EACH).map(|index| &names[(consumer * SERVICES_EACH + index * 41) % SERVICES]);
    let services = mine.filter_map(|name| name.parse().ok());
    services.flat_map(|service| [subjects.change(&service), subjects.pulse(pulse::bucket(&service))]).collect()
}

type Message = (String, Bytes);

/// An instance goes, and comes back as a new vouching.
fn restart(subject: Subject<'_>, number: usize) -> (Message, Message) {
    let mut before = registration(subject).vouching;
    before.generation += 1;
    let mut after = registration(Subject { number, ..subject });
    after.vouching.incarnation = after.vouching.incarnation.next();
    let gone = Deregistration { vouching: before, reason: DeregisterReason::Stopped, detail: None };
    (message(number, EventData::Deregister(gone)), message(number + 1_000_000, EventData::Register(after)))
}

fn message(id: usize, data: EventData) -> Message {
    let agent = data.vouching().map(|vouching| vouching.agent.clone()).expect("an agent's event");
    let event = Event { id: format!("storm-{id}"), source: Source::Agent(agent), time: None, data };
    let subjects = subjects();
    (event.subject(&subjects), event.encode(subjects.namespace()).expect("small enough").into())
}
