//! Answers cut into chunks, tried in all sizes.

use std::collections::BTreeMap;

use muster_schemas::event::{EpochBegan, Event, EventData, Source};
use muster_schemas::query::Reply;
use muster_schemas::{InstanceId, Namespace, Prefix, Registration, Subjects};
use serde_json::json;

use super::*;
use crate::core::io::Record;

const EPOCH: &str = "01J00000000000000000000000";

/// A catalog of the given services with so many instances each, of very different sizes.
pub(crate) fn catalog(services: &[(&str, u32)]) -> Catalog {
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let mut catalog = Catalog::default();
    let mut sequence = 0;
    let mut fold = |source: Source, data: EventData| {
        sequence += 1;
        let event = Event { id: sequence.to_string(), source, time: None, data };
        let payload = event.encode(subjects.namespace()).unwrap();
        let subject = event.subject(&subjects);
        let at = muster_schemas::Timestamp::from_ms(1_800_000_000_000);
        let record = Record { sequence, at, subject: &subject, payload: &payload };
        let folded = catalog.fold(&subjects, &record);
        assert!(!folded.outcome.is_ignored(), "{folded:?}");
    };
    let epoch = EpochBegan {
        epoch: EPOCH.parse().unwrap(),
        previous_epoch: None,
        namespace: Namespace::default(),
        datacenter: None,
        fold_version: muster_schemas::FOLD_VERSION,
    };
    fold(Source::Registry("r1".parse().unwrap()), EventData::Epoch(epoch));
    for (service, count) in services {
        for number in 0..*count {
            let registration = registration(service, number);
            fold(Source::Agent("a1".parse().unwrap()), EventData::Register(registration));
        }
    }
    catalog
}

fn registration(service: &str, number: u32) -> Registration {
    let value = json!({
        "service": service, "instance": format!("i{number:04}"), "agent": "a1", "session": EPOCH, "incarnation": EPOCH,
        "generation": 1, "ttl_ms": 0, "version": if number.is_multiple_of(2) { "even" } else { "odd" },
        "metadata": { "padding": "x".repeat(usize::try_from(number % 7 * 40).unwrap()) },
    });
    serde_json::from_value(value).unwrap()
}

/// All chunks of an answer; each must fit, and be of one piece.
fn pull(catalog: &Catalog, query: &Query, request: &Request, bytes_max: usize) -> Vec<Reply> {
    let (mut chunks, mut from) = (Vec::new(), None);
    loop {
        let (services, next) = Chunk::write(catalog, query, request, from.as_ref(), bytes_max).unwrap();
        assert!(services.len() <= bytes_max, "{} > {bytes_max}", services.len());
        let head = Head::new(EPOCH.parse().unwrap(), catalog.revision(), catalog.state(), 0);
        chunks.push(serde_json::from_slice::<Reply>(&reply(&head, &services)).unwrap());
        assert!(chunks.len() < 10_000, "the answer does not end");
        match next {
            Some(next) => {
                assert_ne!(from.as_ref(), Some(&next), "no progress");
                from = Some(next);
            }
            None => return chunks,
        }
    }
}

fn instances(chunks: &[Reply]) -> BTreeMap<ServiceName, Vec<InstanceId>> {
    let mut found: BTreeMap<ServiceName, Vec<InstanceId>> = BTreeMap::new();
    for service in chunks.iter().flat_map(|chunk| &chunk.services) {
        let ids = service.instances.iter().map(|instance| instance.vouching().instance.clone());
        found.entry(service.service.clone()).or_default().extend(ids);
    }
    found
}

#[test]
fn however_it_is_cut_an_answer_holds_everything_once_and_in_order() {
    let catalog = catalog(&[("a", 1), ("b", 40), ("c", 17), ("d.e", 3)]);
    let whole = instances(&pull(&catalog, &Query::Snapshot, &Request::default(), usize::MAX));
    assert_eq!(whole.values().map(Vec::len).collect::<Vec<_>>(), [1, 40, 17, 3]);
    assert!(whole.values().all(|ids| ids.is_sorted()));
    for bytes_max in [1_000, 1_001, 1_111, 1_500, 4_096, 20_000] {
        for limit in [None, Some(1), Some(2), Some(7), Some(1_000)] {
            let request = Request { limit, ..Request::default() };
            let chunks = pull(&catalog, &Query::Snapshot, &request, bytes_max);
            assert_eq!(instances(&chunks), whole, "{bytes_max} bytes, limit {limit:?}");
            let most = chunks.iter().map(|chunk| chunk.services.iter().map(|service| service.instances.len()).sum());
            assert!(most.max().unwrap_or(0usize) <= limit.map_or(usize::MAX, |limit| limit as usize));
        }
    }
}

#[test]
fn a_filter_is_applied_last_and_costs_no_progress() {
    let catalog = catalog(&[("a", 60)]);
    let filter = Filter { version: Some("odd".into()), ..Filter::default() };
    for limit in [None, Some(1), Some(4)] {
        let request = Request { limit, filter: Some(filter.clone()), ..Request::default() };
        let chunks = pull(&catalog, &Query::Service("a".parse().unwrap()), &request, 1_200);
        assert_eq!(instances(&chunks).values().map(Vec::len).sum::<usize>(), 30);
        assert!(chunks.iter().all(|chunk| chunk.services[0].total == 60));
    }
}

#[test]
fn the_list_of_services_has_no_instances_and_is_cut_too() {
    let names: Vec<String> = (0..50).map(|number| format!("service-{number:03}")).collect();
    let services: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let catalog = catalog(&services);
    for (bytes_max, limit) in [(usize::MAX, None), (1_000, None), (usize::MAX, Some(3))] {
        let request = Request { limit, ..Request::default() };
        let chunks = pull(&catalog, &Query::Services, &request, bytes_max);
        let found: Vec<String> =
            chunks.iter().flat_map(|chunk| &chunk.services).map(|service| service.service.to_string()).collect();
        assert_eq!(found, names);
        assert!(chunks.iter().flat_map(|chunk| &chunk.services).all(|service| service.instances.is_empty()));
    }
}

#[test]
fn an_instance_that_fits_into_no_message_is_an_error_that_names_it() {
    let catalog = catalog(&[("a", 3)]);
    let request = Request::default();
    let error = Chunk::write(&catalog, &Query::Snapshot, &request, None, 300).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::TooLarge, "service"));
    assert!(error.message.contains("300 bytes"), "{error}");
}
