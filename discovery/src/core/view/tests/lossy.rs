//! Seeded histories over a channel that drops, repeats and shuffles: no view is ever wrong, and each finds the truth.

use std::collections::BTreeMap;

use muster_schemas::change::Change as WireChange;
use muster_schemas::pulse::{BUCKETS, CatalogState};
use muster_schemas::query::Reply;

use super::super::super::random::Random;
use super::super::*;
use super::consumer::Consumer;
use super::log::{Content, Log, service};
use crate::core::io::AskFailure;

const SEEDS: u64 = 80;
const STEPS: u64 = 300;
const SERVICES: [&str; 3] = ["orders", "users", "user.rpc"];
const INSTANCES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn a_view_of_one_service_is_never_wrong_and_finds_the_truth() {
    let histories = (0..SEEDS).map(|seed| History::new(Scope::Service(service("orders")), seed).run());
    let seen = histories.fold(Seen::default(), Seen::plus);
    assert!(seen.repeated > 200 && seen.early > 500 && seen.resynchronised > 500 && seen.epochs > 50, "{seen:?}");
}

#[test]
fn a_view_of_all_services_is_never_wrong_and_finds_the_truth() {
    let histories = (1_000..1_000 + SEEDS).map(|seed| History::new(Scope::Everything, seed).run());
    let seen = histories.fold(Seen::default(), Seen::plus);
    assert!(seen.repeated > 200 && seen.early > 500 && seen.resynchronised > 500 && seen.epochs > 50, "{seen:?}");
}

/// What a run met: a test that meets nothing proves nothing.
#[derive(Debug, Default)]
struct Seen {
    repeated: u64,
    early: u64,
    resynchronised: u64,
    epochs: u64,
}

impl Seen {
    fn plus(self, other: Self) -> Self {
        Self {
            repeated: self.repeated + other.repeated,
            early: self.early + other.early,
            resynchronised: self.resynchronised + other.resynchronised,
            epochs: self.epochs + other.epochs,
        }
    }
}

#[derive(Debug, Clone)]
enum Delivery {
    Input(Input),
    Reply(Ask, Option<Box<Reply>>),
}

struct History {
    seed: u64,
    random: Random,
    /// The log, and what it was at every moment of the last seconds: replicas lag, pulses reach back.
    logs: BTreeMap<u64, Log>,
    epochs: BTreeMap<EpochId, Log>,
    on_the_way: BTreeMap<(u64, u64), Delivery>,
    sent: u64,
    consumer: Consumer,
    faults: bool,
    pulse_due_ms: u64,
    burst_due_ms: u64,
    /// What the last check saw: nothing is checked twice.
    last_revision: Option<Revision>,
    last_lists: Lists,
    was_verified: bool,
}

impl History {
    fn new(scope: Scope, seed: u64) -> Self {
        let consumer = Consumer::with_seed(scope, seed);
        let log = Log::new(1);
        Self {
            seed,
            random: Random::new(seed),
            logs: BTreeMap::from([(consumer.now_ms, log.clone())]),
            epochs: BTreeMap::from([(log.epoch, log)]),
            on_the_way: BTreeMap::new(),
            sent: 0,
            pulse_due_ms: consumer.now_ms + 700,
            burst_due_ms: u64::MAX,
            consumer,
            faults: true,
            last_revision: None,
            last_lists: Lists::new(),
            was_verified: false,
        }
    }

