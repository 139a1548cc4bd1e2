//! Performs what the core decides: one task, one connection, one inbox for all answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures::StreamExt;
use muster_schemas::agent::DrainReply;
use muster_schemas::subject::{Subject, Subjects};
use muster_schemas::{AgentId, InstanceId, ServiceName, SessionId};
use tokio::sync::{mpsc, watch};

use super::desk::{Desk, Orders};
use super::drain::Drain;
use super::link::{Link, Look};
use super::{InstanceSpec, Status, VouchSettings};
use crate::core::io::{Answer, ClaimId, Effect, Effects, Input, Now, RequestId, Severity};
use crate::core::{Voucher, VoucherSettings};

/// How long the client may take to accept a message before it counts as not sent: a connection that takes nothing must
/// not hold up the rest.
const ENQUEUE_WITHIN: Duration = Duration::from_secs(1);

/// A claim's owner.
struct Owner {
    service: ServiceName,
    instance: InstanceId,
    news: Arc<watch::Sender<Status>>,
}

/// Why the session looks up.
enum Woken {
    Looking,
    Left,
    Answer(Message),
    Word(Message),
    Due,
}

struct Shell {
    client: Client,
    subjects: Subjects,
    agent: AgentId,
    core: Voucher,
    effects: Effects,
    began: Instant,
    desk: Arc<Desk>,
    owners: BTreeMap<ClaimId, Owner>,
    link: Link,
    inbox: String,
    answers: Option<Subscriber>,
    words: Option<Subscriber>,
    superseded: watch::Sender<Option<SessionId>>,
    drains: mpsc::Sender<Drain>,
}

/// Runs until the desk is closed.
pub(super) async fn run(
    settings: VouchSettings,
    desk: Arc<Desk>,
    superseded: watch::Sender<Option<SessionId>>,
    drains: mpsc::Sender<Drain>,
) {
    let began = Instant::now();
    let core = VoucherSettings {
        subjects: settings.subjects.clone(),
        agent: settings.agent.clone(),
        timing: settings.timing,
        seed: rand::random(),
    };
    let mut shell = Shell {
        inbox: settings.client.new_inbox(),
        link: Link::new(settings.client.clone(), settings.link_changed),
        client: settings.client,
        subjects: settings.subjects,
        agent: settings.agent,
        core: Voucher::new(core, now(began)),
        effects: Effects::default(),
        began,
        desk,
        owners: BTreeMap::new(),
        answers: None,
        words: None,
        superseded,
        drains,
    };
    shell.run().await;
    for owner in shell.owners.values() {
        owner.news.send_if_modified(|status| {
            let ends = !status.is_final();
            if ends {
                *status = Status::Stopped;
            }
            ends
        });
    }
}

