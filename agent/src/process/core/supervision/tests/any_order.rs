//! Whatever happens in whatever order, some things hold.

use proptest::prelude::*;

use super::*;

fn any_input() -> impl Strategy<Value = (u64, Input)> {
    let status = prop_oneof![Just(Passing), Just(Warning), Just(Critical)];
    let checked = (0_usize..3, 0_u32..4, status).prop_map(|(check, life, status)| Input::Checked {
        check,
        life,
        result: CheckResult { status, output: String::new() },
    });
    let cause = prop_oneof![Just(StopCause::Signal), Just(StopCause::Drain), Just(StopCause::Superseded)];
    let input = prop_oneof![
        5 => checked,
        1 => Just(Input::Begin),
        2 => Just(Input::Started { pid: 7 }),
        1 => Just(Input::NotStarted { code: 126, problem: String::new() }),
        1 => (0_u8..3, any::<bool>()).prop_map(|(code, leftovers)| Input::Exited { end: ChildEnd::Code(code), leftovers }),
        1 => Just(Input::GroupGone),
        2 => Just(Input::Registered),
        1 => Just(Input::Unconfirmed),
        2 => any::<bool>().prop_map(|confirmed| Input::Removed { confirmed }),
        1 => (cause, proptest::option::of(0_u64..2_000)).prop_map(|(cause, within_ms)| Input::Stop { cause, within_ms }),
        5 => Just(Input::Tick),
    ];
    (0_u64..4_000, input)
}

proptest! {
    /// Whatever happens in whatever order: claims are taken and given back in turn, and nothing follows the end.
    #[test]
    fn claims_are_taken_and_given_back_in_turn(
        inputs in proptest::collection::vec(any_input(), 0..80),
        has_child in any::<bool>(),
        restarts in any::<bool>(),
    ) {
        let restart = if restarts { Restart::OnFailure } else { Restart::Never };
        let mut story = Story::new(Plan { has_child, restart, ..plan(2) });
        let (mut is_claimed, mut has_ended) = (false, false);
        story.happens(Input::Begin);
        for (ms, input) in inputs.into_iter().filter(|(_, input)| *input != Input::Begin) {
            for effect in story.after(ms, input) {
                prop_assert!(!has_ended, "after the end: {:?}", effect);
                match effect {
                    Effect::Register(_) => prop_assert!(!std::mem::replace(&mut is_claimed, true)),
                    Effect::Tell(_) => prop_assert!(is_claimed),
                    Effect::Deregister { .. } => prop_assert!(std::mem::replace(&mut is_claimed, false)),
                    Effect::StopGroup | Effect::KillGroup | Effect::Start => prop_assert!(has_child),
                    Effect::Ended { .. } => has_ended = true,
                    Effect::RunCheck { .. } | Effect::Say(_) => {}
                }
            }
            prop_assert!(!has_ended || !is_claimed, "ended while it claims an instance");
        }
    }
}
