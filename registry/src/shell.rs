//! The task that owns a replica's core: everything that happens goes in as an input, in one place, and what the core asks
//! for is performed in order before the next batch of inputs.

mod hands;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::stream::ReadyChunks;
use futures::{FutureExt, StreamExt};
use muster_runtime::stop::Stop;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior};

pub(crate) use hands::{Answer, Hands, Tools};

use crate::checkpoint_store::Done;
use crate::clock::Clock;
use crate::core::io::{Effects, Input, Record};
use crate::core::replica::Replica;
use crate::error::RegistryError;
use crate::link_watch::{LinkChange, LinkRole};
use crate::log_reader::{self, Delivery, LogEvent, OpenLog};
use crate::metrics::CoreMetrics;
use crate::queries::{StatusRequest, Window};

/// Messages of one subscription that become inputs before effects are performed.
const INPUTS_MAX: usize = 256;
/// How old the metrics may be.
const METRICS_EVERY_MS: u64 = 500;

/// Where inputs come from.
pub(crate) struct Sources {
    pub(crate) heartbeats: ReadyChunks<Subscriber>,
    /// None if the broker does not let this user listen to them.
    pub(crate) advisories: Option<ReadyChunks<Subscriber>>,
    pub(crate) server_answers: ReadyChunks<Subscriber>,
    pub(crate) changes: ReadyChunks<Subscriber>,
    pub(crate) pulses: ReadyChunks<Subscriber>,
    pub(crate) beacons: ReadyChunks<Subscriber>,
    /// The log that is being read, and the reader's number.
    pub(crate) log: Option<(u64, OpenLog)>,
    pub(crate) deliveries: mpsc::Receiver<Delivery>,
    pub(crate) answers: mpsc::Receiver<Answer>,
    pub(crate) links: mpsc::Receiver<LinkChange>,
    pub(crate) statuses: mpsc::Receiver<StatusRequest>,
}

/// The next of the log; never anything while it is not open.
async fn next_of_log(log: &mut Option<(u64, OpenLog)>) -> Option<Vec<Message>> {
    match log {
        Some((_, log)) => log.next().await,
        None => std::future::pending().await,
    }
}

/// Cuts a subscription into batches.
pub(crate) fn in_batches(messages: Subscriber) -> ReadyChunks<Subscriber> {
    messages.ready_chunks(INPUTS_MAX)
}

/// The next messages; never any without a subscription.
async fn next_of(messages: &mut Option<ReadyChunks<Subscriber>>) -> Option<Vec<Message>> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}

/// A replica and all that it acts with.
pub(crate) struct Shell {
    pub(crate) clock: Clock,
    pub(crate) replica: Replica,
    pub(crate) hands: Hands,
    pub(crate) window: Window,
    pub(crate) effects: Effects,
    /// Asks for another round trip over the output connection.
    pub(crate) recheck_output: Arc<Notify>,
    pub(crate) metrics: CoreMetrics,
    pub(crate) metrics_shown_ms: u64,
}

/// Why the loop was left.
enum End {
    Asked,
    Closed(LinkRole),
}

impl Shell {
    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// A connection was closed for good.
    pub(crate) async fn run(mut self, mut sources: Sources, tick: Duration, stop: &Stop) -> Result<(), RegistryError> {
        let end = self.work(&mut sources, tick, stop).await;
        self.keep_last_state().await;
        self.hands.end().await;
        match end {
            End::Asked => Ok(()),
            End::Closed(role) => Err(RegistryError::Closed { connection: format!("{role:?}").to_lowercase() }),
        }
    }

