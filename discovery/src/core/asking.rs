//! When to ask for which snapshot: at once, with jitter, again after a failure.

use std::collections::BTreeMap;

use super::io::{AskFailure, Scope, Ticket};
use super::random::Random;

/// Single services that are asked about at a time; with more, everything is asked for.
const SERVICES_MAX: usize = 64;
/// After so many replicas in a row that were behind, the request names no revision: the log may have lost its tail.
const BEHINDS_MAX: u32 = 3;
/// The first wait after a failure; doubled from one to the next.
const BACKOFF_MS: u64 = 100;
const BACKOFF_MS_MAX: u64 = 4_000;
const BEHIND_WAIT_MS: u64 = 20;
const BEHIND_JITTER_MS: u64 = 100;

/// One wish for a snapshot.
#[derive(Debug, Clone)]
struct Wish {
    due_ms: u64,
    sent: Option<(Ticket, u64)>,
    failures: u32,
    behinds: u32,
    reason: &'static str,
}

/// A wish whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) ticket: Ticket,
    pub(super) target: Scope,
    /// Name the highest revision seen in the request.
    pub(super) conditioned: bool,
}

/// A wish that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) target: Scope,
    pub(super) sent_ms: u64,
    pub(super) reason: &'static str,
}

/// All wishes of a view. Bounded: at most [`SERVICES_MAX`] services and the whole.
#[derive(Debug)]
pub(super) struct Asking {
    whole: Scope,
    wishes: BTreeMap<Scope, Wish>,
    last_ticket: u64,
}

impl Asking {
    pub(super) fn new(whole: Scope) -> Self {
        Self { whole, wishes: BTreeMap::new(), last_ticket: 0 }
    }

    /// Wishes for a snapshot of everything in the view's scope.
    pub(super) fn want_whole(&mut self, due_ms: u64, reason: &'static str) {
        self.wishes.retain(|target, _| *target == self.whole);
        self.want_target(self.whole.clone(), due_ms, reason);
    }

    /// Wishes for one service; for everything if that is on its way, or if too many services are.
    pub(super) fn want(&mut self, target: Scope, due_ms: u64, reason: &'static str) {
        if self.wishes.contains_key(&self.whole) {
            self.want_target(self.whole.clone(), due_ms, reason);
        } else if self.wishes.len() < SERVICES_MAX || self.wishes.contains_key(&target) {
            self.want_target(target, due_ms, reason);
        } else {
            self.want_whole(due_ms, "too many gaps at once");
        }
    }

    fn want_target(&mut self, target: Scope, due_ms: u64, reason: &'static str) {
        let wish = self.wishes.entry(target).or_insert(Wish { due_ms, sent: None, failures: 0, behinds: 0, reason });
        wish.due_ms = wish.due_ms.min(due_ms);
    }

    /// Answers to what was asked so far are no longer heard; the wishes stay, due when told.
    pub(super) fn void(&mut self, due_ms: u64) {
        for wish in self.wishes.values_mut() {
            if wish.sent.take().is_some() {
                wish.due_ms = due_ms;
            }
        }
    }

    /// A sign of life from the registry: what waits only because of failures need not wait that long.
    pub(super) fn hasten(&mut self, now_ms: u64, random: &mut Random) {
        for wish in self.wishes.values_mut().filter(|wish| wish.failures > 0 && wish.due_ms > now_ms + 500) {
            wish.due_ms = now_ms + random.up_to(500);
            wish.failures = 0;
        }
    }

    pub(super) fn is_wanted(&self, target: &Scope) -> bool {
        self.wishes.contains_key(target) || self.wishes.contains_key(&self.whole)
    }

    /// A wish whose time has come, now counted as sent.
    pub(super) fn next_due(&mut self, now_ms: u64) -> Option<Due> {
        let is_due = |wish: &Wish| wish.sent.is_none() && wish.due_ms <= now_ms;
        let (target, wish) = self.wishes.iter_mut().find(|(_, wish)| is_due(wish))?;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        wish.sent = Some((ticket, now_ms));
        Some(Due { ticket, target: target.clone(), conditioned: wish.behinds < BEHINDS_MAX })
    }

    fn find(&mut self, ticket: Ticket) -> Option<(Scope, &mut Wish)> {
        let sent = |wish: &Wish| wish.sent.is_some_and(|(sent, _)| sent == ticket);
        self.wishes.iter_mut().find(|(_, wish)| sent(wish)).map(|(target, wish)| (target.clone(), wish))
    }

    /// What a ticket was for; none if its answer is no longer heard.
    pub(super) fn peek(&mut self, ticket: Ticket) -> Option<Answered> {
        let (target, wish) = self.find(ticket)?;
        let (_, sent_ms) = wish.sent?;
        Some(Answered { target, sent_ms, reason: wish.reason })
    }

    /// The wish is fulfilled.
    pub(super) fn fulfil(&mut self, target: &Scope) {
        self.wishes.remove(target);
    }

    /// The wish is not fulfilled, and waits for its next turn.
    pub(super) fn fail(&mut self, now_ms: u64, ticket: Ticket, failure: AskFailure, random: &mut Random) {
        let Some((_, wish)) = self.find(ticket) else { return };
        wish.sent = None;
        wish.due_ms = now_ms
            + match failure {
                AskFailure::Behind if wish.behinds < 2 * BEHINDS_MAX => {
                    wish.behinds += 1;
                    BEHIND_WAIT_MS + random.up_to(BEHIND_JITTER_MS)
                }
                AskFailure::Behind | AskFailure::Failed => {
                    wish.behinds = 0;
                    wish.failures += 1;
                    let wait_ms = (BACKOFF_MS << (wish.failures - 1).min(6)).min(BACKOFF_MS_MAX);
                    wait_ms / 2 + random.up_to(wait_ms / 2)
                }
            };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(number: usize) -> Scope {
        Scope::Service(format!("s{number}").parse().expect("a name"))
    }

    #[test]
    fn one_service_too_many_to_ask_about_leads_to_one_question_about_everything() {
        let mut asking = Asking::new(Scope::Everything);
        for number in 0..SERVICES_MAX {
            asking.want(service(number), 0, "a gap");
        }
        let early = asking.next_due(0).expect("one of them is due");
        asking.want(service(0), 0, "a gap");
        assert_eq!(asking.wishes.len(), SERVICES_MAX, "one that is asked about already is none more");
        asking.want(service(SERVICES_MAX), 0, "a gap");
        assert!(asking.is_wanted(&service(3)), "the whole holds each");
        assert_eq!(asking.next_due(0).expect("the whole is due").target, Scope::Everything);
        assert_eq!(asking.next_due(0), None);
        assert!(asking.peek(early.ticket).is_none(), "the answer to an earlier question is no longer heard");
    }
}
