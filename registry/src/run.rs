//! Brings a registry up, keeps it running, and takes it down.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use muster_runtime::broker::Connection;
use muster_runtime::http::Readiness;
use muster_runtime::metrics::Metrics;
use muster_runtime::stop::Stop;
use muster_schemas::subject::DISCONNECT_ADVISORIES;
use muster_schemas::{ReplicaId, Subjects};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::checkpoint_store::{self, Store};
use crate::clock::Clock;
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::io::Effects;
use crate::core::replica::{Replica, ReplicaSettings, Timing};
use crate::core_thread::CoreThread;
use crate::error::RegistryError;
use crate::link_watch::{self, LinkRole};
use crate::links::{Links, role};
use crate::metrics::{CoreMetrics, QueryMetrics};
use crate::proposals;
use crate::queries::{self, PastReader, Queries, QuerySettings, Shown};
use crate::settings::RegistrySettings;
use crate::shell::{Answer, Hands, Shell, Sources, Tools, in_batches};
use crate::state_file::{StateError, StateFile};
use crate::stream;

/// Words of readers of the log that may wait for the core: that it is open, that it ended.
const DELIVERIES_MAX: usize = 4;
/// Answers that may wait for the core.
const ANSWERS_MAX: usize = 1_024;
/// How long the last messages have to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the tasks have to end by themselves.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the broker may take to describe the stream at the start.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a registry until it is asked to stop. On return its connections are closed (see [`Connection::close`] for a broker
/// that is not there), its HTTP endpoint is gone and its tasks have ended. Dropping it ends the same, without a farewell.
///
/// # Errors
/// Why it does not come up, within a second or two; or that a connection was closed for good. A broker that goes away
/// later is waited for.
pub async fn run(settings: RegistrySettings, stop: Stop) -> Result<(), RegistryError> {
    let (metrics, http_stop) = (Metrics::new(), Stop::new());
    let http = settings.http.start(&metrics, &http_stop).await?;
    let readiness = http.as_ref().map(muster_runtime::http::HttpServer::readiness);
    let outcome = connect_and_work(&settings, &metrics, readiness, &stop).await;
    http_stop.request();
    if let Some(http) = http {
        http.ended().await;
    }
    outcome
}

/// What the parts of one registry have in common.
struct Parts<'a> {
    settings: &'a RegistrySettings,
    subjects: Subjects,
    replica: ReplicaId,
    timing: Timing,
    metrics: &'a Metrics,
}

/// From connecting to having left the broker.
async fn connect_and_work(
    settings: &RegistrySettings,
    metrics: &Metrics,
    readiness: Option<watch::Sender<Readiness>>,
    stop: &Stop,
) -> Result<(), RegistryError> {
    let parts = Parts {
        settings,
        subjects: Subjects::new(settings.broker.prefix.clone(), settings.broker.namespace.clone()),
        replica: settings.replica(),
        timing: Timing {
            listen_ms: settings.listen_period.as_ms(),
            checkpoint_ms: settings.checkpoint_period.as_ms(),
            unreachable_limit_ms: settings.unreachable_limit.as_ms(),
            ..Timing::default()
        },
        metrics,
    };
    let core = CoreThread::start().map_err(|error| RegistryError::Thread { reason: error.to_string() })?;
    let links = Links::connect(settings, &parts.subjects, &parts.replica, &core).await?;
    let mut tasks = JoinSet::new();
    let outcome = work(&parts, &links, &core, readiness, &mut tasks, stop).await;
    let flushed = tokio::time::timeout(FLUSH_TIMEOUT, links.output.client().flush()).await;
    links.close().await;
    // With nobody to work for and nothing to watch they end by themselves.
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
        tasks.shutdown().await;
    }
    tracing::info!(flushed = flushed.is_ok(), "registry stopped");
    outcome
}

/// Until it is asked to stop, or cannot go on. What it leaves running is in `tasks`.
async fn work(
    parts: &Parts<'_>,
    links: &Links,
    core_thread: &CoreThread,
    readiness: Option<watch::Sender<Readiness>>,
    tasks: &mut JoinSet<()>,
    stop: &Stop,
) -> Result<(), RegistryError> {
    let Parts { settings, subjects, replica, timing, metrics } = parts;
    check_stream(&links.output, subjects, settings.stream_replicas).await?;
    tracing::info!(%replica, namespace = %subjects.namespace(), version = env!("CARGO_PKG_VERSION"), "registry starting");

    let clock = Clock::start();
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
    let mut core = Replica::new(core, clock.now_ms());
    core.keep(settings.keeping());
    let (state, remembered) = open_state(settings, subjects)?;
    if let Some(remembered) = remembered {
        core.remember(remembered);
    }
    let (window, view) = queries::window(core.snapshot());
    let (statuses, status_requests) = queries::waiting_statuses();
    let client = links.queries.client().clone();
    let shown = Shown { metrics: QueryMetrics::register(metrics), readiness };
    let reading = role(replica, "past").ends_at_disconnect();
    let (reader, past) = PastReader::new(settings.broker.clone(), reading, subjects.clone());
    tasks.spawn(reader.run());
    let queries = Queries::start(query_settings, clock, client, view, (statuses, past), shown).await?;

    let (sources, mut hands, recheck_output) = connect_shell(parts, links, status_requests, tasks).await?;
    hands.keep_state_in(state);
    let shell = Shell {
        clock,
        replica: core,
        hands,
        window,
        effects: Effects::new(),
        recheck_output,
        metrics: CoreMetrics::register(metrics),
        metrics_shown_ms: 0,
    };
    let tick = Duration::from_millis(timing.tick_ms);
    together(queries, (shell, core_thread), sources, tick, stop).await
}

