//! A view with what it was told and what it wanted, in virtual time.

use muster_schemas::Change as WireChange;
use muster_schemas::pulse::Pulse;
use muster_schemas::query::Reply;

use super::super::{TICK_MS, View};
use super::log::{Log, service};
use crate::change::{Change, Why, differences};
use crate::core::io::{Ask, AskFailure, Effect, Input, Scope};
use crate::snapshot::{Lists, Snapshot, State};

pub(super) struct Consumer {
    pub(super) view: View,
    pub(super) now_ms: u64,
    /// Requests without an answer yet.
    pub(super) asks: Vec<Ask>,
    /// What watches were told, replacements as differences.
    pub(super) changes: Vec<Change>,
    pub(super) states: Vec<State>,
    /// The list as somebody has it who applies all changes.
    told: Lists,
}

impl Consumer {
    pub(super) fn of(scope: Scope) -> Self {
        Self::with_seed(scope, 7)
    }

    pub(super) fn with_seed(scope: Scope, seed: u64) -> Self {
        let now_ms = 1_000_000;
        let view = View::new(now_ms, scope, seed, None);
        let mut consumer =
            Self { view, now_ms, asks: Vec::new(), changes: Vec::new(), states: Vec::new(), told: Lists::new() };
        consumer.step(Input::Connected);
        consumer
    }

    /// Watches `orders`, and has its first snapshot.
    pub(super) fn synchronised(log: &Log) -> Self {
        let mut consumer = Self::of(Scope::Service(service("orders")));
        consumer.answer(log);
        consumer.changes.clear();
        consumer.states.clear();
        consumer
    }

    pub(super) fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.view.step(self.now_ms, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Ask(ask) => self.asks.push(ask),
                Effect::Changed(change) => {
                    crate::watch::note(&mut self.told, &change);
                    self.changes.push(change);
                }
                Effect::Replaced(lists, reason) => {
                    let why = Why::resync(super::super::timestamp(self.now_ms), None, reason);
                    self.changes.extend(differences(&self.told, &lists, &why.into()));
                    self.told = lists;
                }
                Effect::Judged(state) => self.states.push(state),
            }
        }
    }

    pub(super) fn change(&mut self, change: &WireChange) {
        self.step(Input::Change(Box::new(change.clone())));
    }

    pub(super) fn pulse(&mut self, pulse: Pulse) {
        self.step(Input::Pulse(pulse));
    }

    /// Answers the oldest request from a log as it is now.
    pub(super) fn answer(&mut self, log: &Log) {
        let target = self.asks.first().expect("a request").target.clone();
        self.answer_with(log.reply(&target));
    }

    pub(super) fn answer_with(&mut self, reply: Reply) {
        let ask = self.asks.remove(0);
        self.step(Input::Answer(ask.ticket, reply));
    }

    pub(super) fn fail(&mut self, failure: AskFailure) {
        let ask = self.asks.remove(0);
        self.step(Input::AskFailed(ask.ticket, failure));
    }

    /// Time passes, tick by tick.
    pub(super) fn wait(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms = (self.now_ms + TICK_MS).min(end_ms);
            self.step(Input::Tick);
        }
    }

    /// Time passes until the view asks; returns how long it took.
    pub(super) fn wait_for_ask(&mut self, within_ms: u64) -> u64 {
        let began_ms = self.now_ms;
        while self.asks.is_empty() {
            assert!(self.now_ms < began_ms + within_ms, "no request within {within_ms} ms");
            self.wait(TICK_MS);
        }
        self.now_ms - began_ms
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.view.snapshot()
    }

    pub(super) fn is_verified(&self) -> bool {
        self.snapshot().is_verified()
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.snapshot().all().map(|instance| instance.id().to_string()).collect()
    }

    /// `added a1 registered`, and so on, since the last call.
    pub(super) fn told(&mut self) -> Vec<String> {
        let changes = std::mem::take(&mut self.changes);
        let words = |change: &Change| format!("{} {} {}", change.as_str(), change.id(), change.cause().as_str());
        changes.iter().map(words).collect()
    }

    /// What somebody holds who applied every change.
    pub(super) fn mirror(&self) -> &Lists {
        &self.told
    }
}
