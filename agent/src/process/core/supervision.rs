//! The life of one service under the agent: started, waited for, registered, watched, taken back, stopped.
//!
//! `step` takes what happened and says what to do; whoever performs it reports back with the next input. Time comes in
//! with every input; [`Supervision::next_due_ms`] says when [`Input::Tick`] is wanted.

mod checks;
mod ending;
mod types;

use muster_schemas::HealthStatus;

use super::backoff::Backoff;
use checks::Checks;
pub use types::{CheckPlan, CheckResult, ChildEnd, Effect, Input, Now, Plan, Saying, StopCause, Withdrawal};

/// How long a stop waits for the own removal to be seen, in milliseconds: a broker that is away holds nobody up.
pub const REMOVAL_SEEN_WITHIN_MS: u64 = 3_000;
/// How often a service that is not ready yet is spoken of, in milliseconds.
pub const WAITING_SAID_EVERY_MS: u64 = 5_000;
/// The code of an agent that failed itself.
pub const CODE_AGENT_FAILED: u8 = 125;
/// The code of an agent that another session of the same agent took over from.
pub const CODE_SUPERSEDED: u8 = 75;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The child was asked for.
    Starting,
    /// Until every check is usable.
    Waiting {
        since_ms: u64,
        say_at_ms: u64,
    },
    /// Vouched for.
    Serving,
    /// Deregistered as critical for too long; watched on.
    Withdrawn,
    /// Stop: until the own removal is seen.
    Leaving,
    /// Stop: consumers that saw the removal finish what they began.
    Draining {
        until_ms: u64,
    },
    /// Stop: the child has its signal; none once it was killed.
    Terminating {
        kill_at_ms: Option<u64>,
    },
    /// The child is gone; until the rest of its group is too, and the removal is settled.
    Closing {
        kill_at_ms: Option<u64>,
        group_gone: bool,
    },
    /// Until it is started again.
    BackingOff {
        until_ms: u64,
        code: u8,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    None,
    Held { since_ms: u64, is_confirmed: bool },
    Leaving { since_ms: u64, was_confirmed: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stop {
    cause: StopCause,
    by_ms: Option<u64>,
}

/// One service under supervision.
#[derive(Debug, Clone)]
pub struct Supervision {
    plan: Plan,
    checks: Checks,
    phase: Phase,
    claim: Claim,
    /// Raised when a child starts and when it ends, so that results of checks of an earlier one are known.
    life: u32,
    started_ms: u64,
    critical_since_ms: Option<u64>,
    stop: Option<Stop>,
    /// The code to end with, once that is known.
    code: Option<u8>,
    backoff: Backoff,
}

impl Supervision {
    /// Does nothing before [`Input::Begin`].
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            checks: Checks::new(&plan.checks),
            plan,
            phase: Phase::Idle,
            claim: Claim::None,
            life: 0,
            started_ms: 0,
            critical_since_ms: None,
            stop: None,
            code: None,
            backoff: Backoff::default(),
        }
    }

    /// Takes what happened; what is to be done is added to `effects`, to be performed in order.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Begin => self.begin(now, effects),
            Input::Started { pid } => self.started(now, pid, effects),
            Input::NotStarted { code, problem } => self.not_started(now, code, problem, effects),
            Input::Checked { check, life, result } if life == self.life => {
                self.checked(now, check, result, effects);
            }
            // Of a child that is gone.
            Input::Checked { .. } => {}
            Input::Exited { end, leftovers } => self.exited(now, end, leftovers, effects),
            Input::GroupGone => self.group_gone(now, effects),
            Input::Registered => self.registered(now, effects),
            Input::Unconfirmed => self.unconfirmed(now),
            Input::Removed { confirmed } => self.removed(now, confirmed, effects),
            Input::Stop { cause, within_ms } => self.stop(now, cause, within_ms, effects),
            Input::Tick => {}
        }
        self.tick(now, effects);
    }

    /// When [`Input::Tick`] is wanted, in milliseconds of [`Now::ms`].
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let of_phase = match self.phase {
            Phase::Waiting { since_ms, say_at_ms } => {
                let limit_ms = self.ready_limit_ms().map(|limit_ms| since_ms.saturating_add(limit_ms));
                Some(limit_ms.map_or(say_at_ms, |limit_ms| limit_ms.min(say_at_ms)))
            }
            Phase::Serving => self.withdraw_at_ms(),
            Phase::Draining { until_ms } | Phase::BackingOff { until_ms, .. } => Some(until_ms),
            Phase::Terminating { kill_at_ms } | Phase::Closing { kill_at_ms, .. } => kill_at_ms,
            Phase::Idle | Phase::Starting | Phase::Withdrawn | Phase::Leaving | Phase::Ended => None,
        };
        [of_phase, self.checks.next_due_ms(), self.removal_given_up_at_ms()].into_iter().flatten().min()
    }

    /// The instance is vouched for, and was confirmed.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        matches!(self.claim, Claim::Held { is_confirmed: true, .. })
    }

    /// A stop was asked for, and consumers see no more of the instance.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.stop.is_some() && self.claim == Claim::None
    }

    fn begin(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.plan.has_child {
            self.phase = Phase::Starting;
            effects.push(Effect::Start);
        } else {
            self.watch(now, effects);
        }
    }

    fn started(&mut self, now: Now, pid: u32, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Starting {
            return;
        }
        effects.push(Effect::Say(Saying::Started { pid }));
        if self.stop.is_some() {
            self.started_ms = now.ms;
            self.terminate(now, effects);
        } else {
            self.watch(now, effects);
        }
    }

    fn watch(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.life = self.life.wrapping_add(1);
        self.started_ms = now.ms;
        self.critical_since_ms = None;
        // With a short limit it is spoken of before that is over.
        let half_limit_ms = self.ready_limit_ms().map_or(u64::MAX, |limit_ms| limit_ms / 2);
        let say_at_ms = now.ms.saturating_add(WAITING_SAID_EVERY_MS.min(half_limit_ms));
        self.phase = Phase::Waiting { since_ms: now.ms, say_at_ms };
        self.checks.begin(now);
        self.ready_if_usable(now, effects);
    }

    fn ready_if_usable(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.checks.are_usable() {
            return;
        }
        self.checks.ready();
        let after_ms = now.ms.saturating_sub(self.started_ms);
        effects.push(Effect::Say(Saying::Ready { after_ms }));
        self.register(now, effects);
    }

    fn register(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.phase = Phase::Serving;
        self.critical_since_ms = None;
        self.claim = Claim::Held { since_ms: now.ms, is_confirmed: false };
        effects.push(Effect::Register(self.checks.health()));
    }

    fn checked(&mut self, now: Now, check: usize, result: CheckResult, effects: &mut Vec<Effect>) {
        let before = self.checks.health();
        self.checks.observe(check, result, now);
        match self.phase {
            Phase::Waiting { .. } => self.ready_if_usable(now, effects),
            Phase::Withdrawn if self.checks.are_usable() => {
                effects.push(Effect::Say(Saying::UsableAgain));
                self.register(now, effects);
            }
            Phase::Serving => {
                let after = self.checks.health();
                let statuses = |health: &muster_schemas::Health| -> Vec<HealthStatus> {
                    health.checks.iter().map(|check| check.status).collect()
                };
                if before.status != after.status {
                    let checks = self.checks.failing();
                    let (from, to) = (before.status, after.status);
                    effects.push(Effect::Say(Saying::HealthChanged { from, to, checks }));
                    let is_critical = to == HealthStatus::Critical;
                    self.critical_since_ms = is_critical.then_some(now.ms);
                }
                if statuses(&before) != statuses(&after) {
                    effects.push(Effect::Tell(after));
                }
            }
            Phase::Withdrawn => {}
            // A check that was on its way when the service stopped being watched.
            _ => self.checks.stop(),
        }
    }

    fn registered(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Claim::Held { since_ms, is_confirmed } = &mut self.claim
            && !*is_confirmed
        {
            *is_confirmed = true;
            let after_ms = now.ms.saturating_sub(*since_ms);
            effects.push(Effect::Say(Saying::Registered { after_ms }));
        }
    }

    fn unconfirmed(&mut self, now: Now) {
        if let Claim::Held { since_ms, is_confirmed } = &mut self.claim
            && *is_confirmed
        {
            *is_confirmed = false;
            *since_ms = now.ms;
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = |at_ms: Option<u64>| at_ms.is_some_and(|at_ms| at_ms <= now.ms);
        if is_due(self.removal_given_up_at_ms()) {
            self.removed(now, false, effects);
        }
        match self.phase {
            Phase::Waiting { since_ms, say_at_ms } => self.still_waiting(now, since_ms, say_at_ms, effects),
            Phase::Serving if is_due(self.withdraw_at_ms()) => {
                let critical_ms = now.ms.saturating_sub(self.critical_since_ms.unwrap_or(now.ms));
                effects.push(Effect::Say(Saying::CriticalTooLong { critical_ms }));
                let detail = format!("critical for {critical_ms} ms: {}", self.checks.failing());
                self.withdraw(now, Withdrawal::CriticalTooLong, detail, effects);
                self.phase = Phase::Withdrawn;
            }
            Phase::Draining { until_ms } if is_due(Some(until_ms)) => self.terminate(now, effects),
            Phase::Terminating { kill_at_ms } if is_due(kill_at_ms) => self.kill(effects),
            Phase::Closing { kill_at_ms, .. } if is_due(kill_at_ms) => self.kill(effects),
            Phase::BackingOff { until_ms, .. } if is_due(Some(until_ms)) => self.begin(now, effects),
            _ => {}
        }
        let life = self.life;
        let due = self.checks.take_due(now).into_iter();
        effects.extend(due.map(|check| Effect::RunCheck { check, life }));
    }

    fn still_waiting(&mut self, now: Now, since_ms: u64, say_at_ms: u64, effects: &mut Vec<Effect>) {
        let waited_ms = now.ms.saturating_sub(since_ms);
        let limit_ms = self.ready_limit_ms();
        if let Some(limit_ms) = limit_ms.filter(|limit_ms| waited_ms >= *limit_ms) {
            let failing = self.checks.failing();
            effects.push(Effect::Say(Saying::NotReady { limit_ms, failing }));
            self.code = Some(CODE_AGENT_FAILED);
            self.terminate(now, effects);
        } else if now.ms >= say_at_ms {
            let failing = self.checks.failing();
            effects.push(Effect::Say(Saying::Waiting { waited_ms, limit_ms, failing }));
            self.phase = Phase::Waiting { since_ms, say_at_ms: now.ms.saturating_add(WAITING_SAID_EVERY_MS) };
        }
    }

    /// Who runs by itself may take its time.
    fn ready_limit_ms(&self) -> Option<u64> {
        self.plan.ready_within_ms.filter(|_| self.plan.has_child)
    }

    fn withdraw_at_ms(&self) -> Option<u64> {
        let after_ms = self.plan.critical_deregister_after_ms?;
        Some(self.critical_since_ms?.saturating_add(after_ms))
    }

    fn removal_given_up_at_ms(&self) -> Option<u64> {
        match self.claim {
            Claim::Leaving { since_ms, .. } => Some(since_ms.saturating_add(REMOVAL_SEEN_WITHIN_MS)),
            Claim::None | Claim::Held { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
