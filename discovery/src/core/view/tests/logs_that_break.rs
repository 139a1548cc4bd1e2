//! What a view makes of a log that was lost: a new epoch, recovery, a tail that is gone.

use muster_schemas::pulse::CatalogState;

use super::super::*;
use super::consumer::Consumer;
use super::log::{Log, service};
use super::{log_with, orders};
use crate::core::io::AskFailure;

fn recovering(epoch: u64) -> Log {
    let mut log = Log::new(epoch);
    log.state = CatalogState::Recovering;
    log
}

#[test]
fn a_new_epoch_keeps_the_list_as_unknown_and_asks_without_a_revision() {
    let old = log_with(&["a", "b"]);
    let mut consumer = Consumer::synchronised(&old);
    let new = recovering(2);
    consumer.pulse(new.pulse(orders(), 0));
    assert!(!consumer.is_verified());
    assert_eq!(consumer.ids(), ["a", "b"]);
    consumer.wait_for_ask(WIDE_JITTER_MS + TICK_MS);
    assert_eq!(consumer.asks[0].min_revision, None);
}

#[test]
fn a_recovering_log_proves_no_absence_until_it_has_recovered() {
    let old = log_with(&["a", "b", "c"]);
    let mut consumer = Consumer::synchronised(&old);
    let mut new = recovering(2);
    consumer.pulse(new.pulse(orders(), 0));
    consumer.wait_for_ask(1_000);
    consumer.answer(&new);
    assert_eq!((consumer.ids().len(), consumer.told().len()), (3, 0));
    assert!(!consumer.is_verified());
    consumer.change(&new.put("orders", "a", "1"));
    consumer.change(&new.put("orders", "b", "2"));
    assert_eq!(consumer.told(), ["updated b registered"], "a is what it was");
    new.pass();
    new.state = CatalogState::Ready;
    consumer.pulse(new.pulse(orders(), 0));
    consumer.wait_for_ask(1_000);
    consumer.answer(&new);
    assert_eq!(consumer.told(), ["removed c resync"]);
    assert!(consumer.is_verified());
}

#[test]
fn an_empty_recovering_log_is_never_proven_empty() {
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    consumer.answer(&recovering(1));
    for _ in 0..10 {
        consumer.wait(2_000);
        consumer.pulse(recovering(1).pulse(orders(), 0));
        assert!(!consumer.snapshot().is_proven_empty());
    }
}

#[test]
fn a_removal_in_the_new_log_removes_what_was_kept() {
    let old = log_with(&["a", "b"]);
    let mut consumer = Consumer::synchronised(&old);
    let mut new = recovering(2);
    consumer.change(&new.put("orders", "a", "1"));
    consumer.change(&new.remove("orders", "a"));
    assert_eq!(consumer.told(), ["removed a deregistered"]);
    assert_eq!(consumer.ids(), ["b"]);
}

#[test]
fn what_an_older_epoch_says_is_not_heard() {
    let mut old = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&old);
    let new = recovering(2);
    consumer.pulse(new.pulse(orders(), 0));
    consumer.change(&old.remove("orders", "a"));
    assert_eq!(consumer.ids(), ["a"]);
    consumer.wait_for_ask(1_000);
    consumer.answer(&old);
    assert!(!consumer.is_verified(), "a replica that still has the old log");
    consumer.wait_for_ask(1_000);
    consumer.answer(&new);
    assert_eq!(consumer.snapshot().revision().map(|revision| revision.0), Some(new.epoch));
}

#[test]
fn a_newer_epoch_that_nobody_speaks_of_any_more_does_not_stand_against_an_older_one_for_ever() {
    let old = log_with(&["a", "b"]);
    let mut consumer = Consumer::synchronised(&old);
    consumer.pulse(recovering(2).pulse(orders(), 0));
    consumer.asks.clear();
    consumer.step(Input::Disconnected);
    consumer.step(Input::Connected);
    let mut refused = 0;
    while !consumer.is_verified() {
        assert!(consumer.now_ms < 1_000_000 + EPOCH_FORGOTTEN_MS + 6_000, "everything was restored from the old log");
        consumer.wait_for_ask(5_000);
        consumer.answer(&old);
        refused += 1;
    }
    assert!(refused > 5, "only after a long silence");
    assert_eq!(consumer.ids(), ["a", "b"]);
}

#[test]
fn an_answer_of_a_newer_epoch_is_taken_although_nothing_else_was_heard_of_it() {
    let old = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&old);
    consumer.step(Input::Disconnected);
    consumer.step(Input::Connected);
    consumer.wait_for_ask(1_000);
    let mut new = Log::new(2);
    new.put("orders", "b", "1");
    consumer.answer(&new);
    assert_eq!(consumer.told(), ["added b resync", "removed a resync"]);
    assert!(consumer.is_verified());
}

#[test]
fn within_an_epoch_nothing_goes_back_even_if_every_replica_lost_the_tail() {
    let mut log = log_with(&["a"]);
    let before = log.clone();
    let mut consumer = Consumer::synchronised(&log);
    consumer.change(&log.put("orders", "b", "1"));
    consumer.step(Input::Disconnected);
    consumer.step(Input::Connected);
    for _ in 0..3 {
        consumer.wait_for_ask(1_000);
        assert!(consumer.asks[0].min_revision.is_some());
        consumer.fail(AskFailure::Behind);
    }
    consumer.wait_for_ask(1_000);
    assert_eq!(consumer.asks[0].min_revision, None, "asked without, for the log may have another epoch");
    consumer.answer(&before);
    assert_eq!(consumer.ids(), ["a", "b"]);
    assert!(!consumer.is_verified());
}

#[test]
fn what_was_on_disk_is_unknown_since_then_and_becomes_a_list_by_the_first_snapshot() {
    let cached = Consumer::synchronised(&log_with(&["a", "b"])).snapshot().lists;
    let since = timestamp(123);
    let mut view = View::new(1_000_000, Scope::Service(service("orders")), 1, Some((cached, since)));
    assert_eq!(view.snapshot().unknown_since(), Some(since));
    assert_eq!(view.snapshot().len(), 2);
    let mut effects = Vec::new();
    view.step(1_000_000, Input::Connected, &mut effects);
    let Some(Effect::Ask(ask)) = effects.pop() else { panic!("no request") };
    view.step(1_000_001, Input::Answer(ask.ticket, log_with(&["b"]).reply(&Scope::Everything)), &mut effects);
    assert!(view.snapshot().is_verified());
    assert_eq!(view.snapshot().len(), 1);
}
