//! The vouching, without a broker and without a clock: one session of one agent, and the instances that it answers for.
//!
//! Each instance is a claim with one thing being done at a time: *look* at what a registry shows, *publish* an event, ask
//! a registry to *confirm* it, *probe* whoever holds the instance with a larger incarnation, or *rest*. Whatever is lost
//! on the way is done again from present state with a new generation, so nothing here depends on a message arriving.

mod asked;
mod claim;
mod holder;
pub mod io;
mod looking;
mod notices;
mod publishing;
mod random;
mod schedule;
mod session;
mod show;
pub mod spec;
pub mod status;
pub mod timing;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_schemas::heartbeat::Connection;
use muster_schemas::{AgentId, Digest, Incarnation, InstanceId, MinRevision, ServiceName, SessionId, Subjects};

use claim::{Claim, Order};
use io::{ClaimId, Effect, Effects, Input, Now, RequestId, Severity};
use random::Random;
use session::{Life, SelfCheck};
use status::{Pending, Status};
use timing::Timing;

/// What a session is told once.
#[derive(Debug, Clone)]
pub struct VoucherSettings {
    /// Of the namespace.
    pub subjects: Subjects,
    /// This agent.
    pub agent: AgentId,
    /// The durations.
    pub timing: Timing,
    /// For ids and jitter; must differ from process to process.
    pub seed: u64,
}

/// One session of one agent.
#[derive(Debug)]
pub struct Voucher {
    settings: VoucherSettings,
    random: Random,
    link: Option<Connection>,
    life: Life,
    self_check: Option<SelfCheck>,
    self_check_due_ms: Option<u64>,
    claims: BTreeMap<ClaimId, Claim>,
    by_name: BTreeMap<(ServiceName, InstanceId), ClaimId>,
    due: BTreeSet<(u64, ClaimId)>,
    waiting: VecDeque<ClaimId>,
    requests: BTreeMap<RequestId, ClaimId>,
    last_request: u64,
    /// Sum over what of the claims is in the log under this session; static instances left out.
    digest: Digest,
    instances: u32,
    counter: u64,
    acked: Option<MinRevision>,
    heartbeat_due_ms: u64,
    /// An instance was lost to another agent: one more heartbeat shows the registries that both live.
    owes_beat: bool,
    last_minted: Option<Incarnation>,
    /// Stream time, and when it was learnt: the host's clock was found to be far ahead of it.
    stream_clock: Option<(u64, u64)>,
    stepped_ms: u64,
    /// When it was said last that a registry asked for everything.
    announce_said_ms: Option<u64>,
}

impl Voucher {
    /// Nothing happens before the first step.
    #[must_use]
    pub fn new(settings: VoucherSettings, now: Now) -> Self {
        Self {
            random: Random::new(settings.seed),
            settings,
            link: None,
            life: Life::Unborn,
            self_check: None,
            self_check_due_ms: None,
            claims: BTreeMap::new(),
            by_name: BTreeMap::new(),
            due: BTreeSet::new(),
            waiting: VecDeque::new(),
            requests: BTreeMap::new(),
            last_request: 0,
            digest: Digest::ZERO,
            instances: 0,
            owes_beat: false,
            counter: 0,
            acked: None,
            heartbeat_due_ms: now.ms,
            last_minted: None,
            stream_clock: None,
            stepped_ms: now.ms,
            announce_said_ms: None,
        }
    }

    /// The session, while it lives.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.life {
            Life::Living(session) => Some(session),
            Life::Unborn | Life::Asking | Life::Superseded => None,
        }
    }

    /// Takes in what happened, and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        self.notice_freeze(now);
        match input {
            Input::Tick => {}
            Input::Connected(connection) => self.connected(now, connection, effects),
            Input::Disconnected => self.disconnected(now, effects),
            Input::Register(id, spec) => self.register(now, id, spec, effects),
            Input::Update(id, spec) => self.update(now, id, spec, effects),
            Input::Health(id, health) => self.health(now, id, health),
            Input::Deregister(id, withdrawal) => self.deregister(now, id, withdrawal, effects),
            Input::Forget(id) => self.forget(id, effects),
            Input::Heard { verb, payload, reply } => self.heard(now, verb, payload, reply, effects),
            Input::Answered(request, answer) => self.answered(now, request, answer, effects),
        }
        self.work(now, effects);
        self.attend_session(now, effects);
    }

    /// When to step with [`Input::Tick`] at the latest, in milliseconds of the clock that is never set; and at least once a
    /// second in any case, for a longer time without a step looks like a freeze.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let claims = self.due.first().map(|(due_ms, _)| *due_ms);
        [claims, self.session_due_ms()].into_iter().flatten().min()
    }

    /// A deregistration is under way that its owner waits for.
    #[must_use]
    pub fn has_endings(&self) -> bool {
        self.claims.values().any(|claim| claim.by_ms().is_some())
    }

    fn set_status(&mut self, id: ClaimId, status: Status, effects: &mut Effects) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        // Whoever waits no longer has had the last word.
        if claim.status == status || claim.is_left() {
            return;
        }
        let is_trouble = matches!(
            status,
            Status::Refused(_) | Status::Fenced(_) | Status::Duplicate { .. } | Status::Displaced { .. }
        );
        let conflict = |status: &Status| match status {
            Status::Registered { conflict, .. } => conflict.clone(),
            _ => None,
        };
        let is_new = std::mem::discriminant(&claim.status) != std::mem::discriminant(&status);
        let is_new_conflict = conflict(&status).is_some() && conflict(&claim.status) != conflict(&status);
        if is_new_conflict || (is_trouble && is_new) {
            let (service, instance) = claim.name();
            effects.say(Severity::Warn, format!("{service}/{instance}: the registration is {status}"));
        }
        claim.status = status.clone();
        effects.push(Effect::Status(id, status));
    }

    /// A step on the way, of interest only until the first confirmation and after a loss.
    fn set_pending(&mut self, id: ClaimId, pending: Pending, effects: &mut Effects) {
        let Some(claim) = self.claims.get(&id) else { return };
        let shows = matches!(claim.status, Status::Pending(_))
            || (matches!(claim.status, Status::Registered { .. }) && claim.confirmed.is_none());
        if shows {
            self.set_status(id, Status::Pending(pending), effects);
        }
    }

    /// What of a claim is in the log, and so in the heartbeats' digest.
    fn set_logged(&mut self, id: ClaimId, logged: Option<Order>) {
        let session = self.session();
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let logged = logged.filter(|order| Some(order.session) == session);
        if let Some(share) = claim.logged.and_then(|order| claim.share(order)) {
            self.digest = self.digest.minus(share);
            self.instances -= 1;
        }
        claim.logged = logged;
        if let Some(share) = claim.logged.and_then(|order| claim.share(order)) {
            self.digest = self.digest.plus(share);
            self.instances += 1;
        }
    }

    /// A claim ends: its last word, and nothing of it is left.
    fn remove(&mut self, id: ClaimId, last: Status, effects: &mut Effects) {
        self.set_logged(id, None);
        self.set_down(id);
        self.set_status(id, last, effects);
        if let Some(claim) = self.claims.remove(&id) {
            self.by_name.remove(&claim.name());
        }
    }
}

#[cfg(test)]
mod tests;
