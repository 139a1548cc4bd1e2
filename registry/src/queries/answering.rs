//! What is answered: pure, given a snapshot and the time.

use std::sync::Arc;

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{ErrorCode, QueryError, Request};
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, ReplicaId, ServiceName, Subjects};

use super::cursors::{Cursor, Cursors, Position};
use super::encoded::Encoded;
use super::encoding::{Chunk, HEAD_BYTES, Head, reply};
use crate::core::replica::Snapshot;

/// The largest answer, if the broker allows more: a larger message holds up all others of the connection.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Answers from snapshots.
#[derive(Debug)]
pub struct Answering {
    subjects: Subjects,
    replica: ReplicaId,
    cursors: Cursors,
    encoded: Encoded,
}

/// A chunk of an answer that is to be written.
struct Wanted<'a> {
    snapshot: &'a Arc<Snapshot>,
    query: &'a Query,
    request: &'a Request,
    /// Where it begins, and which chunk it is, unless it is the first.
    at: Option<(Cursor, Position)>,
}

impl Answering {
    /// Answers of one replica; what is left of one too large for a message is held for this long.
    #[must_use]
    pub fn new(subjects: &Subjects, replica: &ReplicaId, cursor_period_ms: u64) -> Self {
        Self {
            subjects: subjects.clone(),
            replica: replica.clone(),
            cursors: Cursors::new(cursor_period_ms),
            encoded: Encoded::default(),
        }
    }

    /// How many unfinished answers are held.
    pub(super) fn held(&self) -> usize {
        self.cursors.len()
    }

    /// The answer to a query whose `min_revision` is met.
    ///
    /// # Errors
    /// The error to send instead.
    pub fn answer(
        &mut self,
        now_ms: u64,
        snapshot: &Arc<Snapshot>,
        query: &Query,
        request: &Request,
        payload_max: usize,
    ) -> Result<Vec<u8>, QueryError> {
        if request.limit == Some(0) {
            let help = "leave it out, or ask for at least one";
            return Err(QueryError::new(ErrorCode::BadRequest, "a limit of nothing", "limit", 0, help));
        }
        let bytes_max = payload_max.min(REPLY_BYTES_MAX).saturating_sub(HEAD_BYTES);
        let first = Wanted { snapshot, query, request, at: None };
        match query {
            Query::Next(_, cursor) => {
                let (cursor, held, from) = self.cursors.take(now_ms, cursor)?;
                let at = Some((cursor, from));
                let wanted = Wanted { snapshot: &held.snapshot, query: &held.query, request: &held.request, at };
                self.chunk(now_ms, wanted, bytes_max)
            }
            Query::Instance(service, instance) => {
                find(snapshot, service, instance)?;
                self.chunk(now_ms, first, bytes_max)
            }
            Query::Service(service)
                if *request == Request { min_revision: request.min_revision, ..Request::default() } =>
            {
                match self.encoded.service(&snapshot.catalog, service, bytes_max) {
                    Some(services) => Ok(reply(&head(now_ms, snapshot)?, &services)),
                    None => self.chunk(now_ms, first, bytes_max),
                }
            }
            _ => self.chunk(now_ms, first, bytes_max),
        }
    }

    fn chunk(&mut self, now_ms: u64, wanted: Wanted<'_>, bytes_max: usize) -> Result<Vec<u8>, QueryError> {
        let Wanted { snapshot, query, request, at } = wanted;
        let mut head = head(now_ms, snapshot)?;
        let from = at.as_ref().map(|(_, from)| from);
        let (services, next) = Chunk::write(&snapshot.catalog, query, request, from, bytes_max)?;
        let next = next.map(|next| {
            let cursor = match at {
                None => self.cursors.hold(now_ms, snapshot, query, request, next),
                Some((cursor, _)) => self.cursors.advance(now_ms, cursor, next),
            };
            self.subjects.query(&Query::Next(self.replica.clone(), cursor.to_string()))
        });
        head.next = next.as_deref();
        Ok(reply(&head, &services))
    }
}

fn head<'a>(now_ms: u64, snapshot: &Snapshot) -> Result<Head<'a>, QueryError> {
    match (snapshot.epoch, snapshot.head_confirmed_ms) {
        (Some(epoch), Some(confirmed_ms)) => {
            let head_age_ms = now_ms.saturating_sub(confirmed_ms);
            Ok(Head::new(epoch, snapshot.revision, snapshot.state, head_age_ms))
        }
        _ => Err(not_ready(snapshot)),
    }
}

/// Why a replica does not answer from its catalog.
pub(super) fn not_ready(snapshot: &Snapshot) -> QueryError {
    let state = match snapshot.state {
        CatalogState::Warming => "warming",
        CatalogState::Recovering => "recovering",
        CatalogState::Ready => "ready",
    };
    let reason = snapshot.reason.as_deref().unwrap_or("it is not at the log's end");
    let help = format!("{reason}; ask again, another replica may answer");
    QueryError::new(ErrorCode::NotReady, "this replica cannot answer now", "state", state, &help)
}

/// Refuses a query for an instance that is not there; while the catalog recovers, only a tombstone proves that.
fn find(snapshot: &Snapshot, service: &ServiceName, instance: &InstanceId) -> Result<(), QueryError> {
    let catalog = &snapshot.catalog;
    if catalog.instance(service, instance).is_some() {
        return Ok(());
    }
    if snapshot.state == CatalogState::Recovering && catalog.tombstone(service, instance).is_none() {
        let help = "the log was lost and agents register anew; ask again, absence proves nothing yet";
        let asked = format!("{service}/{instance}");
        let message = "not known whether there is such an instance";
        return Err(QueryError::new(ErrorCode::NotReady, message, "instance", asked, help));
    }
    Err(QueryError::not_found(service, Some(instance)))
}
