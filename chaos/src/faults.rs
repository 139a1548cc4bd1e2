//! What is done to registries, agents, services, consumers and the machine.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use muster_tests::{ProcessBuilder, http};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use crate::judge::Judge;
use crate::kind::Kind;
use crate::plan::Fault;
use crate::stage::{Member, Stage, Supervised};
use crate::truth::TTL_MS;

/// How long a service may take until it answers.
const SERVICE_PATIENCE: Duration = Duration::from_secs(20);
/// How long an orderly stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
/// How far clocks are set.
const STEP_SECONDS: i64 = 3_600;

/// What every fault needs.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) stage: Rc<Stage>,
    pub(crate) judge: Rc<RefCell<Judge>>,
}

impl Scene {
    pub(crate) fn now_ms(&self) -> u64 {
        self.judge.borrow().clock.now_ms()
    }

    fn injected(&self, fault: &Fault, whom: &str) {
        self.judge.borrow_mut().injected(fault.kind, whom, fault.lasts_ms);
    }
}

/// Does it, and waits until it is over.
pub(crate) async fn inject(scene: Scene, fault: Fault) {
    let lasts = Duration::from_millis(fault.lasts_ms);
    let stage = Rc::clone(&scene.stage);
    let agent = &stage.agents[fault.target % stage.agents.len()];
    let registry = &stage.registries[fault.target % stage.registries.len()];
    let consumer = &stage.consumers[fault.target % stage.consumers.len()];
    match fault.kind {
        Kind::ChildKilled => child_killed(&scene, &fault, agent).await,
        Kind::ChildFrozen => child_frozen(&scene, &fault, agent, lasts).await,
        Kind::AgentKilled | Kind::HostKilled => agent_killed(&scene, &fault, agent, lasts).await,
        Kind::AgentFrozen => agent_frozen(&scene, &fault, agent, lasts).await,
        Kind::AgentRestarted => agent_restarted(&scene, &fault, agent, lasts).await,
        Kind::RegistryKilled | Kind::RegistryFrozen | Kind::RegistryRestarted => {
            registry_harmed(&scene, &fault, registry, lasts).await;
        }
        Kind::ConsumerKilled | Kind::ConsumerFrozen => consumer_harmed(&scene, &fault, consumer, lasts).await,
        Kind::CpuStarved => cpu_starved(&scene, &fault, lasts).await,
        Kind::ClockStepped => clock_stepped(&scene, &fault, lasts).await,
        // One at a time, elsewhere.
        _ => {}
    }
}

/// The number of a service's process, asked of the service itself.
async fn child_pid(supervised: &Supervised) -> Option<Pid> {
    let asking = async {
        loop {
            if let Some(pid) = http::get(supervised.port, "/").await.ok().and_then(|body| body.parse().ok()) {
                return Pid::from_raw(pid);
            }
            sleep(LOOK).await;
        }
    };
    timeout(SERVICE_PATIENCE, asking).await.ok()
}

async fn child_killed(scene: &Scene, fault: &Fault, supervised: &Supervised) {
    let _busy = supervised.agent.busy.lock().await;
    let Some(pid) = child_pid(supervised).await else { return };
    let now_ms = scene.now_ms();
    scene.injected(fault, &supervised.key);
    {
        let mut judge = scene.judge.borrow_mut();
        judge.truth.child_harmed(&supervised.key, now_ms);
        judge.deaths.died(&supervised.key, fault.kind, now_ms);
    }
    // It may have ended by itself meanwhile.
    let _ = kill(pid, Signal::SIGKILL);
    // Its agent starts it again.
    child_pid(supervised).await;
}

async fn child_frozen(scene: &Scene, fault: &Fault, supervised: &Supervised, lasts: Duration) {
    let _busy = supervised.agent.busy.lock().await;
    let Some(pid) = child_pid(supervised).await else { return };
    scene.injected(fault, &supervised.key);
    let _ = kill(pid, Signal::SIGSTOP);
    sleep(lasts).await;
    let _ = kill(pid, Signal::SIGCONT);
}

async fn agent_killed(scene: &Scene, fault: &Fault, supervised: &Supervised, lasts: Duration) {
    let _busy = supervised.agent.busy.lock().await;
    let pid = child_pid(supervised).await;
    kill_agent(scene, supervised, fault.kind, pid);
    scene.injected(fault, &supervised.key);
    sleep(lasts).await;
    start_agent(scene, supervised);
}

/// Kills the agent, and with [`Kind::HostKilled`] its service first.
pub(crate) fn kill_agent(scene: &Scene, supervised: &Supervised, kind: Kind, child: Option<Pid>) {
    let now_ms = scene.now_ms();
    {
        let mut judge = scene.judge.borrow_mut();
        judge.truth.agent_dead(&supervised.key, now_ms);
        judge.truth.child_harmed(&supervised.key, now_ms);
        judge.deaths.died(&supervised.key, kind, now_ms);
    }
    if let (Kind::HostKilled, Some(pid)) = (kind, child) {
        // The agent first, or it would tell what it saw.
        supervised.agent.kill();
        let _ = kill(pid, Signal::SIGKILL);
    } else {
        supervised.agent.kill();
    }
}

