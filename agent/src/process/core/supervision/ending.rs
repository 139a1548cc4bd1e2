//! How a service ends: asked to, by itself, or by not having started; and whether it begins again.

use super::super::backoff::Restart;
use super::{
    CODE_AGENT_FAILED, CODE_SUPERSEDED, ChildEnd, Claim, Effect, Now, Phase, Saying, Stop, StopCause, Supervision,
    Withdrawal,
};

impl Supervision {
    pub(super) fn stop(&mut self, now: Now, cause: StopCause, within_ms: Option<u64>, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Ended {
            return;
        }
        let is_first = self.stop.is_none();
        let by_ms = within_ms.map(|within_ms| now.ms.saturating_add(within_ms));
        self.stop = Some(Stop { cause, by_ms });
        match cause {
            StopCause::Superseded => self.code = Some(CODE_SUPERSEDED),
            StopCause::AgentFailed => self.code = Some(CODE_AGENT_FAILED),
            StopCause::Signal | StopCause::Drain => {}
        }
        if is_first {
            effects.push(Effect::Say(Saying::Stopping { cause }));
        }
        match self.phase {
            Phase::Idle => self.end(0, effects),
            Phase::BackingOff { code, .. } => self.end(code, effects),
            Phase::Waiting { .. } | Phase::Withdrawn => self.terminate(now, effects),
            Phase::Serving => {
                self.checks.stop();
                let withdrawal = if cause == StopCause::Drain { Withdrawal::Drained } else { Withdrawal::Stopped };
                self.withdraw(now, withdrawal, stopped_by(cause).to_owned(), effects);
                self.phase = Phase::Leaving;
            }
            // Whoever asks twice is in a hurry; a drain that is asked for again is the same drain.
            Phase::Leaving | Phase::Draining { .. } if cause == StopCause::Signal => self.terminate(now, effects),
            Phase::Terminating { .. } | Phase::Closing { .. } if cause == StopCause::Signal => self.kill(effects),
            Phase::Leaving
            | Phase::Draining { .. }
            | Phase::Terminating { .. }
            | Phase::Closing { .. }
            | Phase::Starting
            | Phase::Ended => {}
        }
    }

    pub(super) fn withdraw(&mut self, now: Now, withdrawal: Withdrawal, detail: String, effects: &mut Vec<Effect>) {
        if let Claim::Held { is_confirmed, .. } = self.claim {
            self.claim = Claim::Leaving { since_ms: now.ms, was_confirmed: is_confirmed };
            effects.push(Effect::Deregister { withdrawal, detail });
        }
    }

    pub(super) fn removed(&mut self, now: Now, confirmed: bool, effects: &mut Vec<Effect>) {
        let Claim::Leaving { since_ms, was_confirmed } = self.claim else {
            return;
        };
        self.claim = Claim::None;
        let after_ms = now.ms.saturating_sub(since_ms);
        effects.push(Effect::Say(Saying::Deregistered { after_ms, confirmed, was_confirmed }));
        if self.phase == Phase::Leaving {
            if self.plan.has_child {
                let until_ms = self.no_later(now.ms.saturating_add(self.plan.drain_ms));
                self.phase = Phase::Draining { until_ms };
            } else {
                self.end(0, effects);
            }
        }
        self.close_if_done(now, effects);
    }

    /// Sends the stop signal; a service that runs by itself is left alone.
    pub(super) fn terminate(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.checks.stop();
        if !self.plan.has_child {
            self.end(0, effects);
            return;
        }
        let kill_at_ms = self.no_later(now.ms.saturating_add(self.plan.grace_ms));
        let grace_ms = kill_at_ms.saturating_sub(now.ms);
        effects.push(Effect::StopGroup);
        effects.push(Effect::Say(Saying::Terminating { grace_ms }));
        self.phase = Phase::Terminating { kill_at_ms: Some(kill_at_ms) };
    }

    pub(super) fn kill(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Terminating { kill_at_ms } | Phase::Closing { kill_at_ms, .. } = &mut self.phase
            && kill_at_ms.take().is_some()
        {
            effects.push(Effect::KillGroup);
            effects.push(Effect::Say(Saying::Killing));
        }
    }

    pub(super) fn exited(&mut self, now: Now, end: ChildEnd, leftovers: bool, effects: &mut Vec<Effect>) {
        let has_ended = matches!(
            self.phase,
            Phase::Idle | Phase::Starting | Phase::Closing { .. } | Phase::BackingOff { .. } | Phase::Ended
        );
        if has_ended || !self.plan.has_child {
            return;
        }
        let by_itself = !matches!(self.phase, Phase::Terminating { .. });
        effects.push(Effect::Say(Saying::Exited { end, by_itself }));
        self.checks.stop();
        self.life = self.life.wrapping_add(1);
        self.code.get_or_insert(end.exit_code());
        let detail = format!("the service {end}");
        self.withdraw(now, Withdrawal::ChildExited, detail, effects);
        let kill_at_ms = match self.phase {
            Phase::Terminating { kill_at_ms } => kill_at_ms,
            _ => Some(self.no_later(now.ms.saturating_add(self.plan.grace_ms))),
        };
        if leftovers {
            effects.push(Effect::StopGroup);
            effects.push(Effect::Say(Saying::Leftovers));
        }
        self.phase = Phase::Closing { kill_at_ms: kill_at_ms.filter(|_| leftovers), group_gone: !leftovers };
        self.close_if_done(now, effects);
    }

    pub(super) fn group_gone(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Phase::Closing { kill_at_ms, group_gone } = &mut self.phase {
            *kill_at_ms = None;
            *group_gone = true;
            self.close_if_done(now, effects);
        }
    }

    pub(super) fn not_started(&mut self, now: Now, code: u8, problem: String, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Starting {
            effects.push(Effect::Say(Saying::NotStarted { problem }));
            self.started_ms = now.ms;
            self.code.get_or_insert(code);
            self.end_of_life(now, effects);
        }
    }

    fn close_if_done(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let group_gone = matches!(self.phase, Phase::Closing { group_gone: true, .. });
        if group_gone && self.claim == Claim::None {
            self.end_of_life(now, effects);
        }
    }

    fn end_of_life(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let code = self.code.unwrap_or_default();
        if self.stop.is_some() || code == 0 || self.plan.restart == Restart::Never {
            self.end(code, effects);
            return;
        }
        let wait_ms = self.backoff.failed(now.ms.saturating_sub(self.started_ms));
        let failures = self.backoff.failures();
        effects.push(Effect::Say(Saying::RestartIn { wait_ms, failures }));
        self.code = None;
        self.phase = Phase::BackingOff { until_ms: now.ms.saturating_add(wait_ms), code };
    }

    fn end(&mut self, code: u8, effects: &mut Vec<Effect>) {
        self.checks.stop();
        self.phase = Phase::Ended;
        self.claim = Claim::None;
        effects.push(Effect::Ended { code: self.code.unwrap_or(code) });
    }

    /// A stop that may take only so long shortens what comes.
    fn no_later(&self, at_ms: u64) -> u64 {
        let by_ms = self.stop.and_then(|stop| stop.by_ms);
        by_ms.map_or(at_ms, |by_ms| at_ms.min(by_ms))
    }
}

fn stopped_by(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Signal => "the agent was asked to stop",
        StopCause::Drain => "a drain was asked for",
        StopCause::Superseded => "another session of the agent took over",
        StopCause::AgentFailed => "the agent cannot go on",
    }
}
