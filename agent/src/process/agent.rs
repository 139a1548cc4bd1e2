//! Runs an agent: its services, side by side, until the last has ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_runtime::exit::ExitReason;
use muster_runtime::http::{HttpServer, Readiness};
use muster_schemas::agent::DrainReply;
use muster_schemas::{InstanceId, ServiceName};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::advertise::Advertised;
use super::core::supervision::{CODE_AGENT_FAILED, Input, StopCause};
use super::guard::Guard;
use super::meters::Meters;
use super::plan::ServicePlan;
use super::service::{Mail, Mailbox, Service, Shared, Standing, mailbox};
use super::signals::Wanted;
use super::vouch::{Heard, Vouch};

/// Who waits for the end of one service's drain. At the bound one more is refused.
const DRAINS_MAX: usize = 64;

/// Why an agent does not come up, or ends before its services.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A part of it that knows its own words.
    #[error("{problem}")]
    Failed {
        /// What, and the way out.
        problem: String,
        /// The code to end with.
        code: u8,
    },
}

impl AgentError {
    /// A failure of the agent itself: 125.
    pub fn own(problem: impl std::fmt::Display) -> Self {
        Self::Failed { problem: problem.to_string(), code: CODE_AGENT_FAILED }
    }

    /// A failure that has a code in every program.
    pub fn of(problem: &impl ExitReason) -> Self {
        Self::Failed { problem: problem.to_string(), code: problem.exit().code() }
    }

    /// The code to end with.
    #[must_use]
    pub fn code(&self) -> u8 {
        let Self::Failed { code, .. } = self;
        *code
    }
}

/// What an agent runs, and how.
pub struct Agent<V> {
    /// The services with their ids.
    pub services: Vec<(ServicePlan, InstanceId)>,
    /// Vouches for them.
    pub vouch: V,
    /// The advertised address, once it is known.
    pub advertised: watch::Receiver<Option<Advertised>>,
    /// What is counted.
    pub meters: Meters,
    /// Where readiness is shown.
    pub http: Option<HttpServer>,
    /// Signals.
    pub signals: mpsc::Receiver<Wanted>,
    /// The first confirmation of every registration may take so long; none = for ever.
    pub registration_within: Option<Duration>,
    /// Several services of a file: the end of one is not the end of all, and a stop is no failure.
    pub is_of_file: bool,
}

/// One service as the agent sees it.
struct Member {
    service: ServiceName,
    instance: InstanceId,
    ttl_ms: u64,
    leaves_on_stop: bool,
    mailbox: Mailbox,
    standing: watch::Receiver<Standing>,
    was_registered: bool,
    drains: Vec<mpsc::Sender<DrainReply>>,
    /// Those who drain were told that it is deregistered.
    was_told: bool,
}

/// The ids of all services; two may not be the same.
///
/// # Errors
/// A node's name that is too long, or an id that two of them have.
pub fn with_ids(services: Vec<ServicePlan>, node: &str) -> Result<Vec<(ServicePlan, InstanceId)>, AgentError> {
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for plan in services {
        let instance = plan.instance_id(node).map_err(AgentError::own)?;
        if !taken.insert((plan.service.clone(), instance.clone())) {
            return Err(AgentError::own(format!(
                "two services {:?} would have the instance id {:?}: give each its own with --instance",
                plan.service.as_str(),
                instance.as_str()
            )));
        }
        named.push((plan, instance));
    }
    Ok(named)
}

