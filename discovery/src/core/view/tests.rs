//! The consumer's contract, sentence by sentence.

mod consumer;
mod log;
mod logs_that_break;
mod lossy;

use muster_schemas::pulse::bucket;
use muster_schemas::{Cause, Digest, MinRevision};

use super::*;
use crate::change::Change;
use crate::core::io::AskFailure;
use consumer::Consumer;
use log::{Log, service};

fn orders() -> u8 {
    bucket(&service("orders"))
}

fn log_with(ids: &[&str]) -> Log {
    let mut log = Log::new(1);
    for id in ids {
        log.put("orders", id, "1");
    }
    log
}

#[test]
fn a_new_view_asks_at_once_and_is_verified_by_the_answer() {
    let log = log_with(&["a", "b"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    assert_eq!(consumer.asks[0].min_revision, None);
    assert!(!consumer.is_verified());
    consumer.answer(&log);
    assert!(consumer.is_verified());
    assert_eq!(consumer.ids(), ["a", "b"]);
    assert_eq!(consumer.snapshot().revision(), Some(Revision(log.epoch, log.revision)));
}

#[test]
fn a_view_that_is_not_connected_asks_nothing() {
    let mut view = View::new(0, Scope::Everything, 1, None);
    let mut effects = Vec::new();
    view.step(100, Input::Tick, &mut effects);
    assert_eq!(effects, []);
    view.step(200, Input::Connected, &mut effects);
    assert_eq!(effects.len(), 1);
}

#[test]
fn changes_that_come_before_the_answer_raise_the_revision_that_the_next_request_names() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    consumer.change(&log.put("orders", "b", "1"));
    consumer.fail(AskFailure::Failed);
    consumer.wait_for_ask(500);
    assert_eq!(consumer.asks[0].min_revision, Some(MinRevision(Some(log.epoch), log.revision)));
}

#[test]
fn a_service_that_nobody_knows_is_proven_empty() {
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    assert!(!consumer.snapshot().is_proven_empty());
    consumer.answer(&Log::new(1));
    assert!(consumer.snapshot().is_proven_empty());
}

#[test]
fn a_change_that_follows_is_delivered_with_its_cause_actor_and_old_value() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.change(&log.put("orders", "a", "2"));
    let Change::Updated { instance, before, why } = &consumer.changes[0] else { panic!("{:?}", consumer.changes) };
    assert_eq!(instance.registration.version.as_deref(), Some("2"));
    assert_eq!(before.registration.version.as_deref(), Some("1"));
    assert_eq!((why.cause, why.actor.as_str()), (Cause::Updated, "agent/agent1"));
    consumer.change(&log.remove("orders", "a"));
    assert_eq!(consumer.told(), ["updated a updated", "removed a deregistered"]);
}

#[test]
fn the_removal_of_the_last_instance_leaves_a_proven_empty_list() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.change(&log.remove("orders", "a"));
    assert!(consumer.snapshot().is_proven_empty());
}

#[test]
fn a_change_seen_twice_or_again_later_is_delivered_once() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let (first, second) = (log.put("orders", "b", "1"), log.remove("orders", "b"));
    for change in [&first, &first, &second, &first, &second] {
        consumer.change(change);
    }
    assert_eq!(consumer.told(), ["added b registered", "removed b deregistered"]);
    assert_eq!(consumer.view.counters().repeated, 3);
}

#[test]
fn a_change_that_comes_too_early_waits_for_the_one_before_it() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let (first, second, third) = (log.put("orders", "b", "1"), log.put("orders", "c", "1"), log.remove("orders", "a"));
    consumer.change(&third);
    consumer.change(&second);
    assert_eq!(consumer.told(), [""; 0]);
    consumer.change(&first);
    assert_eq!(consumer.told(), ["added b registered", "added c registered", "removed a deregistered"]);
    consumer.wait(2_000);
    assert!(consumer.asks.is_empty(), "nothing is missing, so nothing is asked");
}

