//! The rest of large answers: each held at one revision, for a bounded time, and a bounded number of them.

use std::collections::HashMap;
use std::sync::Arc;

use muster_schemas::query::{ErrorCode, QueryError, Request};
use muster_schemas::subject::Query;
use muster_schemas::{InstanceId, ServiceName};

use crate::core::replica::Snapshot;

/// Answers held at once; one more ends the one that was used longest ago. Holding one costs what has changed since.
const HELD_MAX: usize = 256;

/// Where the next chunk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// In this service,
    pub(super) service: ServiceName,
    /// behind this instance, or at its beginning.
    pub(super) after: Option<InstanceId>,
}

/// What was asked, of which revision, and how far it was answered.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) query: Query,
    pub(super) request: Request,
    /// The chunk that comes next, and the one before it, for somebody whose reply got lost.
    next: (u64, Position),
    before: Option<(u64, Position)>,
    /// When the chunk that comes next was named.
    used_ms: u64,
}

/// All held answers of a replica.
#[derive(Debug)]
pub(super) struct Cursors {
    period_ms: u64,
    held: HashMap<u64, Held>,
}

/// The name of a chunk: which answer, and the how-manieth chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    answer: u64,
    chunk: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:016x}-{}", self.answer, self.chunk)
    }
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (answer, chunk) = text.split_once('-')?;
        let cursor = Self { answer: u64::from_str_radix(answer, 16).ok()?, chunk: chunk.parse().ok()? };
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl Cursors {
    pub(super) fn new(period_ms: u64) -> Self {
        Self { period_ms, held: HashMap::new() }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Holds what is left of an answer; returns the name of its next chunk.
    pub(super) fn hold(
        &mut self,
        now_ms: u64,
        snapshot: &Arc<Snapshot>,
        query: &Query,
        request: &Request,
        next: Position,
    ) -> Cursor {
        self.forget_expired(now_ms);
        if self.held.len() >= HELD_MAX
            && let Some(oldest) = self.held.iter().min_by_key(|(_, held)| held.used_ms).map(|(answer, _)| *answer)
        {
            self.held.remove(&oldest);
        }
        let cursor = Cursor { answer: rand::random(), chunk: 1 };
        let held = Held {
            snapshot: Arc::clone(snapshot),
            query: query.clone(),
            request: request.clone(),
            next: (cursor.chunk, next),
            before: None,
            used_ms: now_ms,
        };
        self.held.insert(cursor.answer, held);
        cursor
    }

    /// What a cursor names, and where its chunk begins.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`].
    pub(super) fn take(&mut self, now_ms: u64, text: &str) -> Result<(Cursor, Held, Position), QueryError> {
        self.forget_expired(now_ms);
        let found = Cursor::parse(text).and_then(|cursor| {
            let held = self.held.get(&cursor.answer)?;
            let places = std::iter::once(&held.next).chain(&held.before);
            let place =
                places.filter(|(chunk, _)| *chunk == cursor.chunk).map(|(_, position)| position.clone()).next()?;
            Some((cursor, held.clone(), place))
        });
        found.ok_or_else(|| {
            let help = "begin again with the query itself: what is left of an answer is held for 30 s by one replica";
            QueryError::new(ErrorCode::CursorExpired, "this chunk is no longer held", "cursor", text, help)
        })
    }

    /// The chunk of a cursor was sent; what is left begins here.
    pub(super) fn advance(&mut self, now_ms: u64, cursor: Cursor, next: Position) -> Cursor {
        let following = Cursor { answer: cursor.answer, chunk: cursor.chunk + 1 };
        if let Some(held) = self.held.get_mut(&cursor.answer)
            && held.next.0 == cursor.chunk
        {
            held.used_ms = now_ms;
            held.before = Some(std::mem::replace(&mut held.next, (following.chunk, next)));
        }
        following
    }

    fn forget_expired(&mut self, now_ms: u64) {
        let period_ms = self.period_ms;
        self.held.retain(|_, held| now_ms.saturating_sub(held.used_ms) <= period_ms);
    }
}

#[cfg(test)]
mod tests {
    use muster_schemas::pulse::CatalogState;

    use super::*;
    use crate::core::catalog::Catalog;

    fn hold(cursors: &mut Cursors, now_ms: u64) -> String {
        let snapshot = Snapshot {
            catalog: Catalog::default(),
            epoch: None,
            revision: 0,
            state: CatalogState::Ready,
            head_confirmed_ms: None,
            serving: true,
            reason: None,
        };
        let next = Position { service: "orders".parse().unwrap(), after: None };
        cursors.hold(now_ms, &Arc::new(snapshot), &Query::Services, &Request::default(), next).to_string()
    }

    #[test]
    fn one_answer_too_many_ends_the_one_used_longest_ago() {
        let mut cursors = Cursors::new(30_000);
        let held: Vec<_> = (0..HELD_MAX as u64).map(|ms| hold(&mut cursors, ms)).collect();
        let (cursor, _, position) = cursors.take(1_000, &held[0]).expect("it is held");
        cursors.advance(1_000, cursor, position);
        hold(&mut cursors, 1_001);
        assert_eq!(cursors.len(), HELD_MAX);
        let gone = cursors.take(1_002, &held[1]).expect_err("it was used longest ago");
        assert_eq!(gone.code, ErrorCode::CursorExpired);
        assert!(cursors.take(1_002, &held[0]).is_ok() && cursors.take(1_002, &held[2]).is_ok());
    }

    #[test]
    fn what_nobody_asks_for_in_time_is_forgotten() {
        let mut cursors = Cursors::new(30_000);
        let held = hold(&mut cursors, 0);
        assert!(cursors.take(30_000, &held).is_ok());
        assert!(cursors.take(30_001, &held).is_err());
        assert_eq!(cursors.len(), 0);
    }
}
