//! Brings a registry up, keeps it running, and takes it down.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use muster_runtime::broker::{Connection, Need, Role};
use muster_runtime::metrics::Metrics;
use muster_runtime::stop::Stop;
use muster_schemas::event::{EventKind, Sender};
use muster_schemas::subject::{Query, Verb};
use muster_schemas::{AgentId, ReplicaId, ServiceName, Subjects};
use tokio::sync::{Notify, mpsc, watch};

use crate::broker_api;
use crate::clock::Clock;
use crate::core::io::Effects;
use crate::core::replica::{Replica, ReplicaSettings, Timing};
use crate::error::RegistryError;
use crate::link_watch::{self, LinkRole};
use crate::metrics::{CoreMetrics, QueryMetrics};
use crate::proposals;
use crate::queries::{Queries, QuerySettings, Shown};
use crate::settings::RegistrySettings;
use crate::shell::{Answer, Hands, Shell, Sources, Tools, in_batches};
use crate::stream;

/// Messages that may wait in one subscription. The flow control of the log reader's consumer lets the broker be 32 MiB
/// ahead, which must fit.
const WAITING_MESSAGES_MAX: usize = 131_072;
/// Batches of the log that may wait for the core.
const DELIVERIES_MAX: usize = 4;
/// Answers that may wait for the core.
const ANSWERS_MAX: usize = 1_024;
/// Questions for the core's status under way at once.
const STATUSES_MAX: usize = 64;
/// How long the last messages have to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the broker may take to describe the stream at the start.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a registry until it is asked to stop.
///
/// # Errors
/// Why it does not come up, within a second or two; or that a connection was closed for good. A broker that goes away
/// later is waited for.
pub async fn run(settings: RegistrySettings, stop: Stop) -> Result<(), RegistryError> {
    let clock = Clock::start();
    let replica = settings.replica();
    let subjects = Subjects::new(settings.broker.prefix.clone(), settings.broker.namespace.clone());
    let metrics = Metrics::new();
    let http = settings.http.start(&metrics, &stop).await?;
    let shown = Shown {
        metrics: QueryMetrics::register(&metrics),
        readiness: http.as_ref().map(muster_runtime::http::HttpServer::readiness),
    };
    let links = Links::connect(&settings, &subjects, &replica).await?;
    check_stream(&links.output, &subjects, settings.stream_replicas).await?;
    tracing::info!(%replica, namespace = %subjects.namespace(), version = env!("CARGO_PKG_VERSION"), "registry starting");

    let timing = Timing { listen_ms: settings.listen_period.as_ms(), ..Timing::default() };
    let core = ReplicaSettings {
        subjects: subjects.clone(),
        replica: replica.clone(),
        started_at: clock.wall(),
        datacenter: settings.datacenter.clone(),
        software_version: env!("CARGO_PKG_VERSION").into(),
        timing: timing.clone(),
    };
    let query_settings = QuerySettings {
        subjects: subjects.clone(),
        replica: replica.clone(),
        started_at: core.started_at,
        reply_prefixes: settings.reply_prefixes(),
        wait_ms: settings.query_wait.as_ms(),
        cursor_period_ms: settings.cursor_period.as_ms(),
        head_age_ms_max: timing.head_age_ms_max,
    };
    let core = Replica::new(core, clock.now_ms());
    let (snapshots, snapshot) = watch::channel(core.snapshot());
    let (statuses, status_requests) = mpsc::channel(STATUSES_MAX);
    let queries = links.queries.client().clone();
    let queries = Queries::start(query_settings, clock, queries, snapshot, statuses, shown).await?;

    let (sources, hands, recheck_output) =
        connect_shell(&settings, &links, &subjects, &replica, &timing, status_requests).await?;
    let shell = Shell {
        clock,
        replica: core,
        hands,
        snapshots,
        effects: Effects::new(),
        recheck_output,
        metrics: CoreMetrics::register(&metrics),
        metrics_shown_ms: 0,
    };
    let tick = Duration::from_millis(timing.tick_ms);
    let outcome = together(queries, shell, sources, tick, &stop).await;
    let flushed = tokio::time::timeout(FLUSH_TIMEOUT, links.output.client().flush()).await;
    tracing::info!(flushed = flushed.is_ok(), "registry stopped");
    outcome
}

/// The shell and the queries run until the end; if one fails, the other ends in an orderly way.
async fn together(
    queries: Queries,
    shell: Shell,
    sources: Sources,
    tick: Duration,
    stop: &Stop,
) -> Result<(), RegistryError> {
    let ended = Stop::new();
    let asked = tokio::spawn({
        let (stop, ended) = (stop.clone(), ended.clone());
        async move {
            tokio::select! {
                () = stop.requested() => ended.request(),
                () = ended.requested() => {}
            }
        }
    });
    let queries = tokio::spawn({
        let ended = ended.clone();
        async move {
            let outcome = queries.run(ended.clone()).await;
            ended.request();
            outcome
        }
    });
    let outcome = shell.run(sources, tick, &ended).await;
    ended.request();
    let answered = queries.await.unwrap_or(Ok(()));
    asked.abort();
    outcome.and(answered)
}

/// The connections, one per role, so that heavy input delays neither output nor answers.
struct Links {
    log: Connection,
    output: Connection,
    queries: Connection,
}

