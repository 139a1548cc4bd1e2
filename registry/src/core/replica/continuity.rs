//! Is this still the log that was folded, and is this replica at its end?
//!
//! Once a second the stream's facts are checked; after every connect and every restart of the reader also that the event
//! at the own revision is the one that was folded. A check that fails stops the reader and is repeated on fresh
//! connections; only one that goes on failing is believed.

use std::collections::VecDeque;

use muster_schemas::Timestamp;

use super::Timing;
use crate::core::io::{Effect, Effects, Inspection, LogFacts, Record};

/// How many confirmations of the end may wait for the reader to get there; at the bound the oldest is dropped, and the
/// end counts as confirmed a little later.
const PENDING_ENDS_MAX: usize = 64;
/// How many confirmed ends are remembered: one a second at most. At the bound the oldest is forgotten, and a replica that
/// holds changes back for longer sends no pulses until they are sent.
const ENDS_MAX: usize = 16;

/// What is known of the log as a stream.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    connected: bool,
    reader: u64,
    reading: bool,
    watches_epochs: bool,
    /// Sequence of the last event delivered in order; none before it is known where to begin.
    position: Option<u64>,
    /// While it is not known where to begin: the sequence whose event decides it.
    expected: Option<u64>,
    /// The event at `position`, if it was delivered.
    anchor: Option<Anchor>,
    created_at: Option<Timestamp>,
    replicated: bool,
    check: u64,
    asked: Option<Asked>,
    next_check_ms: u64,
    suspicion: Option<Suspicion>,
    /// The largest sequence of this log that a heartbeat or a beacon named.
    claimed: u64,
    pending_ends: VecDeque<(u64, u64)>,
    /// When this replica is known to have been at the log's end, and which sequence that was; the latest is last.
    ends: VecDeque<(u64, u64)>,
}

/// The last event folded, by which the log is recognised.
#[derive(Debug, Clone)]
struct Anchor {
    at: Timestamp,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Asked {
    ms: u64,
    epochs: bool,
    position: Option<u64>,
    expected: Option<u64>,
    claimed: u64,
}

#[derive(Debug)]
struct Suspicion {
    since_ms: u64,
    reason: String,
    /// The facts look right, and yet events are missing: only the next event in order proves otherwise.
    hole: bool,
}

/// What an inspection means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to do.
    Nothing,
    /// The stream has to be created.
    Create,
    /// Where to begin has to be decided from these facts.
    Locate,
    /// Read on after the own position.
    Resume,
    /// The reader goes on, and the epochs were looked at as [`Continuity::watch_epochs`] wants.
    EpochsSeen,
    /// The log no longer holds what follows the own position.
    Trimmed,
    /// The log is another one, or has lost its tail.
    Broken(String),
}

/// Where a delivered event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// The one after the last.
    Next,
    /// Of an old reader, or known already.
    Late,
    /// Events before it are missing.
    Hole,
}

impl Continuity {
    /// The connection of log and heartbeats came or went. The reader ends either way: it begins again once the log has
    /// been recognised.
    pub(super) fn set_connected(&mut self, now_ms: u64, connected: bool) {
        self.connected = connected;
        self.stop_reading(now_ms);
    }

    /// The reader ended; true if it is the one that was wanted.
    pub(super) fn reader_stopped(&mut self, now_ms: u64, reader: u64) -> bool {
        let wanted = self.reading && reader == self.reader;
        if wanted {
            self.stop_reading(now_ms);
        }
        wanted
    }

    fn stop_reading(&mut self, now_ms: u64) {
        self.reading = false;
        self.reader += 1;
        self.asked = None;
        self.next_check_ms = now_ms;
    }

    /// Asks for the facts when it is time. `lost` asks for the epochs too: where to begin is not known.
    pub(super) fn tick(&mut self, now_ms: u64, timing: &Timing, effects: &mut Effects) {
        let overdue = |asked: &Asked| now_ms.saturating_sub(asked.ms) > 2 * timing.inspect_timeout_ms;
        if self.asked.as_ref().is_some_and(overdue) {
            self.asked = None;
        }
        if !self.connected || self.asked.is_some() || now_ms < self.next_check_ms {
            return;
        }
        self.check += 1;
        let epochs = !self.reading || self.watches_epochs;
        let expected = self.expected.filter(|_| self.position.is_none());
        self.asked = Some(Asked { ms: now_ms, epochs, position: self.position, expected, claimed: self.claimed });
        effects.push(Effect::InspectLog {
            check: self.check,
            epochs,
            own: self.position.filter(|_| !self.reading && self.anchor.is_some()).or(expected),
            fresh_connection: self.suspicion.is_some(),
        });
    }

