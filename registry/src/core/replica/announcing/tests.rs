//! How often agents are asked, and about what.

use super::*;

const PERIOD_MS: u64 = 30_000;

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of_bytes(text.as_bytes())
}

/// An agent that claims the same for so long, every two seconds, and never announces itself; when it was asked.
fn asked_at(announcing: &mut Announcing, from_ms: u64, for_ms: u64, claimed: Digest) -> Vec<u64> {
    let timing = Timing::default();
    let mut asked = Vec::new();
    for now_ms in (from_ms..from_ms + for_ms).step_by(2_000) {
        announcing.differs(now_ms, &agent("web1"), claimed, &timing);
        while announcing.next_to_ask(now_ms, &timing).is_some() {
            asked.push(now_ms);
        }
    }
    asked
}

#[test]
fn about_the_same_digest_an_agent_is_asked_after_thirty_seconds_and_then_at_doubling_intervals() {
    let mut announcing = Announcing::default();
    let asked = asked_at(&mut announcing, 0, 500_000, digest("a"));
    let waited: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waited, [PERIOD_MS, 2 * PERIOD_MS, 4 * PERIOD_MS, 8 * PERIOD_MS]);
}

#[test]
fn about_another_digest_it_is_asked_at_once() {
    let mut announcing = Announcing::default();
    assert_eq!(asked_at(&mut announcing, 0, 10_000, digest("a")), [0]);
    assert_eq!(asked_at(&mut announcing, 10_000, 10_000, digest("b")), [10_000]);
}

#[test]
fn an_agent_that_agreed_in_between_begins_anew() {
    let mut announcing = Announcing::default();
    asked_at(&mut announcing, 0, 100_000, digest("a"));
    announcing.agrees(&agent("web1"));
    assert_eq!(asked_at(&mut announcing, 100_000, 10_000, digest("a")), [100_000]);
}

#[test]
fn all_agents_together_are_asked_at_the_stated_rate() {
    let mut announcing = Announcing::default();
    let timing = Timing::default();
    for number in 0..1_000 {
        announcing.differs(0, &agent(&format!("web{number}")), digest("a"), &timing);
    }
    let mut asked = Vec::new();
    for now_ms in (0..10_000).step_by(20) {
        while let Some((_, agent)) = announcing.next_to_ask(now_ms, &timing) {
            asked.push((now_ms, agent));
        }
    }
    assert_eq!(asked.len(), 1_000);
    let rate = usize::try_from(timing.announce_per_second).unwrap();
    for window in asked.windows(rate + 20) {
        assert!(
            window[rate + 19].0 - window[0].0 >= 980,
            "{} within {} ms",
            rate + 20,
            window[rate + 19].0 - window[0].0
        );
    }
}

#[test]
fn one_agent_too_many_in_doubt_waits_for_its_next_heartbeat() {
    let mut announcing = Announcing::default();
    let timing = Timing::default();
    for number in 0..DOUBTS_MAX {
        announcing.differs(0, &agent(&format!("web{number}")), digest("a"), &timing);
    }
    announcing.differs(0, &agent("late"), digest("a"), &timing);
    assert_eq!((announcing.doubts.len(), announcing.queue.len()), (DOUBTS_MAX, DOUBTS_MAX));
    announcing.agrees(&agent("web7"));
    announcing.differs(2_000, &agent("late"), digest("a"), &timing);
    assert!(announcing.doubts.contains_key(&agent("late")), "now there is room");
}

#[test]
fn the_answer_to_a_request_that_was_forgotten_is_ignored() {
    let mut announcing = Announcing::default();
    let timing = Timing { announce_per_second: 1_000_000, ..Timing::default() };
    for number in 0..=REQUESTS_MAX {
        announcing.differs(0, &agent(&format!("web{number}")), digest("a"), &timing);
    }
    let mut requests = Vec::new();
    while let Some(request) = announcing.next_to_ask(1_000_000, &timing) {
        requests.push(request);
    }
    assert_eq!((requests.len(), announcing.requests.len()), (REQUESTS_MAX + 1, REQUESTS_MAX));
    let settled_ms = 1_000_000 + timing.announced_settle_ms;
    for (request, agent) in [&requests[0], &requests[1]] {
        announcing.announced(1_000_000, *request, Some(1));
        let is_known = announcing.has_announced(settled_ms, agent, &timing);
        assert_eq!(is_known, *request == requests[1].0, "only the oldest was forgotten");
    }
}

#[test]
fn a_replica_that_does_not_publish_asks_about_the_answers_to_its_own_probes_alone() {
    let (mut announcing, timing) = (Announcing::default(), Timing::default());
    announcing.unlisted(0, &agent("web1"), &timing);
    announcing.differs(0, &agent("web2"), digest("a"), &timing);
    announcing.stand_back();
    let (request, asked) = announcing.next_to_ask(0, &timing).unwrap();
    assert_eq!((asked, announcing.next_to_ask(0, &timing)), (agent("web1"), None));
    announcing.announced(100, request, Some(0));
    announcing.stand_back();
    assert!(announcing.has_announced(100 + timing.announced_settle_ms, &agent("web1"), &timing));
}