impl Links {
    async fn connect(
        settings: &RegistrySettings,
        subjects: &Subjects,
        replica: &ReplicaId,
    ) -> Result<Self, RegistryError> {
        let broker = &settings.broker;
        let log = role(replica, "log").subscription_capacity(WAITING_MESSAGES_MAX);
        let links = Self {
            log: broker.connect(log.needs_jetstream()).await?,
            output: broker.connect(role(replica, "output").needs_jetstream()).await?,
            queries: settings.answers_broker().connect(role(replica, "queries")).await?,
        };
        let (log, output, mut queries) = needs(subjects, replica);
        // Answers that the broker refuses would look like a registry that is not there.
        let replies = settings.reply_prefixes().into_iter();
        queries.extend(replies.map(|prefix| Need::publish(format!("{prefix}permission-check"))));
        tokio::try_join!(links.log.verify(&log), links.output.verify(&output), links.queries.verify(&queries))?;
        Ok(links)
    }
}

fn role(replica: &ReplicaId, purpose: &str) -> Role {
    Role::new(format!("muster-registry {replica} {purpose}")).identity(replica.token())
}

/// What the broker must grant to the log, output and query connections.
fn needs(subjects: &Subjects, replica: &ReplicaId) -> (Vec<Need>, Vec<Need>, Vec<Need>) {
    let stream = subjects.stream_name();
    let api = |verb: String| Need::publish(broker_api::subject(&verb));
    let log =
        vec![Need::subscribe(subjects.all_heartbeats()), api(format!("CONSUMER.CREATE.{stream}.permission-check"))];
    // Names that nobody has, for subjects with a name in them.
    let service: Option<ServiceName> = "permission-check".parse().ok();
    let agent: Option<AgentId> = "permission-check".parse().ok();
    let registry = Sender::Registry(replica.clone());
    let mut output = vec![
        Need::subscribe(subjects.all_changes()),
        Need::subscribe(subjects.all_pulses()),
        Need::subscribe(subjects.all_beacons()),
        Need::publish(subjects.pulse(0)),
        Need::publish(subjects.beacon(replica)),
        Need::publish(subjects.mark(replica)),
        Need::publish(subjects.alarm("permission-check")),
        Need::publish(subjects.event(EventKind::Epoch, None, &registry)),
        api(format!("STREAM.INFO.{stream}")),
        api(format!("STREAM.MSG.GET.{stream}")),
    ];
    output.extend(service.map(|service| Need::publish(subjects.change(&service))));
    let verbs = [Verb::Probe, Verb::Announce, Verb::Notice];
    output.extend(agent.into_iter().flat_map(|agent| verbs.map(|verb| Need::publish(subjects.to_agent(&agent, verb)))));
    let queries = vec![
        Need::queue_subscribe(subjects.query(&Query::Snapshot), "permission-check"),
        Need::subscribe(subjects.all_next(replica)),
    ];
    (log, output, queries)
}

/// Refuses a stream that is not as it must be. One that is missing is the core's affair.
async fn check_stream(output: &Connection, subjects: &Subjects, replicas: Option<usize>) -> Result<(), RegistryError> {
    let stream = subjects.stream_name();
    match stream::info(output.client(), subjects, STREAM_TIMEOUT).await {
        Ok(Some(info)) => {
            let differences = stream::differences(subjects, replicas, &info.config);
            if differences.is_empty() { Ok(()) } else { Err(RegistryError::StreamDiffers { stream, differences }) }
        }
        Ok(None) => Ok(()),
        Err(error) => {
            let reason = error.to_string();
            Err(RegistryError::StreamUnknown { stream, reason })
        }
    }
}

/// Subscribes, and starts everything that feeds the shell or works for it.
async fn connect_shell(
    settings: &RegistrySettings,
    links: &Links,
    subjects: &Subjects,
    replica: &ReplicaId,
    timing: &Timing,
    statuses: mpsc::Receiver<crate::queries::StatusRequest>,
) -> Result<(Sources, Hands, Arc<Notify>), RegistryError> {
    let (answers, answered) = mpsc::channel(ANSWERS_MAX);
    let (deliveries, delivered) = mpsc::channel(DELIVERIES_MAX);
    let (changes, changed) = mpsc::channel(ANSWERS_MAX);
    let (batches, proposed) = mpsc::channel(1);
    let sources = Sources {
        heartbeats: in_batches(listen(&links.log, subjects.all_heartbeats()).await?),
        changes: in_batches(listen(&links.output, subjects.all_changes()).await?),
        pulses: in_batches(listen(&links.output, subjects.all_pulses()).await?),
        beacons: in_batches(listen(&links.output, subjects.all_beacons()).await?),
        deliveries: delivered,
        answers: answered,
        links: changed,
        statuses,
    };
    let recheck = Arc::new(Notify::new());
    let log = link_watch::watch(LinkRole::Log, links.log.clone(), Arc::default(), changes.clone());
    tokio::spawn(log);
    tokio::spawn(link_watch::watch(LinkRole::Output, links.output.clone(), Arc::clone(&recheck), changes));
    tokio::spawn({
        let (broker, role) = (settings.broker.clone(), role(replica, "proposals").ends_at_disconnect());
        let (timeout, answers) = (Duration::from_millis(timing.propose_timeout_ms), answers.clone());
        proposals::run(broker, role, timeout, proposed, async move |proposed| {
            // Nobody left to tell: the shell ends.
            let _ = answers.send(Answer::Proposed(proposed)).await;
        })
    });
    let hands = Hands::new(Tools {
        broker: settings.broker.clone(),
        inspection_role: role(replica, "inspection").ends_at_disconnect(),
        subjects: subjects.clone(),
        stream_replicas: settings.stream_replicas.unwrap_or(1),
        timing: timing.clone(),
        log: links.log.clone(),
        output: links.output.clone(),
        answers,
        deliveries,
        proposals: batches,
    });
    Ok((sources, hands, recheck))
}

async fn listen(connection: &Connection, subject: String) -> Result<Subscriber, RegistryError> {
    let subscribed = connection.client().subscribe(subject).await;
    subscribed.map_err(|_| RegistryError::Closed { connection: connection.name().to_owned() })
}
