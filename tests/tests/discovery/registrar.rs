//! Registering from within a program.

use muster_discovery::{Cause, Description, Discovery, ErrorKind, HealthStatus, Registrar};
use muster_tests::eventually;

use crate::support::{Mirror, Place, SOON, versions};

fn described(id: &str, version: &str) -> Description {
    let description = Description::new("orders", id).expect("names");
    description.endpoint("http", "http", "10.0.0.1", 8080).version(version)
}

#[tokio::test]
async fn a_program_registers_changes_and_deregisters_what_it_provides() {
    let place = Place::start().await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let registrar = Registrar::connect(place.broker.url()).await.expect("connected");
    let orders = registrar.register(described("a", "1")).await.expect("registered");
    let mut watch = discovery.watch("orders").expect("a name").routable();
    let mut mirror = Mirror::default();
    mirror.until(&mut watch, &versions(&[("a", "1")])).await;

    orders.set_health(HealthStatus::Critical);
    mirror.until(&mut watch, &versions(&[])).await;
    assert_eq!(mirror.changes.last().map(muster_discovery::Change::cause), Some(Cause::Health));
    orders.update(described("a", "2")).expect("by the rules");
    mirror.until(&mut watch, &versions(&[("a", "2")])).await;
    orders.deregister().await.expect("deregistered");
    mirror.until(&mut watch, &versions(&[])).await;
    assert_eq!(mirror.changes.last().map(muster_discovery::Change::cause), Some(Cause::Deregistered));
}

#[tokio::test]
async fn a_registration_that_is_dropped_is_taken_back() {
    let place = Place::start().await;
    let discovery = Discovery::connect(place.broker.url()).await.expect("connected");
    let registrar = Registrar::connect(place.broker.url()).await.expect("connected");
    let orders = registrar.register(described("a", "1")).await.expect("registered");
    drop(registrar);
    drop(orders);
    eventually("orders is proven empty", SOON, async || {
        let list = discovery.instances("orders").await.map_err(|error| error.to_string())?;
        if list.is_proven_empty() { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_description_against_a_rule_is_refused_before_anything_is_sent() {
    let place = Place::start().await;
    let registrar = Registrar::connect(place.broker.url()).await.expect("connected");
    let twice = described("a", "1").endpoint("http", "http", "10.0.0.1", 8081);
    let error = registrar.register(twice).await.expect_err("two endpoints of one name");
    assert_eq!((error.kind(), error.may_have_changed()), (ErrorKind::Registration, false));
    assert!(error.to_string().contains("endpoints"), "{error}");
}
