//! The vouching, without a broker and without a clock: one session of one agent, and the instances that it answers for.

pub mod io;
mod random;
pub mod spec;
pub mod status;
pub mod timing;

use muster_schemas::{AgentId, Subjects};

use io::{Effects, Input, Now};
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
}

impl Voucher {
    /// Nothing happens before the first step.
    #[must_use]
    pub fn new(settings: VoucherSettings, _now: Now) -> Self {
        Self { settings }
    }

    /// Takes in what happened, and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        let _ = (now, input, effects, &self.settings);
    }

    /// When to step with [`Input::Tick`] at the latest, in milliseconds of the clock that is never set.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        None
    }
}
