//! From just before an agent publishes a registration to the consumer's callback, in turns with the floor and the peers.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_nats::Client;
use futures::StreamExt;
use hdrhistogram::Histogram;
use muster_discovery::{Change, Discovery, Update};
use tokio::sync::mpsc;

use super::Context;
use crate::floor;
use crate::measure::{Begun, TurnsCpu, histogram, open_loop, resident_bytes};
use crate::payload::{INSTANCES_EACH, LONG_TTL_MS, Subject, event, number};
use crate::peers::etcd::{self, Etcd};
use crate::peers::kv;
use crate::report::{FLOOR, MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, child};

/// What a disk takes, if each event waits for it, is less than what memory takes.
fn per_second(durability: Durability) -> u32 {
    match durability {
        Durability::PageCache => 400,
        Durability::Fsync => 100,
    }
}

/// Latencies that may wait to be written down; more than come in one turn.
const WAITING_MAX: usize = 16_384;
/// Instances of the service that is watched, updated in turns.
const INSTANCES: usize = 100;

/// How long each took that a consumer has seen, in nanoseconds.
type Seen = mpsc::Receiver<u64>;
type Saw = mpsc::Sender<u64>;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    for durability in [Durability::PageCache, Durability::Fsync] {
        measure(&context, durability, report).await?;
    }
    Ok(())
}

async fn measure(context: &Context<'_>, durability: Durability, report: &mut Report) -> Result<()> {
    let work = format!("registration to consumer, {}", durability.word());
    let (turns, each) = match durability {
        Durability::PageCache => (context.size(5, 3), context.size(2_400, 500)),
        Durability::Fsync => (context.size(5, 3), context.size(800, 150)),
    };
    let broker = Broker::start(durability, "").await?;
    let registry = Registry::start(&broker, &[]).await?;
    let publisher = broker.connect().await;
    let begun = Arc::new(Begun::new(8 * turns * each + INSTANCES));
    let mut systems =
        vec![muster(&broker, &registry, &publisher, &begun).await?, floor(&broker, &publisher, &begun).await?];
    if context.wants(kv::NAME) {
        systems.push(key_value(&broker, &publisher, &begun).await?);
    }
    let etcd = match context.etcd(report) {
        Some(program) => Some(Etcd::start(&program, durability).await?),
        None => None,
    };
    if let Some(etcd) = &etcd {
        systems.push(with_etcd(etcd, &begun).await?);
    }
    let mut next = 0;
    for turn in 0..=turns {
        for system in &mut systems {
            let numbers = next..next + each;
            next += each;
            let before = system.cpu.iter().map(|(_, cpu)| cpu.now()).collect::<Result<Vec<_>>>()?;
            let histogram = system.turn(per_second(durability), numbers).await?;
            // The first turn warms up.
            if turn > 0 {
                system.histogram.add(histogram)?;
                for ((_, cpu), before) in system.cpu.iter_mut().zip(before) {
                    cpu.add(before, each)?;
                }
            }
        }
    }
    for system in systems {
        report.latency(&work, system.name, &system.histogram);
        for (what, cpu) in &system.cpu {
            let (us, operations) = cpu.us_each();
            report.add(&work, system.name, &format!("processor, {what}"), us, "us/op", operations);
            let resident = resident_bytes(cpu.pid())?;
            report.add(&work, system.name, &format!("resident memory, {what}"), resident, "bytes", 1);
        }
    }
    Ok(())
}

type Sending = Box<dyn Fn(usize) -> futures::future::BoxFuture<'static, Result<()>>>;

struct System {
    name: &'static str,
    send: Sending,
    seen: Seen,
    histogram: Histogram<u64>,
    /// Of the processes that work for this system alone, in its own turns.
    cpu: Vec<(&'static str, TurnsCpu)>,
    _running: Vec<Box<dyn std::any::Any>>,
}

impl System {
    fn new(name: &'static str, send: Sending, seen: Seen) -> Self {
        Self { name, send, seen, histogram: histogram(), cpu: Vec::new(), _running: Vec::new() }
    }

