//! The checks of one service: when each is due, what each says, and what they say together.

use muster_schemas::health::Check;
use muster_schemas::{Extra, Health, HealthStatus, Timestamp};

use super::super::thresholds::Verdict;
use super::types::{CheckPlan, CheckResult, Now};

/// While a service is not ready yet its checks run this often, in milliseconds.
const WAITING_INTERVAL_MS: u64 = 100;

#[derive(Debug, Clone)]
struct Progress {
    plan: CheckPlan,
    /// None while it runs.
    due_ms: Option<u64>,
    began_ms: u64,
    /// None before the first result.
    verdict: Option<Verdict>,
    output: String,
    changed_at: Timestamp,
}

/// The checks of one service.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    checks: Vec<Progress>,
    /// Not ready yet: each result stands as it is, and checks run more often.
    is_waiting: bool,
}

impl Checks {
    pub(super) fn new(plans: &[CheckPlan]) -> Self {
        let checks = plans.iter().map(|plan| Progress {
            plan: plan.clone(),
            due_ms: None,
            began_ms: 0,
            verdict: None,
            output: String::new(),
            changed_at: Timestamp::default(),
        });
        Self { checks: checks.collect(), is_waiting: true }
    }

    /// Forgets all results and makes every check due at once.
    pub(super) fn begin(&mut self, now: Now) {
        self.is_waiting = true;
        for check in &mut self.checks {
            check.due_ms = Some(now.ms);
            check.verdict = None;
            check.output.clear();
        }
    }

    /// No check is due any more.
    pub(super) fn stop(&mut self) {
        self.checks.iter_mut().for_each(|check| check.due_ms = None);
    }

    /// From now on results are damped.
    pub(super) fn ready(&mut self) {
        self.is_waiting = false;
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.checks.iter().filter_map(|check| check.due_ms).min()
    }

    /// Those due now; each counts as running from now on.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, check) in self.checks.iter_mut().enumerate() {
            if check.due_ms.is_some_and(|due_ms| due_ms <= now.ms) {
                check.due_ms = None;
                check.began_ms = now.ms;
                due.push(index);
            }
        }
        due
    }

    pub(super) fn observe(&mut self, index: usize, result: CheckResult, now: Now) {
        let is_waiting = self.is_waiting;
        let Some(check) = self.checks.get_mut(index) else {
            return;
        };
        let interval_ms =
            if is_waiting { check.plan.interval_ms.min(WAITING_INTERVAL_MS) } else { check.plan.interval_ms };
        check.due_ms = Some(check.began_ms.saturating_add(interval_ms).max(now.ms));
        let changed = match &mut check.verdict {
            Some(verdict) if !is_waiting => verdict.observe(result.status, check.plan.thresholds),
            verdict => {
                let before = verdict.map(|verdict| verdict.status());
                *verdict = Some(Verdict::new(result.status));
                before != Some(result.status)
            }
        };
        if changed {
            check.changed_at = now.at;
        }
        // What is said of a check belongs to its verdict: a single failure that was damped is not the reason for "passing".
        if check.verdict.is_some_and(|verdict| verdict.status() == result.status) {
            check.output = result.output;
        }
    }

    /// Every check has run and is usable.
    pub(super) fn are_usable(&self) -> bool {
        let is_usable = |check: &Progress| {
            let status = check.verdict.map(|verdict| verdict.status());
            status.is_some_and(|status| status != HealthStatus::Critical)
        };
        self.checks.iter().all(is_usable)
    }

    /// What goes on the wire. A check that has not run yet counts as passing; nobody asks before each has.
    pub(super) fn health(&self) -> Health {
        let checks: Vec<Check> = self.checks.iter().map(Progress::on_the_wire).collect();
        let status = checks.iter().map(|check| check.status).max().unwrap_or_default();
        Health { status, checks, extra: Extra::new() }
    }

    /// The checks that are not passing, with their output, on one line.
    pub(super) fn failing(&self) -> String {
        let is_failing = |check: &&Progress| {
            let status = check.verdict.map(|verdict| verdict.status());
            status != Some(HealthStatus::Passing)
        };
        let described = self.checks.iter().filter(is_failing).map(|check| {
            let output = check.output.lines().next().unwrap_or_default();
            let output = if check.verdict.is_none() { "no result yet" } else { output };
            format!("{}: {output}", check.plan.name)
        });
        described.collect::<Vec<_>>().join("; ")
    }
}

impl Progress {
    fn on_the_wire(&self) -> Check {
        Check {
            id: self.plan.id.as_str().into(),
            name: Some(self.plan.name.as_str().into()),
            kind: self.plan.kind.as_str().into(),
            status: self.verdict.map(|verdict| verdict.status()).unwrap_or_default(),
            output: (!self.output.is_empty()).then(|| self.output.as_str().into()),
            changed_at: Some(self.changed_at),
            extra: Extra::new(),
        }
    }
}