    fn run(mut self) -> Seen {
        for _ in 0..STEPS {
            self.act();
            let pause_ms = self.random.up_to(120);
            self.pass(pause_ms);
        }
        self.faults = false;
        if self.log().state == CatalogState::Recovering {
            self.change_log(|log| log.state = CatalogState::Ready);
        }
        self.consumer.step(Input::Connected);
        self.pass(12_000);
        let snapshot = self.consumer.snapshot();
        assert!(snapshot.is_verified(), "seed {}: {} at the end", self.seed, snapshot.state());
        self.check_lists_at(u64::MAX);
        let counters = self.consumer.view.counters();
        Seen {
            repeated: counters.repeated,
            early: counters.early,
            resynchronised: counters.resynchronised,
            epochs: self.epochs.len() as u64 - 1,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.faults && self.random.up_to(99) < percent
    }

    fn log(&self) -> &Log {
        self.logs.values().next_back().expect("a log")
    }

    fn change_log<R>(&mut self, change: impl FnOnce(&mut Log) -> R) -> R {
        let mut log = self.log().clone();
        let result = change(&mut log);
        self.epochs.insert(log.epoch, log.clone());
        self.logs.insert(self.consumer.now_ms, log);
        result
    }

    /// Something happens in the log, or to the connection.
    fn act(&mut self) {
        let service = SERVICES[usize::try_from(self.random.up_to(2)).expect("small")];
        let instance = INSTANCES[usize::try_from(self.random.up_to(3)).expect("small")];
        let version = self.random.up_to(9).to_string();
        match self.random.up_to(199) {
            0..2 => self.begin_epoch(),
            2..6 => self.consumer.step(Input::Disconnected),
            6..20 => self.consumer.step(Input::Connected),
            20..22 => self.consumer.step(Input::SlowConsumer),
            22..30 => self.change_log(|log| log.state = CatalogState::Ready),
            30..50 => self.change_log(Log::pass),
            50..120 => self.publish(|log| log.put(service, instance, &version)),
            _ if self.log().list(&super::log::service(service)).1.contains_key(instance) => {
                self.publish(|log| log.remove(service, instance));
            }
            _ => {}
        }
        self.check();
    }

    fn begin_epoch(&mut self) {
        let next = self.epochs.len() as u64 + 1;
        self.change_log(|log| {
            *log = Log::new(next);
            log.state = CatalogState::Recovering;
        });
    }

    fn publish(&mut self, change: impl FnOnce(&mut Log) -> WireChange) {
        let change = self.change_log(change);
        self.burst_due_ms = self.consumer.now_ms + 50;
        self.send(Delivery::Input(Input::Change(Box::new(change))), 20);
    }

    /// Over the lossy channel.
    fn send(&mut self, delivery: Delivery, drop_percent: u64) {
        if self.chance(drop_percent) {
            return;
        }
        let copies = if self.chance(20) { 2 } else { 1 };
        for _ in 0..copies {
            let delay_ms = if self.chance(50) { self.random.up_to(400) } else { self.random.up_to(3) };
            self.sent += 1;
            self.on_the_way.insert((self.consumer.now_ms + delay_ms, self.sent), delivery.clone());
        }
    }

    fn send_pulses(&mut self) {
        let now_ms = self.consumer.now_ms;
        let epoch = self.log().epoch;
        let before = self.logs.range(..=now_ms.saturating_sub(6_000)).next_back();
        let from = before.map_or(0, |(_, log)| if log.epoch == epoch { log.revision } else { 0 });
        for number in 0..BUCKETS {
            let pulse = self.log().pulse(number, from);
            self.send(Delivery::Input(Input::Pulse(pulse)), 20);
        }
    }

    /// Virtual time passes: pulses are sent, messages arrive, requests are answered.
    fn pass(&mut self, ms: u64) {
        let end_ms = self.consumer.now_ms + ms;
        loop {
            self.answer_asks();
            let arrival = self.on_the_way.first_key_value().map_or(u64::MAX, |((at_ms, _), _)| *at_ms);
            let tick_ms = (self.consumer.now_ms / TICK_MS + 1) * TICK_MS;
            let next_ms = arrival.min(tick_ms).min(self.pulse_due_ms).min(self.burst_due_ms).max(self.consumer.now_ms);
            if next_ms > end_ms {
                self.consumer.now_ms = end_ms;
                return;
            }
            self.consumer.now_ms = next_ms;
            if next_ms >= self.pulse_due_ms.min(self.burst_due_ms) {
                if next_ms >= self.pulse_due_ms {
                    self.pulse_due_ms = next_ms + 2_000;
                }
                self.burst_due_ms = u64::MAX;
                self.send_pulses();
            } else if arrival <= next_ms {
                let (_, delivery) = self.on_the_way.pop_first().expect("an arrival");
                self.deliver(delivery);
            } else {
                self.consumer.step(Input::Tick);
            }
            self.check();
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Input(input) => {
                // What comes over a broken connection does not come.
                if self.consumer.view.connected {
                    self.consumer.step(input);
                }
            }
            Delivery::Reply(ask, reply) => self.consumer.step(match reply {
                Some(reply) => Input::Answer(ask.ticket, *reply),
                None => Input::AskFailed(ask.ticket, AskFailure::Failed),
            }),
        }
    }

    /// By a replica that lags by up to 300 ms, and says so if the request names more than it has.
    fn answer_asks(&mut self) {
        for ask in std::mem::take(&mut self.consumer.asks) {
            let lag_ms = self.random.up_to(300);
            let at_ms = self.consumer.now_ms.saturating_sub(lag_ms);
            let replica = self.logs.range(..=at_ms).next_back().map_or_else(|| self.log(), |(_, log)| log);
            let meets = |min: MinRevision| match min.0 {
                Some(epoch) if epoch > replica.epoch => false,
                Some(epoch) if epoch < replica.epoch => true,
                _ => replica.revision >= min.1,
            };
            if ask.min_revision.is_some_and(|min| !meets(min)) {
                self.consumer.step(Input::AskFailed(ask.ticket, AskFailure::Behind));
                continue;
            }
            let reply = replica.reply(&ask.target);
            let reply = if self.chance(15) { None } else { Some(Box::new(reply)) };
            self.sent += 1;
            let delay_ms = 1 + self.random.up_to(50);
            self.on_the_way.insert((self.consumer.now_ms + delay_ms, self.sent), Delivery::Reply(ask, reply));
        }
        let old_ms = self.consumer.now_ms.saturating_sub(10_000);
        if let Some((&keep_ms, _)) = self.logs.range(..=old_ms).next_back() {
            self.logs = self.logs.split_off(&keep_ms);
        }
    }

    fn check(&mut self) {
        let snapshot = self.consumer.snapshot();
        self.consumer.changes.clear();
        if let (Some(last), Some(now)) = (self.last_revision, snapshot.revision()) {
            assert!(now >= last, "seed {}: went back from {last:?} to {now:?}", self.seed);
        }
        let is_same = self.last_lists.ptr_eq(&snapshot.lists)
            && self.last_revision == snapshot.revision()
            && self.was_verified == snapshot.is_verified();
        if is_same {
            return;
        }
        self.last_revision = snapshot.revision();
        self.last_lists = snapshot.lists.clone();
        self.was_verified = snapshot.is_verified();
        assert_eq!(visible(&snapshot.lists), visible(self.consumer.mirror()), "seed {}: what was told", self.seed);
        let Some(epoch) = self.consumer.view.epoch else { return };
        let log = &self.epochs[&epoch];
        for (name, list) in &snapshot.lists {
            let (_, content) = log.list_at(name, list.complete_through);
            let proven = list.instances.iter().filter(|(id, _)| !list.kept.contains(*id));
            let proven: Content = proven.map(|(id, instance)| (id.clone(), instance.clone())).collect();
            assert_eq!(proven, content, "seed {}: {name} through {}", self.seed, list.complete_through);
        }
        if snapshot.is_verified() {
            assert_eq!(log.state, CatalogState::Ready, "seed {}: verified while recovering", self.seed);
            self.check_lists_at(snapshot.revision().map_or(0, |revision| revision.1));
        }
    }

    /// Every list in scope is what the log said at a revision, or at a later one that the list itself names.
    fn check_lists_at(&self, revision: u64) {
        let snapshot = self.consumer.snapshot();
        let log = &self.epochs[&self.consumer.view.epoch.expect("an epoch")];
        for name in SERVICES.map(service).iter().filter(|name| self.consumer.view.scope.covers(name)) {
            let list = snapshot.lists.get(name).cloned().unwrap_or_default();
            let (_, content) = log.list_at(name, revision.max(self.consumer.view.complete_through(name)));
            assert_eq!(list.instances.into_iter().collect::<Content>(), content, "seed {}: {name}", self.seed);
        }
    }
}

/// What a consumer would tell apart: an instance that came over into a new log unchanged is not told again.
fn visible(lists: &Lists) -> Vec<(String, String, Option<String>)> {
    let all = lists.values().flat_map(ServiceList::all);
    let words = |instance: &std::sync::Arc<muster_schemas::Instance>| {
        (
            instance.service().to_string(),
            instance.id().to_string(),
            instance.registration.version.clone().map(String::from),
        )
    };
    all.map(words).collect()
}
