//! Supervises one service: performs what the core decides, and tells it what became of that.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_schemas::{Health, Timestamp};
use nix::sys::signal::Signal;
use tokio::sync::{Notify, mpsc, watch};

use super::advertise::Advertised;
use super::check::{Target, is_open};
use super::child::{self, ChildEvent, Group, Launch, StartError};
use super::core::supervision::{CODE_AGENT_FAILED, CheckResult, Effect, Input, Now, Saying, Supervision, Withdrawal};
use super::guard::Guard;
use super::meters::Meters;
use super::plan::{Place, ServicePlan};
use super::say::say;

/// What happened and is not looked at yet: enough for every check at once and what comes from outside. Whoever finds it
/// full waits.
pub(super) const MAILBOX_CAPACITY: usize = 256;
/// How long it may take to find out that nobody listens on a port of this host.
const PORT_LOOK: Duration = Duration::from_millis(300);

/// What supervision wants of the vouching. Nothing here waits; what comes of it is sent to the service's [`Mailbox`].
pub trait Claims: Send {
    /// Vouch for the instance from now on.
    fn register(&mut self, health: Health);
    /// Its health changed.
    fn tell(&mut self, health: Health);
    /// Do not vouch for it any more; answered by [`Input::Removed`].
    fn deregister(&mut self, withdrawal: Withdrawal, detail: String);
}

/// One thing for a service to look at.
#[derive(Debug)]
pub enum Mail {
    /// Something happened.
    Happened(Input),
    /// Something became of the child.
    Child(ChildEvent),
    /// A signal for the child itself.
    Forward(Signal),
}

/// Where a service is told what happened.
pub type Mailbox = mpsc::Sender<Mail>;

/// What all services of an agent share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Takes what children have started along if the agent is killed.
    pub guard: Option<Arc<Guard>>,
    /// The advertised address, once it is known.
    pub advertised: watch::Receiver<Option<Advertised>>,
    /// What is counted.
    pub meters: Meters,
    /// Told whenever what others may know of a service changed.
    pub changed: Arc<Notify>,
}

/// What others may know of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Registered and confirmed.
    pub is_registered: bool,
    /// Registered, but not confirmed yet.
    pub unconfirmed_since: Option<Instant>,
    /// It is to stop, and is not registered any more.
    pub has_left: bool,
    /// The code that it ended with.
    pub ended: Option<u8>,
}

/// A service, ready to run.
pub struct Service<C> {
    plan: ServicePlan,
    supervision: Supervision,
    claims: C,
    shared: Shared,
    mailbox: Mailbox,
    mail: mpsc::Receiver<Mail>,
    group: Option<Group>,
    asked_at: Option<Instant>,
    standing: watch::Sender<Standing>,
    began: Instant,
}

/// A mailbox and its other end.
#[must_use]
pub fn mailbox() -> (Mailbox, mpsc::Receiver<Mail>) {
    mpsc::channel(MAILBOX_CAPACITY)
}

impl<C: Claims> Service<C> {
    /// Nothing happens before [`Service::run`].
    #[must_use]
    pub fn new(plan: ServicePlan, claims: C, shared: Shared, (mailbox, mail): (Mailbox, mpsc::Receiver<Mail>)) -> Self {
        Self {
            supervision: Supervision::new(plan.plan.clone()),
            plan,
            claims,
            shared,
            mailbox,
            mail,
            group: None,
            asked_at: None,
            standing: watch::Sender::new(Standing::default()),
            began: Instant::now(),
        }
    }

    /// What others may know of it, now and later.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Supervises until the end; returns the code to end with.
    pub async fn run(mut self) -> u8 {
        let mut next = Some(Input::Begin);
        loop {
            if let Some(input) = next.take()
                && let Some(code) = self.step(input)
            {
                self.standing.send_replace(Standing { ended: Some(code), ..Standing::default() });
                return code;
            }
            let due = self.supervision.next_due_ms().map(|due_ms| self.began + Duration::from_millis(due_ms));
            let mail = tokio::select! {
                // In this order: what happened before something became due comes first.
                biased;
                mail = self.mail.recv() => mail,
                () = until(due) => Some(Mail::Happened(Input::Tick)),
            };
            match mail {
                Some(Mail::Happened(input)) => next = Some(input),
                Some(Mail::Child(event)) => next = Some(self.of_child(event)),
                Some(Mail::Forward(signal)) => {
                    self.group.iter().for_each(|group| group.signal_leader(signal));
                }
                // The service holds a sender itself.
                None => return CODE_AGENT_FAILED,
            }
        }
    }

    fn now(&self) -> Now {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Now {
            ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            at: Timestamp::from_ms(i64::try_from(wall_ms).unwrap_or(i64::MAX)),
        }
    }

    fn of_child(&mut self, event: ChildEvent) -> Input {
        match event {
            ChildEvent::Started(group) => {
                let pid = group.id();
                self.group = Some(group);
                Input::Started { pid }
            }
            ChildEvent::NotStarted(StartError { code, problem }) => Input::NotStarted { code, problem },
            ChildEvent::Exited(end, leftovers) => Input::Exited { end, leftovers },
            ChildEvent::GroupGone => {
                if let (Some(guard), Some(group)) = (&self.shared.guard, self.group.take()) {
                    guard.forget(group.id());
                }
                Input::GroupGone
            }
        }
    }

