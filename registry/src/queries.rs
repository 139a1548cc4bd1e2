//! Answers queries: a task of its own, on a connection of its own, from the newest snapshot that the core has shown.

mod answering;
mod cursors;
mod encoded;
mod encoding;
mod endpoint;
mod past;
mod replies;
mod service_api;
mod subscriptions;
mod waiting;
mod window;

#[cfg(test)]
pub(crate) use encoding::tests::catalog as catalog_of;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Message, Subject};
use futures::FutureExt;
use muster_runtime::http::Readiness;
use muster_runtime::stop::Stop;
use muster_schemas::query::{ErrorCode, QueryError, Request, Status};
use muster_schemas::subject::{self, Query};
use muster_schemas::{ReplicaId, Subjects, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

pub use answering::Answering;
use answering::not_ready;
pub(crate) use endpoint::Endpoint;
pub(crate) use past::{PastLink, PastReader};
use replies::behind;
pub(crate) use replies::waiting_statuses;
use service_api::ServiceApi;
use subscriptions::{Subscriptions, Topic};
use waiting::Waiting;
pub use waiting::is_met;
pub(crate) use window::{View, Window, window};

use crate::clock::Clock;
use crate::core::replica::Snapshot;
use crate::error::RegistryError;
use crate::metrics::QueryMetrics;

/// Questions answered before anything else is looked at.
const BATCH_MAX: usize = 64;
/// How often a replica looks whether it may still answer although no snapshot came.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a replica's answers depend on.
#[derive(Debug, Clone)]
pub(crate) struct QuerySettings {
    pub(crate) subjects: Subjects,
    pub(crate) replica: ReplicaId,
    pub(crate) started_at: Timestamp,
    /// Reply subjects begin with one of these.
    pub(crate) reply_prefixes: Vec<String>,
    pub(crate) wait_ms: u64,
    pub(crate) cursor_period_ms: u64,
    /// Confirmed this long ago to be at the log's end: too old to answer.
    pub(crate) head_age_ms_max: u64,
}

/// Asks the core for its status.
pub(crate) type StatusRequest = oneshot::Sender<Status>;

/// Where the task shows how it is.
pub(crate) struct Shown {
    pub(crate) readiness: Option<watch::Sender<Readiness>>,
    pub(crate) metrics: QueryMetrics,
}

/// Answers queries until it is asked to stop.
pub(crate) struct Queries {
    settings: QuerySettings,
    clock: Clock,
    client: Client,
    view: View,
    snapshot: Arc<Snapshot>,
    statuses: mpsc::Sender<StatusRequest>,
    shown: Shown,
    subscriptions: Subscriptions,
    answering: Answering,
    waiting: Waiting<Asked>,
    api: ServiceApi,
    past: PastLink,
}

/// One question.
#[derive(Debug)]
struct Asked {
    endpoint: Endpoint,
    reply: Subject,
    query: Query,
    request: Request,
    since: Instant,
}

impl Queries {
    /// Subscribes to what is always answered.
    ///
    /// # Errors
    /// The connection was closed.
    pub(crate) async fn start(
        settings: QuerySettings,
        clock: Clock,
        client: Client,
        mut view: View,
        (statuses, past): (mpsc::Sender<StatusRequest>, PastLink),
        shown: Shown,
    ) -> Result<Self, RegistryError> {
        let api = ServiceApi::new(&settings.subjects, &settings.replica, settings.started_at);
        let mut subscriptions = Subscriptions::new(&client, &settings.subjects, &settings.replica);
        subscriptions.join_always(&api).await?;
        let snapshot = view.newest();
        Ok(Self {
            answering: Answering::new(&settings.subjects, &settings.replica, settings.cursor_period_ms),
            snapshot,
            waiting: Waiting::new(),
            settings,
            clock,
            client,
            view,
            statuses,
            shown,
            subscriptions,
            api,
            past,
        })
    }

    /// Answers until it is asked to stop; then leaves the queue group, and answers what had come before.
    ///
    /// # Errors
    /// The connection was closed.
    pub(crate) async fn run(mut self, stop: Stop) -> Result<(), RegistryError> {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut stopped = std::pin::pin!(stop.requested());
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                () = &mut stopped => break,
                message = self.subscriptions.next() => match message {
                    Some((topic, message)) => self.take_batch(topic, message).await,
                    None => return Err(RegistryError::Closed { connection: "queries".into() }),
                },
                true = self.view.changed() => self.take_snapshot().await,
                Some(told) = self.past.told.recv() => self.take_told(told).await,
                () = tokio::time::sleep_until(deadline) => self.give_up_waiting().await,
                _ = looks.tick() => {
                    self.take_snapshot().await;
                    self.join_or_leave().await?;
                }
            }
        }
        self.finish().await;
        Ok(())
    }

    fn next_deadline(&self) -> tokio::time::Instant {
        let left_ms = match self.waiting.next_deadline_ms() {
            Some(deadline_ms) => deadline_ms.saturating_sub(self.clock.now_ms()),
            None => 60_000,
        };
        tokio::time::Instant::now() + Duration::from_millis(left_ms)
    }

    /// Whether the catalog may be answered from now.
    fn can_answer(&self) -> bool {
        let fresh = self.snapshot.head_confirmed_ms.is_some_and(|confirmed_ms| {
            self.clock.now_ms().saturating_sub(confirmed_ms) <= self.settings.head_age_ms_max
        });
        self.snapshot.serving && fresh
    }

    async fn join_or_leave(&mut self) -> Result<(), RegistryError> {
        let can_answer = self.can_answer();
        if can_answer && !self.subscriptions.is_joined() {
            self.subscriptions.join().await?;
            tracing::info!(revision = self.snapshot.revision, "answering queries");
        } else if !can_answer && self.subscriptions.is_joined() {
            self.subscriptions.leave().await;
            tracing::warn!(reason = self.snapshot.reason, "no longer answering queries");
        }
        self.show_readiness(can_answer);
        Ok(())
    }

    fn show_readiness(&self, can_answer: bool) {
        self.shown.metrics.show(self.waiting.len(), self.answering.held(), can_answer);
        let Some(readiness) = &self.shown.readiness else { return };
        let connected = self.client.connection_state() == async_nats::connection::State::Connected;
        let now = if !connected {
            Readiness::not_ready("disconnected", "no connection to the broker")
        } else if can_answer {
            Readiness::ready(state_word(&self.snapshot))
        } else {
            let reason = self.snapshot.reason.as_deref().unwrap_or("not confirmed to be at the log's end");
            Readiness::not_ready(state_word(&self.snapshot), reason)
        };
        readiness.send_if_modified(|shown| {
            let news = *shown != now;
            if news {
                *shown = now;
            }
            news
        });
    }

    async fn take_snapshot(&mut self) {
        self.snapshot = self.view.newest();
        let (epoch, revision) = (self.snapshot.epoch, self.snapshot.revision);
        for asked in self.waiting.met(epoch, revision) {
            self.answer(asked).await;
        }
        self.view.wait_for_each(self.waiting.len() > 0);
        // A replica that has just become ready is not made to wait for the next look.
        if self.snapshot.serving != self.subscriptions.is_joined()
            && let Err(error) = self.join_or_leave().await
        {
            tracing::debug!(%error, "the queue group was not joined");
        }
    }

    async fn give_up_waiting(&mut self) {
        for asked in self.waiting.expired(self.clock.now_ms()) {
            let wanted = asked.request.min_revision;
            self.refuse(&asked, &behind(wanted, &self.snapshot)).await;
        }
    }

    /// Takes what has come, the newest snapshot first, so that whoever asks after a change finds it.
    async fn take_batch(&mut self, topic: Topic, message: Message) {
        self.take_snapshot().await;
        self.take(topic, message).await;
        for _ in 1..BATCH_MAX {
            match self.subscriptions.next().now_or_never() {
                Some(Some((topic, message))) => self.take(topic, message).await,
                _ => return,
            }
        }
    }

    async fn take(&mut self, topic: Topic, message: Message) {
        let Some(reply) = message.reply.clone().filter(|reply| self.is_permitted(reply)) else {
            return;
        };
        let endpoint = match topic {
            Topic::Endpoint(endpoint) => endpoint,
            Topic::Api(verb) => {
                let bytes = self.api.answer(verb);
                self.send(reply, None, bytes.into()).await;
                return;
            }
        };
        let since = Instant::now();
        let asked = match self.understand(&message) {
            Ok((query, request)) => Asked { endpoint, reply, query, request, since },
            Err(error) => {
                self.count(endpoint, since, Some(&error));
                self.send_error(reply, &error).await;
                return;
            }
        };
        self.take_question(asked).await;
    }

    async fn take_question(&mut self, asked: Asked) {
        if asked.query == Query::Status {
            self.answer_status(asked).await;
            return;
        }
        if asked.endpoint.needs_catalog() && !self.can_answer() {
            let error = not_ready(&self.snapshot);
            self.refuse(&asked, &error).await;
            return;
        }
        let wanted = asked.request.min_revision.filter(|_| asked.endpoint.needs_catalog());
        match wanted {
            Some(wanted) if !is_met(wanted, self.snapshot.epoch, self.snapshot.revision) => {
                let deadline_ms = self.clock.now_ms() + self.settings.wait_ms;
                if let Err(asked) = self.waiting.push(wanted, deadline_ms, asked) {
                    let error = behind(Some(wanted), &self.snapshot);
                    self.refuse(&asked, &error).await;
                }
                self.view.wait_for_each(true);
                // What it waits for may have been shown meanwhile.
                self.take_snapshot().await;
            }
            _ => self.answer(asked).await,
        }
    }

    fn understand(&self, message: &Message) -> Result<(Query, Request), QueryError> {
        let refused = |reason: String| {
            let subject = message.subject.as_str();
            let help = "the protocol reference lists the subjects";
            QueryError::new(ErrorCode::BadRequest, &reason, "subject", subject, help)
        };
        match self.settings.subjects.parse(&message.subject) {
            Ok(subject::Subject::Query(query)) => Ok((query, Request::parse(&message.payload)?)),
            Ok(_) => Err(refused("not a question".into())),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    async fn answer(&mut self, asked: Asked) {
        if asked.request.at.is_some() || matches!(asked.query, Query::History(..)) {
            self.ask_the_past(asked).await;
            return;
        }
        let (now_ms, payload_max) = (self.clock.now_ms(), self.client.max_payload());
        let Asked { query, request, .. } = &asked;
        match self.answering.answer(now_ms, &self.snapshot, query, request, payload_max) {
            Ok(bytes) => {
                self.count(asked.endpoint, asked.since, None);
                self.send(asked.reply, None, bytes).await;
            }
            Err(error) => self.refuse(&asked, &error).await,
        }
    }

    async fn ask_the_past(&mut self, asked: Asked) {
        let present = Arc::clone(&self.snapshot);
        if let Some((asked, error)) = self.past.ask(past::Question { asked, present }) {
            self.refuse(&asked, &error).await;
        }
    }

    async fn take_told(&mut self, told: past::Told) {
        let past::Told { asked, found } = told;
        let (now_ms, payload_max) = (self.clock.now_ms(), self.client.max_payload());
        let answer = found.and_then(|found| match found {
            past::Found::History(bytes) => Ok(bytes.into()),
            past::Found::Snapshot(snapshot) => {
                self.answering.answer(now_ms, &snapshot, &asked.query, &asked.request, payload_max)
            }
        });
        match answer {
            Ok(bytes) => {
                self.count(asked.endpoint, asked.since, None);
                self.send(asked.reply, None, bytes).await;
            }
            Err(error) => self.refuse(&asked, &error).await,
        }
    }

    /// Leaves, answers what was asked before the broker knew, and waits until it has left the process.
    async fn finish(mut self) {
        self.subscriptions.leave_all().await;
        let rest = async {
            while let Some((topic, message)) = self.subscriptions.next().await {
                self.take(topic, message).await;
            }
            for asked in self.waiting.expired(u64::MAX) {
                let error = behind(asked.request.min_revision, &self.snapshot);
                self.refuse(&asked, &error).await;
            }
            let _ = self.client.flush().await;
        };
        if tokio::time::timeout(Duration::from_secs(1), rest).await.is_err() {
            tracing::debug!("not everything asked was answered before the end");
        }
    }
}

fn state_word(snapshot: &Snapshot) -> &'static str {
    use muster_schemas::pulse::CatalogState;
    match snapshot.state {
        CatalogState::Warming => "warming",
        CatalogState::Recovering => "recovering",
        CatalogState::Ready => "ready",
    }
}