#[test]
fn a_change_that_names_no_predecessor_is_applied_only_to_an_empty_list() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let removed = log.remove("orders", "a");
    let added = log.put("orders", "b", "1");
    assert_eq!(added.previous_revision, 0);
    consumer.change(&added);
    assert_eq!(consumer.ids(), ["a"], "the removal of a is missing");
    consumer.change(&removed);
    assert_eq!(consumer.ids(), ["b"]);
}

#[test]
fn an_empty_list_takes_a_change_without_predecessor_whatever_it_missed() {
    let mut log = log_with(&[]);
    let mut consumer = Consumer::synchronised(&log);
    log.put("orders", "a", "1");
    log.remove("orders", "a");
    consumer.change(&log.put("orders", "b", "1"));
    assert_eq!(consumer.ids(), ["b"]);
}

#[test]
fn a_gap_is_held_for_half_a_second_then_repaired_by_a_snapshot() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    log.put("orders", "b", "1");
    consumer.change(&log.put("orders", "c", "1"));
    consumer.wait(400);
    assert!(consumer.asks.is_empty());
    let waited_ms = consumer.wait_for_ask(500);
    assert!(waited_ms <= 100 + GAP_JITTER_MS + TICK_MS, "asked after {waited_ms} ms more");
    assert_eq!(consumer.asks[0].min_revision, Some(MinRevision(Some(log.epoch), log.revision)));
    consumer.answer(&log);
    assert_eq!(consumer.told(), ["added b resync", "added c resync"]);
}

#[test]
fn what_is_held_beyond_the_snapshot_is_applied_after_it() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    log.put("orders", "b", "1");
    let second = log.put("orders", "c", "1");
    let then = log.clone();
    consumer.change(&log.put("orders", "d", "1"));
    consumer.change(&second);
    consumer.wait_for_ask(1_000);
    consumer.answer(&then);
    assert_eq!(consumer.told(), ["added b resync", "added c resync", "added d registered"]);
}

#[test]
fn a_digest_that_differs_is_asked_about_at_once_and_not_delivered() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let mut wrong = log.put("orders", "b", "1");
    wrong.digest = wrong.digest.plus(Digest::of_bytes(b"something else"));
    consumer.change(&wrong);
    assert_eq!((consumer.asks.len(), consumer.told().len()), (1, 0));
    consumer.answer(&log);
    assert_eq!(consumer.told(), ["added b resync"]);
}

#[test]
fn a_registry_whose_digests_never_fit_is_not_asked_without_pause() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let mut asked = 0;
    for version in 0..100 {
        let mut wrong = log.put("orders", "a", &version.to_string());
        wrong.digest = Digest::ZERO;
        consumer.change(&wrong);
        consumer.wait(10);
        while !consumer.asks.is_empty() {
            asked += 1;
            consumer.answer(&log);
        }
    }
    assert!(asked < 20, "asked {asked} times within a second");
}

#[test]
fn a_pulse_carries_a_view_on_if_nothing_is_missing() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let from = log.revision;
    consumer.change(&log.put("orders", "b", "1"));
    log.pass();
    log.pass();
    consumer.pulse(log.pulse(orders(), from));
    assert_eq!(consumer.snapshot().revision().map(|revision| revision.1), Some(log.revision));
}

#[test]
fn a_pulse_that_names_a_missing_revision_does_not_carry_on_and_leads_to_a_request() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let from = log.revision;
    let lost = log.remove("orders", "a");
    consumer.pulse(log.pulse(orders(), from));
    assert_eq!(consumer.snapshot().revision().map(|revision| revision.1), Some(from));
    consumer.wait_for_ask(1_000);
    consumer.change(&lost);
    assert_eq!(consumer.snapshot().revision().map(|revision| revision.1), Some(log.revision), "it came after all");
}

#[test]
fn pulses_split_by_range_may_come_in_any_order() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    let from = log.revision;
    consumer.change(&log.put("orders", "b", "1"));
    let first = log.pulse(orders(), from);
    consumer.change(&log.put("orders", "c", "1"));
    consumer.pulse(log.pulse(orders(), first.to));
    assert_eq!(consumer.snapshot().revision().map(|revision| revision.1), Some(log.revision), "by its changes alone");
    consumer.pulse(first);
    consumer.wait(1_000);
    assert!(consumer.asks.is_empty());
    assert!(consumer.is_verified());
}

