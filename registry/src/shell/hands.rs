//! Performs what the core asks for. Nothing here decides anything; answers go back as inputs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_runtime::broker::{BrokerSettings, Connection, Role};
use muster_runtime::logging::limited;
use muster_schemas::agent::{AnnounceReply, ProbeReply};
use muster_schemas::subject::{PING_SERVERS, Verb};
use muster_schemas::{AgentId, Subjects};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::broker_api::{AskError, ask};
use crate::checkpoint_store::{self, Done, Found as FoundCheckpoint, Job};
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::io::{Effect, Loaded, Outgoing, ProbeOutcome, Severity};
use crate::core::replica::Timing;
use crate::inspection::{self, Found, Wanted};
use crate::log_reader::{Delivery, LogReader};
use crate::proposals::{Batch, Proposed};
use crate::state_file::StateFile;
use crate::stream;

/// Requests to agents under way at once; one more has failed at once, and the core asks again.
const REQUESTS_MAX: usize = 4_096;
/// How long the output connection may take no message before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_millis(250);

/// What became of something that the core asked for.
#[derive(Debug)]
pub(crate) enum Answer {
    Inspected { check: u64, found: Found },
    Probed { probe: u64, outcome: Probed },
    Announced { request: u64, instances: Option<u32> },
    Proposed(Proposed),
    Store(Done),
    StateSaved(bool),
}

impl FoundCheckpoint {
    pub(crate) fn as_loaded(&self) -> Loaded<'_> {
        match self {
            Self::Whole(checkpoint) => Loaded::Whole(checkpoint),
            Self::Broken(reason) => Loaded::Broken(reason),
            Self::Foreign(reason) => Loaded::Foreign(reason),
            Self::Unreachable(reason) => Loaded::Unreachable(reason),
        }
    }
}

/// What became of a probe; owns what [`ProbeOutcome`] borrows.
#[derive(Debug)]
pub(crate) enum Probed {
    Answered(Box<ProbeReply>),
    NoResponders,
    Timeout,
    Failed,
}

impl Probed {
    pub(crate) fn as_outcome(&self) -> ProbeOutcome<'_> {
        match self {
            Self::Answered(reply) => ProbeOutcome::Answered(reply),
            Self::NoResponders => ProbeOutcome::NoResponders,
            Self::Timeout => ProbeOutcome::Timeout,
            Self::Failed => ProbeOutcome::Failed,
        }
    }
}

/// What the hands work with.
pub(crate) struct Tools {
    pub(crate) broker: BrokerSettings,
    /// For connections made on the way.
    pub(crate) inspection_role: Role,
    pub(crate) subjects: Subjects,
    /// How many copies a stream is created with.
    pub(crate) stream_replicas: usize,
    pub(crate) timing: Timing,
    pub(crate) log: Connection,
    pub(crate) output: Connection,
    pub(crate) answers: mpsc::Sender<Answer>,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) proposals: mpsc::Sender<Batch>,
    pub(crate) store: mpsc::Sender<Job>,
    /// Where broker servers answer that they are there.
    pub(crate) server_inbox: String,
}

/// Performs effects, in order; what they began ends with it.
pub(crate) struct Hands {
    tools: Tools,
    requests: Arc<Semaphore>,
    tasks: JoinSet<()>,
    reader: Option<LogReader>,
    inspecting: Option<AbortHandle>,
    output: Output,
    /// Where the catalog is kept on the local disk, if it is.
    state: Option<StateFile>,
}

/// Whether messages can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Open,
    /// Not connected, or stuck: everything is dropped, because late is worse than never.
    Shut,
}

impl Hands {
    pub(crate) fn new(tools: Tools) -> Self {
        Self::with_requests(tools, REQUESTS_MAX)
    }

    fn with_requests(tools: Tools, requests_max: usize) -> Self {
        Self {
            tools,
            requests: Arc::new(Semaphore::new(requests_max)),
            tasks: JoinSet::new(),
            reader: None,
            inspecting: None,
            output: Output::Shut,
            state: None,
        }
    }

    /// Where the catalog is to be kept on the local disk, if it is to be.
    pub(crate) fn keep_state_in(&mut self, state: Option<StateFile>) {
        self.state = state;
    }

    /// The broker servers that the log and output connections are on, by name, and whether they belong to a cluster.
    pub(crate) fn connected_to(&self) -> (Vec<String>, bool) {
        let servers = [&self.tools.log, &self.tools.output].map(|link| link.client().server_info());
        let is_cluster = servers.iter().any(|server| server.cluster.is_some());
        (servers.into_iter().map(|server| server.server_name).collect(), is_cluster)
    }

    /// Opens or shuts the way out.
    pub(crate) fn set_output(&mut self, open: bool) {
        self.output = if open { Output::Open } else { Output::Shut };
    }

