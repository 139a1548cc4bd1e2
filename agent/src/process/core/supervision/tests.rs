//! The life of a service, told as what happened and what was done about it.

use super::super::backoff::Restart;
use super::super::thresholds::Thresholds;
use super::*;
use HealthStatus::{Critical, Passing, Warning};
use muster_schemas::{HealthStatus, Timestamp};

mod any_order;

fn plan(checks: usize) -> Plan {
    let check = |index| CheckPlan {
        id: format!("check-{index}"),
        name: format!("check {index}"),
        kind: "tcp".to_owned(),
        interval_ms: 2_000,
        thresholds: Thresholds::default(),
    };
    Plan {
        has_child: true,
        checks: (0..checks).map(check).collect(),
        ready_within_ms: Some(60_000),
        critical_deregister_after_ms: Some(30_000),
        drain_ms: 500,
        grace_ms: 10_000,
        restart: Restart::Never,
    }
}

/// A service and its clock.
struct Story {
    supervision: Supervision,
    now_ms: u64,
}

impl Story {
    fn new(plan: Plan) -> Self {
        Self { supervision: Supervision::new(plan), now_ms: 1_000 }
    }

    /// One that is registered and confirmed.
    fn serving(plan: Plan) -> Self {
        let mut story = Self::new(plan);
        story.begin();
        for check in 0..story.supervision.plan.checks.len() {
            story.result(check, Passing);
        }
        story.happens(Input::Registered);
        assert!(story.supervision.is_registered());
        story
    }

    fn begin(&mut self) -> Vec<Effect> {
        let has_child = self.supervision.plan.has_child;
        let mut effects = self.happens(Input::Begin);
        if has_child {
            effects.extend(self.happens(Input::Started { pid: 7 }));
        }
        effects
    }

    fn happens(&mut self, input: Input) -> Vec<Effect> {
        let now = Now { ms: self.now_ms, at: Timestamp::from_ms(i64::try_from(self.now_ms).unwrap()) };
        let mut effects = Vec::new();
        self.supervision.step(now, input, &mut effects);
        effects
    }

    fn after(&mut self, ms: u64, input: Input) -> Vec<Effect> {
        self.now_ms += ms;
        self.happens(input)
    }

    fn result(&mut self, check: usize, status: HealthStatus) -> Vec<Effect> {
        let result = CheckResult { status, output: format!("was {}", status.as_str()) };
        let life = self.supervision.life;
        self.happens(Input::Checked { check, life, result })
    }

    /// Runs the clock as far as the service wants, at most to `until_ms` from now; checks that run never answer.
    fn runs(&mut self, for_ms: u64) -> Vec<Effect> {
        let until_ms = self.now_ms + for_ms;
        let mut effects = Vec::new();
        while let Some(due_ms) = self.supervision.next_due_ms().filter(|due_ms| *due_ms <= until_ms) {
            assert!(due_ms > self.now_ms || !effects.is_empty(), "due at once, again and again");
            self.now_ms = self.now_ms.max(due_ms);
            effects.extend(self.happens(Input::Tick));
        }
        self.now_ms = until_ms;
        effects
    }

    fn stop(&mut self) -> Vec<Effect> {
        self.happens(Input::Stop { cause: StopCause::Signal, within_ms: None })
    }

    fn exits(&mut self, end: ChildEnd) -> Vec<Effect> {
        self.happens(Input::Exited { end, leftovers: false })
    }
}

/// Without what is said.
fn deeds(effects: Vec<Effect>) -> Vec<Effect> {
    let is_deed = |effect: &Effect| !matches!(effect, Effect::Say(_));
    effects.into_iter().filter(is_deed).collect()
}

fn says(effects: &[Effect], wanted: impl Fn(&Saying) -> bool) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Say(saying) if wanted(saying)))
}