#[test]
fn a_range_that_no_pulse_covers_leads_to_a_request() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    log.pass();
    let from = log.revision;
    log.pass();
    consumer.pulse(log.pulse(orders(), from));
    let waited_ms = consumer.wait_for_ask(1_000);
    assert!(waited_ms >= GAP_MS, "asked after {waited_ms} ms");
}

#[test]
fn three_periods_without_a_pulse_make_the_list_unknown_since_the_last_and_keep_it() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.wait(2_000);
    consumer.pulse(log.pulse(orders(), log.revision));
    let last_ms = consumer.now_ms;
    consumer.wait(PULSES_SPAN_MS);
    assert!(consumer.is_verified());
    consumer.wait(TICK_MS);
    assert_eq!(consumer.snapshot().unknown_since(), Some(timestamp(last_ms)));
    assert_eq!(consumer.ids(), ["a"]);
    consumer.pulse(log.pulse(orders(), log.revision));
    assert!(consumer.is_verified());
    assert_eq!(consumer.states, [State::Unknown { since: timestamp(last_ms) }, State::Verified]);
}

#[test]
fn a_publisher_that_is_not_at_the_end_of_the_log_confirms_nothing() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    for _ in 0..4 {
        consumer.wait(2_000);
        let mut pulse = log.pulse(orders(), log.revision);
        pulse.head_age_ms = HEAD_AGE_MS_MAX + 1;
        consumer.pulse(pulse);
    }
    assert!(!consumer.is_verified());
}

#[test]
fn a_publisher_that_lags_does_no_harm_beside_one_that_does_not() {
    let mut log = log_with(&["a"]);
    let lagging = log.clone();
    log.pass();
    let mut consumer = Consumer::synchronised(&log);
    for _ in 0..10 {
        consumer.wait(1_000);
        consumer.pulse(log.pulse(orders(), 0));
        consumer.wait(1_000);
        consumer.pulse(lagging.pulse(orders(), 0));
    }
    assert_eq!(consumer.states, []);
    for _ in 0..4 {
        consumer.wait(2_000);
        consumer.pulse(lagging.pulse(orders(), 0));
    }
    assert!(!consumer.is_verified(), "its end is below what the view is verified through");
}

#[test]
fn an_answer_as_old_as_its_head_confirms_no_more_than_that() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    let mut reply = log.reply(&Scope::Everything);
    reply.head_age_ms = 3_000;
    consumer.answer_with(reply);
    assert_eq!(consumer.snapshot().confirmed_at(), Some(timestamp(consumer.now_ms - 3_000)));
}

#[test]
fn a_disconnect_makes_the_list_unknown_until_a_new_snapshot_even_if_pulses_come() {
    let mut log = log_with(&["a", "b"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.step(Input::Disconnected);
    assert!(!consumer.is_verified());
    assert_eq!(consumer.ids(), ["a", "b"]);
    log.remove("orders", "a");
    consumer.wait(3_000);
    assert!(consumer.asks.is_empty(), "nobody to ask");
    consumer.step(Input::Connected);
    let before = log_with(&["a", "b"]);
    consumer.pulse(before.pulse(orders(), 0));
    assert!(!consumer.is_verified(), "a pulse that waited in a buffer speaks of the past");
    consumer.wait_for_ask(WIDE_JITTER_MS + TICK_MS);
    consumer.answer(&log);
    assert_eq!(consumer.told(), ["removed a resync"]);
    assert!(consumer.is_verified());
}

#[test]
fn an_answer_to_a_question_of_before_the_disconnect_is_not_heard() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    let old = consumer.asks.remove(0);
    consumer.step(Input::Disconnected);
    consumer.step(Input::Connected);
    consumer.step(Input::Answer(old.ticket, log.reply(&old.target)));
    assert!(!consumer.is_verified());
}

#[test]
fn messages_that_were_not_read_fast_enough_lead_to_a_request() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.step(Input::SlowConsumer);
    consumer.wait_for_ask(GAP_JITTER_MS + TICK_MS);
    assert!(consumer.is_verified(), "gaps show themselves, so what is verified stays so");
}

