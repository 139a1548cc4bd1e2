//! What is answered: pure, given a snapshot and the time.

use std::sync::Arc;

use bytes::Bytes;
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
    last: Option<Last>,
}

/// The last answer about a whole service.
#[derive(Debug)]
struct Last {
    head: Head<'static>,
    services: Bytes,
    reply: Bytes,
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
            last: None,
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
    ) -> Result<Bytes, QueryError> {
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
                    Some(services) => Ok(self.whole(head(now_ms, snapshot)?, services)),
                    None => self.chunk(now_ms, first, bytes_max),
                }
            }
            _ => self.chunk(now_ms, first, bytes_max),
        }
    }

    /// Often many ask for the same service at once: within a millisecond all get the same bytes.
    fn whole(&mut self, head: Head<'static>, services: Bytes) -> Bytes {
        let is_same = |last: &&Last| {
            last.head == head && last.services.len() == services.len() && last.services.as_ptr() == services.as_ptr()
        };
        if let Some(last) = self.last.as_ref().filter(is_same) {
            return last.reply.clone();
        }
        let reply = Bytes::from(reply(&head, &services));
        self.last = Some(Last { head, services, reply: reply.clone() });
        reply
    }

    fn chunk(&mut self, now_ms: u64, wanted: Wanted<'_>, bytes_max: usize) -> Result<Bytes, QueryError> {
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
        Ok(reply(&head, &services).into())
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

#[cfg(test)]
mod tests {
    use muster_schemas::{EpochId, Namespace, Prefix};

    use super::super::encoding::tests::catalog;
    use super::*;

    fn snapshot(instances: &[(&str, u32)], revision: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            catalog: catalog(instances),
            epoch: Some(EpochId::from_parts(1, 1)),
            revision,
            state: CatalogState::Ready,
            head_confirmed_ms: Some(1_000),
            serving: true,
            reason: None,
        })
    }

    #[test]
    fn within_a_millisecond_all_get_the_same_bytes_and_nobody_those_of_another_moment_service_or_revision() {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let mut answering = Answering::new(&subjects, &ReplicaId::new("r1").unwrap(), 30_000);
        let mut ask = |now_ms: u64, snapshot: &Arc<Snapshot>, service: &str| {
            let query = Query::Service(ServiceName::new(service).unwrap());
            answering.answer(now_ms, snapshot, &query, &Request::default(), usize::MAX).unwrap()
        };
        let field =
            |reply: &Bytes, name: &str| serde_json::from_slice::<serde_json::Value>(reply).unwrap()[name].clone();
        let before = snapshot(&[("orders", 2), ("carts", 1)], 7);
        let first = ask(1_005, &before, "orders");
        assert_eq!(ask(1_005, &before, "orders").as_ptr(), first.as_ptr());
        assert_eq!(field(&first, "head_age_ms"), 5);

        assert_eq!(field(&ask(1_006, &before, "orders"), "head_age_ms"), 6);
        assert_eq!(field(&ask(1_006, &before, "carts"), "services")[0]["service"], "carts");
        assert_eq!(field(&ask(1_006, &before, "orders"), "services")[0]["service"], "orders");

        let later = snapshot(&[("orders", 3), ("carts", 1)], 8);
        let reply = ask(1_006, &later, "orders");
        assert_eq!(field(&reply, "revision"), 8);
        assert_eq!(field(&reply, "services")[0]["total"], 3);
    }
}
