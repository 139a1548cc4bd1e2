//! What consumers are told, in words.

use super::*;

fn evidence(reason: &str) -> Evidence {
    Evidence { reason: Some(reason.to_owned()), ..Evidence::default() }
}

#[test]
fn a_removal_is_told_with_everything_that_proves_it() {
    let proof = Evidence {
        last_heartbeat_at: Some("2026-11-21T09:30:00.123Z".parse().unwrap()),
        heard_by: Some("r2".parse().unwrap()),
        charged_ms: Some(10_000),
        probe: Some(ProbeResult::Timeout),
        replica: Some("r1".parse().unwrap()),
        ..evidence("silent")
    };
    assert_eq!(
        cause(Cause::Expired, "registry/r1", Some(&proof)),
        "expired by registry/r1: its agent was silent (last heard at 2026-11-21T09:30:00.123Z by r2; 10 s of silence that \
         counted; asked, and nobody answered; decided by r1)"
    );
    let (broker_reason, server) = (Some("Client Closed".into()), Some("n1".into()));
    let probe = Some(ProbeResult::NoResponders);
    let proof = Evidence { broker_reason, server, probe, ..evidence("disconnected") };
    assert_eq!(
        cause(Cause::Expired, "registry/r1", Some(&proof)),
        "expired by registry/r1: its agent's connection broke (broker n1 said of its connection: Client Closed; \
         asked, and nobody listened)"
    );
}

#[test]
fn a_deregistration_is_told_with_its_agents_reason() {
    for (word, told) in [
        ("stopped", "it was stopped"),
        ("child_exited", "its process exited"),
        ("critical_too_long", "it was critical for too long"),
        ("operator", "an operator asked for it"),
        ("a later version's", "a later version's"),
    ] {
        let expected = format!("deregistered by agent/web1: {told}");
        assert_eq!(cause(Cause::Deregistered, "agent/web1", Some(&evidence(word))), expected);
    }
}

#[test]
fn every_kind_of_expiry_is_told_in_its_own_words() {
    for (word, probe, told) in [
        ("silent", ProbeResult::NoResponders, "its agent was silent (asked, and nobody listened)"),
        (
            "disowned",
            ProbeResult::Unlisted,
            "its agent no longer vouched for it (asked, and it was not on the agent's list)",
        ),
        (
            "unreachable",
            ProbeResult::Timeout,
            "its agent's broker server was unreachable for too long (asked, and nobody answered)",
        ),
    ] {
        let proof = Evidence { probe: Some(probe), ..evidence(word) };
        assert_eq!(cause(Cause::Expired, "registry/r1", Some(&proof)), format!("expired by registry/r1: {told}"));
    }
    let proof = Evidence { detail: Some("answers with the wrong tenant".into()), ..evidence("evicted") };
    assert_eq!(
        cause(Cause::Evicted, "operator/ada", Some(&proof)),
        "evicted by operator/ada: an operator put it out (answers with the wrong tenant)"
    );
}

#[test]
fn what_needs_no_proof_is_told_without() {
    for (of, told) in [
        (Cause::Registered, "registered by agent/web1"),
        (Cause::Health, "health reported by agent/web1"),
        (Cause::CarriedOver, "brought over from the lost log by agent/web1"),
        (Cause::Resync, "found when the view was read again"),
    ] {
        assert_eq!(cause(of, "agent/web1", None), told);
    }
}
