//! Watches and snapshots, fed by the fake: what holds for it holds for the broker's, for both feed the same.

use futures::FutureExt;
use muster_schemas::HealthStatus;

use super::*;
use crate::change::Update;
use crate::snapshot::Answer;
use crate::watch::Watch;

fn versioned(id: &str, version: &str) -> Instance {
    let mut instance = instance("orders", id).expect("names");
    instance.registration.version = Some(version.into());
    instance
}

fn with_health(id: &str, status: HealthStatus) -> Instance {
    let mut instance = instance("orders", id).expect("names");
    instance.registration.health.status = status;
    instance
}

/// All that a watch has ready, in words.
fn ready(watch: &mut Watch) -> Vec<String> {
    let updates = std::iter::from_fn(|| watch.next().now_or_never().flatten());
    let words = |update| match update {
        Update::List(list) => format!("list of {}", list.len()),
        Update::Change(change) => format!("{} {} {}", change.as_str(), change.id(), change.cause().as_str()),
        Update::State(State::Verified) => "verified".to_owned(),
        Update::State(State::Unknown { .. }) => "unknown".to_owned(),
    };
    updates.map(words).collect()
}

fn watch(fake: &FakeDiscovery) -> Watch {
    fake.discovery().watch("orders").expect("a name")
}

#[test]
fn a_watch_begins_with_the_whole_list_and_goes_on_with_differences() {
    let fake = FakeDiscovery::new();
    fake.put(versioned("a", "1"));
    let mut watch = watch(&fake);
    assert_eq!(ready(&mut watch), ["list of 1"]);
    fake.put(versioned("b", "1"));
    fake.put(versioned("a", "2"));
    fake.remove("orders", "b", Cause::Evicted);
    fake.put(instance("users", "x").expect("names"));
    assert_eq!(ready(&mut watch), ["added b registered", "updated a updated", "removed b evicted"]);
}

#[test]
fn an_instance_that_leaves_the_filter_is_removed_with_the_true_cause() {
    let fake = FakeDiscovery::new();
    fake.put(versioned("a", "1"));
    fake.put(versioned("b", "2"));
    let mut ones = watch(&fake).version("1");
    assert_eq!(ready(&mut ones), ["list of 1"]);
    fake.put(versioned("a", "2"));
    fake.put(versioned("b", "1"));
    fake.remove("orders", "a", Cause::Expired);
    assert_eq!(ready(&mut ones), ["removed a updated", "added b updated"]);
}

#[test]
fn filters_by_health_tag_and_routability_narrow_together() {
    let fake = FakeDiscovery::new();
    fake.put(with_health("a", HealthStatus::Passing));
    fake.put(with_health("b", HealthStatus::Warning));
    fake.put(with_health("c", HealthStatus::Critical));
    let mut tagged = with_health("d", HealthStatus::Warning);
    tagged.registration.tags = vec!["primary".into(), "eu".into()];
    fake.put(tagged);
    assert_eq!(ready(&mut watch(&fake).routable()), ["list of 3"]);
    assert_eq!(ready(&mut watch(&fake).health_at_worst(HealthStatus::Passing)), ["list of 1"]);
    assert_eq!(ready(&mut watch(&fake).tag("primary").tag("eu")), ["list of 1"]);
    assert_eq!(ready(&mut watch(&fake).tag("primary").tag("us")), ["list of 0"]);
}

#[test]
fn a_watch_that_was_not_polled_beyond_the_bound_goes_on_with_the_differences() {
    let fake = FakeDiscovery::new();
    fake.put(versioned("a", "1"));
    fake.put(versioned("b", "1"));
    let mut watch = watch(&fake);
    assert_eq!(ready(&mut watch), ["list of 2"]);
    for version in 0..5_000 {
        fake.put(versioned("a", &version.to_string()));
    }
    fake.remove("orders", "b", Cause::Deregistered);
    fake.put(versioned("c", "1"));
    fake.lose_sight();
    assert_eq!(ready(&mut watch), ["updated a resync", "added c resync", "removed b resync", "unknown"]);
    fake.regain_sight();
    fake.remove("orders", "a", Cause::Deregistered);
    assert_eq!(ready(&mut watch), ["verified", "removed a deregistered"], "and is in step again");
}

#[test]
fn the_three_answers_are_told_apart() {
    let fake = FakeDiscovery::new();
    let discovery = fake.discovery();
    let ask = || discovery.instances("orders").now_or_never().expect("at once").expect("a name");
    assert!(matches!(ask().answer(), Answer::ProvenEmpty));
    fake.put(with_health("a", HealthStatus::Critical));
    assert!(matches!(ask().answer(), Answer::Instances(list) if list.len() == 1 && list.instances().count() == 0));
    fake.lose_sight();
    assert!(matches!(ask().answer(), Answer::UnknownSince(_, last) if last.len() == 1));
    fake.remove("orders", "a", Cause::Deregistered);
    assert!(ask().is_empty() && !ask().is_proven_empty());
}

#[test]
fn a_watch_of_all_services_sees_them_all() {
    let fake = FakeDiscovery::new();
    let mut all = fake.discovery().watch_all();
    assert_eq!(ready(&mut all), ["list of 0"]);
    fake.put(versioned("a", "1"));
    fake.put(instance("users", "x").expect("names"));
    assert_eq!(ready(&mut all), ["added a registered", "added x registered"]);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let discovery = FakeDiscovery::new().discovery();
    let error = discovery.watch("").expect_err("no name");
    assert_eq!(error.kind(), crate::ErrorKind::InvalidName);
}

#[test]
fn a_snapshot_in_hand_never_changes() {
    let fake = FakeDiscovery::new();
    fake.put(versioned("a", "1"));
    let held = fake.discovery().instances("orders").now_or_never().expect("at once").expect("a name");
    fake.remove("orders", "a", Cause::Expired);
    assert_eq!(held.len(), 1);
}
