//! What consumers hear of an event.

use muster_schemas::HealthStatus::{Critical, Passing};
use muster_schemas::{Cause, ChangeKind, WIRE_VERSION};

use super::*;

#[test]
fn a_change_says_what_happened_and_what_is_held_now() {
    let mut bench = Bench::ready();
    let change = bench.register("a", "i", 1, 1).change.unwrap();
    assert_eq!((change.v, change.epoch, change.revision), (WIRE_VERSION, epoch_id(1), bench.sequence));
    assert_eq!((change.change, change.cause, change.actor.as_str()), (ChangeKind::Added, Cause::Registered, "agent/a"));
    assert_eq!(change.at, bench.catalog.stream_time());
    assert_eq!(change.value, bench.instance("i"));
    assert_eq!(change.digest, bench.catalog.service(&orders()).unwrap().digest());
    let value = change.value.clone().unwrap();
    assert_eq!((value.created_revision, value.modified_revision), (bench.sequence, bench.sequence));
}

#[test]
fn changes_of_a_service_are_chained_by_their_revisions() {
    let mut bench = Bench::ready();
    let first = bench.register("a", "i", 1, 1).change.unwrap();
    assert_no_op(&bench.register("a", "i", 1, 2));
    let second = bench.register("a", "j", 1, 1).change.unwrap();
    let third = bench.health("a", "i", (1, 3), Critical).change.unwrap();
    assert_eq!(first.previous_revision, 0);
    assert_eq!(second.previous_revision, first.revision);
    assert_eq!(third.previous_revision, second.revision);
    assert_eq!((third.change, third.cause), (ChangeKind::Updated, Cause::Health));
    let value = third.value.clone().unwrap();
    assert_eq!((value.created_revision, value.modified_revision), (first.revision, third.revision));
}

#[test]
fn the_last_removal_leaves_no_digest_and_the_next_registration_follows_nothing() {
    let mut bench = Bench::ready();
    let added = bench.register("a", "i", 1, 1).change.unwrap();
    let removed = bench.deregister("a", "i", 1, 2).change.unwrap();
    assert_eq!((removed.change, removed.cause), (ChangeKind::Removed, Cause::Deregistered));
    assert_eq!((removed.previous_revision, removed.digest), (added.revision, Digest::ZERO));
    assert_eq!(removed.value, None);
    let evidence = removed.evidence.clone().unwrap();
    assert_eq!(evidence.reason.as_deref(), Some("stopped"));
    assert_eq!(evidence.detail.as_deref(), Some("asked to stop"));
    let service = bench.catalog.service(&orders()).unwrap();
    assert_eq!((service.total(), service.revision()), (0, removed.revision));
    let returned = bench.register("a", "i", 2, 1).change.unwrap();
    assert_eq!((returned.change, returned.previous_revision), (ChangeKind::Added, 0));
}

#[test]
fn a_registration_with_other_content_is_an_update() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let folded = bench.register_with(vouching("a", "i", 1, 2), |registration| registration.weight = 0);
    let change = folded.change.unwrap();
    assert_eq!((change.change, change.cause), (ChangeKind::Updated, Cause::Updated));
    let service = bench.catalog.service(&orders()).unwrap();
    assert_eq!((service.total(), service.routable()), (1, 0));
}

#[test]
fn fields_that_this_version_does_not_know_are_kept_and_passed_on() {
    let mut bench = Bench::ready();
    let folded = bench.register_with(vouching("a", "i", 1, 1), |registration| {
        registration.extra.insert("shard".into(), serde_json::json!({ "of": 3 }));
    });
    let value = folded.change.unwrap().value.clone().unwrap();
    assert_eq!(value.registration.extra["shard"], serde_json::json!({ "of": 3 }));
    bench.health("a", "i", (1, 2), Critical);
    assert!(bench.instance("i").unwrap().registration.extra.contains_key("shard"));
}

#[test]
fn the_same_host_and_port_twice_is_a_conflict_that_both_are_told_of_and_nobody_is_removed_for() {
    let mut bench = Bench::ready();
    let at = |registration: &mut Registration| registration.endpoints = vec![endpoint("10.0.0.1", 80)];
    bench.register_with(vouching("a", "i", 1, 1), at);
    assert!(bench.catalog.conflicts_of(&orders()).is_empty());
    let folded = bench.register_with(vouching("b", "j", 1, 1), at);
    assert_eq!(folded.change.as_ref().unwrap().conflicts, ["orders/i"]);
    assert_eq!(told(&folded, "a"), [NoticeCode::Conflict]);
    assert_eq!(told(&folded, "b"), [NoticeCode::Conflict]);
    let conflicts = bench.catalog.conflicts_of(&orders());
    assert_eq!(conflicts["10.0.0.1:80"], ["orders/i", "orders/j"]);
    assert_eq!(bench.catalog.instances_count(), 2);

    // What is known is not told again.
    let folded = bench.health("b", "j", (1, 2), Critical);
    assert!(folded.change.unwrap().conflicts.is_empty());
    assert!(folded.notices.is_empty());

    bench.deregister("a", "i", 1, 2);
    assert!(bench.catalog.conflicts_of(&orders()).is_empty());
    assert_eq!(bench.catalog.conflicting_addresses(), 0);
}

