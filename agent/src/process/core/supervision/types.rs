//! The words between the supervision of a service and what performs it.

use std::fmt;

use muster_schemas::{Health, HealthStatus, Timestamp};

use super::super::backoff::Restart;
use super::super::thresholds::Thresholds;

/// A moment: for reckoning, and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that is never set.
    pub ms: u64,
    /// The wall clock.
    pub at: Timestamp,
}

/// One check of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPlan {
    /// Unique within the service.
    pub id: String,
    /// For people.
    pub name: String,
    /// `http` or `tcp`.
    pub kind: String,
    /// From the start of one run to the start of the next, in milliseconds.
    pub interval_ms: u64,
    /// What changes the verdict.
    pub thresholds: Thresholds,
}

/// How a service is to be supervised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The agent starts and stops it; otherwise it runs by itself and is only watched.
    pub has_child: bool,
    /// All must be usable before it is registered; the worst is its health.
    pub checks: Vec<CheckPlan>,
    /// How long a child may take to become ready, in milliseconds; none = for ever.
    pub ready_within_ms: Option<u64>,
    /// How long it may be critical before it is deregistered, in milliseconds; none = for ever.
    pub critical_deregister_after_ms: Option<u64>,
    /// From the removal having been seen to the stop signal, in milliseconds.
    pub drain_ms: u64,
    /// From the stop signal to SIGKILL, in milliseconds.
    pub grace_ms: u64,
    /// Whether it is started again.
    pub restart: Restart,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl fmt::Display for ChildEnd {
    /// In words that follow "the service".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "ended with code {code}"),
            Self::Signal(signal) => write!(out, "was ended by signal {signal}"),
        }
    }
}

impl ChildEnd {
    /// What a shell would report: the code, or 128 + the signal.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// Why a service is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// The agent got a stop signal.
    Signal,
    /// Somebody asked for this instance to be drained.
    Drain,
    /// Another session of this agent took over.
    Superseded,
    /// The agent cannot go on.
    AgentFailed,
}

/// Why it was deregistered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// The agent stops.
    Stopped,
    /// Somebody asked for it.
    Drained,
    /// The child ended.
    ChildExited,
    /// Critical for too long.
    CriticalTooLong,
}

/// What one run of a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Undamped.
    pub status: HealthStatus,
    /// At most 1 KiB.
    pub output: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin to supervise.
    Begin,
    /// The child runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// There is no child.
    NotStarted {
        /// 125, 126 or 127.
        code: u8,
        /// Why, and the way out.
        problem: String,
    },
    /// A check ran.
    Checked {
        /// Which.
        check: usize,
        /// The life it was asked in.
        life: u32,
        /// What it found.
        result: CheckResult,
    },
    /// The child ended.
    Exited {
        /// How.
        end: ChildEnd,
        /// Others of its group live on.
        leftovers: bool,
    },
    /// Nobody of the child's group is left.
    GroupGone,
    /// The registration was confirmed.
    Registered,
    /// It is no longer, or no longer surely, in force: it is being tried again.
    Unconfirmed,
    /// The deregistration is settled.
    Removed {
        /// The own removal was seen.
        confirmed: bool,
    },
    /// Stop; a second time: hurry.
    Stop {
        /// Why.
        cause: StopCause,
        /// How long it may take in all, in milliseconds.
        within_ms: Option<u64>,
    },
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the child.
    Start,
    /// Run a check; answer with [`Input::Checked`].
    RunCheck {
        /// Which.
        check: usize,
        /// To be handed back.
        life: u32,
    },
    /// Vouch for the instance.
    Register(Health),
    /// Its health changed.
    Tell(Health),
    /// Stop vouching; answer with [`Input::Removed`].
    Deregister {
        /// Why.
        withdrawal: Withdrawal,
        /// For people.
        detail: String,
    },
    /// Send the stop signal to the child's group; what ended answers with [`Input::GroupGone`].
    StopGroup,
    /// Send SIGKILL to the child's group.
    KillGroup,
    /// Tell the user.
    Say(Saying),
    /// Nothing more will come.
    Ended {
        /// The code to end with.
        code: u8,
    },
}

/// What a user is told, in this order in the life of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// The child runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// There is no child.
    NotStarted {
        /// Why, and the way out.
        problem: String,
    },
    /// Not ready yet.
    Waiting {
        /// Since it was started.
        waited_ms: u64,
        /// How long it may take.
        limit_ms: Option<u64>,
        /// The checks that fail, with their output.
        failing: String,
    },
    /// Every check is usable.
    Ready {
        /// Since it was started.
        after_ms: u64,
    },
    /// The limit passed.
    NotReady {
        /// How long it took.
        limit_ms: u64,
        /// The checks that fail, with their output.
        failing: String,
    },
    /// A registry confirmed it.
    Registered {
        /// Since the registration was sent.
        after_ms: u64,
    },
    /// The health changed.
    HealthChanged {
        /// Before.
        from: HealthStatus,
        /// Now.
        to: HealthStatus,
        /// The checks that are not passing, with their output.
        checks: String,
    },
    /// Deregistered, but watched on.
    CriticalTooLong {
        /// How long it was critical.
        critical_ms: u64,
    },
    /// Usable again after that.
    UsableAgain,
    /// A stop begins.
    Stopping {
        /// Why.
        cause: StopCause,
    },
    /// The own removal was seen, or not in time.
    Deregistered {
        /// Since the deregistration was sent.
        after_ms: u64,
        /// Was seen.
        confirmed: bool,
        /// The registration before it was confirmed.
        was_confirmed: bool,
    },
    /// The stop signal went out.
    Terminating {
        /// Until SIGKILL.
        grace_ms: u64,
    },
    /// SIGKILL went out.
    Killing,
    /// The child ended.
    Exited {
        /// How.
        end: ChildEnd,
        /// It was not asked to.
        by_itself: bool,
    },
    /// It left processes in its group.
    Leftovers,
    /// It is started again.
    RestartIn {
        /// The wait.
        wait_ms: u64,
        /// Failures in a row.
        failures: u32,
    },
}