fn now(began: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Shell {
    /// Until the desk is closed, and the deregistrations that were left there have come to an end.
    async fn run(&mut self) {
        let mut closed = false;
        while !closed || self.core.has_endings() {
            // Before anything is sent: a connection that broke meanwhile would keep it, and send it late.
            self.look().await;
            match self.woken().await {
                Woken::Looking => {}
                Woken::Left => closed |= self.pick_up().await,
                Woken::Answer(message) => self.answered(&message).await,
                Woken::Word(message) => self.heard(&message).await,
                Woken::Due => self.step(Input::Tick).await,
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let look_at = Instant::now() + self.link.look_again_after();
        let due = self.core.next_due_ms().map(|ms| self.began + Duration::from_millis(ms));
        let wake_at = due.map_or(look_at, |due| due.min(look_at));
        tokio::select! {
            // In this order: what has come already may make needless what is due.
            biased;
            () = self.link.changed() => Woken::Looking,
            () = self.desk.left() => Woken::Left,
            Some(message) = next(&mut self.answers) => Woken::Answer(message),
            Some(message) = next(&mut self.words) => Woken::Word(message),
            () = tokio::time::sleep_until(wake_at.into()) => Woken::Due,
        }
    }

    async fn step(&mut self, input: Input<'_>) {
        self.core.step(now(self.began), input, &mut self.effects);
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            self.perform(effect).await;
        }
    }

    async fn look(&mut self) {
        match self.link.look() {
            Look::Same => {}
            Look::Broke(again) => {
                self.step(Input::Disconnected).await;
                if let Some(connection) = again {
                    self.step(Input::Connected(connection)).await;
                }
            }
            Look::Stands(connection) => {
                if self.answers.is_none() {
                    self.answers = self.client.subscribe(format!("{}.*", self.inbox)).await.ok();
                }
                self.step(Input::Connected(connection)).await;
            }
        }
    }

    /// Hands on what owners left; true once there will be no more.
    async fn pick_up(&mut self) -> bool {
        let (orders, closed) = self.desk.pick_up();
        for (claim, orders) in orders {
            self.order(claim, orders).await;
        }
        closed
    }

    async fn order(&mut self, claim: ClaimId, orders: Orders) {
        let Orders { register, update, health, deregister, forget } = orders;
        if let Some((spec, news)) = register {
            self.begin(claim, spec, news).await;
        }
        if let Some(spec) = update {
            self.step(Input::Update(claim, spec)).await;
        }
        if let Some(health) = health {
            self.step(Input::Health(claim, health)).await;
        }
        if let Some(withdrawal) = deregister {
            self.step(Input::Deregister(claim, withdrawal)).await;
        }
        if forget {
            self.step(Input::Forget(claim)).await;
        }
    }

    async fn begin(&mut self, claim: ClaimId, spec: InstanceSpec, news: Arc<watch::Sender<Status>>) {
        let owner = Owner { service: spec.service.clone(), instance: spec.instance.clone(), news };
        self.owners.insert(claim, owner);
        self.step(Input::Register(claim, spec)).await;
    }

    async fn answered(&mut self, message: &Message) {
        let number = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let Some(number) = number else { return };
        let answer = if message.status == Some(StatusCode::NO_RESPONDERS) {
            Answer::NoResponders
        } else {
            Answer::Message(&message.payload)
        };
        self.step(Input::Answered(RequestId(number), answer)).await;
    }

    async fn heard(&mut self, message: &Message) {
        let Ok(Subject::Agent(agent, verb)) = self.subjects.parse(&message.subject) else {
            return;
        };
        if agent != self.agent {
            return;
        }
        let reply = message.reply.as_ref().map(async_nats::Subject::as_str);
        let payload = &message.payload;
        self.step(Input::Heard { verb, payload, reply }).await;
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Listen => {
                let words = self.client.subscribe(self.subjects.all_to_agent(&self.agent)).await;
                self.words = words.ok();
            }
            Effect::Publish { subject, payload } => {
                let sent = self.client.publish(subject, payload.into());
                let _ = tokio::time::timeout(ENQUEUE_WITHIN, sent).await;
            }
            Effect::Request { request, subject, payload } => self.request(request, subject, payload).await,
            Effect::Status(claim, status) => self.tell(claim, status),
            Effect::Drain { claim, request, reply } => {
                let drain = Drain { request, client: self.client.clone(), reply: reply.map(Into::into) };
                self.drain(claim, drain).await;
            }
            Effect::Superseded(session) => {
                self.superseded.send_replace(Some(session));
            }
            Effect::Say(Severity::Debug, text) => tracing::debug!("{text}"),
            Effect::Say(Severity::Info, text) => tracing::info!("{text}"),
            Effect::Say(Severity::Warn, text) => tracing::warn!("{text}"),
        }
    }

    async fn request(&mut self, request: RequestId, subject: String, payload: Vec<u8>) {
        let reply = format!("{}.{}", self.inbox, request.0);
        let sent = self.client.publish_with_reply(subject, reply, payload.into());
        let problem = match tokio::time::timeout(ENQUEUE_WITHIN, sent).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the connection takes nothing".to_owned(),
        };
        // What follows from it waits for its time: the core answers with a wait, never with another request at once.
        self.core.step(now(self.began), Input::Answered(request, Answer::NotSent(&problem)), &mut self.effects);
    }

    fn tell(&mut self, claim: ClaimId, status: Status) {
        let is_final = status.is_final();
        if let Some(owner) = self.owners.get(&claim) {
            owner.news.send_replace(status);
        }
        if is_final && let Some(owner) = self.owners.remove(&claim) {
            self.desk.release(&owner.service, &owner.instance);
        }
    }

    async fn drain(&mut self, claim: Option<ClaimId>, drain: Drain) {
        let refused = if claim.is_none() {
            Some((drain, "this agent vouches for no such instance"))
        } else {
            match self.drains.try_send(drain) {
                Ok(()) => None,
                Err(mpsc::error::TrySendError::Full(drain)) => Some((drain, "too many drains at once: try again")),
                Err(mpsc::error::TrySendError::Closed(drain)) => Some((drain, "this agent does not drain")),
            }
        };
        if let Some((drain, why)) = refused {
            let reply = DrainReply { result: "refused".to_owned(), detail: Some(why.to_owned()) };
            drain.tell(reply).await;
        }
    }
}

/// The next message, once there is a subscription.
async fn next(subscriber: &mut Option<Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}
