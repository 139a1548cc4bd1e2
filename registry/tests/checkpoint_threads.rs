//! Threads that read a checkpoint give what one alone reads, and see the same damage.

use muster_registry::checkpoint_threads::CheckpointThreads;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::catalog::checkpoint::{Checkpoint, CheckpointError, Readers, Restoring};
use muster_registry::core::io::Record;
use muster_schemas::event::{EpochBegan, Event, EventData, Source};
use muster_schemas::{
    EpochId, FOLD_VERSION, Incarnation, Namespace, Prefix, ReplicaId, SessionId, Subjects, Timestamp,
};

const INSTANCES: u64 = 6_000;

/// Services of a hundred instances each, enough for several batches for each thread.
fn catalog() -> Catalog {
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let mut catalog = Catalog::default();
    let began = EpochBegan {
        epoch: EpochId::from_parts(1, 1),
        previous_epoch: None,
        namespace: Namespace::default(),
        datacenter: None,
        fold_version: FOLD_VERSION,
    };
    let replica = ReplicaId::new("r1").expect("a name");
    let epoch = (Source::Registry(replica), EventData::Epoch(began));
    let events = std::iter::once(epoch).chain((0..INSTANCES).map(|number| {
        let agent = format!("node-{}", number / 10);
        let registration = serde_json::json!({
            "service": format!("service-{:03}", number / 100), "instance": format!("i-{number:05}"), "agent": agent,
            "session": SessionId::from_parts(1, 1), "incarnation": Incarnation::from_parts(1, 1), "generation": 1,
            "ttl_ms": 10_000, "metadata": { "filling": "x".repeat(400), "number": number.to_string() },
            "endpoints": [{ "name": "http", "scheme": "http", "host": "10.0.0.1", "port": number % 5_900 + 1 }],
        });
        let registration = serde_json::from_value(registration).expect("a registration");
        (Source::Agent(agent.parse().expect("a name")), EventData::Register(registration))
    }));
    for (sequence, (source, data)) in (1..).zip(events) {
        let event = Event { id: format!("event-{sequence}"), source, time: None, data };
        let payload = event.encode(subjects.namespace()).expect("small enough");
        let at = Timestamp::from_ms(1_790_000_000_000);
        catalog.fold(&subjects, &Record { sequence, at, subject: &event.subject(&subjects), payload: &payload });
    }
    assert_eq!(catalog.instances_count(), INSTANCES);
    catalog
}

fn restore(bytes: &[u8], readers: Option<Box<dyn Readers>>) -> Result<Catalog, CheckpointError> {
    let mut restoring = Restoring::read_by(readers);
    for piece in bytes.chunks(100_000) {
        restoring.feed(piece)?;
    }
    Ok(restoring.finish()?.0.catalog().clone())
}

#[test]
fn several_threads_read_what_one_reads_and_see_all_damage() {
    let catalog = catalog();
    let mut bytes = Vec::new();
    Checkpoint::of(&catalog, None).expect("a log is in force").write(&mut bytes).expect("memory");
    for _ in 0..20 {
        assert_eq!(restore(&bytes, CheckpointThreads::begin()).as_ref(), Ok(&catalog));
    }
    assert_eq!(restore(&bytes, None).as_ref(), Ok(&catalog), "one alone reads the same");
    for at in (0..bytes.len()).step_by(bytes.len() / 20) {
        assert!(restore(&bytes[..at], CheckpointThreads::begin()).is_err(), "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(restore(&flipped, CheckpointThreads::begin()).is_err(), "byte {at}");
    }
}
