//! Taking in a snapshot.

use imbl::OrdSet;
use muster_schemas::Digest;
use muster_schemas::pulse::CatalogState;
use muster_schemas::query::{Reply, ServiceReply};

use super::super::asking::Answered;
use super::super::io::{AskFailure, Effect, Scope, Ticket};
use super::{View, WIDE_JITTER_MS};
use crate::snapshot::{Lists, ServiceList};

impl View {
    pub(super) fn on_answer(&mut self, now_ms: u64, ticket: Ticket, reply: Reply, effects: &mut Vec<Effect>) {
        let Some(answered) = self.asking.peek(ticket) else {
            return;
        };
        match self.check(now_ms, &answered, &reply) {
            Ok(lists) => self.take_in(now_ms, &answered, &reply, lists, effects),
            Err(failure) => {
                self.counters.refused += 1;
                self.asking.fail(now_ms, ticket, failure, &mut self.random);
            }
        }
    }

    /// The lists of an answer, if it is right in itself and not older than what the view holds.
    fn check(&self, now_ms: u64, answered: &Answered, reply: &Reply) -> Result<Lists, AskFailure> {
        if reply.v != muster_schemas::WIRE_VERSION || reply.state == CatalogState::Warming {
            return Err(AskFailure::Failed);
        }
        if self.is_past(now_ms, reply.epoch) {
            return Err(AskFailure::Behind);
        }
        let floor = match &answered.target {
            _ if self.epoch != Some(reply.epoch) => 0,
            Scope::Service(service) => self.complete_through(service),
            Scope::Everything => self.reached,
        };
        // Within an epoch nothing goes back, not even when the log has lost its tail: that will be a new epoch.
        if reply.revision < floor {
            return Err(AskFailure::Behind);
        }
        let mut lists = Lists::new();
        for service in &reply.services {
            if answered.target.covers(&service.service) {
                let list = proven_list(service, reply.revision).ok_or(AskFailure::Failed)?;
                if list.proven() > 0 {
                    lists.insert(service.service.clone(), list);
                }
            }
        }
        Ok(lists)
    }

    fn take_in(&mut self, now_ms: u64, answered: &Answered, reply: &Reply, lists: Lists, effects: &mut Vec<Effect>) {
        let is_whole = answered.target == self.scope;
        let is_new_epoch = self.epoch != Some(reply.epoch);
        self.enter(now_ms, reply.epoch);
        if is_new_epoch && !is_whole {
            // The rest of the view is of the old log: `enter` wished for the whole, and dropped this wish.
            return;
        }
        self.asking.fulfil(&answered.target);
        self.seen = self.seen.max(reply.revision);
        self.reached = self.reached.max(reply.revision);
        self.counters.resynchronised += 1;
        if is_whole {
            self.replace_all(answered, reply, lists);
        } else {
            self.replace_one(now_ms, answered, reply, lists);
        }
        effects.push(Effect::Replaced(self.lists.clone(), answered.reason));
        self.settle(now_ms, answered, effects);
    }

    fn replace_all(&mut self, answered: &Answered, reply: &Reply, mut lists: Lists) {
        self.recovering = reply.state == CatalogState::Recovering;
        if self.recovering {
            for (service, old) in &self.lists {
                let new = lists.get(service).cloned().unwrap_or_default();
                lists.insert(service.clone(), with_kept(new, old));
            }
        }
        if let Scope::Service(service) = &self.scope {
            // Also of a service that nobody knows: complete through here.
            let list = lists.entry(service.clone()).or_default();
            list.complete_through = reply.revision;
        }
        self.lists = lists;
        self.in_epoch = true;
        self.trusted = true;
        self.unconditioned = false;
        for coverage in &mut self.coverage {
            coverage.cover(reply.revision);
            coverage.confirm(self.last_step_ms, answered.sent_ms, reply.head_age_ms);
        }
    }

    fn replace_one(&mut self, now_ms: u64, answered: &Answered, reply: &Reply, mut lists: Lists) {
        let Scope::Service(service) = &answered.target else {
            return;
        };
        let mut list = lists.remove(service).unwrap_or_default();
        list.complete_through = reply.revision;
        if self.recovering {
            let old = self.lists.get(service).cloned().unwrap_or_default();
            list = with_kept(list, &old);
            if reply.state == CatalogState::Ready {
                let due_ms = now_ms + self.random.up_to(WIDE_JITTER_MS);
                self.asking.want_whole(due_ms, "the log has recovered");
            }
        }
        self.store(service, list);
    }

    /// Goes on from the new lists with what was held.
    fn settle(&mut self, now_ms: u64, answered: &Answered, effects: &mut Vec<Effect>) {
        match &answered.target {
            Scope::Service(service) => self.apply_held(now_ms, service, effects),
            Scope::Everything => {
                for service in self.gaps.services() {
                    self.apply_held(now_ms, &service, effects);
                }
                (0..self.coverage.len()).for_each(|index| self.advance(now_ms, index));
            }
        }
    }
}

/// The list of one service in an answer, if it has the digest and the number of instances that the answer names.
fn proven_list(reply: &ServiceReply, revision: u64) -> Option<ServiceList> {
    let mut list = ServiceList {
        revision: reply.revision,
        complete_through: revision,
        digest: reply.digest,
        ..ServiceList::default()
    };
    let mut digest = Digest::ZERO;
    for instance in &reply.instances {
        digest = digest.plus(Digest::of_instance(instance.id(), instance.modified_revision));
        let is_double = list.instances.insert(instance.id().clone(), instance.clone()).is_some();
        if *instance.service() != reply.service || is_double {
            return None;
        }
    }
    let is_whole = u32::try_from(list.instances.len()).is_ok_and(|count| count == reply.total);
    (digest == reply.digest && is_whole && reply.revision <= revision).then_some(list)
}

/// A list of a recovering log, with what the view had before and the log does not prove yet.
fn with_kept(mut new: ServiceList, old: &ServiceList) -> ServiceList {
    let mut kept = OrdSet::new();
    for (id, instance) in &old.instances {
        if !new.instances.contains_key(id) {
            new.instances.insert(id.clone(), instance.clone());
            kept.insert(id.clone());
        }
    }
    new.kept = kept;
    new
}