/// The shell and the queries run until the end; if one fails, the other ends in an orderly way.
async fn together(
    queries: Queries,
    (shell, core_thread): (Shell, &CoreThread),
    sources: Sources,
    tick: Duration,
    stop: &Stop,
) -> Result<(), RegistryError> {
    let ended = Stop::new();
    let asked = async {
        tokio::select! {
            () = stop.requested() => ended.request(),
            () = ended.requested() => {}
        }
    };
    let mut answering = JoinSet::new();
    answering.spawn({
        let ended = ended.clone();
        async move {
            let outcome = queries.run(ended.clone()).await;
            ended.request();
            outcome
        }
    });
    let mut working = JoinSet::new();
    let work = {
        let ended = ended.clone();
        async move {
            let outcome = shell.run(sources, tick, &ended).await;
            ended.request();
            outcome
        }
    };
    working.spawn_on(work, core_thread.handle());
    let (worked, ()) = tokio::join!(working.join_next(), asked);
    let outcome = joined(worked);
    let answered = joined(answering.join_next().await);
    outcome.and(answered)
}

/// How a task ended; a panic goes on here.
fn joined(ended: Option<Result<Result<(), RegistryError>, JoinError>>) -> Result<(), RegistryError> {
    match ended {
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) | None => Ok(()),
    }
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
    parts: &Parts<'_>,
    links: &Links,
    statuses: mpsc::Receiver<queries::StatusRequest>,
    tasks: &mut JoinSet<()>,
) -> Result<(Sources, Hands, Arc<Notify>), RegistryError> {
    let Parts { settings, subjects, replica, timing, .. } = parts;
    let (answers, answered) = mpsc::channel(ANSWERS_MAX);
    let (deliveries, delivered) = mpsc::channel(DELIVERIES_MAX);
    let (changes, changed) = mpsc::channel(ANSWERS_MAX);
    let (batches, proposed) = mpsc::channel(1);
    let server_inbox = links.output.client().new_inbox();
    let advisories = match links.hears_advisories {
        true => Some(in_batches(listen(&links.log, DISCONNECT_ADVISORIES.to_owned()).await?)),
        false => None,
    };
    let sources = Sources {
        heartbeats: in_batches(listen(&links.log, subjects.all_heartbeats()).await?),
        advisories,
        server_answers: in_batches(listen(&links.output, server_inbox.clone()).await?),
        changes: in_batches(listen(&links.output, subjects.all_changes()).await?),
        pulses: in_batches(listen(&links.output, subjects.all_pulses()).await?),
        beacons: in_batches(listen(&links.output, subjects.all_beacons()).await?),
        log: None,
        deliveries: delivered,
        answers: answered,
        links: changed,
        statuses,
    };
    let recheck = Arc::new(Notify::new());
    tasks.spawn(link_watch::watch(LinkRole::Log, links.log.clone(), Arc::default(), changes.clone()));
    tasks.spawn(link_watch::watch(LinkRole::Output, links.output.clone(), Arc::clone(&recheck), changes));
    tasks.spawn({
        let (broker, role) = (settings.broker.clone(), role(replica, "proposals").ends_at_disconnect());
        let (timeout, answers) = (Duration::from_millis(timing.propose_timeout_ms), answers.clone());
        proposals::run(broker, role, timeout, proposed, async move |proposed| {
            // Nobody left to tell: the shell ends.
            let _ = answers.send(Answer::Proposed(proposed)).await;
        })
    });
    let (store, jobs) = checkpoint_store::waiting_jobs();
    tasks.spawn({
        let store = Store {
            broker: settings.broker.clone(),
            role: role(replica, "checkpoints").ends_at_disconnect(),
            subjects: subjects.clone(),
            timing: timing.clone(),
        };
        let answers = answers.clone();
        store.run(jobs, async move |done| {
            // Nobody left to tell: the shell ends.
            let _ = answers.send(Answer::Store(done)).await;
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
        store,
        server_inbox,
    });
    Ok((sources, hands, recheck))
}

/// The file in the state directory, if there is to be one, and what an earlier process left there. A broken one is put
/// aside: without it a registry is no worse off than without a state directory.
fn open_state(
    settings: &RegistrySettings,
    subjects: &Subjects,
) -> Result<(Option<StateFile>, Option<Checkpoint>), RegistryError> {
    let Some(directory) = &settings.state_dir else {
        return Ok((None, None));
    };
    let unusable =
        |reason: String| RegistryError::StateDirectory { directory: directory.display().to_string(), reason };
    let state = StateFile::open(directory, subjects).map_err(|error| unusable(error.to_string()))?;
    let remembered = match state.read() {
        Ok(remembered) => remembered,
        Err(StateError::Io(error)) => return Err(unusable(error.to_string())),
        Err(StateError::Checkpoint(error)) => {
            let aside = state.put_aside().map_err(|error| unusable(error.to_string()))?;
            tracing::error!(path = %aside.display(), "the state is not used, and was put aside: {error}");
            None
        }
    };
    Ok((Some(state), remembered))
}

async fn listen(connection: &Connection, subject: String) -> Result<Subscriber, RegistryError> {
    let subscribed = connection.client().subscribe(subject).await;
    subscribed.map_err(|_| RegistryError::Closed { connection: connection.name().to_owned() })
}
