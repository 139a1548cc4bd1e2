//! Breaks that are believed, and those that are not.

use super::*;

const CREATED: i64 = 1_000;

fn facts(last_sequence: u64) -> LogFacts<'static> {
    LogFacts {
        created_at: Timestamp::from_ms(CREATED),
        first_sequence: 1,
        last_sequence,
        replicas: 1,
        servers: &[],
        epochs: Vec::new(),
        own: None,
    }
}

fn record(sequence: u64, payload: &'static [u8]) -> Record<'static> {
    Record { sequence, at: Timestamp::from_ms(i64::try_from(sequence).unwrap()), subject: "", payload }
}

/// A log reader at revision 10, and the number of its reader.
fn at_ten() -> (Continuity, Timing, Effects) {
    let timing = Timing::default();
    let mut effects = Effects::new();
    let mut continuity = Continuity::default();
    continuity.set_connected(0, true);
    assert_eq!(inspect(&mut continuity, 0, facts(10)), Verdict::Locate);
    continuity.begin_at(0, 1, &mut effects);
    let reader = continuity.reader;
    for sequence in 1..=10 {
        assert_eq!(continuity.delivered(0, reader, &record(sequence, b"event"), &timing), Order::Next);
    }
    effects.drain().for_each(drop);
    (continuity, timing, effects)
}

fn ask(continuity: &mut Continuity, now_ms: u64) -> Option<Effect> {
    let mut effects = Effects::new();
    continuity.tick(now_ms, &Timing::default(), &mut effects);
    effects.drain().next()
}

fn inspect(continuity: &mut Continuity, now_ms: u64, facts: LogFacts<'_>) -> Verdict {
    ask(continuity, now_ms).expect("an inspection");
    let check = continuity.check;
    continuity.inspected(now_ms, check, &Inspection::Present(facts), &Timing::default())
}

/// Repeats an inspection until it is believed; the time that took.
fn believed(continuity: &mut Continuity, from_ms: u64, facts: impl Fn() -> LogFacts<'static>) -> (u64, String) {
    for now_ms in (from_ms..from_ms + 20_000).step_by(10) {
        if ask(continuity, now_ms).is_none() {
            continue;
        }
        let check = continuity.check;
        match continuity.inspected(now_ms, check, &Inspection::Present(facts()), &Timing::default()) {
            Verdict::Broken(reason) => return (now_ms - from_ms, reason),
            Verdict::Nothing => assert!(continuity.suspicion().is_some()),
            other => panic!("{other:?}"),
        }
    }
    panic!("never believed");
}

#[test]
fn the_end_is_confirmed_as_of_the_moment_of_asking_once_the_reader_is_there() {
    let (mut continuity, timing, _) = at_ten();
    ask(&mut continuity, 1_000).unwrap();
    let check = continuity.check;
    assert_eq!(continuity.inspected(1_100, check, &Inspection::Present(facts(11)), &timing), Verdict::Nothing);
    assert_eq!(continuity.end_confirmed_ms(), None);
    let reader = continuity.reader;
    continuity.delivered(1_200, reader, &record(11, b"event"), &timing);
    assert_eq!(continuity.end_confirmed_ms(), Some(1_000));
}

#[test]
fn a_stream_that_ends_below_the_own_revision_is_broken_after_two_seconds() {
    let (mut continuity, _, _) = at_ten();
    let (after_ms, reason) = believed(&mut continuity, 1_000, || facts(9));
    assert!((2_000..2_300).contains(&after_ms), "{after_ms}");
    assert_eq!(reason, "the stream ends at 9, below revision 10");
}

#[test]
fn events_that_come_while_the_answer_is_on_its_way_speak_for_nothing() {
    let (mut continuity, timing, _) = at_ten();
    ask(&mut continuity, 1_000).unwrap();
    let (check, reader) = (continuity.check, continuity.reader);
    continuity.delivered(1_001, reader, &record(11, b"event"), &timing);
    assert_eq!(continuity.inspected(1_002, check, &Inspection::Present(facts(10)), &timing), Verdict::Nothing);
    assert_eq!(continuity.suspicion(), None);
    assert_eq!(continuity.end_confirmed_ms(), Some(1_000), "the end that was asked for is behind");
    assert_eq!(continuity.delivered(1_003, reader, &record(12, b"event"), &timing), Order::Next, "it reads on");
}

#[test]
fn a_replicated_stream_gets_ten_seconds() {
    let (mut continuity, _, _) = at_ten();
    let replicated = |last| LogFacts { replicas: 3, ..facts(last) };
    inspect(&mut continuity, 1_000, replicated(10));
    let (after_ms, _) = believed(&mut continuity, 2_000, || replicated(9));
    assert!((10_000..10_300).contains(&after_ms), "{after_ms}");
}

#[test]
fn a_stream_created_anew_is_broken() {
    let (mut continuity, _, _) = at_ten();
    let anew = || LogFacts { created_at: Timestamp::from_ms(CREATED + 1), ..facts(10) };
    assert!(believed(&mut continuity, 1_000, anew).1.contains("created anew"));
}

#[test]
fn after_a_reconnect_another_event_at_the_own_revision_is_a_break() {
    let (mut continuity, _, _) = at_ten();
    continuity.set_connected(5_000, false);
    assert_eq!(ask(&mut continuity, 6_000), None, "nobody is there to be asked");
    continuity.set_connected(7_000, true);
    let other = || LogFacts { own: Some(record(10, b"other")), ..facts(12) };
    assert!(believed(&mut continuity, 7_000, other).1.contains("another event"));
}

#[test]
fn after_a_reconnect_the_same_event_lets_the_reader_go_on() {
    let (mut continuity, timing, mut effects) = at_ten();
    let old_reader = continuity.reader;
    continuity.set_connected(5_000, true);
    let same = LogFacts { own: Some(record(10, b"event")), ..facts(12) };
    assert_eq!(inspect(&mut continuity, 5_000, same), Verdict::Resume);
    continuity.read_on(&mut effects);
    let expected = Effect::ReadLog { reader: continuity.reader, from_sequence: 11 };
    assert_eq!(effects.drain().collect::<Vec<_>>(), [expected]);
    assert_eq!(continuity.delivered(5_001, old_reader, &record(11, b"late"), &timing), Order::Late);
}

#[test]
fn while_an_epoch_is_awaited_every_inspection_looks_for_it() {
    let (mut continuity, _, _) = at_ten();
    assert!(matches!(ask(&mut continuity, 1_000), Some(Effect::InspectLog { epochs: false, .. })));
    let check = continuity.check;
    continuity.watch_epochs(true);
    let verdict = continuity.inspected(1_010, check, &Inspection::Present(facts(10)), &Timing::default());
    assert_eq!(verdict, Verdict::Nothing, "that one was asked without them");
    assert!(matches!(ask(&mut continuity, 2_010), Some(Effect::InspectLog { epochs: true, .. })));
    let check = continuity.check;
    let verdict = continuity.inspected(2_020, check, &Inspection::Present(facts(10)), &Timing::default());
    assert_eq!(verdict, Verdict::EpochsSeen);
}

#[test]
fn a_failure_that_passes_is_no_break() {
    let (mut continuity, _, _) = at_ten();
    assert_eq!(inspect(&mut continuity, 1_000, facts(9)), Verdict::Nothing);
    assert!(continuity.suspicion().is_some());
    let repeated = ask(&mut continuity, 1_250).unwrap();
    assert!(matches!(repeated, Effect::InspectLog { fresh_connection: true, own: Some(10), .. }));
    let check = continuity.check;
    let same = LogFacts { own: Some(record(10, b"event")), ..facts(10) };
    let verdict = continuity.inspected(1_260, check, &Inspection::Present(same), &Timing::default());
    assert_eq!(verdict, Verdict::Resume);
    assert_eq!(continuity.suspicion(), None);
}

#[test]
fn an_unreachable_stream_proves_nothing() {
    let (mut continuity, timing, _) = at_ten();
    for now_ms in (1_000..60_000).step_by(100) {
        if ask(&mut continuity, now_ms).is_some() {
            let check = continuity.check;
            let verdict = continuity.inspected(now_ms, check, &Inspection::Unreachable("time-out"), &timing);
            assert_eq!(verdict, Verdict::Nothing);
        }
    }
    assert_eq!(continuity.suspicion(), None);
}

#[test]
fn a_revision_named_elsewhere_above_the_confirmed_end_is_a_lost_tail() {
    let (mut continuity, _, _) = at_ten();
    ask(&mut continuity, 1_000).unwrap();
    continuity.claim(12);
    let check = continuity.check;
    let verdict = continuity.inspected(1_010, check, &Inspection::Present(facts(10)), &Timing::default());
    assert_eq!((verdict, continuity.suspicion()), (Verdict::Nothing, None), "asked before it was named");
    let (_, reason) = believed(&mut continuity, 2_010, || facts(10));
    assert!(reason.contains("revision 12 was seen in it"));
}

#[test]
fn a_hole_is_believed_when_it_is_there_at_every_reading() {
    let (mut continuity, timing, mut effects) = at_ten();
    let same = || LogFacts { own: Some(record(10, b"event")), ..facts(12) };
    let mut now_ms = 1_000;
    while continuity.lasting_hole(now_ms, &timing).is_none() {
        let reader = continuity.reader;
        assert_eq!(continuity.delivered(now_ms, reader, &record(12, b"event"), &timing), Order::Hole);
        assert!(continuity.suspicion().is_some());
        now_ms += 250;
        assert_eq!(inspect(&mut continuity, now_ms, same()), Verdict::Resume);
        continuity.read_on(&mut effects);
        assert!(now_ms < 4_000, "never believed");
    }
    assert_eq!(now_ms, 3_000);
}

#[test]
fn an_event_in_order_ends_the_suspicion_of_a_hole() {
    let (mut continuity, timing, mut effects) = at_ten();
    let reader = continuity.reader;
    continuity.delivered(1_000, reader, &record(12, b"event"), &timing);
    let same = LogFacts { own: Some(record(10, b"event")), ..facts(12) };
    inspect(&mut continuity, 1_250, same);
    continuity.read_on(&mut effects);
    let reader = continuity.reader;
    assert_eq!(continuity.delivered(1_260, reader, &record(11, b"event"), &timing), Order::Next);
    assert_eq!(continuity.suspicion(), None);
}

#[test]
fn a_trimmed_log_is_not_a_broken_one() {
    let (mut continuity, _, _) = at_ten();
    let just_read = LogFacts { first_sequence: 11, ..facts(10) };
    assert_eq!(inspect(&mut continuity, 1_000, just_read), Verdict::Nothing);
    let trimmed = || LogFacts { first_sequence: 15, ..facts(20) };
    assert_eq!(inspect(&mut continuity, 2_000, trimmed()), Verdict::Nothing, "asked again in full");
    assert_eq!(inspect(&mut continuity, 2_000, trimmed()), Verdict::Trimmed);
    assert_eq!(continuity.suspicion(), None);
}

#[test]
fn a_missing_stream_is_created_only_by_who_has_read_nothing_from_it() {
    let timing = Timing::default();
    let mut fresh = Continuity::default();
    fresh.set_connected(0, true);
    ask(&mut fresh, 0).unwrap();
    assert_eq!(fresh.inspected(0, 1, &Inspection::Missing, &timing), Verdict::Create);

    let (mut continuity, _, _) = at_ten();
    ask(&mut continuity, 1_000).unwrap();
    let check = continuity.check;
    assert_eq!(continuity.inspected(1_000, check, &Inspection::Missing, &timing), Verdict::Nothing);
    assert_eq!(continuity.suspicion(), Some("the stream is gone"));
}

#[test]
fn of_too_many_ends_to_be_confirmed_the_latest_are_kept() {
    let (mut continuity, timing, _) = at_ten();
    let asked = PENDING_ENDS_MAX as u64 + 10;
    for number in 1..=asked {
        inspect(&mut continuity, number * 1_000, facts(10 + number));
    }
    assert_eq!(continuity.pending_ends.len(), PENDING_ENDS_MAX);
    let reader = continuity.reader;
    for sequence in 11..=20 {
        continuity.delivered(asked * 1_000, reader, &record(sequence, b"event"), &timing);
    }
    assert_eq!(continuity.end_confirmed_ms(), None, "those ends are forgotten, and nothing is confirmed by them");
    for sequence in 21..=(10 + asked) {
        continuity.delivered(asked * 1_000, reader, &record(sequence, b"event"), &timing);
    }
    assert_eq!(continuity.end_confirmed_ms(), Some(asked * 1_000));
}

#[test]
fn through_an_earlier_sequence_the_log_was_complete_when_it_last_ended_there() {
    let (mut continuity, timing, _) = at_ten();
    for now_ms in [1_000, 2_000] {
        inspect(&mut continuity, now_ms, facts(10));
    }
    let reader = continuity.reader;
    for number in 1..=ENDS_MAX as u64 {
        inspect(&mut continuity, 2_000 + number * 1_000, facts(10 + number));
        let seen = continuity.end_confirmed_through_ms(10 + number);
        assert_eq!(seen, Some(1_000 + number * 1_000), "that end was not reached yet");
        assert_eq!(continuity.delivered(2_500, reader, &record(10 + number, b"event"), &timing), Order::Next);
        assert_eq!(continuity.end_confirmed_through_ms(10 + number), Some(2_000 + number * 1_000));
    }
    assert_eq!(continuity.end_confirmed_through_ms(11), Some(3_000));
    assert_eq!(continuity.end_confirmed_through_ms(12), Some(4_000));
    assert_eq!(continuity.end_confirmed_through_ms(10), None, "one too many: the oldest is forgotten");
}