    /// Some: the code to end with.
    fn step(&mut self, input: Input) -> Option<u8> {
        let mut effects = Vec::new();
        self.supervision.step(self.now(), input, &mut effects);
        let mut code = None;
        for effect in effects {
            if let Effect::Ended { code: ended } = effect {
                code = Some(ended);
            } else {
                self.perform(effect);
            }
        }
        let standing = Standing {
            is_registered: self.supervision.is_registered(),
            unconfirmed_since: self.asked_at.filter(|_| !self.supervision.is_registered()),
            has_left: self.supervision.has_left(),
            ended: None,
        };
        if self.standing.send_if_modified(|known| std::mem::replace(known, standing) != standing) {
            self.shared.changed.notify_one();
        }
        code
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start => self.start(),
            Effect::RunCheck { check, life } => self.run_check(check, life),
            Effect::Register(health) => {
                self.asked_at = Some(Instant::now());
                self.claims.register(health);
            }
            Effect::Tell(health) => self.claims.tell(health),
            Effect::Deregister { withdrawal, detail } => {
                self.asked_at = None;
                self.claims.deregister(withdrawal, detail);
            }
            Effect::StopGroup => self.group.iter().for_each(|group| group.signal_all(self.plan.stop_signal)),
            Effect::KillGroup => self.group.iter().for_each(|group| group.signal_all(Signal::SIGKILL)),
            Effect::Say(saying) => {
                say(&saying);
                self.shared.meters.count(&saying);
                if matches!(saying, Saying::Waiting { .. } | Saying::NotReady { .. }) {
                    self.hint_at_loopback();
                }
            }
            Effect::Ended { .. } => {}
        }
    }

    /// Where the service's own ports are looked at.
    fn check_host(&self) -> String {
        if let Some(host) = &self.plan.check_host {
            return host.clone();
        }
        let advertised = self.shared.advertised.borrow();
        let own = advertised.as_ref().filter(|advertised| advertised.is_own).map(|advertised| advertised.host.clone());
        own.unwrap_or_else(|| super::check::LOOPBACK.to_owned())
    }

    fn run_check(&self, check: usize, life: u32) {
        let Some(run) = self.plan.runs.get(check).cloned() else {
            return;
        };
        let target = match run.place {
            Place::OwnPort(port) => Target { host: self.check_host(), port },
            Place::At(target) => target,
        };
        let (mailbox, meters) = (self.mailbox.clone(), self.shared.meters.clone());
        tokio::spawn(async move {
            let result: CheckResult = run.probe.run(&target, run.timeout).await;
            meters.checked(run.probe.kind(), result.status);
            let _ = mailbox.send(Mail::Happened(Input::Checked { check, life, result })).await;
        });
    }

    fn start(&self) {
        let Some(launch) = self.plan.launch.clone() else { return };
        let ports = if self.plan.allow_open_port { Vec::new() } else { self.own_targets() };
        let (mailbox, guard) = (self.mailbox.clone(), self.shared.guard.clone());
        tokio::spawn(async move {
            for (name, target) in ports {
                if is_open(&target, PORT_LOOK).await {
                    let problem = in_use(&name, &target);
                    let code = CODE_AGENT_FAILED;
                    let _ = mailbox.send(Mail::Happened(Input::NotStarted { code, problem })).await;
                    return;
                }
            }
            launch_now(launch, guard, mailbox);
        });
    }

    /// The service's own ports, where consumers would find them and where only this host does.
    fn own_targets(&self) -> Vec<(String, Target)> {
        let mut hosts = vec![self.check_host()];
        if hosts[0] != super::check::LOOPBACK {
            hosts.push(super::check::LOOPBACK.to_owned());
        }
        let connectable = self.plan.ports.iter().filter(|port| port.has_connections());
        let targets = connectable.flat_map(|port| {
            hosts.iter().map(|host| {
                let (host, port_number) = (host.clone(), port.number);
                let target = Target { host, port: port_number };
                (port.name.clone(), target)
            })
        });
        targets.collect()
    }

    /// A service that listens on loopback alone is the usual reason for one that never gets ready.
    fn hint_at_loopback(&self) {
        let host = self.check_host();
        if host == super::check::LOOPBACK {
            return;
        }
        let ports: Vec<u16> =
            self.plan.ports.iter().filter(|port| port.has_connections()).map(|port| port.number).collect();
        let span = tracing::Span::current();
        tokio::spawn(async move {
            for port in ports {
                let at = |host: &str| Target { host: host.to_owned(), port };
                let loopback = at(super::check::LOOPBACK);
                if !is_open(&at(&host), PORT_LOOK).await && is_open(&loopback, PORT_LOOK).await {
                    span.in_scope(|| {
                        tracing::warn!(
                            "port {port} is open on {loopback} but not on the advertised address {host}: let the service \
                             listen on 0.0.0.0 or {host}, or use --advertise 127.0.0.1 (for this host alone), or, behind a \
                             proxy, --check-host 127.0.0.1"
                        );
                    });
                }
            }
        });
    }
}

fn launch_now(launch: Launch, guard: Option<Arc<Guard>>, mailbox: Mailbox) {
    let announcement = guard.as_ref().map(|guard| guard.announcement());
    child::start(launch, announcement, move |event| {
        match (&guard, &event) {
            // Before the child is reaped: from then on its number may become somebody else's.
            (Some(guard), ChildEvent::Started(group)) => guard.watch(group.id()),
            (Some(guard), ChildEvent::NotStarted(_)) => guard.forget_announced(),
            _ => {}
        }
        let _ = mailbox.blocking_send(Mail::Child(event));
    });
}

fn in_use(name: &str, target: &Target) -> String {
    format!(
        "port {name}={} is in use: somebody listens on {target} before the service was started, and would be taken for it; \
         stop that process, give the service another port, leave the command out to watch what runs there, or use \
         --allow-open-port",
        target.port
    )
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