    async fn turn(&mut self, per_second: u32, numbers: std::ops::Range<usize>) -> Result<Histogram<u64>> {
        let expected = numbers.len();
        let mut histogram = histogram();
        let send = &self.send;
        let sending = open_loop(per_second, numbers, send);
        let (seen, name) = (&mut self.seen, self.name);
        let receiving = async {
            for count in 0..expected {
                let latency = tokio::time::timeout(SOON, seen.recv()).await;
                let latency = latency.with_context(|| format!("{name}: {count} of {expected} arrived"))?;
                histogram.record(latency.context("the consumer ended")?)?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(sending, receiving)?;
        Ok(histogram)
    }
}

fn subject_of(number: usize) -> Subject<'static> {
    let generation = u64::try_from(number / INSTANCES).unwrap_or(0) + 1;
    let instance = number % INSTANCES;
    Subject { service: "orders", instance, agent: instance / INSTANCES_EACH, generation, number, ttl_ms: LONG_TTL_MS }
}

/// Publishes to a stream, with an acknowledgement that is not waited for.
fn publish(
    client: &Client,
    inbox: &str,
    begun: &Arc<Begun>,
    subject: impl Fn(String, usize) -> String + 'static,
) -> Sending {
    let (client, inbox, begun) = (client.clone(), inbox.to_owned(), Arc::clone(begun));
    Box::new(move |number| {
        let (event_subject, bytes) = event(subject_of(number));
        let (client, inbox, begun) = (client.clone(), inbox.clone(), Arc::clone(&begun));
        let to = subject(event_subject, number);
        Box::pin(async move {
            begun.begin(number);
            client.publish_with_reply(to, inbox, bytes).await?;
            Ok(())
        })
    })
}

/// Hands on how long it took for every number seen.
fn saw(seen: &Saw, begun: &Begun, number: Option<usize>) {
    if let Some(latency) = number.and_then(|number| begun.end(number)) {
        // One that does not fit is missed below, with a word.
        let _ = seen.try_send(latency);
    }
}

/// Takes in acknowledgements, so that the broker has somewhere to send them.
async fn inbox(client: &Client) -> Result<String> {
    let inbox = client.new_inbox();
    let mut acknowledged = client.subscribe(inbox.clone()).await?;
    tokio::spawn(async move { while acknowledged.next().await.is_some() {} });
    Ok(inbox)
}

async fn muster(broker: &Broker, registry: &Registry, publisher: &Client, begun: &Arc<Begun>) -> Result<System> {
    let discovery = Discovery::connect(broker.server.url()).await?;
    let mut watch = discovery.watch("orders")?;
    let (sender, seen) = mpsc::channel(WAITING_MAX);
    let (begun_there, mut ready) = (Arc::clone(begun), Some(()));
    let (listed, wait) = tokio::sync::oneshot::channel();
    let mut listed = Some(listed);
    tokio::spawn(async move {
        while let Some(update) = watch.next().await {
            match update {
                Update::Change(Change::Added { instance, .. } | Change::Updated { instance, .. }) => {
                    let number = instance.registration.metadata.get("n").and_then(|text| text.parse().ok());
                    saw(&sender, &begun_there, number);
                }
                Update::List(_) if ready.take().is_some() => {
                    let _ = listed.take().map(|listed| listed.send(()));
                }
                _ => {}
            }
        }
    });
    wait.await?;
    let send = publish(publisher, &inbox(publisher).await?, begun, |subject, _| subject);
    let mut system = System::new(MUSTER, send, seen);
    system.cpu = vec![("registry", TurnsCpu::of(registry.pid()))];
    system._running = vec![Box::new(discovery)];
    Ok(system)
}

/// How many bytes the change of a registration has.
pub(super) async fn change_bytes(broker: &Broker) -> Result<usize> {
    let client = broker.connect().await;
    let mut changes = client.subscribe(crate::payload::subjects().all_changes()).await?;
    client.flush().await?;
    let mut subject = subject_of(0);
    subject.service = "sample";
    let (to, bytes) = event(subject);
    client.request(to, bytes).await?;
    loop {
        let change = tokio::time::timeout(SOON, changes.next()).await?.context("closed")?;
        if number(&change.payload).is_some() {
            return Ok(change.payload.len());
        }
    }
}

async fn floor(broker: &Broker, publisher: &Client, begun: &Arc<Begun>) -> Result<System> {
    floor::create_stream(publisher).await?;
    let size = change_bytes(broker).await?.to_string();
    let relay = child(&["relay", &broker.server.url(), &size])?;
    relay.wait_for_line("relaying", SOON).await;
    let consumer = broker.connect().await;
    let mut changes = consumer.subscribe(floor::CHANGES).await?;
    consumer.flush().await?;
    let (sender, seen) = mpsc::channel(WAITING_MAX);
    let begun_there = Arc::clone(begun);
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            saw(&sender, &begun_there, number(&change.payload));
        }
    });
    let send = publish(publisher, &inbox(publisher).await?, begun, |_, _| format!("{}.register", floor::EVENTS));
    let mut system = System::new(FLOOR, send, seen);
    system.cpu = vec![("relay", TurnsCpu::of(relay.pid()))];
    system._running = vec![Box::new(relay), Box::new(consumer)];
    Ok(system)
}

