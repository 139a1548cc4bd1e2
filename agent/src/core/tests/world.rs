//! A broker, a log and a registry in virtual time, small enough to be read: what a session of vouching meets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_schemas::agent::{Notice, NoticeCode, ProbeReply};
use muster_schemas::event::{DeregisterReason, EventData};
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_schemas::query::{Reply, Request};
use muster_schemas::subject::{Query, Subject, Verb};
use muster_schemas::{
    AgentId, EpochId, Event, Health, Incarnation, Instance, Registration, SessionId, Subjects, Timestamp, Vouching,
};

use crate::core::io::{Answer, ClaimId, Effect, Effects, Input, Now, RequestId, Withdrawal};
use crate::core::spec::InstanceSpec;
use crate::core::status::{Pending, Status};
use crate::core::timing::Timing;
use crate::core::{Voucher, VoucherSettings};

/// When every history begins, by every clock.
pub(super) const BEGIN_MS: u64 = 1_700_000_000_000;

/// What the stream does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Works,
    /// Nobody listens.
    Missing,
    /// Takes nothing, says nothing.
    Silent,
    /// Takes it; the acknowledgement is lost.
    LosesAcknowledgements,
}

/// What a registry does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registry {
    Works,
    Missing,
    Silent,
    /// Never comes as far as it is asked to.
    Behind,
    /// Its log follows a lost one: what is not there may come.
    Recovering,
}

/// How another agent behaves when it is probed.
#[derive(Debug, Clone)]
pub(super) enum Other {
    /// It lists these.
    Lives(ProbeReply),
    /// It does not answer.
    Frozen,
}

/// What the registry holds of an instance.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Live(Box<Registration>),
    Gone(Vouching, &'static str),
}

impl Held {
    fn vouching(&self) -> &Vouching {
        match self {
            Self::Live(registration) => &registration.vouching,
            Self::Gone(vouching, _) => vouching,
        }
    }
}

pub(super) struct World {
    pub(super) core: Voucher,
    pub(super) now: Now,
    pub(super) subjects: Subjects,
    pub(super) stream: Stream,
    pub(super) registry: Registry,
    pub(super) lose_notices: bool,
    pub(super) others: BTreeMap<String, Other>,
    pub(super) epoch: EpochId,
    pub(super) sequence: u64,
    pub(super) held: BTreeMap<String, Held>,
    pub(super) fences: BTreeMap<String, Incarnation>,
    /// Everything that came into the log, with the moment.
    pub(super) log: Vec<(u64, Event)>,
    pub(super) heartbeats: Vec<(u64, Heartbeat)>,
    pub(super) statuses: BTreeMap<ClaimId, Vec<Status>>,
    pub(super) told: Vec<Notice>,
    pub(super) answers: Vec<(String, Vec<u8>)>,
    pub(super) superseded: Option<SessionId>,
    pub(super) drains: Vec<Option<ClaimId>>,
    connected: bool,
    listening: bool,
    pub(super) asked: BTreeSet<RequestId>,
    on_their_way: VecDeque<(RequestId, Option<Vec<u8>>)>,
    words: VecDeque<(Verb, Vec<u8>, Option<String>)>,
    last_claim: u64,
}

pub(super) fn agent(name: &str) -> AgentId {
    name.parse().expect("an agent id")
}

pub(super) fn spec(instance: &str) -> InstanceSpec {
    let name = |text: &str| text.parse().expect("a service name");
    InstanceSpec::new(name("orders"), instance.parse().expect("an instance id"))
}