    /// Ends the reader, if there is one, because the connection that it reads by was lost.
    pub(crate) fn end_reader(&mut self) {
        self.reader = None;
    }

    /// Whether this is the reader that the core asked for last, and still wants.
    pub(crate) fn reads(&self, reader: u64) -> bool {
        self.reader.as_ref().is_some_and(|running| running.number() == reader)
    }

    /// Performs effects in order. False if the output connection turned out to be stuck; what should have left is dropped.
    pub(crate) async fn perform(&mut self, effects: impl Iterator<Item = Effect>) -> bool {
        while self.tasks.try_join_next().is_some() {}
        let was_open = self.output == Output::Open;
        for effect in effects {
            match effect {
                Effect::Publish(outgoing) => self.publish(outgoing).await,
                Effect::AskServers => self.ask_servers().await,
                other => self.begin(other),
            }
        }
        !(was_open && self.output == Output::Shut)
    }

    /// Ends what was begun.
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    async fn publish(&mut self, outgoing: Outgoing) {
        if self.output == Output::Shut {
            return;
        }
        let sending = self.tools.output.client().publish(outgoing.subject, outgoing.payload);
        match tokio::time::timeout(STUCK_AFTER, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => limited("publish", |suppressed| {
                tracing::warn!(suppressed, kind = ?outgoing.kind, "a message was not sent: {error}");
            }),
            Err(_) => {
                limited("stuck", |suppressed| {
                    let connection = self.tools.output.name();
                    tracing::warn!(suppressed, connection, "the connection is stuck; messages are dropped");
                });
                self.output = Output::Shut;
            }
        }
    }

    async fn ask_servers(&mut self) {
        if self.output == Output::Shut {
            return;
        }
        let (client, inbox) = (self.tools.output.client(), self.tools.server_inbox.clone());
        let asking = client.publish_with_reply(PING_SERVERS, inbox, Bytes::new());
        if tokio::time::timeout(STUCK_AFTER, asking).await.is_err() {
            self.output = Output::Shut;
        }
    }

    /// Begins what does not have to be waited for.
    fn begin(&mut self, effect: Effect) {
        match effect {
            Effect::InspectLog { check, epochs, own, fresh_connection } => {
                self.inspect(check, Wanted { epochs, own }, fresh_connection);
            }
            Effect::CreateStream => self.create_stream(),
            Effect::ReadLog { reader, from_sequence } => {
                let (client, out) = (self.tools.log.client(), self.tools.deliveries.clone());
                // The old one ends before the new one begins.
                self.reader = None;
                self.reader = Some(LogReader::start(client, &self.tools.subjects, reader, from_sequence, out));
            }
            Effect::Probe { probe, agent } => self.probe(probe, &agent),
            Effect::Announce { request, agent, payload } => self.announce(request, &agent, payload),
            Effect::Propose { batch, events } => self.propose(batch, events),
            Effect::ListCheckpoints { list } => self.in_store(Job::List { list }),
            Effect::LoadCheckpoint { load, checkpoint } => self.in_store(Job::Load { load, checkpoint }),
            Effect::SaveCheckpoint { save, checkpoint } => self.in_store(Job::Save { save, checkpoint }),
            Effect::DeleteCheckpoints(checkpoints) => self.in_store(Job::Delete(checkpoints)),
            Effect::TrimLog(trim) => self.in_store(Job::Trim(trim)),
            Effect::SaveState(checkpoint) => self.save_state(*checkpoint),
            // Shown by the snapshot; the task that answers also looks at its age, and so needs no second word.
            Effect::Serve(_) => {}
            Effect::Report(severity, text) => report(severity, &text),
            Effect::Publish(_) | Effect::AskServers => {}
        }
    }

    fn inspect(&mut self, check: u64, wanted: Wanted, fresh_connection: bool) {
        if let Some(before) = self.inspecting.take() {
            before.abort();
        }
        let timeout = Duration::from_millis(self.tools.timing.inspect_timeout_ms);
        let (subjects, answers) = (self.tools.subjects.clone(), self.tools.answers.clone());
        let client = self.tools.output.client().clone();
        let (broker, role) = (self.tools.broker.clone(), self.tools.inspection_role.clone());
        let task = self.tasks.spawn(async move {
            let found = if fresh_connection {
                inspect_afresh(&broker, role, &subjects, wanted, timeout).await
            } else {
                inspection::inspect(&client, &subjects, wanted, timeout).await
            };
            let _ = answers.send(Answer::Inspected { check, found }).await;
        });
        self.inspecting = Some(task);
    }