async fn key_value(broker: &Broker, publisher: &Client, begun: &Arc<Begun>) -> Result<System> {
    let consumer = broker.connect().await;
    let bucket = kv::create(&consumer).await?;
    let mut entries = kv::watch(&consumer, &bucket).await?;
    let (sender, seen) = mpsc::channel(WAITING_MAX);
    let begun_there = Arc::clone(begun);
    tokio::spawn(async move {
        while let Some(Ok(entry)) = entries.next().await {
            saw(&sender, &begun_there, number(&entry.payload));
        }
    });
    let key = |_, number: usize| kv::subject(&format!("orders.{}", number % INSTANCES));
    let send = publish(publisher, &inbox(publisher).await?, begun, key);
    let mut system = System::new(kv::NAME, send, seen);
    system._running = vec![Box::new(consumer)];
    Ok(system)
}

async fn with_etcd(server: &Etcd, begun: &Arc<Begun>) -> Result<System> {
    let (publisher, consumer) = (server.connect().await?, server.connect().await?);
    let leases = futures::future::try_join_all((0..INSTANCES / INSTANCES_EACH).map(|_| publisher.grant(3_600))).await?;
    let mut values = Box::pin(consumer.watch("orders/").await?);
    let (sender, seen) = mpsc::channel(WAITING_MAX);
    let begun_there = Arc::clone(begun);
    tokio::spawn(async move {
        while let Some(value) = values.next().await {
            saw(&sender, &begun_there, number(&value));
        }
    });
    let begun = Arc::clone(begun);
    let send: Sending = Box::new(move |number| {
        let (_, value) = event(subject_of(number));
        let (publisher, begun) = (publisher.clone(), Arc::clone(&begun));
        let lease = leases[number % INSTANCES / INSTANCES_EACH];
        Box::pin(async move {
            tokio::spawn(async move {
                begun.begin(number);
                publisher.put(&format!("orders/{}", number % INSTANCES), value, lease).await
            });
            Ok(())
        })
    });
    let mut system = System::new(etcd::NAME, send, seen);
    system.cpu = vec![("etcd", TurnsCpu::of(server.pid()))];
    Ok(system)
}

/// For works that need the floor's relay.
pub(super) async fn relay(broker: &Broker, client: &Client) -> Result<muster_tests::Process> {
    floor::create_stream(client).await?;
    let size = change_bytes(broker).await?.to_string();
    let relay = child(&["relay", &broker.server.url(), &size])?;
    relay.wait_for_line("relaying", SOON).await;
    Ok(relay)
}