#[test]
fn a_process_that_was_not_running_believes_nothing_it_reads_until_a_new_snapshot() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    consumer.now_ms += PAUSE_MS + 1;
    consumer.pulse(log.pulse(orders(), 0));
    assert!(!consumer.is_verified());
    consumer.wait_for_ask(WIDE_JITTER_MS + TICK_MS);
    consumer.answer(&log);
    assert!(consumer.is_verified());
}

#[test]
fn an_answer_that_is_not_right_in_itself_is_refused() {
    let log = log_with(&["a", "b"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    let mut reply = log.reply(&Scope::Everything);
    reply.services[0].instances.pop();
    consumer.answer_with(reply);
    assert_eq!((consumer.ids().len(), consumer.view.counters().refused), (0, 1));
    consumer.wait_for_ask(200);
    consumer.answer(&log);
    assert_eq!(consumer.ids(), ["a", "b"]);
}

#[test]
fn failures_are_followed_by_ever_longer_pauses_until_a_pulse_shows_that_somebody_is_there() {
    let log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Service(service("orders")));
    let mut waits = Vec::new();
    for _ in 0..8 {
        consumer.fail(AskFailure::Failed);
        waits.push(consumer.wait_for_ask(5_000));
    }
    assert!(waits[0] <= 200 && waits[7] >= 2_000, "{waits:?}");
    consumer.fail(AskFailure::Failed);
    consumer.pulse(log.pulse(orders(), 0));
    let waited_ms = consumer.wait_for_ask(1_000);
    assert!(waited_ms <= 600, "asked after {waited_ms} ms");
}

#[test]
fn more_changes_out_of_order_than_can_be_held_lead_to_a_request_at_once() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::synchronised(&log);
    log.put("orders", "a", "missing");
    for version in 0..=super::super::gaps::HELD_MAX {
        consumer.change(&log.put("orders", "a", &version.to_string()));
    }
    assert_eq!(consumer.asks.len(), 1);
    consumer.answer(&log);
    assert_eq!(consumer.told(), ["updated a resync"]);
}

#[test]
fn a_gap_in_one_service_of_a_view_of_all_is_repaired_by_that_service_alone() {
    let mut log = log_with(&["a"]);
    log.put("users", "x", "1");
    let mut consumer = Consumer::of(Scope::Everything);
    consumer.answer(&log);
    consumer.changes.clear();
    log.put("users", "y", "1");
    consumer.change(&log.put("users", "z", "1"));
    consumer.change(&log.put("orders", "b", "1"));
    consumer.wait_for_ask(1_000);
    assert_eq!(consumer.asks[0].target, Scope::Service(service("users")));
    consumer.answer(&log);
    assert_eq!(consumer.told(), ["added b registered", "added y resync", "added z resync"]);
    let services: Vec<String> = consumer.snapshot().services().map(ToString::to_string).collect();
    assert_eq!(services, ["orders", "users"]);
}

#[test]
fn a_view_of_all_is_unknown_when_one_bucket_is() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Everything);
    consumer.answer(&log);
    log.pass();
    for _ in 0..4 {
        consumer.wait(2_000);
        (0..BUCKETS).filter(|number| *number != 5).for_each(|number| consumer.pulse(log.pulse(number, 0)));
    }
    assert!(!consumer.is_verified());
    consumer.pulse(log.pulse(5, 0));
    assert!(consumer.is_verified());
}

#[test]
fn a_view_of_all_forgets_the_names_of_services_that_are_gone() {
    let mut log = log_with(&["a"]);
    let mut consumer = Consumer::of(Scope::Everything);
    consumer.answer(&log);
    consumer.change(&log.remove("orders", "a"));
    assert_eq!(consumer.snapshot().lists.len(), 1);
    consumer.pulse(log.pulse(orders(), 0));
    consumer.wait(TICK_MS);
    assert_eq!(consumer.snapshot().lists.len(), 0);
    assert!(consumer.snapshot().is_empty());
}
