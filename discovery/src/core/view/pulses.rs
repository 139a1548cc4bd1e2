//! Taking in a pulse, and asking for what pulses and changes show to be missing.

use muster_schemas::pulse::{CatalogState, Pulse, bucket};
use muster_schemas::{ServiceName, WIRE_VERSION};

use super::super::coverage::{Coverage, HeldPulse};
use super::super::io::Scope;
use super::{GAP_JITTER_MS, GAP_MS, View, WIDE_JITTER_MS};

impl View {
    pub(super) fn on_pulse(&mut self, now_ms: u64, pulse: Pulse) {
        let Some(index) = self.coverage_index(pulse.bucket) else {
            return;
        };
        if pulse.v != WIRE_VERSION || pulse.state == CatalogState::Warming || !self.enter(now_ms, pulse.epoch) {
            return;
        }
        self.asking.hasten(now_ms, &mut self.random);
        self.seen = self.seen.max(pulse.to);
        if !self.in_epoch {
            return;
        }
        let is_news = pulse.to >= self.coverage[index].through;
        if self.recovering && pulse.state == CatalogState::Ready && is_news && !self.asking.is_wanted(&self.scope) {
            let due_ms = now_ms + self.random.up_to(WIDE_JITTER_MS);
            self.asking.want_whole(due_ms, "the log has recovered");
        }
        let (number, scope) = (pulse.bucket, &self.scope);
        let in_scope = |(name, _): &(ServiceName, u64)| scope.covers(name) && bucket(name) == number;
        self.coverage[index].hold(HeldPulse {
            from: pulse.from,
            to: pulse.to,
            services: pulse.services.into_iter().filter(in_scope).collect(),
            head_age_ms: pulse.head_age_ms,
            received_ms: now_ms,
        });
        self.advance(now_ms, index);
    }

    /// Lets a bucket go as far as its pulses and the lists allow, and notes what it waits for.
    pub(super) fn advance(&mut self, now_ms: u64, index: usize) {
        let lists = &self.lists;
        let complete_through = |service: &ServiceName| lists.get(service).map_or(0, |list| list.complete_through);
        self.coverage[index].advance(now_ms, complete_through);
        self.reached = self.reached.max(self.coverage[index].through);
        for (service, revision) in self.coverage[index].awaited() {
            if complete_through(service) < *revision {
                self.gaps.need(now_ms, service, *revision);
            }
        }
    }

    pub(super) fn ask_for_old_gaps(&mut self, now_ms: u64) {
        let is_old =
            |coverage: &Coverage| coverage.gap_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= GAP_MS);
        if self.coverage.iter().any(is_old) && !self.asking.is_wanted(&self.scope) {
            let due_ms = now_ms + self.random.up_to(GAP_JITTER_MS);
            self.asking.want_whole(due_ms, "pulses were missed");
        }
        let targets: Vec<Scope> = self.gaps.older_than(now_ms, GAP_MS).map(|service| self.target(service)).collect();
        for target in targets {
            if !self.asking.is_wanted(&target) {
                let due_ms = now_ms + self.random.up_to(GAP_JITTER_MS);
                self.asking.want(target, due_ms, "changes were missed");
            }
        }
    }
}