impl<V: Vouch> Agent<V> {
    /// Runs until the last service has ended; returns the code to end with.
    pub async fn run(mut self) -> u8 {
        let changed = Arc::new(Notify::new());
        let mut running = JoinSet::new();
        let mut members = self.start(&changed, &mut running);
        let mut heard = self.vouch.heard();
        let mut codes: Vec<(usize, u8)> = Vec::new();
        let (mut is_stopping, mut failed) = (false, None);
        loop {
            self.show(&members);
            // Those that are left are vouched for to the end, while others still drain.
            if is_stopping && members.iter().all(Member::is_done_at_stop) {
                members.iter().for_each(Member::say_left);
                // A service shows its code before its task has ended.
                let shown = (0..).zip(&members).filter_map(|(index, member)| Some((index, member.code()?)));
                codes.extend(shown);
                break;
            }
            let deadline = self.deadline(&mut members);
            tokio::select! {
                ended = running.join_next() => match ended {
                    Some(Ok((index, code))) => {
                        members[index].tell("stopped");
                        codes.push((index, code));
                    }
                    // A service that panicked: the others are not to blame, but nobody answers for this one any more.
                    Some(Err(error)) => {
                        tracing::error!(%error, "a service's supervision broke down: stopping");
                        codes.push((usize::MAX, CODE_AGENT_FAILED));
                        stop_all(&members, StopCause::AgentFailed).await;
                    }
                    None => break,
                },
                Some(wanted) = self.signals.recv() => match wanted {
                    Wanted::Stop(signal) => {
                        let hurry = if is_stopping { "; hurrying" } else { "; the next one hurries" };
                        tracing::info!(%signal, "asked to stop{hurry}");
                        is_stopping = true;
                        for member in members.iter().filter(|member| !member.leaves_on_stop) {
                            member.stop(StopCause::Signal, None).await;
                        }
                    }
                    Wanted::Forward(signal) => {
                        for member in &members {
                            let _ = member.mailbox.send(Mail::Forward(signal)).await;
                        }
                    }
                },
                Some(heard) = heard.recv() => {
                    if let (Heard::Refused { code, .. }, Some(_)) = (&heard, self.registration_within) {
                        // What is required is refused: the code says why.
                        failed = Some(*code);
                        stop_all(&members, StopCause::AgentFailed).await;
                    }
                    handle(heard, &mut members).await;
                }
                () = changed.notified() => members.iter_mut().for_each(Member::tell_progress),
                () = until(deadline) => {
                    self.registration_within = None;
                    tracing::error!("not registered in time (--registration-within, --require-registration): stopping");
                    stop_all(&members, StopCause::AgentFailed).await;
                }
            }
        }
        running.shutdown().await;
        drop(heard);
        self.vouch.finish().await;
        failed.unwrap_or_else(|| code_of(codes, self.is_of_file && is_stopping))
    }

    fn start(&mut self, changed: &Arc<Notify>, running: &mut JoinSet<(usize, u8)>) -> Vec<Member> {
        let has_child = self.services.iter().any(|(plan, _)| plan.launch.is_some());
        let shared = Shared {
            guard: has_child.then(guard).flatten(),
            advertised: self.advertised.clone(),
            meters: self.meters.clone(),
            changed: Arc::clone(changed),
        };
        let mut members = Vec::new();
        for (index, (plan, instance)) in std::mem::take(&mut self.services).into_iter().enumerate() {
            let (mailbox, mail) = mailbox();
            let claims = self.vouch.claims(&plan, instance.clone(), mailbox.clone());
            let name = plan.service.clone();
            let (ttl_ms, leaves_on_stop) = (plan.ttl_ms, plan.leaves_on_stop);
            let service = Service::new(plan, claims, shared.clone(), (mailbox.clone(), mail));
            let standing = service.standing();
            let span = tracing::info_span!("service", service = %name, instance = %instance);
            running.spawn(async move { (index, service.run().await) }.instrument(span));
            members.push(Member {
                service: name,
                instance,
                ttl_ms,
                leaves_on_stop,
                mailbox,
                standing,
                was_registered: false,
                drains: Vec::new(),
                was_told: false,
            });
        }
        members
    }

