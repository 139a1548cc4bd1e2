//! Scenario 28: export, wipe, import: the same digest.

use std::fs;

use muster_schemas::query::Status;
use muster_tests::NatsServer;

use crate::support::{
    SOON, deregister, evict, muster, orders_with, register, set_maintenance, start_ready, status_of, stream_state,
};

fn held(status: &Status) -> (String, u64, u64, u64, u64) {
    let epoch = status.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    (format!("{} of {epoch}", status.digest), status.revision, status.instances, status.tombstones, status.intents)
}

#[tokio::test]
async fn export_wipe_import_gives_the_same_digest() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    let client = broker.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.checkpoint");
    let file = file.to_str().unwrap();
    let mut registry = start_ready(&broker, "r1", &[]).await;
    for instance in ["a", "b", "c", "d"] {
        register(&client, instance).await;
    }
    set_maintenance(&client, "a").await;
    deregister(&client, "b").await;
    let sequence = evict(&client, "c").await;
    let before = status_of(&client, "r1", |status| status.revision >= sequence).await;
    assert_eq!((before.instances, before.tombstones, before.intents), (2, 2, 2));

    let exported = muster(&broker, &["export", file]).await.expect_code(0);
    assert!(exported.stdout.contains(&format!("digest {}", before.digest)), "{exported:?}");
    let again = muster(&broker, &["export", file]).await.expect_code(1);
    assert!(again.stderr.contains("is there already") && again.stderr.contains("--force"), "{again:?}");
    let running = muster(&broker, &["import", "--force", file]).await.expect_code(1);
    assert!(running.stderr.contains("registry r1 is running"), "{running:?}");
    assert!(registry.stop(SOON).await.success());
    let occupied = muster(&broker, &["import", file]).await.expect_code(1);
    assert!(occupied.stderr.contains("there is a log already") && occupied.stderr.contains("--force"), "{occupied:?}");

    broker.stop().await;
    broker.wipe_store();
    broker.restart().await;
    let client = broker.connect().await;
    let imported = muster(&broker, &["import", file]).await.expect_code(0);
    assert!(imported.stdout.contains(&format!("digest {}", before.digest)), "{imported:?}");
    let mut registry = start_ready(&broker, "r2", &[]).await;
    let after = status_of(&client, "r2", |_| true).await;
    assert_eq!(held(&after), held(&before));
    let maintained = |reply: &muster_schemas::query::Reply| reply.services[0].instances[0].maintenance.is_some();
    orders_with(&client, maintained).await;

    // The log goes on where it ended, fences hold, and it can be replaced on purpose.
    let next = register(&client, "e").await;
    assert_eq!(next, sequence + 1);
    let fenced = register(&client, "c").await;
    let went_on = status_of(&client, "r2", |status| status.revision >= fenced).await;
    assert_eq!((went_on.instances, went_on.outcomes["fenced"]), (3, 1));
    assert!(registry.stop(SOON).await.success());
    muster(&broker, &["import", "--force", file]).await.expect_code(0);
    assert_eq!(stream_state(&client).await.last_sequence, sequence);
    let _registry = start_ready(&broker, "r3", &[]).await;
    assert_eq!(held(&status_of(&client, "r3", |_| true).await), held(&before));
}

#[tokio::test]
async fn what_was_cut_off_or_is_no_export_is_refused_before_anything_is_touched() {
    let broker = NatsServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken");
    let nothing = muster(&broker, &["export", file.to_str().unwrap()]).await.expect_code(1);
    assert!(nothing.stderr.contains("there is no log"), "{nothing:?}");
    for (bytes, told) in [
        (&b"muster checkpoint 1\n"[..], "it ends after 20 bytes"),
        (b"muster checkpoint 9\n", "its format is version 9"),
        (b"{}", "not a checkpoint"),
    ] {
        fs::write(&file, bytes).unwrap();
        let refused = muster(&broker, &["import", file.to_str().unwrap()]).await.expect_code(1);
        assert!(refused.stderr.contains("cannot be imported") && refused.stderr.contains(told), "{refused:?}");
    }
    let missing = muster(&broker, &["import", "/nonexistent"]).await.expect_code(1);
    assert!(missing.stderr.contains("cannot be imported: No such file"), "{missing:?}");
}