    async fn work(&mut self, sources: &mut Sources, tick: Duration, stop: &Stop) -> End {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = std::pin::pin!(stop.requested());
        loop {
            let end = tokio::select! {
                () = &mut stopped => Some(End::Asked),
                end = self.take_next(sources, &mut ticks) => end,
            };
            self.settle().await;
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Waits for something to happen, and gives the core all of it that is there.
    async fn take_next(&mut self, sources: &mut Sources, ticks: &mut Interval) -> Option<End> {
        tokio::select! {
            _ = ticks.tick() => {
                let (wall, random) = (self.clock.wall(), rand::random());
                self.step(Input::Tick { wall, random });
                self.look_for_silence(sources).await;
                self.show_metrics();
            }
            messages = next_of_log(&mut sources.log) => self.read_log(sources, messages).await,
            Some(change) = sources.links.recv() => return self.link(change),
            messages = sources.heartbeats.next() => match messages {
                Some(messages) => self.each(&messages, |message| Input::Heartbeat {
                    subject: message.subject.as_str(),
                    payload: &message.payload,
                }),
                None => return Some(End::Closed(LinkRole::Log)),
            },
            Some(messages) = next_of(&mut sources.advisories) => {
                self.each(&messages, |message| Input::Advisory(&message.payload));
            }
            Some(messages) = sources.server_answers.next() => {
                self.each(&messages, |message| Input::ServerAnswered(&message.payload));
            }
            Some(messages) = sources.changes.next() => self.each(&messages, |message| Input::ChangeHeard(&message.payload)),
            Some(messages) = sources.pulses.next() => self.each(&messages, |message| Input::PulseHeard(&message.payload)),
            messages = sources.beacons.next() => match messages {
                Some(messages) => self.each(&messages, |message| Input::BeaconHeard(&message.payload)),
                None => return Some(End::Closed(LinkRole::Output)),
            },
            Some(delivery) = sources.deliveries.recv() => self.deliver(sources, delivery),
            Some(answer) = sources.answers.recv() => self.answer(&answer),
            Some(request) = sources.statuses.recv() => {
                // Whoever asked may have given up.
                let _ = request.send(self.replica.status(self.clock.now_ms()));
            }
        }
        None
    }

    fn show_metrics(&mut self) {
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(self.metrics_shown_ms) >= METRICS_EVERY_MS {
            self.metrics_shown_ms = now_ms;
            self.metrics.show(self.replica.counters(), &self.replica.status(now_ms), self.replica.newest_checkpoint());
        }
    }

    async fn keep_last_state(&self) {
        if let Some(checkpoint) = self.replica.state_to_keep() {
            self.hands.save_last_state(checkpoint).await;
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.replica.step(self.clock.now_ms(), input, &mut self.effects);
    }

    /// Empty messages are somebody's check of permissions.
    fn each<'a>(&mut self, messages: &'a [Message], input: impl Fn(&'a Message) -> Input<'a>) {
        for message in messages.iter().filter(|message| !message.payload.is_empty()) {
            self.step(input(message));
        }
    }

    fn deliver(&mut self, sources: &mut Sources, delivery: Delivery) {
        match delivery {
            // One that the core no longer wants was told so late that it still came.
            Delivery::Opened { reader, log } if self.hands.reads(reader) => sources.log = Some((reader, log)),
            Delivery::Opened { .. } => {}
            Delivery::Stopped { reader, reason } => self.reader_stopped(reader, &reason),
        }
    }

    fn reader_stopped(&mut self, reader: u64, reason: &str) {
        tracing::debug!(reader, reason, "the log reader ended");
        self.step(Input::ReaderStopped { reader, reason });
    }

    async fn read_log(&mut self, sources: &mut Sources, messages: Option<Vec<Message>>) {
        let Some((reader, mut log)) = sources.log.take() else { return };
        if !self.hands.reads(reader) {
            return;
        }
        let Some(messages) = messages else {
            return self.reader_stopped(reader, "the connection was closed");
        };
        let (events, outcome) = log.read(messages).await;
        for event in &events {
            self.take_event(reader, event);
        }
        match outcome {
            Ok(()) => sources.log = Some((reader, log)),
            Err(reason) => self.reader_stopped(reader, &reason),
        }
    }

    fn take_event(&mut self, reader: u64, event: &LogEvent) {
        let record = Record {
            sequence: event.sequence,
            at: event.at,
            subject: event.message.subject.as_str(),
            payload: &event.message.payload,
        };
        self.step(Input::Record { reader, record });
    }

    /// Ends a log that says nothing any more, and one that was put away.
    async fn look_for_silence(&mut self, sources: &mut Sources) {
        let Some((reader, log)) = &mut sources.log else { return };
        let reader = *reader;
        if !self.hands.reads(reader) {
            sources.log = None;
        } else if log.is_silent() {
            match log.next().now_or_never() {
                Some(messages) => self.read_log(sources, messages).await,
                None => {
                    sources.log = None;
                    self.reader_stopped(reader, &log_reader::silence());
                }
            }
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let input = match answer {
            Answer::Inspected { check, found } => Input::LogInspected { check: *check, found: found.as_inspection() },
            Answer::Probed { probe, outcome } => Input::Probed { probe: *probe, outcome: outcome.as_outcome() },
            Answer::Announced { request, instances } => Input::Announced { request: *request, instances: *instances },
            Answer::Proposed(proposed) => {
                Input::Proposed { batch: proposed.batch, acknowledged: proposed.acknowledged }
            }
            Answer::Store(Done::Listed { list, checkpoints }) => {
                Input::CheckpointsListed { list: *list, checkpoints: checkpoints.as_deref() }
            }
            Answer::Store(Done::Loaded { load, found }) => {
                Input::CheckpointLoaded { load: *load, found: found.as_loaded() }
            }
            Answer::Store(Done::Saved { save, bytes }) => Input::CheckpointSaved { save: *save, bytes: *bytes },
            Answer::Store(Done::Trimmed { events }) => Input::LogTrimmed { events: *events },
            Answer::StateSaved(saved) => Input::StateSaved { saved: *saved },
        };
        self.step(input);
    }

    fn link(&mut self, change: LinkChange) -> Option<End> {
        match change {
            LinkChange::Up(LinkRole::Log) => {
                self.tell_servers();
                self.step(Input::LogConnected(true));
            }
            LinkChange::Down(LinkRole::Log) => {
                self.hands.end_reader();
                self.step(Input::LogConnected(false));
            }
            LinkChange::Overflowed(LinkRole::Log) => self.step(Input::HeartbeatsLost),
            LinkChange::Up(LinkRole::Output) => {
                self.hands.set_output(true);
                self.tell_servers();
                self.step(Input::PublishConnected(true));
            }
            // What others published may have been missed: as after a reconnect.
            LinkChange::Overflowed(LinkRole::Output) => {}
            LinkChange::Down(LinkRole::Output) => {
                self.hands.set_output(false);
                self.step(Input::PublishConnected(false));
            }
            LinkChange::Closed(role) => return Some(End::Closed(role)),
        }
        None
    }

    fn tell_servers(&mut self) {
        let (servers, is_cluster) = self.hands.connected_to();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        self.step(Input::ConnectedTo { servers: &servers, is_cluster });
    }

    /// Shows what the core knows now, then does what it asks for.
    async fn settle(&mut self) {
        if self.replica.snapshot_changed() {
            self.window.show(self.replica.snapshot());
        }
        if !self.hands.perform(self.effects.drain()).await {
            self.step(Input::PublishConnected(false));
            self.recheck_output.notify_one();
        }
    }
}
