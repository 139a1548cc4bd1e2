//! What is answered: pure, given a snapshot and the time.

use std::sync::Arc;

use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{ErrorCode, QueryError, Request};
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, ReplicaId, ServiceName, Subjects};

use super::cursors::{Cursor, Cursors, Position};
use super::encoding::{Chunk, HEAD_BYTES, Head, reply};
use crate::core::replica::Snapshot;

/// The largest answer, if the broker allows more: a larger message holds up all others of the connection.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Answers from snapshots.
#[derive(Debug)]
pub(super) struct Answering {
    subjects: Subjects,
    replica: ReplicaId,
    cursors: Cursors,
}

impl Answering {
    pub(super) fn new(subjects: &Subjects, replica: &ReplicaId, cursor_period_ms: u64) -> Self {
        Self {
            subjects: subjects.clone(),
            replica: replica.clone(),
            cursors: Cursors::new(cursor_period_ms),
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
    pub(super) fn answer(
        &mut self,
        now_ms: u64,
        snapshot: &Arc<Snapshot>,
        query: &Query,
        request: &Request,
        payload_max: usize,
    ) -> Result<Vec<u8>, QueryError> {
        if request.limit == Some(0) {
            let help = "leave it out, or ask for at least one";
            return Err(QueryError::new(
                ErrorCode::BadRequest,
                "a limit of nothing",
                "limit",
                0,
                help,
            ));
        }
        match query {
            Query::Next(_, cursor) => {
                let (cursor, held, from) = self.cursors.take(now_ms, cursor)?;
                let origin = Origin::Cursor(cursor);
                self.chunk(
                    now_ms,
                    &held.snapshot,
                    &held.query,
                    &held.request,
                    Some(&from),
                    origin,
                    payload_max,
                )
            }
            Query::Instance(service, instance) => {
                find(snapshot, service, instance)?;
                self.chunk(now_ms, snapshot, query, request, None, Origin::Query, payload_max)
            }
            _ => self.chunk(now_ms, snapshot, query, request, None, Origin::Query, payload_max),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site each; a struct for them would be named after this function"
    )]
    fn chunk(
        &mut self,
        now_ms: u64,
        snapshot: &Arc<Snapshot>,
        query: &Query,
        request: &Request,
        from: Option<&Position>,
        origin: Origin,
        payload_max: usize,
    ) -> Result<Vec<u8>, QueryError> {
        let (Some(epoch), Some(confirmed_ms)) = (snapshot.epoch, snapshot.head_confirmed_ms) else {
            return Err(not_ready(snapshot));
        };
        let bytes_max = payload_max.min(REPLY_BYTES_MAX).saturating_sub(HEAD_BYTES);
        let (services, next) = Chunk::write(&snapshot.catalog, query, request, from, bytes_max)?;
        let next = next.map(|next| {
            let cursor = match origin {
                Origin::Query => self.cursors.hold(now_ms, snapshot, query, request, next),
                Origin::Cursor(cursor) => self.cursors.advance(now_ms, cursor, next),
            };
            self.subjects
                .query(&Query::Next(self.replica.clone(), cursor.to_string()))
        });
        let mut head = Head::new(
            epoch,
            snapshot.revision,
            snapshot.state,
            now_ms.saturating_sub(confirmed_ms),
        );
        head.next = next.as_deref();
        Ok(reply(&head, &services))
    }
}

/// Where a chunk was asked for.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Query,
    Cursor(Cursor),
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
    QueryError::new(
        ErrorCode::NotReady,
        "this replica cannot answer now",
        "state",
        state,
        &help,
    )
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