#[test]
fn a_service_is_registered_only_when_all_its_checks_are_usable() {
    let mut story = Story::new(plan(2));
    let runs = deeds(story.begin());
    let asked = |check| Effect::RunCheck { check, life: 1 };
    assert_eq!(runs, [Effect::Start, asked(0), asked(1)]);
    assert_eq!(deeds(story.result(0, Passing)), []);
    assert_eq!(deeds(story.result(1, Critical)), []);
    assert_eq!(deeds(story.after(100, Input::Tick)), [asked(0), asked(1)]);
    let effects = story.result(1, Warning);
    assert!(says(&effects, |saying| *saying == Saying::Ready { after_ms: 100 }));
    assert!(matches!(&deeds(effects)[..], [Effect::Register(health)] if health.status == Warning));
    let effects = story.after(8, Input::Registered);
    assert!(says(&effects, |saying| *saying == Saying::Registered { after_ms: 8 }));
}

#[test]
fn a_service_without_checks_is_ready_when_it_runs() {
    let effects = Story::new(plan(0)).begin();
    assert!(matches!(&deeds(effects)[..], [Effect::Start, Effect::Register(_)]));
}

#[test]
fn waiting_is_spoken_of_and_ends_at_its_limit_with_the_reason() {
    let mut story = Story::new(plan(1));
    story.begin();
    story.result(0, Critical);
    let effects = story.runs(59_000);
    let spoken = effects.iter().filter(|effect| matches!(effect, Effect::Say(Saying::Waiting { .. }))).count();
    assert_eq!(spoken, 11);
    let effects = story.runs(1_500);
    let failing = "check 0: was critical";
    assert!(says(&effects, |saying| matches!(saying, Saying::NotReady { failing: text, .. } if text == failing)));
    assert_eq!(deeds(effects), [Effect::StopGroup]);
    let effects = story.exits(ChildEnd::Code(0));
    assert_eq!(deeds(effects), [Effect::Ended { code: CODE_AGENT_FAILED }]);
}

#[test]
fn a_service_that_runs_by_itself_may_take_its_time() {
    let mut story = Story::new(Plan { has_child: false, ..plan(1) });
    story.begin();
    story.result(0, Critical);
    let effects = story.runs(3_600_000);
    assert!(!says(&effects, |saying| matches!(saying, Saying::NotReady { .. })));
    assert!(matches!(&deeds(story.result(0, Passing))[..], [Effect::Register(_), ..]));
}