    /// What an inspection means for this replica.
    pub(super) fn inspected(&mut self, now_ms: u64, check: u64, found: &Inspection<'_>, timing: &Timing) -> Verdict {
        let Some(asked) = self.asked.take_if(|_| check == self.check) else {
            return Verdict::Nothing;
        };
        self.next_check_ms = now_ms + if self.reading { timing.inspect_ms } else { timing.verify_every_ms };
        match found {
            Inspection::Unreachable(_) => Verdict::Nothing,
            Inspection::Missing if self.position.is_none() => Verdict::Create,
            Inspection::Missing => self.failed(now_ms, "the stream is gone".to_owned(), timing),
            Inspection::Present(facts) => match self.contradiction(facts, &asked) {
                Some(reason) => self.failed(now_ms, reason, timing),
                None => self.passed(now_ms, facts, &asked, timing),
            },
        }
    }

    fn contradiction(&self, facts: &LogFacts<'_>, asked: &Asked) -> Option<String> {
        let position = self.position?;
        if self.created_at.is_some_and(|known| known != facts.created_at) {
            return Some(format!("the stream was created anew at {}", facts.created_at));
        }
        let last = facts.last_sequence;
        // Not below where this replica is now: events that came while the answer was on its way are not in it.
        if let Some(then) = asked.position.filter(|then| last < *then) {
            return Some(format!("the stream ends at {last}, below revision {then}"));
        }
        if last < asked.claimed {
            return Some(format!("the stream ends at {last}, but revision {} was seen in it", asked.claimed));
        }
        let checked = !self.reading && asked.position == Some(position) && position >= facts.first_sequence;
        let anchor = self.anchor.as_ref().filter(|_| checked)?;
        match facts.own {
            Some(own) if own.at == anchor.at && own.payload == anchor.payload => None,
            Some(own) => Some(format!("another event, of {}, stands at revision {position}", own.at)),
            None => Some(format!("the event at revision {position} is gone")),
        }
    }

    fn failed(&mut self, now_ms: u64, reason: String, timing: &Timing) -> Verdict {
        if self.suspect(now_ms, &reason, false) >= self.verify_ms(timing) {
            return Verdict::Broken(reason);
        }
        self.next_check_ms = now_ms + timing.verify_every_ms;
        Verdict::Nothing
    }

    /// Notes a failed check, stops the reader, and says for how long checks have been failing.
    fn suspect(&mut self, now_ms: u64, reason: &str, hole: bool) -> u64 {
        self.reading = false;
        self.reader += 1;
        let suspicion =
            self.suspicion.get_or_insert_with(|| Suspicion { since_ms: now_ms, reason: String::new(), hole });
        suspicion.reason = reason.to_owned();
        suspicion.hole = hole;
        now_ms.saturating_sub(suspicion.since_ms)
    }

    /// For how long a check must go on failing before it is believed.
    pub(super) fn verify_ms(&self, timing: &Timing) -> u64 {
        if self.replicated { timing.verify_replicated_ms } else { timing.verify_ms }
    }

    fn passed(&mut self, now_ms: u64, facts: &LogFacts<'_>, asked: &Asked, timing: &Timing) -> Verdict {
        self.replicated = facts.replicas > 1;
        self.suspicion.take_if(|suspicion| !suspicion.hole);
        let Some(position) = self.position else {
            if self.expected != asked.expected {
                self.next_check_ms = now_ms;
                return Verdict::Nothing;
            }
            self.created_at = Some(facts.created_at);
            return Verdict::Locate;
        };
        if position + 1 < facts.first_sequence {
            if self.reading {
                // Asked again with the epochs, which only a full inspection returns.
                self.stop_reading(now_ms);
                return Verdict::Nothing;
            }
            return Verdict::Trimmed;
        }
        self.pending_ends.push_back((asked.ms, facts.last_sequence));
        if self.pending_ends.len() > PENDING_ENDS_MAX {
            self.pending_ends.pop_front();
        }
        self.confirm_ends();
        if self.reading {
            return if asked.epochs { Verdict::EpochsSeen } else { Verdict::Nothing };
        }
        if !asked.epochs {
            // The reader stopped meanwhile: whoever resumes looks at the epochs, too.
            self.next_check_ms = now_ms;
            return Verdict::Nothing;
        }
        self.next_check_ms = now_ms + timing.inspect_ms;
        Verdict::Resume
    }

    fn confirm_ends(&mut self) {
        let Some(position) = self.position else { return };
        while let Some((asked_ms, last)) = self.pending_ends.front().copied() {
            if last > position {
                return;
            }
            self.pending_ends.pop_front();
            self.ends.pop_back_if(|(_, end)| *end == last);
            self.ends.push_back((asked_ms, last));
            if self.ends.len() > ENDS_MAX {
                self.ends.pop_front();
            }
        }
    }

