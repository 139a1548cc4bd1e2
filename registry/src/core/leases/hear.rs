//! Heartbeats and marks, as they come from the one subscription that carries both.

use std::borrow::Cow;

use muster_schemas::limits::HEARTBEAT_BYTES_MAX;
use muster_schemas::subject::BeatFrom;
use muster_schemas::{AgentId, Digest, MinRevision, Revision, SessionId, Timestamp};
use serde::Deserialize;

use super::agent::{Agent, LastBeat};
use super::{AGENT_KEPT_MS, Leases, STRANGERS_MAX};

/// A difference whose revision the agent does not name, or not in this log, must have lasted this long, in milliseconds.
const SETTLE_MS: u64 = 2_000;

/// An earlier life and the present one, heard in turns for so long, are no late messages: both run, in milliseconds.
const BOTH_RUN_MS: u64 = 2_000;

/// A life refused so long ago says nothing of now, in milliseconds.
const REFUSED_KEPT_MS: u64 = 30_000;

/// Agents looked at with every mark, to forget those that are gone.
const SWEPT_PER_MARK: usize = 256;

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An agent's heartbeat; its leases are renewed.
    Beat(Beat),
    /// This replica's own mark. What it charged, in milliseconds; `None`: every present silence counts from zero again.
    OwnMark {
        /// Charged to every lease.
        charged_ms: Option<u64>,
    },
    /// Another replica's mark: nothing to do.
    OthersMark,
    /// Dropped.
    Unheard(Unheard),
}

/// Why a message of the heartbeat subjects was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unheard {
    /// Not a heartbeat nor a mark, or over its limit.
    Malformed,
    /// Its counter is not above the last one of its session.
    OldCounter,
    /// Of a session before the one heard last, in which nothing is registered.
    OldSession,
    /// Of a session before the one heard last, of a process that runs beside that one: it has to be told.
    Displaced,
    /// No room for another agent without leases.
    TooManyStrangers,
}

impl Unheard {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OldCounter => "old_counter",
            Self::OldSession => "old_session",
            Self::Displaced => "displaced",
            Self::TooManyStrangers => "too_many_strangers",
        }
    }
}

/// A heartbeat that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The agent.
    pub agent: AgentId,
    /// Its life.
    pub session: SessionId,
    /// It is the first heartbeat heard of this life.
    pub is_first: bool,
    /// Its last acknowledged event: a revision above the end of the log is a lost tail.
    pub acked: Option<MinRevision>,
    /// What it says that it vouches for.
    pub claimed: Digest,
    /// How that compares with what is held for it.
    pub verdict: Verdict,
}

/// How a heartbeat's digest compares with what is held for its agent and session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// They are equal.
    Same,
    /// They differ, and that proves that the agent should announce itself.
    Differs,
    /// They differ, and that proves nothing: what the agent speaks of may not have been folded yet.
    Unsettled,
}

/// A heartbeat as it is read here: no text of it is copied.
#[derive(Deserialize)]
struct Spoken<'a> {
    v: u32,
    session: SessionId,
    counter: u64,
    digest: Digest,
    #[serde(default)]
    acked: Option<MinRevision>,
    #[serde(default, borrow)]
    conn: Option<(Text<'a>, Text<'a>, u64)>,
}

/// A mark as it is read here: whose it is, its subject says.
#[derive(Deserialize)]
struct SpokenMark {
    counter: u64,
    sent_ms: u64,
}