    /// When the first registration that is required, and was not confirmed yet, is too late.
    fn deadline(&self, members: &mut [Member]) -> Option<Instant> {
        let within = self.registration_within?;
        let mut deadlines = Vec::new();
        for member in members.iter_mut() {
            let standing = *member.standing.borrow();
            member.was_registered |= standing.is_registered;
            deadlines.extend(standing.unconfirmed_since.filter(|_| !member.was_registered).map(|since| since + within));
        }
        deadlines.into_iter().min()
    }

    /// Readiness: every service that has not ended is registered.
    fn show(&self, members: &[Member]) {
        // Each standing is looked at once: services change theirs on other threads meanwhile.
        let standings = members.iter().map(|member| (member, *member.standing.borrow()));
        let alive: Vec<_> = standings.filter(|(_, standing)| standing.ended.is_none()).collect();
        let unregistered = alive.iter().filter(|(_, standing)| !standing.is_registered);
        let missing: Vec<String> =
            unregistered.map(|(member, _)| format!("{}/{}", member.service, member.instance)).collect();
        self.meters.standing(alive.len(), alive.len() - missing.len());
        let Some(http) = &self.http else { return };
        http.set(if missing.is_empty() {
            Readiness::ready("registered")
        } else {
            Readiness::not_ready("unregistered", format!("not registered: {}", missing.join(", ")))
        });
    }
}

impl Member {
    fn is_done_at_stop(&self) -> bool {
        self.leaves_on_stop || self.code().is_some()
    }

    fn code(&self) -> Option<u8> {
        self.standing.borrow().ended
    }

    fn say_left(&self) {
        if self.standing.borrow().is_registered {
            let (service, instance, ttl_ms) = (&self.service, &self.instance, self.ttl_ms);
            tracing::info!(
                %service, %instance, ttl_ms,
                "left registered: the next agent takes it over, or it ends with its lease (--on-stop deregister takes it back)"
            );
        }
    }

    fn tell_progress(&mut self) {
        if self.standing.borrow().has_left && !self.was_told && !self.drains.is_empty() {
            self.was_told = true;
            self.tell("deregistered");
        }
    }

    /// Whoever does not listen to earlier answers misses this one.
    fn tell(&self, result: &str) {
        for reply in &self.drains {
            let _ = reply.try_send(DrainReply { result: result.to_owned(), detail: None });
        }
    }
}

fn guard() -> Option<Arc<Guard>> {
    match Guard::start() {
        Ok(guard) => Some(Arc::new(guard)),
        Err(error) => {
            tracing::warn!(%error, "no guard: if this agent is killed, what a service has started itself lives on");
            None
        }
    }
}

async fn stop_all(members: &[Member], cause: StopCause) {
    for member in members {
        member.stop(cause, None).await;
    }
}

impl Member {
    /// One that has ended already hears nothing.
    async fn stop(&self, cause: StopCause, within_ms: Option<u64>) {
        if self.standing.borrow().ended.is_none() {
            let _ = self.mailbox.send(Mail::Happened(Input::Stop { cause, within_ms })).await;
        }
    }
}

async fn handle(heard: Heard, members: &mut [Member]) {
    match heard {
        Heard::Superseded { detail } => {
            tracing::error!("{detail}: stopping");
            stop_all(members, StopCause::Superseded).await;
        }
        Heard::Refused { detail, .. } => tracing::error!("nothing can be registered: {detail}"),
        Heard::Drain { service, instance, within_ms, reply } => {
            let wanted = members.iter_mut().find(|member| member.service == service && member.instance == instance);
            match wanted.filter(|member| member.standing.borrow().ended.is_none()) {
                Some(member) if member.drains.len() >= DRAINS_MAX => {
                    refuse(&reply, "too many wait for this drain: ask the registry what became of the instance");
                }
                Some(member) => {
                    member.drains.push(reply);
                    member.stop(StopCause::Drain, Some(within_ms)).await;
                }
                None => refuse(&reply, "this agent runs no such instance"),
            }
        }
    }
}

