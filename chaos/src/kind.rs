//! What can be done to a Muster.

use serde::Serialize;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A service dies, its agent lives.
    ChildKilled,
    /// A service stands still, its agent does not.
    ChildFrozen,
    /// An agent dies; the system takes its service along.
    AgentKilled,
    /// An agent and its service die in the same breath, as if their host had.
    HostKilled,
    /// An agent stands still, for less or for more than the TTL.
    AgentFrozen,
    /// An agent is stopped in an orderly way, and started again.
    AgentRestarted,
    /// A registry dies.
    RegistryKilled,
    /// A registry stands still.
    RegistryFrozen,
    /// A registry is stopped in an orderly way, and started again.
    RegistryRestarted,
    /// A consumer dies.
    ConsumerKilled,
    /// A consumer stands still.
    ConsumerFrozen,
    /// More programs than cores compute for some seconds.
    CpuStarved,
    /// The clock of one process jumps by an hour, and back.
    ClockStepped,
    /// A broker dies.
    BrokerKilled,
    /// A broker stands still.
    BrokerFrozen,
    /// A broker is stopped in an orderly way, and started again.
    BrokerRestarted,
    /// The routes of a broker are closed.
    RouteCut,
    /// The routes of a broker let nothing through.
    BlackHole,
    /// A broker comes back with an empty disk.
    DiskWiped,
    /// A broker comes back with an older copy of its disk.
    DiskOlder,
}

impl Kind {
    /// What is done to processes other than brokers.
    pub const OF_PROCESSES: [Self; 13] = [
        Self::ChildKilled,
        Self::ChildFrozen,
        Self::AgentKilled,
        Self::HostKilled,
        Self::AgentFrozen,
        Self::AgentRestarted,
        Self::RegistryKilled,
        Self::RegistryFrozen,
        Self::RegistryRestarted,
        Self::ConsumerKilled,
        Self::ConsumerFrozen,
        Self::CpuStarved,
        Self::ClockStepped,
    ];

    /// What is done to brokers, their disks and the routes between them.
    pub const OF_BROKERS: [Self; 7] = [
        Self::BrokerKilled,
        Self::BrokerFrozen,
        Self::BrokerRestarted,
        Self::RouteCut,
        Self::BlackHole,
        Self::DiskWiped,
        Self::DiskOlder,
    ];

    /// How often it must have happened in a run of so many minutes; what is asked of fifteen is 20 and 5.
    #[must_use]
    pub fn wanted(self, minutes: u64) -> u64 {
        let in_fifteen = if Self::OF_BROKERS.contains(&self) { 5 } else { 20 };
        in_fifteen * minutes / 15
    }

    /// The shortest and the longest that it lasts, in milliseconds.
    #[must_use]
    pub fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::ChildKilled => (0, 1),
            Self::ChildFrozen => (200, 2_500),
            Self::AgentKilled | Self::HostKilled => (500, 7_000),
            Self::AgentFrozen => (200, 7_000),
            Self::AgentRestarted | Self::RegistryRestarted => (0, 2_000),
            Self::RegistryKilled => (100, 4_000),
            Self::RegistryFrozen => (300, 5_000),
            Self::ConsumerKilled | Self::ConsumerFrozen => (200, 5_000),
            Self::CpuStarved => (1_000, 4_000),
            Self::ClockStepped => (1_000, 5_000),
            Self::BrokerKilled => (200, 7_000),
            Self::BrokerFrozen => (1_000, 7_000),
            Self::BrokerRestarted => (0, 2_000),
            Self::RouteCut | Self::BlackHole => (2_000, 24_000),
            Self::DiskWiped | Self::DiskOlder => (200, 3_000),
        }
    }

    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChildKilled => "service killed",
            Self::ChildFrozen => "service frozen",
            Self::AgentKilled => "agent killed",
            Self::HostKilled => "agent and service killed",
            Self::AgentFrozen => "agent frozen",
            Self::AgentRestarted => "agent restarted",
            Self::RegistryKilled => "registry killed",
            Self::RegistryFrozen => "registry frozen",
            Self::RegistryRestarted => "registry restarted",
            Self::ConsumerKilled => "consumer killed",
            Self::ConsumerFrozen => "consumer frozen",
            Self::CpuStarved => "CPU starvation",
            Self::ClockStepped => "clock step",
            Self::BrokerKilled => "broker killed",
            Self::BrokerFrozen => "broker frozen",
            Self::BrokerRestarted => "broker restarted",
            Self::RouteCut => "routes cut",
            Self::BlackHole => "black hole",
            Self::DiskWiped => "disk wiped",
            Self::DiskOlder => "older disk",
        }
    }
}
