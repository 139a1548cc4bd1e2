//! What a registry's query task does: the real answers, given by hand.

use bytes::Bytes;
use muster_registry::core::replica::Snapshot;
use muster_registry::{Answering, is_met};
use muster_schemas::query::{ErrorCode, ErrorReply, QueryError, Request};
use muster_schemas::subject::{Query, Subject};
use muster_schemas::{MinRevision, ReplicaId, Subjects};

use super::link::{NodeId, Role};
use super::wire::{Packet, Work};
use super::world::World;

/// How long a query may wait for its revision.
const WAIT_MS: u64 = 500;
/// How long the rest of an answer is held.
const CURSOR_PERIOD_MS: u64 = 30_000;
/// Confirmed this long ago to be at the log's end: too old to answer.
const HEAD_AGE_MS_MAX: u64 = 5_000;
/// Small, so that answers come in chunks.
const PAYLOAD_BYTES_MAX: usize = 5_000;

/// The questions of one registry.
#[derive(Debug)]
pub(crate) struct Desk {
    answering: Answering,
    waiting: Vec<Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    query: Query,
    request: Request,
    reply: String,
    deadline_ms: u64,
}

impl Desk {
    pub(crate) fn new(subjects: &Subjects, replica: &ReplicaId) -> Self {
        Self { answering: Answering::new(subjects, replica, CURSOR_PERIOD_MS), waiting: Vec::new() }
    }
}

impl World {
    pub(crate) fn question(&mut self, index: usize, subject: &str, payload: &[u8], reply: String) {
        let Ok(Subject::Query(query)) = self.subjects.parse(subject) else { return };
        let request = match Request::parse(payload) {
            Ok(request) => request,
            Err(error) => return self.refuse(index, &reply, error),
        };
        let snapshot = self.registries[index].snapshot.clone();
        let is_next = matches!(query, Query::Next(..));
        if !is_next && !self.can_answer(&snapshot) {
            let reason = snapshot.reason.clone().unwrap_or_default();
            let error = QueryError::new(ErrorCode::NotReady, "not now", "state", reason, "ask again");
            return self.refuse(index, &reply, error);
        }
        let deadline_ms = self.now_ms + WAIT_MS;
        let asked = Asked { query, request, reply, deadline_ms };
        match asked.request.min_revision.filter(|_| !is_next) {
            Some(wanted) if !is_met(wanted, snapshot.epoch, snapshot.revision) => {
                self.registries[index].desk.waiting.push(asked);
                self.remind(NodeId::Registry(index), deadline_ms, Work::QueryDeadline);
            }
            _ => self.answer_question(index, asked),
        }
    }

    fn can_answer(&self, snapshot: &Snapshot) -> bool {
        let fresh = |confirmed_ms: u64| self.now_ms.saturating_sub(confirmed_ms) <= HEAD_AGE_MS_MAX;
        snapshot.serving && snapshot.head_confirmed_ms.is_some_and(fresh)
    }

    fn answer_question(&mut self, index: usize, asked: Asked) {
        let Asked { query, request, reply, .. } = asked;
        let registry = &mut self.registries[index];
        let snapshot = registry.snapshot.clone();
        match registry.desk.answering.answer(self.now_ms, &snapshot, &query, &request, PAYLOAD_BYTES_MAX) {
            Ok(bytes) => self.reply(index, reply, bytes),
            Err(error) => self.refuse(index, &reply, error),
        }
    }

    fn reply(&mut self, index: usize, subject: String, payload: Bytes) {
        let link = self.registries[index].link(Role::Queries);
        self.send(link, Packet::Publish { subject, payload, reply: None });
    }

    fn refuse(&mut self, index: usize, reply: &str, error: QueryError) {
        // Consumers tell errors by their headers, agents by their content.
        let bytes = serde_json::to_vec(&ErrorReply { error }).unwrap_or_default();
        self.reply(index, reply.to_owned(), bytes.into());
    }

    pub(crate) fn answer_waiting_questions(&mut self, index: usize) {
        let (epoch, revision) = (self.registries[index].snapshot.epoch, self.registries[index].snapshot.revision);
        let met = |wanted: Option<MinRevision>| wanted.is_none_or(|wanted| is_met(wanted, epoch, revision));
        let waiting = std::mem::take(&mut self.registries[index].desk.waiting);
        let (met, waiting) = waiting.into_iter().partition(|asked| met(asked.request.min_revision));
        self.registries[index].desk.waiting = waiting;
        let met: Vec<Asked> = met;
        for asked in met {
            self.answer_question(index, asked);
        }
    }

    pub(crate) fn give_up_questions(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let waiting = std::mem::take(&mut self.registries[index].desk.waiting);
        let (late, waiting) = waiting.into_iter().partition(|asked| asked.deadline_ms <= now_ms);
        self.registries[index].desk.waiting = waiting;
        let late: Vec<Asked> = late;
        for asked in late {
            let error = QueryError::new(ErrorCode::Behind, "behind", "min_revision", "", "ask again");
            self.refuse(index, &asked.reply, error);
        }
    }
}