    /// Whether every inspection also fetches the epochs: while one is waited for.
    pub(super) fn watch_epochs(&mut self, watch: bool) {
        self.watches_epochs = watch;
    }

    /// Begins to read at a sequence, with nothing folded yet.
    pub(super) fn begin_at(&mut self, now_ms: u64, from_sequence: u64, effects: &mut Effects) {
        self.position = Some(from_sequence.saturating_sub(1));
        self.anchor = None;
        self.claimed = 0;
        self.pending_ends.clear();
        self.ends.clear();
        self.read_on(effects);
        // The end that was just seen is confirmed by the next check.
        self.next_check_ms = now_ms;
    }

    /// The event of this sequence has to be seen before it is decided where to begin.
    pub(super) fn expect(&mut self, expected: Option<u64>) {
        self.expected = expected;
    }

    /// Where to begin can be decided now: the next inspection does not wait.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.next_check_ms = now_ms;
    }

    /// Something speaks against the stream before anything was read of it: it is inspected again, afresh.
    pub(super) fn doubt(&mut self, now_ms: u64, reason: &str, timing: &Timing) {
        self.suspect(now_ms, reason, false);
        self.next_check_ms = now_ms + timing.verify_every_ms;
    }

    /// The event at the position that was begun after.
    pub(super) fn anchor_at(&mut self, record: &Record<'_>) {
        self.anchor = Some(Anchor { at: record.at, payload: record.payload.to_vec() });
    }

    /// Whether there is an event by which the log is recognised.
    pub(super) fn is_anchored(&self) -> bool {
        self.anchor.is_some()
    }

    /// When the stream was created, once it was seen.
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        self.created_at
    }

    /// Reads on after the own position.
    pub(super) fn read_on(&mut self, effects: &mut Effects) {
        self.reader += 1;
        self.reading = true;
        effects.push(Effect::ReadLog { reader: self.reader, from_sequence: self.position.unwrap_or(0) + 1 });
    }

    /// Forgets the log: the next inspection decides where to begin.
    pub(super) fn forget(&mut self, now_ms: u64) {
        self.position = None;
        self.anchor = None;
        self.suspicion = None;
        self.claimed = 0;
        self.pending_ends.clear();
        self.ends.clear();
        self.stop_reading(now_ms);
    }

    /// Takes note of a delivered event, before it is folded.
    pub(super) fn delivered(&mut self, now_ms: u64, reader: u64, record: &Record<'_>, timing: &Timing) -> Order {
        let Some(position) = self.position.filter(|_| self.reading && reader == self.reader) else {
            return Order::Late;
        };
        if record.sequence <= position {
            return Order::Late;
        }
        if record.sequence > position + 1 {
            let reason = format!("revision {} follows {position}: events are missing", record.sequence);
            self.suspect(now_ms, &reason, true);
            self.next_check_ms = now_ms + timing.verify_every_ms;
            return Order::Hole;
        }
        self.position = Some(record.sequence);
        let anchor = self.anchor.get_or_insert_with(|| Anchor { at: record.at, payload: Vec::new() });
        anchor.at = record.at;
        anchor.payload.clear();
        anchor.payload.extend_from_slice(record.payload);
        if self.suspicion.is_some() {
            self.suspicion = None;
        }
        self.confirm_ends();
        Order::Next
    }

    /// Whether a hole has been there for so long that it is believed, and what was seen of it.
    pub(super) fn lasting_hole(&self, now_ms: u64, timing: &Timing) -> Option<String> {
        let suspicion = self.suspicion.as_ref().filter(|suspicion| suspicion.hole)?;
        (now_ms.saturating_sub(suspicion.since_ms) >= self.verify_ms(timing)).then(|| suspicion.reason.clone())
    }

    /// A heartbeat or a beacon named this sequence of the log in force.
    pub(super) fn claim(&mut self, sequence: u64) {
        self.claimed = self.claimed.max(sequence);
    }

    /// Why the log is suspected to be broken, while it is.
    pub(super) fn suspicion(&self) -> Option<&str> {
        self.suspicion.as_ref().map(|suspicion| suspicion.reason.as_str())
    }

    /// Sequence of the last event delivered in order.
    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// The latest moment at which this replica is known to have been at the log's end.
    pub(super) fn end_confirmed_ms(&self) -> Option<u64> {
        self.ends.back().map(|(confirmed_ms, _)| *confirmed_ms)
    }

    /// The latest moment at which the log is known to have ended at this sequence or below.
    pub(super) fn end_confirmed_through_ms(&self, sequence: u64) -> Option<u64> {
        self.ends.iter().rfind(|(_, end)| *end <= sequence).map(|(confirmed_ms, _)| *confirmed_ms)
    }

    /// Whether the broker connection of log and heartbeats stands.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }
}

#[cfg(test)]
mod tests;
