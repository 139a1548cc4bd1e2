//! What agents are told: why an event was ignored, and what became of their instances through others.

use muster_schemas::agent::{Notice, NoticeCode, instance_key};
use muster_schemas::event::Sender;
use muster_schemas::refusal::Refusal;
use muster_schemas::subject::Subject;
use muster_schemas::{AgentId, Event, Instance, InstanceId, ServiceName, Subjects, Vouching};

use super::Catalog;
use super::outcome::Reason;
use crate::core::io::Record;

type About = Option<(ServiceName, InstanceId)>;

impl Catalog {
    /// For an event that could not be read: its subject still says who sent it, and the broker's permissions stand for that.
    pub(super) fn unreadable_notice(
        &self,
        subjects: &Subjects,
        record: &Record<'_>,
        reason: Reason,
        refusal: &Refusal,
    ) -> Option<(AgentId, Notice)> {
        self.epoch?;
        let (target, agent) = match subjects.parse(record.subject) {
            Ok(Subject::Event { target, sender: Sender::Agent(agent), .. }) => (target, agent),
            Ok(_) => return None,
            Err(_) => (None, subjects.agent_of_event(record.subject)?),
        };
        let id = Event::peek_id(record.payload);
        let notice = self.refusal_notice(reason, id, target, Some(&refusal.to_string()))?;
        Some((agent, notice))
    }

    /// For an event that was ignored; none for reasons that agents cannot cause.
    pub(super) fn refusal_notice(
        &self,
        reason: Reason,
        event_id: Option<String>,
        about: About,
        detail: Option<&str>,
    ) -> Option<Notice> {
        let code = reason.notice_code()?;
        let held = about.as_ref().and_then(|(service, instance)| self.held(service, instance));
        let in_force = held.map(super::Held::vouching);
        let (service, instance) = about.unzip();
        Some(Notice {
            event_id,
            code,
            service,
            instance,
            in_force: in_force.map(Vouching::order),
            session: in_force.map(|vouching| vouching.session),
            stream_time: Some(self.stream_time),
            help: detail.map_or_else(|| help(code).to_owned(), str::to_owned),
        })
    }

    /// For the holder of a vouching that another one has taken the place of; none if its own session did so.
    pub(super) fn displaced_notice(&self, before: &Instance) -> Option<(AgentId, Notice)> {
        let lost = before.vouching();
        let held = self.held(&lost.service, &lost.instance)?.vouching();
        let displaced = held.agent != lost.agent || held.session != lost.session;
        displaced.then(|| self.notice_to_holder(lost, NoticeCode::Displaced, help(NoticeCode::Displaced).to_owned()))
    }

    /// For the agent of an instance that a registry held for gone.
    pub(super) fn expired_notice(&self, ended: &Vouching, cause: &str) -> (AgentId, Notice) {
        let help = format!("{} (cause: {cause})", help(NoticeCode::Expired));
        self.notice_to_holder(ended, NoticeCode::Expired, help)
    }

    /// For the agent of an instance that an operator put out.
    pub(super) fn evicted_notice(&self, ended: &Vouching, why: &str) -> (AgentId, Notice) {
        let help = format!("{} (why: {why})", help(NoticeCode::Fenced));
        self.notice_to_holder(ended, NoticeCode::Fenced, help)
    }

    /// For both sides of a new conflict.
    pub(super) fn conflict_notices(
        &self,
        newcomer: &Instance,
        others: Vec<((ServiceName, InstanceId), AgentId)>,
    ) -> Vec<(AgentId, Notice)> {
        if others.is_empty() {
            return Vec::new();
        }
        let about = |own: &Vouching, other: String| {
            let help = format!("{} (the other: {other})", help(NoticeCode::Conflict));
            self.notice_to_holder(own, NoticeCode::Conflict, help)
        };
        let newcomer = newcomer.vouching();
        let newcomer_key = instance_key(&newcomer.service, &newcomer.instance);
        let others_keys: Vec<String> = others.iter().map(|((service, id), _)| instance_key(service, id)).collect();
        let mut notices = vec![about(newcomer, others_keys.join(", "))];
        for ((service, id), _) in &others {
            if let Some(other) = self.instance(service, id) {
                notices.push(about(other.vouching(), newcomer_key.clone()));
            }
        }
        notices
    }

    /// A notice about an instance to the agent of a vouching; what is in force may be another by now.
    fn notice_to_holder(&self, vouching: &Vouching, code: NoticeCode, help: String) -> (AgentId, Notice) {
        let held = self.held(&vouching.service, &vouching.instance).map(super::Held::vouching);
        let notice = Notice {
            event_id: None,
            code,
            service: Some(vouching.service.clone()),
            instance: Some(vouching.instance.clone()),
            in_force: held.map(Vouching::order),
            session: held.map(|held| held.session),
            stream_time: Some(self.stream_time),
            help,
        };
        (vouching.agent.clone(), notice)
    }
}

fn help(code: NoticeCode) -> &'static str {
    match code {
        NoticeCode::Malformed => "correct the event and send it again",
        NoticeCode::Oversize => "make the event smaller",
        NoticeCode::IdentityMismatch => {
            "the instance is vouched for by another agent: choose another instance id, or stop the other agent"
        }
        NoticeCode::Stale => "register again, above the incarnation in force if that is your own or its holder is gone",
        NoticeCode::FutureIncarnation => "the clock of this host is ahead: mint the incarnation from stream_time",
        NoticeCode::UnknownKind => "this registry is older than the agent: upgrade the registries first",
        NoticeCode::UnknownInstance => "register the instance before reporting its health",
        NoticeCode::Fenced => {
            "an operator evicted this incarnation: `muster evict --clear` lifts that, or start the instance anew"
        }
        NoticeCode::Displaced => "another session registered this instance with a larger incarnation: stop claiming it",
        NoticeCode::Conflict => "another instance registered the same host and port: change one of the two",
        NoticeCode::Expired => "the instance was removed as gone: register it again if it lives",
    }
}
