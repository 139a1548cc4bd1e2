//! A consumer's process: the real view, its subscriptions, and its questions put together from chunks.

use std::collections::BTreeMap;

use muster_discovery::core::io::{Ask, AskFailure, Effect, Input, Scope, Ticket};
use muster_discovery::core::view::{TICK_MS, View};
use muster_schemas::Change;
use muster_schemas::pulse::{Pulse, bucket};
use muster_schemas::query::{ErrorCode, ErrorReply, Reply, Request};
use muster_schemas::subject::Query;

use super::link::{LinkId, NodeId, Role};
use super::wire::{Answered, Packet, Work};
use super::world::{Process, WALL_MS, World};

/// How long a registry may take to answer.
const ANSWER_MS: u64 = 1_200;

/// A consumer's process.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) scope: Scope,
    pub(crate) process: Process,
    pub(crate) link: LinkId,
    pub(crate) view: View,
    /// What it subscribes to: one service's changes and pulses, or all.
    subscriptions: Option<[String; 2]>,
    requests: BTreeMap<u64, Pending>,
    last_request: u64,
}

/// A question under way.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    /// The chunks so far.
    whole: Option<Reply>,
}

impl Consumer {
    pub(crate) fn subscribes(&self, subject: &str) -> bool {
        self.subscriptions.as_ref().is_none_or(|subjects| subjects.iter().any(|own| own == subject))
    }
}

impl World {
    /// Milliseconds as views count them: since 1970.
    pub(crate) fn view_ms(&self) -> u64 {
        WALL_MS.unsigned_abs() + self.now_ms
    }

    pub(crate) fn add_consumer(&mut self, scope: Scope) {
        let index = self.consumers.len();
        let link = self.new_link(NodeId::Consumer(index), Role::Everything);
        let subscriptions = match &scope {
            Scope::Everything => None,
            Scope::Service(service) => Some([self.subjects.change(service), self.subjects.pulse(bucket(service))]),
        };
        let consumer = Consumer {
            view: View::new(self.view_ms(), scope.clone(), self.random.next(), None),
            scope,
            process: Process::default(),
            link,
            subscriptions,
            requests: BTreeMap::new(),
            last_request: 0,
        };
        self.consumers.push(consumer);
        self.start_consumer(index);
    }

    /// A process with a view that knows nothing.
    pub(crate) fn start_consumer(&mut self, index: usize) {
        let (now_ms, seed) = (self.view_ms(), self.random.next());
        let consumer = &mut self.consumers[index];
        consumer.process.start();
        consumer.view = View::new(now_ms, consumer.scope.clone(), seed, None);
        consumer.requests.clear();
        let link = consumer.link;
        self.oracle.consumer_started(index);
        self.connect(link);
        self.remind(NodeId::Consumer(index), self.now_ms + 1, Work::Tick);
    }

    pub(crate) fn stop_consumer(&mut self, index: usize) {
        let link = self.consumers[index].link;
        self.cut(link);
        self.consumers[index].process.end();
    }

    pub(crate) fn consumer_works(&mut self, index: usize, work: Work) {
        match work {
            Work::Connected(_) => self.step_view(index, Input::Connected),
            Work::Disconnected(_) => self.step_view(index, Input::Disconnected),
            Work::Change(_, change) => self.step_view(index, Input::Change(Box::new(Change::clone(&change)))),
            Work::Pulse(_, pulse) => self.step_view(index, Input::Pulse(Pulse::clone(&pulse))),
            Work::SlowConsumer => self.step_view(index, Input::SlowConsumer),
            Work::Answer { request, answered } => self.chunk_came(index, request, &answered),
            Work::Deadline(request) => self.chunk_came(index, request, &Answered::Failed),
            Work::Tick => {
                self.step_view(index, Input::Tick);
                self.remind(NodeId::Consumer(index), self.now_ms + TICK_MS, Work::Tick);
            }
            _ => {}
        }
    }

    fn step_view(&mut self, index: usize, input: Input) {
        let mut effects = Vec::new();
        let now_ms = self.view_ms();
        self.consumers[index].view.step(now_ms, input, &mut effects);
        self.judge_view(index, &effects);
        for effect in effects {
            match effect {
                Effect::Ask(ask) => self.ask_for(index, &ask),
                Effect::Changed(change) => self.say(|| format!("consumer {index}: {change}")),
                Effect::Replaced(_, reason) => self.say(|| format!("consumer {index} has a snapshot: {reason}")),
                Effect::Judged(state) => self.say(|| format!("consumer {index} is {state}")),
            }
        }
    }

    fn ask_for(&mut self, index: usize, ask: &Ask) {
        let query = match &ask.target {
            Scope::Everything => Query::Snapshot,
            Scope::Service(service) => Query::Service(service.clone()),
        };
        let request = Request { min_revision: ask.min_revision, ..Request::default() };
        let body = serde_json::to_vec(&request).unwrap_or_default();
        let subject = self.subjects.query(&query);
        self.ask_chunk(index, subject, body, Pending { ticket: ask.ticket, whole: None });
    }

    fn ask_chunk(&mut self, index: usize, subject: String, body: Vec<u8>, pending: Pending) {
        let consumer = &mut self.consumers[index];
        consumer.last_request += 1;
        let (request, link) = (consumer.last_request, consumer.link);
        consumer.requests.insert(request, pending);
        let reply = Some(format!("_INBOX.{}.{request}", link.0));
        self.send(link, Packet::Publish { subject, payload: body.into(), reply });
        self.remind(NodeId::Consumer(index), self.now_ms + ANSWER_MS, Work::Deadline(request));
    }

    fn chunk_came(&mut self, index: usize, request: u64, answered: &Answered) {
        let Some(pending) = self.consumers[index].requests.remove(&request) else { return };
        let ticket = pending.ticket;
        let failed = |failure| Input::AskFailed(ticket, failure);
        let Answered::Message(payload) = answered else {
            return self.step_view(index, failed(AskFailure::Failed));
        };
        if let Ok(refusal) = serde_json::from_slice::<ErrorReply>(payload) {
            let is_behind = refusal.error.code == ErrorCode::Behind;
            return self.step_view(index, failed(if is_behind { AskFailure::Behind } else { AskFailure::Failed }));
        }
        let chunk = serde_json::from_slice::<Reply>(payload).ok();
        let whole = chunk.and_then(|chunk| match pending.whole {
            None => Some(chunk),
            Some(whole) => append(whole, chunk),
        });
        let Some(mut whole) = whole else {
            return self.step_view(index, failed(AskFailure::Failed));
        };
        match whole.next.take() {
            None => self.step_view(index, Input::Answer(ticket, whole)),
            Some(next) => self.ask_chunk(index, next, Vec::new(), Pending { ticket, whole: Some(whole) }),
        }
    }
}

/// Adds a chunk; all are of one revision of one log.
fn append(mut whole: Reply, chunk: Reply) -> Option<Reply> {
    if (chunk.epoch, chunk.revision) != (whole.epoch, whole.revision) || chunk.services.is_empty() {
        return None;
    }
    whole.next = chunk.next;
    for service in chunk.services {
        match whole.services.last_mut().filter(|last| last.service == service.service) {
            Some(last) => last.instances.extend(service.instances),
            None => whole.services.push(service),
        }
    }
    Some(whole)
}