    fn create_stream(&mut self) {
        let (client, subjects) = (self.tools.output.client().clone(), self.tools.subjects.clone());
        let replicas = self.tools.stream_replicas;
        self.tasks.spawn(async move {
            let stream = subjects.stream_name();
            match stream::create(&client, &subjects, replicas).await {
                Ok(()) => tracing::info!(stream, replicas, "stream created"),
                Err(error) => limited("create stream", |suppressed| {
                    tracing::warn!(suppressed, stream, "the stream was not created: {error}");
                }),
            }
        });
    }

    fn probe(&mut self, probe: u64, agent: &AgentId) {
        let timeout = Duration::from_millis(self.tools.timing.probe_timeout_ms);
        let asking = self.ask_agent(agent, Verb::Probe, Bytes::new(), timeout);
        let answers = self.tools.answers.clone();
        self.tasks.spawn(async move {
            let outcome = match asking.await {
                Ok(reply) => serde_json::from_slice(&reply).map_or(Probed::Failed, Probed::Answered),
                Err(AskError::NoResponders) => Probed::NoResponders,
                Err(AskError::Timeout { .. }) => Probed::Timeout,
                Err(_) => Probed::Failed,
            };
            let _ = answers.send(Answer::Probed { probe, outcome }).await;
        });
    }

    fn announce(&mut self, request: u64, agent: &AgentId, payload: Bytes) {
        let timeout = Duration::from_millis(self.tools.timing.probe_timeout_ms);
        let asking = self.ask_agent(agent, Verb::Announce, payload, timeout);
        let answers = self.tools.answers.clone();
        self.tasks.spawn(async move {
            let reply = asking.await.ok();
            let reply = reply.and_then(|reply| serde_json::from_slice::<AnnounceReply>(&reply).ok());
            let instances = reply.map(|reply| reply.instances);
            let _ = answers.send(Answer::Announced { request, instances }).await;
        });
    }

    fn ask_agent(
        &self,
        agent: &AgentId,
        verb: Verb,
        payload: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, AskError>> + use<> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        let (client, subject) = (self.tools.output.client().clone(), self.tools.subjects.to_agent(agent, verb));
        let open = self.output == Output::Open;
        async move {
            let permit = permit.map_err(|_| AskError::Failed("too many requests under way".into()))?;
            if !open {
                return Err(AskError::Failed("not connected".into()));
            }
            let reply = ask(&client, subject, payload, timeout).await;
            drop(permit);
            reply
        }
    }

    fn in_store(&self, job: Job) {
        checkpoint_store::offer(&self.tools.store, job);
    }

    fn save_state(&mut self, checkpoint: Checkpoint) {
        let (state, answers) = (self.state.clone(), self.tools.answers.clone());
        self.tasks.spawn_blocking(move || {
            let saved = state.is_some_and(|state| save_state(&state, &checkpoint));
            let _ = answers.blocking_send(Answer::StateSaved(saved));
        });
    }

    /// Keeps the catalog for the next process, and waits until it is on the disk.
    pub(crate) async fn save_last_state(&self, checkpoint: Checkpoint) {
        let Some(state) = self.state.clone() else { return };
        // A panic there would have been reported by the runtime.
        let _ = tokio::task::spawn_blocking(move || save_state(&state, &checkpoint)).await;
    }

    fn propose(&mut self, batch: u64, events: Vec<crate::core::io::ProposedEvent>) {
        let refused = Proposed { batch, acknowledged: false };
        if self.tools.proposals.try_send(Batch { batch, events }).is_err() {
            // Cannot happen while the core keeps to one batch at a time; if it does, it is told so.
            let answers = self.tools.answers.clone();
            self.tasks.spawn(async move {
                let _ = answers.send(Answer::Proposed(refused)).await;
            });
        }
    }
}

async fn inspect_afresh(
    broker: &BrokerSettings,
    role: Role,
    subjects: &Subjects,
    wanted: Wanted,
    timeout: Duration,
) -> Found {
    match tokio::time::timeout(timeout, broker.connect(role)).await {
        Ok(Ok(connection)) => inspection::inspect(connection.client(), subjects, wanted, timeout).await,
        Ok(Err(error)) => Found::Unreachable(error.to_string()),
        Err(_) => Found::Unreachable(format!("no connection within {} ms", timeout.as_millis())),
    }
}

/// Whether it is on the disk.
fn save_state(state: &StateFile, checkpoint: &Checkpoint) -> bool {
    let path = state.path().display();
    match state.write(checkpoint) {
        Ok(bytes) => tracing::debug!(bytes, revision = checkpoint.revision().sequence(), %path, "state saved"),
        Err(error) => {
            limited("state", |suppressed| tracing::warn!(suppressed, %path, "the state was not saved: {error}"));
            return false;
        }
    }
    true
}

fn report(severity: Severity, text: &str) {
    match severity {
        Severity::Info => tracing::info!("{text}"),
        Severity::Warning => tracing::warn!("{text}"),
        Severity::Error => tracing::error!("{text}"),
    }
}

#[cfg(test)]
mod tests;