#[test]
fn a_conflict_begins_and_ends_with_the_endpoints() {
    let mut bench = Bench::ready();
    bench.register_with(vouching("a", "i", 1, 1), |registration| {
        // Schemes may repeat on one port: that is one claim.
        registration.endpoints = vec![endpoint("::1", 80), endpoint("::1", 81)];
        registration.endpoints[0].name = "grpc".into();
    });
    bench.register_with(vouching("b", "j", 1, 1), |registration| registration.endpoints = vec![endpoint("::1", 82)]);
    assert_eq!(bench.catalog.conflicting_addresses(), 0);
    let moved = bench.register_with(vouching("b", "j", 1, 2), |registration| {
        registration.endpoints = vec![endpoint("::1", 81)];
    });
    assert_eq!(moved.change.unwrap().conflicts, ["orders/i"]);
    assert_eq!(bench.catalog.conflicts_of(&orders())["[::1]:81"], ["orders/i", "orders/j"]);
    bench.register_with(vouching("b", "j", 1, 3), |registration| registration.endpoints = vec![endpoint("::1", 82)]);
    assert!(bench.catalog.conflicts_of(&orders()).is_empty());
}

#[test]
fn a_default_address_of_a_whole_fleet_does_not_make_every_change_name_the_fleet() {
    let mut bench = Bench::ready();
    for number in 0..40 {
        let instance = format!("i{number:02}");
        let folded = bench.register_with(vouching("a", &instance, 1, 1), |registration| {
            registration.endpoints = vec![endpoint("127.0.0.1", 80)];
        });
        let conflicts = &folded.change.unwrap().conflicts;
        assert_eq!(conflicts.len(), number.min(super::super::CONFLICTS_PER_CHANGE_MAX));
    }
    assert_eq!(bench.catalog.conflicts_of(&orders())["127.0.0.1:80"].len(), 40);
}

#[test]
fn reads_go_on_from_where_a_chunk_ended() {
    let mut bench = Bench::ready();
    for instance in ["b", "a", "c"] {
        bench.register("x", instance, 1, 1);
    }
    bench.deregister("x", "b", 1, 2);
    let service = bench.catalog.service(&orders()).unwrap();
    let ids = |instances: Vec<&Arc<Instance>>| instances.iter().map(|one| one.id().to_string()).collect::<Vec<_>>();
    assert_eq!(ids(service.instances().collect()), ["a", "c"]);
    assert_eq!(ids(service.instances_after(&id("a")).collect()), ["c"]);
    assert_eq!(bench.catalog.services_after(&orders()).count(), 0);
    assert_eq!(bench.catalog.services_after(&ServiceName::new("a").unwrap()).count(), 1);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut bench = Bench::ready();
    bench.register("a", "i", 1, 1);
    let snapshot = bench.catalog.clone();
    let entries: Vec<_> = snapshot.entries().collect();
    bench.health("a", "i", (1, 2), Critical);
    bench.register("a", "j", 1, 1);
    bench.deregister("a", "i", 1, 3);
    assert_eq!(snapshot.entries().collect::<Vec<_>>(), entries);
    assert_eq!(snapshot.digest(), entries.iter().map(|kept| kept.entry.digest()).sum());
    let held = snapshot.instance(&orders(), &id("i")).unwrap();
    assert_eq!(held.registration.health, health(Passing));
}

#[test]
fn a_change_is_written_from_the_bytes_of_its_instance_as_it_would_be_written_whole() {
    let mut bench = Bench::ready();
    for generation in 1..4 {
        let folded = bench.register_with(vouching("a", "i", 1, generation), |registration| {
            registration.version = Some(format!("\"value\":null {generation}").into());
            registration.extra.insert("value".into(), serde_json::Value::Null);
        });
        let (change, value) = (folded.change.unwrap(), folded.value_bytes.unwrap());
        let bytes = change.encode(Some(&value));
        assert_eq!(String::from_utf8(bytes).unwrap(), serde_json::to_string(&*change).unwrap());
    }
}