fn refuse(reply: &mpsc::Sender<DrainReply>, detail: &str) {
    // The first word to whoever asked: there is room for it.
    let _ = reply.try_send(DrainReply { result: "refused".to_owned(), detail: Some(detail.to_owned()) });
}

/// The code of the first service, in their order, that did not end well. Being stopped is no failure of several.
fn code_of(mut codes: Vec<(usize, u8)>, was_asked: bool) -> u8 {
    codes.sort_unstable();
    let is_own = |code: &u8| [super::core::supervision::CODE_SUPERSEDED, CODE_AGENT_FAILED].contains(code);
    let mut failed = codes.into_iter().map(|(_, code)| code).filter(|code| *code != 0);
    failed.find(|code| !was_asked || is_own(code)).unwrap_or(0)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use nix::sys::signal::Signal;

    use super::super::service::MAILBOX_CAPACITY;
    use super::*;

    fn member(mailbox: Mailbox) -> Member {
        Member {
            service: ServiceName::new("orders").unwrap(),
            instance: InstanceId::new("i1").unwrap(),
            ttl_ms: 10_000,
            leaves_on_stop: false,
            mailbox,
            standing: watch::channel(Standing::default()).1,
            was_registered: false,
            drains: Vec::new(),
            was_told: false,
        }
    }

    #[tokio::test]
    async fn one_more_who_waits_for_a_services_drain_is_refused_and_the_others_are_told_of_its_end() {
        let (mailbox, mut mail) = mailbox();
        let mut members = [member(mailbox)];
        let mut replies = Vec::new();
        for _ in 0..=DRAINS_MAX {
            let (reply, told) = mpsc::channel(1);
            let (service, instance) = (members[0].service.clone(), members[0].instance.clone());
            handle(Heard::Drain { service, instance, within_ms: 1_000, reply }, &mut members).await;
            replies.push(told);
        }
        let refused = replies.pop().unwrap().try_recv().unwrap();
        assert_eq!(refused.result, "refused");
        for _ in 0..DRAINS_MAX {
            assert!(matches!(mail.try_recv(), Ok(Mail::Happened(Input::Stop { cause: StopCause::Drain, .. }))));
        }
        assert!(mail.try_recv().is_err());
        members[0].tell("stopped");
        for mut told in replies {
            assert_eq!(told.try_recv().unwrap().result, "stopped");
        }
    }

    #[tokio::test]
    async fn whoever_stops_a_service_that_has_not_read_what_it_was_told_waits_and_nothing_is_lost() {
        let (mailbox, mut mail) = mailbox();
        let member = member(mailbox);
        for _ in 0..MAILBOX_CAPACITY {
            member.mailbox.send(Mail::Forward(Signal::SIGHUP)).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut stopping = Box::pin(member.stop(StopCause::Signal, None));
        assert!(stopping.as_mut().now_or_never().is_none(), "it waits");
        assert!(matches!(mail.recv().await, Some(Mail::Forward(_))));
        stopping.await;
        for _ in 1..MAILBOX_CAPACITY {
            assert!(matches!(mail.try_recv(), Ok(Mail::Forward(_))));
        }
        assert!(matches!(mail.try_recv(), Ok(Mail::Happened(Input::Stop { .. }))));
        assert!(mail.try_recv().is_err());
    }

    #[test]
    fn the_first_service_that_failed_gives_the_code() {
        assert_eq!(code_of(vec![(1, 3), (0, 0), (2, 4)], false), 3);
        assert_eq!(code_of(vec![(0, 0)], false), 0);
    }

    #[test]
    fn several_services_that_were_asked_to_stop_did_not_fail_but_an_agent_that_was_superseded_did() {
        assert_eq!(code_of(vec![(0, 143), (1, 143)], true), 0);
        assert_eq!(code_of(vec![(0, 143), (1, 75)], true), 75);
        assert_eq!(code_of(vec![(0, 143)], false), 143);
    }
}