pub(super) fn connection(number: u64) -> Connection {
    Connection("n1".to_owned(), "NID".to_owned(), number)
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_clock(0)
    }

    /// The host's clock is this far ahead of the stream's.
    pub(super) fn with_clock(ahead_ms: i64) -> Self {
        let subjects = Subjects::new(Default::default(), Default::default());
        let now = Now { ms: 0, wall_ms: BEGIN_MS.saturating_add_signed(ahead_ms) };
        let settings =
            VoucherSettings { subjects: subjects.clone(), agent: agent("web1"), timing: Timing::default(), seed: 7 };
        Self {
            core: Voucher::new(settings, now),
            now,
            subjects,
            stream: Stream::Works,
            registry: Registry::Works,
            lose_notices: false,
            others: BTreeMap::new(),
            epoch: EpochId::from_parts(BEGIN_MS, 1),
            sequence: 100,
            held: BTreeMap::new(),
            fences: BTreeMap::new(),
            log: Vec::new(),
            heartbeats: Vec::new(),
            statuses: BTreeMap::new(),
            told: Vec::new(),
            answers: Vec::new(),
            superseded: None,
            drains: Vec::new(),
            connected: false,
            listening: false,
            asked: BTreeSet::new(),
            on_their_way: VecDeque::new(),
            words: VecDeque::new(),
            last_claim: 0,
        }
    }

    pub(super) fn connected() -> Self {
        let mut world = Self::new();
        world.connect();
        world
    }

    pub(super) fn connect(&mut self) {
        self.connected = true;
        self.step(Input::Connected(connection(17)));
    }

    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.on_their_way.clear();
        self.words.clear();
        self.step(Input::Disconnected);
    }

    pub(super) fn register(&mut self, spec: InstanceSpec) -> ClaimId {
        self.last_claim += 1;
        let claim = ClaimId(self.last_claim);
        self.statuses.insert(claim, vec![Status::Pending(Pending::Starting)]);
        self.step(Input::Register(claim, spec));
        claim
    }

    pub(super) fn deregister(&mut self, claim: ClaimId) {
        let withdrawal = Withdrawal { reason: DeregisterReason::Stopped, detail: None, within_ms: 5_000 };
        self.step(Input::Deregister(claim, withdrawal));
    }

    pub(super) fn set_health(&mut self, claim: ClaimId, health: Health) {
        self.step(Input::Health(claim, health));
    }

    pub(super) fn status(&self, claim: ClaimId) -> &Status {
        self.statuses[&claim].last().expect("a status")
    }

    /// Time passes, as for a shell that looks every 100 ms.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.ms + ms;
        while self.now.ms < end {
            let due = self.core.next_due_ms().unwrap_or(u64::MAX);
            let next = due.clamp(self.now.ms + 1, self.now.ms + 100).min(end);
            self.jump(next - self.now.ms);
            self.step(Input::Tick);
        }
    }

    /// Time passes, and nobody looks: a frozen process.
    pub(super) fn jump(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.wall_ms += ms;
    }

    pub(super) fn step(&mut self, input: Input<'_>) {
        let mut effects = Effects::default();
        self.core.step(self.now, input, &mut effects);
        self.perform(&mut effects);
        // What the broker has to say comes after what was under way, in order.
        loop {
            if let Some((request, payload)) = self.on_their_way.pop_front() {
                let answer = payload.as_deref().map_or(Answer::NoResponders, Answer::Message);
                self.core.step(self.now, Input::Answered(request, answer), &mut effects);
            } else if let Some((verb, payload, reply)) = self.words.pop_front() {
                let reply = reply.as_deref();
                let payload = payload.as_slice();
                self.core.step(self.now, Input::Heard { verb, payload, reply }, &mut effects);
            } else {
                return;
            }
            self.perform(&mut effects);
        }
    }

    fn perform(&mut self, effects: &mut Effects) {
        for effect in effects.drain().collect::<Vec<_>>() {
            match effect {
                Effect::Listen => self.listening = true,
                Effect::Publish { subject, payload } => self.published(&subject, payload),
                Effect::Request { request, subject, payload } => self.requested(request, &subject, &payload),
                Effect::Status(claim, status) => self.statuses.entry(claim).or_default().push(status),
                Effect::Drain { claim, .. } => self.drains.push(claim),
                Effect::Superseded(session) => self.superseded = Some(session),
                Effect::Say(..) => {}
            }
        }
    }

    fn published(&mut self, subject: &str, payload: Vec<u8>) {
        assert!(self.connected, "published while disconnected: {subject}");
        match self.subjects.parse(subject) {
            Ok(Subject::Heartbeat(_)) => {
                let heartbeat = serde_json::from_slice(&payload).expect("a heartbeat");
                self.heartbeats.push((self.now.ms, heartbeat));
            }
            Ok(Subject::Agent(_, Verb::Notice)) => {
                self.told.push(serde_json::from_slice(&payload).expect("a notice"));
            }
            _ => match subject.strip_prefix("inbox.").map(str::parse) {
                // Our own answer to our own question.
                Some(Ok(number)) => self.on_their_way.push_back((RequestId(number), Some(payload))),
                _ => self.answers.push((subject.to_owned(), payload)),
            },
        }
    }

    fn requested(&mut self, request: RequestId, subject: &str, payload: &[u8]) {
        assert!(self.connected, "asked while disconnected: {subject}");
        assert!(self.asked.insert(request), "{request:?} was used twice");
        match self.subjects.parse(subject) {
            Ok(Subject::Event { .. }) => self.append(request, subject, payload),
            Ok(Subject::Query(Query::Instance(..))) => self.queried(request, subject, payload),
            Ok(Subject::Agent(other, Verb::Probe)) => self.probed(request, &other),
            other => panic!("asked {other:?}"),
        }
    }

    fn append(&mut self, request: RequestId, subject: &str, payload: &[u8]) {
        match self.stream {
            Stream::Missing => return self.on_their_way.push_back((request, None)),
            Stream::Silent => return,
            Stream::Works | Stream::LosesAcknowledgements => {}
        }
        let event = Event::parse(&self.subjects, subject, payload).expect("an event that a registry reads");
        self.sequence += 1;
        if self.stream == Stream::Works {
            let body = format!(r#"{{"stream":"{}","seq":{}}}"#, self.subjects.stream_name(), self.sequence);
            self.on_their_way.push_back((request, Some(body.into_bytes())));
        }
        self.log.push((self.now.ms, event.clone()));
        if let Err((code, help)) = self.fold(&event) {
            self.notice(code, Some(&event), help);
        }
    }

    fn fold(&mut self, event: &Event) -> Result<(), (NoticeCode, &'static str)> {
        let vouching = event.data.vouching().expect("an agent's event").clone();
        let key = vouching.instance.to_string();
        if vouching.incarnation.time_ms() > self.stream_ms() + 86_400_000 {
            return Err((NoticeCode::FutureIncarnation, "the clock is ahead"));
        }
        if self.fences.get(&key) == Some(&vouching.incarnation) {
            return Err((NoticeCode::Fenced, "evicted"));
        }
        let before = self.held.get(&key).cloned();
        if let Some(held) = &before {
            let for_good = matches!(held, Held::Gone(gone, cause) if *cause != "expired" && gone.incarnation == vouching.incarnation);
            if for_good || vouching.order() <= held.vouching().order() {
                return Err((NoticeCode::Stale, "stale"));
            }
        }
        match (&event.data, before) {
            (EventData::Register(registration), _) => {
                self.held.insert(key, Held::Live(Box::new(registration.clone())));
            }
            (EventData::Deregister(_), _) => {
                self.held.insert(key, Held::Gone(vouching, "deregistered"));
            }
            (EventData::Health(report), Some(Held::Live(live)))
                if report.registered_generation > Some(live.vouching.generation) =>
            {
                return Err((NoticeCode::UnknownInstance, "the log lost its registration"));
            }
            (EventData::Health(report), Some(Held::Live(mut live))) => {
                live.vouching.generation = vouching.generation;
                live.health = report.health.clone();
                self.held.insert(key, Held::Live(live));
            }
            _ => return Err((NoticeCode::UnknownInstance, "unknown")),
        }
        Ok(())
    }

    /// Milliseconds since 1970 by the stream's clock.
    pub(super) fn stream_ms(&self) -> u64 {
        BEGIN_MS + self.now.ms
    }

    /// The registry tells the agent something about an event, or about an instance.
    pub(super) fn notice(&mut self, code: NoticeCode, event: Option<&Event>, help: &str) {
        let about = event.and_then(|event| event.data.vouching().cloned());
        let instance = about.map_or_else(|| "a".to_owned(), |about| about.instance.to_string());
        let notice = self.notice_about(&instance, code, event.map(|event| event.id.clone()), help);
        if !self.lose_notices && self.listening {
            let payload = serde_json::to_vec(&notice).expect("plain data");
            self.words.push_back((Verb::Notice, payload, None));
        }
    }

    pub(super) fn notice_about(
        &self,
        instance: &str,
        code: NoticeCode,
        event_id: Option<String>,
        help: &str,
    ) -> Notice {
        let held = self.held.get(instance).map(|held| held.vouching().clone());
        Notice {
            event_id,
            code,
            service: "orders".parse().ok(),
            instance: instance.parse().ok(),
            in_force: held.as_ref().map(Vouching::order),
            session: held.map(|held| held.session),
            stream_time: Some(Timestamp::from_ms(i64::try_from(self.stream_ms()).expect("a time"))),
            help: help.to_owned(),
        }
    }

    pub(super) fn say(&mut self, verb: Verb, payload: &[u8]) {
        self.step(Input::Heard { verb, payload, reply: Some("_INBOX.registry") });
    }

    pub(super) fn hear_notice(&mut self, notice: &Notice) {
        let payload = serde_json::to_vec(notice).expect("plain data");
        self.say(Verb::Notice, &payload);
    }

    fn queried(&mut self, request: RequestId, subject: &str, payload: &[u8]) {
        let Ok(Subject::Query(Query::Instance(service, instance))) = self.subjects.parse(subject) else {
            panic!("not about an instance");
        };
        let wish = Request::parse(payload).expect("a request");
        let is_behind = self.registry == Registry::Behind
            || wish.min_revision.is_some_and(|wanted| wanted.sequence() > self.sequence);
        let error = |code: &str| {
            format!(r#"{{"error":{{"code":"{code}","message":"","field":"","value":"","help":""}}}}"#).into_bytes()
        };
        let body = match (self.registry, self.held.get(instance.as_str())) {
            (Registry::Silent, _) => return,
            (Registry::Missing, _) => return self.on_their_way.push_back((request, None)),
            _ if is_behind && wish.min_revision.is_some() => error("behind"),
            (_, Some(Held::Live(live))) => serde_json::to_vec(&self.reply(service, live)).expect("plain data"),
            (Registry::Recovering, None) => error("not_ready"),
            (_, Some(Held::Gone(..)) | None) => error("not_found"),
        };
        self.on_their_way.push_back((request, Some(body)));
    }

    fn reply(&self, service: muster_schemas::ServiceName, live: &Registration) -> Reply {
        let instance =
            Instance { registration: live.clone(), created_revision: 1, modified_revision: 1, maintenance: None };
        Reply {
            v: 1,
            epoch: self.epoch,
            revision: self.sequence,
            state: muster_schemas::pulse::CatalogState::Ready,
            head_age_ms: 0,
            next: None,
            services: vec![muster_schemas::query::ServiceReply {
                service,
                revision: 1,
                digest: muster_schemas::Digest::ZERO,
                total: 1,
                routable: 1,
                instances: vec![instance.into()],
                conflicts: BTreeMap::new(),
            }],
        }
    }

    fn probed(&mut self, request: RequestId, other: &AgentId) {
        let is_self = other.as_str() == "web1";
        match self.others.get(other.as_str()) {
            Some(Other::Lives(reply)) => {
                let payload = serde_json::to_vec(reply).expect("plain data");
                self.on_their_way.push_back((request, Some(payload)));
            }
            Some(Other::Frozen) => {}
            None if is_self && self.listening => {}
            None => self.on_their_way.push_back((request, None)),
        }
        if is_self && self.listening {
            let reply = Some(format!("inbox.{}", request.0));
            self.words.push_back((Verb::Probe, Vec::new(), reply));
        }
    }

    /// Somebody else registers the instance with this incarnation.
    pub(super) fn other_registers(&mut self, name: &str, instance: &str, incarnation: Incarnation) -> Vouching {
        let vouching = Vouching {
            service: "orders".parse().expect("a name"),
            instance: instance.parse().expect("an id"),
            agent: agent(name),
            session: SessionId::from_parts(incarnation.time_ms(), 1),
            incarnation,
            generation: 1,
        };
        self.sequence += 1;
        let registration = spec(instance).registration(vouching.clone());
        self.held.insert(instance.to_owned(), Held::Live(Box::new(registration)));
        vouching
    }

    /// The registry held it for gone.
    pub(super) fn expire(&mut self, instance: &str) -> Notice {
        self.sequence += 1;
        let vouching = self.held[instance].vouching().clone();
        self.held.insert(instance.to_owned(), Held::Gone(vouching, "expired"));
        self.notice_about(instance, NoticeCode::Expired, None, "removed as gone")
    }

    /// The registration in force, if it is one.
    pub(super) fn live(&self, instance: &str) -> Option<&Registration> {
        match self.held.get(instance) {
            Some(Held::Live(live)) => Some(live),
            _ => None,
        }
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.log.iter().map(|(_, event)| event.data.kind().token()).collect()
    }

    pub(super) fn last_heartbeat(&self) -> &Heartbeat {
        &self.heartbeats.last().expect("a heartbeat").1
    }
}
