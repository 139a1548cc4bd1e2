//! Who was alive when, from the faults that were injected.

use std::collections::BTreeMap;

/// What the contract gives the living: a lease lasts so long without a heartbeat.
pub const TTL_MS: u64 = 2_000;
/// A process that was thawed or started again is heard after this time at the latest.
const PROCESS_SETTLES_MS: u64 = 3_000;
/// What registries or the whole machine suffered is over after this time at the latest.
const OTHERS_SETTLE_MS: u64 = 1_000;
/// Clients of a broker that came back are heard after this time at the latest: they wait between their attempts, and the
/// brokers find each other again.
const BROKER_SETTLES_MS: u64 = 8_000;
/// A heartbeat that was due just before a fault may not have been sent.
const HEARTBEAT_MS: u64 = 400;
/// For so long after a service was harmed its agent may say that it is gone.
const DEREGISTRATION_MS: u64 = 75_000;

/// A time in which somebody could not be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// The process is gone, and not only silent.
    dead: bool,
    from_ms: u64,
    /// None while it lasts.
    until_ms: Option<u64>,
}

impl Window {
    fn covers(&self, moment_ms: u64, settles_ms: u64) -> bool {
        // A moment just before is no proof either.
        moment_ms + HEARTBEAT_MS >= self.from_ms && self.until_ms.is_none_or(|until| moment_ms < until + settles_ms)
    }
}

/// Of a living instance that was removed: what speaks for and against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It could not be heard for the whole TTL.
    Justified,
    /// Its agent was well, but its broker, or the way there, was not: it should have been kept.
    Unreachable,
    /// It could be heard within the TTL.
    False,
    /// Only this machine's own starvation speaks for it.
    NotJudged,
}