/// A text that is borrowed unless it holds an escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Leases {
    /// Takes in one message of the heartbeat subjects. `wall` is the host's clock, only for people; `position` is how far the
    /// catalog has been folded.
    pub fn hear(
        &mut self,
        now_ms: u64,
        wall: Timestamp,
        position: Option<Revision>,
        subject: &str,
        payload: &[u8],
    ) -> Heard {
        if payload.len() > HEARTBEAT_BYTES_MAX {
            return Heard::Unheard(Unheard::Malformed);
        }
        match self.subjects.beat_from(subject) {
            Some(BeatFrom::Agent(token)) => match self.beat(now_ms, wall, position, token, payload) {
                Ok(beat) => Heard::Beat(beat),
                Err(unheard) => Heard::Unheard(unheard),
            },
            Some(BeatFrom::Replica(token)) if *token == *self.own_token => {
                let Ok(mark) = serde_json::from_slice::<SpokenMark>(payload) else {
                    return Heard::Unheard(Unheard::Malformed);
                };
                self.sweep(now_ms);
                let charged_ms = self.clock.mark(now_ms, mark.sent_ms, mark.counter);
                self.servers.mark(now_ms, self.clock.now(), mark.counter);
                Heard::OwnMark { charged_ms }
            }
            Some(BeatFrom::Replica(_)) => Heard::OthersMark,
            None => Heard::Unheard(Unheard::Malformed),
        }
    }

    fn beat(
        &mut self,
        now_ms: u64,
        wall: Timestamp,
        position: Option<Revision>,
        token: &str,
        payload: &[u8],
    ) -> Result<Beat, Unheard> {
        let spoken: Spoken<'_> = serde_json::from_slice(payload).map_err(|_| Unheard::Malformed)?;
        if spoken.v != muster_schemas::WIRE_VERSION {
            return Err(Unheard::Malformed);
        }
        let index = self.agent_of_token(token)?;
        let clock = self.clock.at(now_ms);
        let Some(agent) = self.agents.get_mut(index as usize).and_then(Option::as_mut) else {
            return Err(Unheard::Malformed);
        };
        let is_first = agent.heard_session != Some(spoken.session);
        // A life that began after a clock was set back has a smaller session than the one before it. What the log says was
        // registered in it shows that it is no late message of an old one.
        let known = agent.session(spoken.session);
        let holds_leases = known.is_some_and(|session| session.leases > 0);
        let is_counted = known.is_some_and(|session| session.heard.is_some() && spoken.counter <= session.counter);
        if agent.heard_session.is_some_and(|heard| spoken.session < heard) {
            let refusal = agent.refuse_earlier(now_ms);
            if !holds_leases || refusal == Unheard::Displaced {
                return Err(refusal);
            }
        }
        if is_counted {
            return Err(Unheard::OldCounter);
        }
        agent.heard_session = Some(spoken.session);
        agent.heard_ms = Some(now_ms);
        let session = agent.session_mut(spoken.session);
        session.counter = spoken.counter;
        session.heard = Some(LastBeat { clock, at: wall });
        if is_first {
            agent.forget_sessions();
        }
        self.suspects -= agent.suspects;
        agent.suspects = 0;
        if let Some((Text(server), Text(server_id), _)) = &spoken.conn {
            agent.server = self.servers.hear(now_ms, clock, (server, server_id), agent.server);
            agent.unreachable_before_ms = self.servers.limit(agent.server).map_or(0, |limit| limit.unreachable_ms);
            agent.server_named_ms = now_ms;
            agent.server_named_by = Some((spoken.session, spoken.counter));
        }
        let verdict = verdict(agent, now_ms, position, &spoken);
        agent.claimed = spoken.digest;
        let beat = Beat {
            agent: agent.id.clone(),
            session: spoken.session,
            is_first,
            acked: spoken.acked,
            claimed: spoken.digest,
            verdict,
        };
        if let Some((_, Text(server_id), client_id)) = &spoken.conn {
            self.heard_over(index, server_id, *client_id);
        }
        Ok(beat)
    }

    fn agent_of_token(&mut self, token: &str) -> Result<u32, Unheard> {
        if let Some(index) = self.by_token.get(token) {
            return Ok(*index);
        }
        if self.strangers >= STRANGERS_MAX {
            return Err(Unheard::TooManyStrangers);
        }
        let id = AgentId::from_token(token).map_err(|_| Unheard::Malformed)?;
        Ok(self.add_agent(id))
    }

    /// Forgets agents without leases that have been silent for long, a few at a time.
    fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEPT_PER_MARK.min(self.agents.len()) {
            self.swept = (self.swept + 1) % self.agents.len();
            let silent = |agent: &Agent| {
                agent.leases.is_empty()
                    && agent.heard_ms.is_none_or(|heard| now_ms.saturating_sub(heard) > AGENT_KEPT_MS)
            };
            if self.agents[self.swept].as_ref().is_some_and(silent) {
                self.remove_agent(self.swept);
            }
        }
    }
}

impl Agent {
    /// An earlier life is heard. It is a late message, or its clock was set back, unless the one heard last has been heard since
    /// the first of them: then both run.
    fn refuse_earlier(&mut self, now_ms: u64) -> Unheard {
        let first_ms = self.earlier_refused_ms.filter(|ms| now_ms.saturating_sub(*ms) < REFUSED_KEPT_MS);
        match first_ms {
            Some(first_ms) if self.heard_ms.is_some_and(|heard_ms| heard_ms >= first_ms + BOTH_RUN_MS) => {
                self.earlier_refused_ms = None;
                Unheard::Displaced
            }
            known => {
                self.earlier_refused_ms = Some(known.unwrap_or(now_ms));
                Unheard::OldSession
            }
        }
    }
}

/// Compares what an agent claims with what is held, as far as that can prove anything.
fn verdict(agent: &mut Agent, now_ms: u64, position: Option<Revision>, spoken: &Spoken<'_>) -> Verdict {
    let held = agent.session(spoken.session).map_or(Digest::ZERO, |session| session.digest);
    if held == spoken.digest {
        agent.differs_since_ms = None;
        return Verdict::Same;
    }
    if agent.claimed != spoken.digest {
        agent.differs_since_ms = None;
    }
    let since_ms = *agent.differs_since_ms.get_or_insert(now_ms);
    let settled = now_ms.saturating_sub(since_ms) >= SETTLE_MS;
    let Some(Revision(epoch, revision)) = position else {
        return Verdict::Unsettled;
    };
    let proven = match spoken.acked {
        Some(MinRevision(Some(named), _)) if named > epoch => false,
        // Not folded that far: nothing can be concluded, however long it takes.
        Some(MinRevision(Some(named), sequence)) if named == epoch && sequence > revision => false,
        // What it speaks of has been folded, and nothing of its own after that, which it may not know of yet.
        Some(MinRevision(Some(named), sequence)) if named == epoch && agent.last_event <= sequence => true,
        _ => settled,
    };
    if proven { Verdict::Differs } else { Verdict::Unsettled }
}