/// Starts an agent that was ended.
pub(crate) fn start_agent(scene: &Scene, supervised: &Supervised) {
    supervised.agent.restart();
    let now_ms = scene.now_ms();
    let mut judge = scene.judge.borrow_mut();
    judge.truth.agent_started(&supervised.key, now_ms);
    judge.truth.agent_well(&supervised.key, now_ms);
    judge.deaths.lives(&supervised.key);
}

async fn agent_frozen(scene: &Scene, fault: &Fault, supervised: &Supervised, lasts: Duration) {
    let _busy = supervised.agent.busy.lock().await;
    let now_ms = scene.now_ms();
    scene.judge.borrow_mut().truth.agent_harmed(&supervised.key, now_ms);
    if supervised.agent.freeze() {
        scene.injected(fault, &supervised.key);
        if fault.lasts_ms > TTL_MS {
            scene.judge.borrow_mut().deaths.died(&supervised.key, fault.kind, now_ms);
        }
        sleep(lasts).await;
        supervised.agent.thaw();
    }
    let now_ms = scene.now_ms();
    let mut judge = scene.judge.borrow_mut();
    judge.truth.agent_well(&supervised.key, now_ms);
    judge.deaths.lives(&supervised.key);
}

async fn agent_restarted(scene: &Scene, fault: &Fault, supervised: &Supervised, lasts: Duration) {
    let _busy = supervised.agent.busy.lock().await;
    let now_ms = scene.now_ms();
    {
        let mut judge = scene.judge.borrow_mut();
        // It says itself that its service goes.
        judge.truth.agent_dead(&supervised.key, now_ms);
        judge.truth.child_harmed(&supervised.key, now_ms);
    }
    scene.injected(fault, &supervised.key);
    stop(scene, &supervised.agent).await;
    sleep(lasts).await;
    start_agent(scene, supervised);
}

/// Asks a program to stop, and waits until it has.
async fn stop(scene: &Scene, member: &Member) {
    member.terminate();
    let stopped = async {
        while member.is_running() {
            sleep(LOOK).await;
        }
    };
    if timeout(STOP_PATIENCE, stopped).await.is_err() {
        let what = format!("{} did not stop within {STOP_PATIENCE:?}", member.name);
        scene.judge.borrow_mut().violated(crate::judge::Promise::NotPerformed, what);
    }
}

pub(crate) async fn registry_harmed(scene: &Scene, fault: &Fault, registry: &Member, lasts: Duration) {
    let _busy = registry.busy.lock().await;
    let now_ms = scene.now_ms();
    let harm = {
        let mut judge = scene.judge.borrow_mut();
        let harm = judge.truth.others_harmed(now_ms);
        judge.takeovers.harmed(&registry.name, fault.kind, now_ms, harm);
        harm
    };
    scene.injected(fault, &registry.name);
    match fault.kind {
        Kind::RegistryFrozen => {
            registry.freeze();
            sleep(lasts).await;
            registry.thaw();
        }
        Kind::RegistryRestarted => {
            stop(scene, registry).await;
            sleep(lasts).await;
            registry.restart();
        }
        _ => {
            registry.kill();
            sleep(lasts).await;
            registry.restart();
        }
    }
    let now_ms = scene.now_ms();
    scene.judge.borrow_mut().truth.others_well(harm, now_ms);
}

async fn consumer_harmed(scene: &Scene, fault: &Fault, consumer: &Member, lasts: Duration) {
    let _busy = consumer.busy.lock().await;
    scene.injected(fault, &consumer.name);
    if fault.kind == Kind::ConsumerFrozen {
        consumer.freeze();
        sleep(lasts).await;
        consumer.thaw();
        return;
    }
    consumer.kill();
    scene.judge.borrow_mut().consumer_restarted(&consumer.name);
    sleep(lasts).await;
    consumer.restart();
    scene.judge.borrow_mut().consumer_restarted(&consumer.name);
}

/// Twice as many programs as there are cores do nothing but compute.
async fn cpu_starved(scene: &Scene, fault: &Fault, lasts: Duration) {
    let count = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let now_ms = scene.now_ms();
    let harm = scene.judge.borrow_mut().truth.others_harmed(now_ms);
    scene.injected(fault, &format!("{count} programs"));
    let spinning: Vec<_> =
        (0..count).map(|_| ProcessBuilder::new("/bin/sh").args(["-c", "while :; do :; done"]).start()).collect();
    sleep(lasts).await;
    drop(spinning);
    let now_ms = scene.now_ms();
    scene.judge.borrow_mut().truth.others_well(harm, now_ms);
}

async fn clock_stepped(scene: &Scene, fault: &Fault, lasts: Duration) {
    let stage = &scene.stage;
    if stage.clocks.missing().is_some() {
        return;
    }
    let members: Vec<&Member> = stage.members().collect();
    let member = members[fault.target % members.len()];
    let seconds = if fault.lasts_ms.is_multiple_of(2) { STEP_SECONDS } else { -STEP_SECONDS };
    scene.injected(fault, &format!("{} by {seconds:+} s", member.name));
    stage.clocks.step(&member.name, seconds);
    sleep(lasts).await;
    stage.clocks.step(&member.name, 0);
}