/// The faults of all agents and brokers, as far as they keep somebody from being heard.
#[derive(Debug, Default)]
pub struct Truth {
    homes: BTreeMap<String, usize>,
    starts: BTreeMap<String, Vec<u64>>,
    agents: BTreeMap<String, Vec<Window>>,
    children: BTreeMap<String, Vec<Window>>,
    brokers: BTreeMap<usize, Vec<Window>>,
    others: Vec<Window>,
    starved: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Truth {
    /// An instance whose agent is on this broker.
    pub fn lives(&mut self, key: &str, home: usize) {
        self.homes.insert(key.to_owned(), home);
    }

    /// A new process vouches for the instance from now on; what an earlier one registered may go.
    pub fn agent_started(&mut self, key: &str, now_ms: u64) {
        self.starts.entry(key.to_owned()).or_default().push(now_ms);
    }

    /// From now on the agent of an instance cannot be heard.
    pub fn agent_harmed(&mut self, key: &str, now_ms: u64) {
        begin(self.agents.entry(key.to_owned()).or_default(), now_ms, false);
    }

    /// From now on there is no agent of an instance.
    pub fn agent_dead(&mut self, key: &str, now_ms: u64) {
        begin(self.agents.entry(key.to_owned()).or_default(), now_ms, true);
    }

    /// The agent runs again.
    pub fn agent_well(&mut self, key: &str, now_ms: u64) {
        end(self.agents.entry(key.to_owned()).or_default(), now_ms);
    }

    /// The service was killed, or its agent told to stop: its agent may say that it is gone.
    pub fn child_harmed(&mut self, key: &str, now_ms: u64) {
        begin(self.children.entry(key.to_owned()).or_default(), now_ms, true);
        end(self.children.entry(key.to_owned()).or_default(), now_ms);
    }

    /// From now on nobody on this broker can be heard.
    pub fn broker_harmed(&mut self, broker: usize, now_ms: u64) {
        begin(self.brokers.entry(broker).or_default(), now_ms, false);
    }

    /// The broker is back, and has caught up.
    pub fn broker_well(&mut self, broker: usize, now_ms: u64) {
        end(self.brokers.entry(broker).or_default(), now_ms);
    }

    /// A registry was harmed, or everybody slowed, from now on; the number is for [`Self::others_well`].
    pub fn others_harmed(&mut self, now_ms: u64) -> usize {
        begin(&mut self.others, now_ms, false);
        self.others.len() - 1
    }

    /// What [`Self::others_harmed`] began is over.
    pub fn others_well(&mut self, number: usize, now_ms: u64) {
        if let Some(window) = self.others.get_mut(number) {
            window.until_ms = Some(now_ms);
        }
    }

    /// The agent waited for a processor for much of this time, though nobody harmed it.
    pub fn agent_starved(&mut self, key: &str, from_ms: u64, until_ms: u64) {
        self.starved.entry(key.to_owned()).or_default().push((from_ms, until_ms));
    }

    /// Whether brokers or registries were harmed, or everybody slowed, between these moments.
    #[must_use]
    pub fn was_disturbed(&self, from_ms: u64, until_ms: u64) -> bool {
        self.was_disturbed_besides(usize::MAX, from_ms, until_ms)
    }

    /// The same, but for what has this number of [`Self::others_harmed`].
    #[must_use]
    pub fn was_disturbed_besides(&self, number: usize, from_ms: u64, until_ms: u64) -> bool {
        let overlaps = |window: &Window, settles_ms: u64| {
            window.from_ms <= until_ms && window.until_ms.is_none_or(|until| until + settles_ms >= from_ms)
        };
        self.brokers.values().flatten().any(|window| overlaps(window, BROKER_SETTLES_MS))
            || self
                .others
                .iter()
                .enumerate()
                .any(|(other, window)| other != number && overlaps(window, OTHERS_SETTLE_MS))
    }

    /// Whether a broker was harmed, or was only just well again, at this moment.
    #[must_use]
    pub fn brokers_disturbed(&self, moment_ms: u64) -> bool {
        self.brokers.values().flatten().any(|window| window.covers(moment_ms, BROKER_SETTLES_MS))
    }

    /// Whether an instance of ours, registered at that moment, may be expired at this one. Of others nothing is known.
    #[must_use]
    pub fn expired(&self, key: &str, registered_ms: u64, at_ms: u64, starved: &[(u64, u64)]) -> Option<Verdict> {
        let home = self.homes.get(key)?;
        let mut later = self.starts.get(key).into_iter().flatten().filter(|start| **start > registered_ms);
        if later.any(|start| *start <= at_ms) {
            return Some(Verdict::Justified);
        }
        let mut gone = self.agents.get(key).into_iter().flatten().filter(|window| window.dead);
        if gone.any(|window| window.from_ms <= at_ms && window.until_ms.is_none_or(|until| at_ms < until)) {
            return Some(Verdict::Justified);
        }
        let covers = |windows: Option<&Vec<Window>>, moment: u64, settles_ms: u64| {
            windows.is_some_and(|windows| windows.iter().any(|window| window.covers(moment, settles_ms)))
        };
        let dead = |moment: u64| covers(self.agents.get(key), moment, PROCESS_SETTLES_MS);
        let unreachable = |moment: u64| dead(moment) || covers(self.brokers.get(home), moment, BROKER_SETTLES_MS);
        let own = self.starved.get(key).into_iter().flatten();
        let starved: Vec<&(u64, u64)> = starved.iter().chain(own).collect();
        let starving =
            |moment: u64| starved.iter().any(|(from, until)| moment >= *from && moment < until + PROCESS_SETTLES_MS);
        let moments = || (at_ms.saturating_sub(TTL_MS - HEARTBEAT_MS)..=at_ms).step_by(10);
        Some(if moments().all(dead) {
            Verdict::Justified
        } else if moments().all(unreachable) {
            Verdict::Unreachable
        } else if moments().all(|moment| unreachable(moment) || starving(moment)) {
            Verdict::NotJudged
        } else {
            Verdict::False
        })
    }

    /// Whether an instance of ours may be deregistered by its agent at this moment.
    #[must_use]
    pub fn deregistered(&self, key: &str, at_ms: u64) -> Option<Verdict> {
        self.homes.get(key)?;
        let harmed = self.children.get(key).into_iter().chain(self.agents.get(key)).flatten();
        let mut recent = harmed.filter(|window| {
            window.from_ms <= at_ms && window.until_ms.is_none_or(|until| at_ms < until + DEREGISTRATION_MS)
        });
        Some(if recent.next().is_some() { Verdict::Justified } else { Verdict::False })
    }
}

fn begin(windows: &mut Vec<Window>, now_ms: u64, dead: bool) {
    windows.push(Window { dead, from_ms: now_ms, until_ms: None });
}

fn end(windows: &mut [Window], now_ms: u64) {
    for window in windows.iter_mut().filter(|window| window.until_ms.is_none()) {
        window.until_ms = Some(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "orders/a";

    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.lives(KEY, 1);
        truth
    }

    #[test]
    fn whoever_was_never_harmed_is_removed_falsely() {
        assert_eq!(truth().expired(KEY, 0, 60_000, &[]), Some(Verdict::False));
        assert_eq!(truth().deregistered(KEY, 60_000), Some(Verdict::False));
        assert_eq!(truth().expired("load/x", 0, 60_000, &[]), None);
    }

    #[test]
    fn a_short_freeze_justifies_nothing_and_a_long_one_does() {
        let mut truth = truth();
        truth.agent_harmed(KEY, 60_000);
        assert_eq!(truth.expired(KEY, 0, 61_000, &[]), Some(Verdict::False), "within the TTL");
        assert_eq!(truth.expired(KEY, 0, 62_000, &[]), Some(Verdict::Justified));
        truth.agent_well(KEY, 61_000);
        assert_eq!(truth.expired(KEY, 0, 63_000, &[]), Some(Verdict::Justified), "it settles");
        assert_eq!(truth.expired(KEY, 0, 64_500, &[]), Some(Verdict::False));
    }

    #[test]
    fn the_dead_may_go_at_once_and_not_a_moment_before() {
        let mut truth = truth();
        truth.agent_dead(KEY, 60_000);
        assert_eq!(truth.expired(KEY, 0, 60_010, &[]), Some(Verdict::Justified));
        assert_eq!(truth.expired(KEY, 0, 59_990, &[]), Some(Verdict::False));
    }

    #[test]
    fn the_brokers_own_faults_count_for_those_on_it_alone() {
        let mut truth = truth();
        truth.lives("orders/b", 2);
        truth.broker_harmed(1, 60_000);
        assert_eq!(truth.expired(KEY, 0, 70_000, &[]), Some(Verdict::Unreachable));
        assert_eq!(truth.expired("orders/b", 0, 70_000, &[]), Some(Verdict::False));
    }

    #[test]
    fn what_an_earlier_process_registered_may_go() {
        let mut truth = truth();
        truth.agent_started(KEY, 50_000);
        assert_eq!(truth.expired(KEY, 40_000, 60_000, &[]), Some(Verdict::Justified));
        assert_eq!(truth.expired(KEY, 51_000, 60_000, &[]), Some(Verdict::False));
    }

    #[test]
    fn nothing_is_concluded_from_a_time_in_which_this_machine_starved() {
        assert_eq!(truth().expired(KEY, 0, 60_000, &[(58_000, 59_500)]), Some(Verdict::NotJudged));
        assert_eq!(truth().expired(KEY, 0, 90_000, &[(58_000, 59_500)]), Some(Verdict::False));
        let mut truth = truth();
        truth.agent_starved(KEY, 58_000, 59_500);
        assert_eq!(truth.expired(KEY, 0, 60_000, &[]), Some(Verdict::NotJudged));
    }
}