#[test]
fn a_stop_goes_deregister_removed_drain_signal_kill() {
    let mut story = Story::serving(plan(1));
    let effects = deeds(story.stop());
    assert!(matches!(&effects[..], [Effect::Deregister { withdrawal: Withdrawal::Stopped, .. }]), "{effects:?}");
    assert_eq!(deeds(story.runs(2_999)), []);
    assert_eq!(deeds(story.happens(Input::Removed { confirmed: true })), []);
    assert_eq!(deeds(story.runs(499)), []);
    assert_eq!(deeds(story.runs(1)), [Effect::StopGroup]);
    assert_eq!(deeds(story.runs(9_999)), []);
    assert_eq!(deeds(story.runs(1)), [Effect::KillGroup]);
    let effects = story.exits(ChildEnd::Signal(9));
    assert!(says(&effects, |saying| matches!(saying, Saying::Exited { by_itself: false, .. })));
    assert_eq!(deeds(effects), [Effect::Ended { code: 137 }]);
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_removal_that_nobody_confirms() {
    let mut story = Story::serving(plan(1));
    story.stop();
    let effects = story.runs(REMOVAL_SEEN_WITHIN_MS);
    assert!(says(&effects, |saying| matches!(saying, Saying::Deregistered { confirmed: false, .. })));
    assert_eq!(deeds(story.runs(500)), [Effect::StopGroup]);
}

#[test]
fn a_service_that_was_never_registered_gets_its_signal_at_once() {
    let mut story = Story::new(plan(1));
    story.begin();
    assert_eq!(deeds(story.stop()), [Effect::StopGroup]);
}

#[test]
fn whoever_asks_to_stop_twice_is_in_a_hurry() {
    let mut story = Story::serving(plan(1));
    story.stop();
    assert_eq!(deeds(story.stop()), [Effect::StopGroup]);
    assert_eq!(deeds(story.stop()), [Effect::KillGroup]);
    assert_eq!(deeds(story.stop()), []);
}

#[test]
fn a_registration_that_was_lost_and_found_again_is_told_again() {
    let mut story = Story::serving(plan(1));
    story.happens(Input::Unconfirmed);
    assert!(!story.supervision.is_registered());
    let effects = story.after(40, Input::Registered);
    assert!(says(&effects, |saying| *saying == Saying::Registered { after_ms: 40 }));
    assert!(story.supervision.is_registered());
}

#[test]
fn a_drain_has_a_deadline_for_everything_together() {
    let mut story = Story::serving(plan(1));
    let drain = || Input::Stop { cause: StopCause::Drain, within_ms: Some(700) };
    story.happens(drain());
    assert_eq!(deeds(story.happens(drain())), [], "asked again, the same drain");
    story.after(100, Input::Removed { confirmed: true });
    assert_eq!(deeds(story.runs(500)), [Effect::StopGroup]);
    assert_eq!(deeds(story.runs(1_000)), [Effect::KillGroup]);
}

#[test]
fn a_child_that_ends_is_deregistered_and_its_code_returned() {
    let mut story = Story::serving(plan(1));
    let effects = story.exits(ChildEnd::Code(3));
    assert!(says(&effects, |saying| matches!(saying, Saying::Exited { by_itself: true, .. })));
    let detail = "the service ended with code 3".to_owned();
    let withdrawal = Withdrawal::ChildExited;
    assert_eq!(deeds(effects), [Effect::Deregister { withdrawal, detail }]);
    assert_eq!(deeds(story.happens(Input::Removed { confirmed: true })), [Effect::Ended { code: 3 }]);
}

#[test]
fn a_child_that_ends_before_it_is_ready_is_nowhere_registered() {
    let mut story = Story::new(plan(1));
    story.begin();
    assert_eq!(deeds(story.exits(ChildEnd::Signal(11))), [Effect::Ended { code: 139 }]);
}

#[test]
fn what_a_child_leaves_in_its_group_is_ended_too() {
    let mut story = Story::new(plan(1));
    story.begin();
    let effects = story.happens(Input::Exited { end: ChildEnd::Code(0), leftovers: true });
    assert_eq!(deeds(effects), [Effect::StopGroup]);
    assert_eq!(deeds(story.runs(10_000)), [Effect::KillGroup]);
    assert_eq!(deeds(story.happens(Input::GroupGone)), [Effect::Ended { code: 0 }]);
}

#[test]
fn a_result_of_a_check_of_an_earlier_child_is_ignored() {
    let mut story = Story::new(Plan { restart: Restart::OnFailure, ..plan(1) });
    story.begin();
    let life = story.supervision.life;
    story.exits(ChildEnd::Code(1));
    assert_eq!(deeds(story.runs(1_000)), [Effect::Start]);
    story.happens(Input::Started { pid: 8 });
    let result = CheckResult { status: Passing, output: String::new() };
    assert_eq!(deeds(story.happens(Input::Checked { check: 0, life, result })), []);
}

#[test]
fn a_flapping_service_is_held_and_a_failing_one_turns_critical() {
    let mut story = Story::serving(plan(1));
    for _ in 0..100 {
        assert_eq!(deeds(story.result(0, Critical)), []);
        assert_eq!(deeds(story.result(0, Passing)), []);
    }
    story.result(0, Critical);
    story.result(0, Critical);
    let effects = story.result(0, Critical);
    assert!(says(&effects, |saying| matches!(saying, Saying::HealthChanged { from: Passing, to: Critical, .. })));
    let [Effect::Tell(health)] = &deeds(effects)[..] else { panic!("nobody was told") };
    assert_eq!((health.status, health.checks[0].output.as_deref()), (Critical, Some("was critical")));
}

#[test]
fn a_service_critical_for_too_long_is_deregistered_and_comes_back_when_it_recovers() {
    let mut story = Story::serving(plan(1));
    for _ in 0..3 {
        story.result(0, Critical);
    }
    assert!(!deeds(story.runs(29_999)).iter().any(|effect| matches!(effect, Effect::Deregister { .. })));
    let effects = deeds(story.runs(1));
    let withdrawal = Withdrawal::CriticalTooLong;
    assert!(matches!(&effects[..], [Effect::Deregister { withdrawal: w, .. }] if *w == withdrawal), "{effects:?}");
    story.happens(Input::Removed { confirmed: true });
    let goes_on = deeds(story.result(0, Critical));
    assert!(matches!(goes_on[..], [Effect::RunCheck { .. }]), "{goes_on:?}");
    assert_eq!(deeds(story.result(0, Passing)), []);
    let effects = story.result(0, Passing);
    assert!(says(&effects, |saying| *saying == Saying::UsableAgain));
    assert!(matches!(&deeds(effects)[..], [Effect::Register(health), ..] if health.status == Passing));
}

#[test]
fn a_service_critical_for_a_short_while_stays_registered() {
    let mut story = Story::serving(plan(1));
    for _ in 0..3 {
        story.result(0, Critical);
    }
    story.runs(29_000);
    story.result(0, Passing);
    story.result(0, Passing);
    let effects = deeds(story.runs(60_000));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Deregister { .. })), "{effects:?}");
}

