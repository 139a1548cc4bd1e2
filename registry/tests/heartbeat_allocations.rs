//! The hot path: a heartbeat of a known agent, and a mark, allocate nothing.

// Counting allocations takes an allocator of one's own, and that trait is unsafe to implement.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use muster_registry::core::leases::{Heard, Leases};
use muster_schemas::heartbeat::{Connection, Heartbeat};
use muster_schemas::{
    AgentId, Digest, EpochId, MinRevision, Namespace, Prefix, ReplicaId, Revision, SessionId, Subjects, Timestamp,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn heartbeat(epoch: EpochId, counter: u64) -> Vec<u8> {
    let heartbeat = Heartbeat {
        v: 1,
        session: SessionId::from_parts(1, 1),
        counter,
        instances: 1,
        digest: Digest::ZERO,
        acked: Some(MinRevision(Some(epoch), 1)),
        conn: Some(Connection("n1".into(), "NAWAZ".into(), 17)),
    };
    serde_json::to_vec(&heartbeat).expect("JSON")
}

#[test]
fn a_heartbeat_of_a_known_agent_allocates_nothing() {
    let subjects = Subjects::new(Prefix::default(), Namespace::default());
    let replica = ReplicaId::new("r1").expect("a name");
    let subject = subjects.heartbeat(&AgentId::new("web1").expect("a name"));
    let mut leases = Leases::new(subjects, &replica);
    let epoch = EpochId::from_parts(1, 1);
    let payloads: Vec<_> = (1..=1_001).map(|counter| heartbeat(epoch, counter)).collect();
    let mut hear = |payload: &[u8]| {
        let position = Some(Revision(epoch, 5));
        let heard = leases.hear(1_000, Timestamp::from_ms(1), position, &subject, payload);
        assert!(matches!(heard, Heard::Beat(_)), "{heard:?}");
    };
    hear(&payloads[0]);
    let before = ALLOCATIONS.get();
    for payload in &payloads[1..] {
        hear(payload);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in 1,000 heartbeats");
    assert!(before > 0, "the allocator counts");
}
