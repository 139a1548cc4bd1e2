//! Which kinds of fault histories met: a test that meets nothing proves nothing.

use std::collections::BTreeMap;

use serde_json::json;

/// Each must occur in at least so many of a hundred histories.
pub(crate) const PERCENT_MIN: u64 = 5;
/// With fewer histories the shares say little.
const HISTORIES_MIN: u64 = 200;

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Drop,
    Duplicate,
    Delay,
    Disconnect,
    BrokerOutage,
    LogTruncated,
    LogReplaced,
    AgentRestart,
    AgentRestartBeyondTtl,
    AgentFreeze,
    DuplicateInstance,
    DuplicateAgent,
    AgentClockStep,
    RegistryClockStep,
    BrokerClockStep,
    RegistryFreeze,
    RegistryRestart,
    ConsumerRestart,
    Intent,
    LateMessage,
    RouteCut,
    ServerOutage,
    Election,
}

impl Fault {
    pub(crate) const ALL: [Self; 23] = [
        Self::Drop,
        Self::Duplicate,
        Self::Delay,
        Self::Disconnect,
        Self::BrokerOutage,
        Self::LogTruncated,
        Self::LogReplaced,
        Self::AgentRestart,
        Self::AgentRestartBeyondTtl,
        Self::AgentFreeze,
        Self::DuplicateInstance,
        Self::DuplicateAgent,
        Self::AgentClockStep,
        Self::RegistryClockStep,
        Self::BrokerClockStep,
        Self::RegistryFreeze,
        Self::RegistryRestart,
        Self::ConsumerRestart,
        Self::Intent,
        Self::LateMessage,
        Self::RouteCut,
        Self::ServerOutage,
        Self::Election,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Drop => "messages dropped",
            Self::Duplicate => "messages duplicated",
            Self::Delay => "messages delayed",
            Self::Disconnect => "connection lost",
            Self::BrokerOutage => "broker outage",
            Self::LogTruncated => "log truncated",
            Self::LogReplaced => "log replaced",
            Self::AgentRestart => "agent restarted",
            Self::AgentRestartBeyondTtl => "agent gone beyond its TTL",
            Self::AgentFreeze => "agent frozen",
            Self::DuplicateInstance => "duplicate instance id",
            Self::DuplicateAgent => "duplicate agent id",
            Self::AgentClockStep => "clock step: agent",
            Self::RegistryClockStep => "clock step: registry",
            Self::BrokerClockStep => "clock step: broker",
            Self::RegistryFreeze => "registry frozen",
            Self::RegistryRestart => "registry restarted",
            Self::ConsumerRestart => "consumer restarted or frozen",
            Self::Intent => "operator's intent",
            Self::LateMessage => "late message",
            Self::RouteCut => "route between servers cut",
            Self::ServerOutage => "server of a cluster stopped",
            Self::Election => "stream without a leader",
        }
    }
}

/// What happened in one history, or in many.
#[derive(Debug, Default, Clone)]
pub(crate) struct Coverage {
    /// How often, and in how many histories.
    faults: BTreeMap<Fault, (u64, u64)>,
    pub(crate) histories: u64,
    pub(crate) steps: u64,
    pub(crate) events: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) appended: u64,
    pub(crate) expired: u64,
    pub(crate) epochs: u64,
    pub(crate) resynchronised: u64,
    pub(crate) settling_ms_max: u64,
    /// Histories in which nobody was left who knew that the log had lost its tail.
    pub(crate) forgotten: u64,
    /// Histories in which an earlier life, its clock ahead, took back what a later one vouches for.
    pub(crate) overtaken: u64,
}

impl Coverage {
    pub(crate) fn met(&mut self, fault: Fault) {
        self.faults.entry(fault).or_default().0 += 1;
    }

    /// Adds what one more history met.
    pub(crate) fn add(&mut self, history: &Self) {
        for (fault, (times, _)) in &history.faults {
            let sum = self.faults.entry(*fault).or_default();
            *sum = (sum.0 + times, sum.1 + 1);
        }
        self.histories += 1;
        self.merge_counts(history);
    }

    /// Adds what others met.
    pub(crate) fn merge(&mut self, others: &Self) {
        for (fault, (times, histories)) in &others.faults {
            let sum = self.faults.entry(*fault).or_default();
            *sum = (sum.0 + times, sum.1 + histories);
        }
        self.histories += others.histories;
        self.merge_counts(others);
    }

    fn merge_counts(&mut self, other: &Self) {
        self.steps += other.steps;
        self.events += other.events;
        self.virtual_ms += other.virtual_ms;
        self.appended += other.appended;
        self.expired += other.expired;
        self.epochs += other.epochs;
        self.resynchronised += other.resynchronised;
        self.forgotten += other.forgotten;
        self.overtaken += other.overtaken;
        self.settling_ms_max = self.settling_ms_max.max(other.settling_ms_max);
    }

    /// For a program that reads it.
    pub(crate) fn json(&self) -> serde_json::Value {
        let faults = Fault::ALL.into_iter().map(|fault| {
            let (times, histories) = self.faults.get(&fault).copied().unwrap_or_default();
            (fault.words().to_owned(), json!({ "times": times, "histories": histories }))
        });
        json!({
            "histories": self.histories,
            "steps": self.steps,
            "events": self.events,
            "virtual_ms": self.virtual_ms,
            "expired": self.expired,
            "faults": faults.collect::<serde_json::Map<_, _>>(),
        })
    }

    fn percent(&self, fault: Fault) -> u64 {
        let (_, histories) = self.faults.get(&fault).copied().unwrap_or_default();
        histories * 100 / self.histories.max(1)
    }

    /// The kinds that too few histories met.
    pub(crate) fn lacking(&self) -> Vec<&'static str> {
        if self.histories < HISTORIES_MIN {
            return Vec::new();
        }
        Fault::ALL.into_iter().filter(|fault| self.percent(*fault) < PERCENT_MIN).map(Fault::words).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (histories, steps, hours) = (self.histories, self.steps, self.virtual_ms / 3_600_000);
        writeln!(out, "{histories} histories, {steps} steps, {} events, {hours} virtual hours", self.events)?;
        writeln!(
            out,
            "{} events in logs, {} expiries, {} epochs, {} re-synchronisations; settled within {} ms",
            self.appended, self.expired, self.epochs, self.resynchronised, self.settling_ms_max
        )?;
        writeln!(out, "in {} nobody was left who knew that the log had lost its tail", self.forgotten)?;
        writeln!(
            out,
            "in {} an earlier life with a clock ahead took back what a later one registered",
            self.overtaken
        )?;
        writeln!(out, "{:<30} {:>9} {:>12}", "fault", "times", "in histories")?;
        for fault in Fault::ALL {
            let (times, _) = self.faults.get(&fault).copied().unwrap_or_default();
            writeln!(out, "{:<30} {times:>9} {:>10} %", fault.words(), self.percent(fault))?;
        }
        Ok(())
    }
}