#[test]
fn a_service_that_runs_by_itself_is_left_alone_at_the_end() {
    let mut story = Story::serving(Plan { has_child: false, ..plan(1) });
    assert!(matches!(&deeds(story.stop())[..], [Effect::Deregister { .. }]));
    let effects = deeds(story.happens(Input::Removed { confirmed: true }));
    assert_eq!(effects, [Effect::Ended { code: 0 }]);
}

#[test]
fn a_child_that_cannot_be_started_ends_with_the_shells_code() {
    let mut story = Story::new(plan(1));
    story.happens(Input::Begin);
    let problem = "not found".to_owned();
    let effects = story.happens(Input::NotStarted { code: 127, problem });
    assert_eq!(deeds(effects), [Effect::Ended { code: 127 }]);
}

#[test]
fn a_failed_service_is_started_again_with_growing_waits_and_a_finished_one_is_not() {
    let mut story = Story::new(Plan { restart: Restart::OnFailure, ..plan(0) });
    story.begin();
    for wait_ms in [1_000, 2_000, 4_000] {
        story.exits(ChildEnd::Code(1));
        let effects = story.happens(Input::Removed { confirmed: true });
        assert!(says(&effects, |saying| matches!(saying, Saying::RestartIn { wait_ms: w, .. } if *w == wait_ms)));
        assert_eq!(deeds(story.runs(wait_ms - 1)), []);
        assert_eq!(deeds(story.runs(1)), [Effect::Start]);
        story.happens(Input::Started { pid: 9 });
    }
    story.exits(ChildEnd::Code(0));
    assert_eq!(deeds(story.happens(Input::Removed { confirmed: true })), [Effect::Ended { code: 0 }]);
}

#[test]
fn a_stop_while_it_waits_to_be_started_again_ends_it_with_its_last_code() {
    let mut story = Story::new(Plan { restart: Restart::OnFailure, ..plan(1) });
    story.begin();
    story.exits(ChildEnd::Code(4));
    assert_eq!(deeds(story.stop()), [Effect::Ended { code: 4 }]);
}

#[test]
fn a_superseded_agent_stops_its_child_and_says_so_by_its_code() {
    let mut story = Story::serving(plan(1));
    story.happens(Input::Stop { cause: StopCause::Superseded, within_ms: None });
    story.happens(Input::Removed { confirmed: false });
    story.runs(500);
    assert_eq!(deeds(story.exits(ChildEnd::Code(0))), [Effect::Ended { code: CODE_SUPERSEDED }]);
}
