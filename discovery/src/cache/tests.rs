//! What is on disk, and what becomes of what is not right there.

use std::time::Duration;

use super::*;
use crate::fake::instance;
use crate::snapshot::State;

fn subjects(namespace: &str) -> Subjects {
    Subjects::new(Prefix::default(), Namespace::new(namespace).expect("a name"))
}

fn orders() -> Scope {
    Scope::Service("orders".parse().expect("a name"))
}

fn feed(ids: &[&str], confirmed_ms: i64) -> Feed {
    let mut list = ServiceList::default();
    for id in ids {
        let instance = instance("orders", id).expect("names");
        list.instances.insert(instance.id().clone(), Arc::new(instance));
    }
    let lists = Lists::unit("orders".parse().expect("a name"), list);
    let confirmed_at = Some(Timestamp::from_ms(confirmed_ms));
    let first = Snapshot { lists, state: State::Verified, revision: None, confirmed_at, serial: 0 };
    Feed::new(orders(), first, Duration::ZERO)
}

async fn saved(directory: &Path, ids: &[&str]) -> Cache {
    let mut cache = Cache::new(directory.to_path_buf(), subjects("default"));
    cache.due(&feed(ids, 5_000), 0).expect("something new").await;
    cache
}

#[tokio::test]
async fn what_was_written_is_read_with_the_moment_until_which_it_was_right() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = saved(directory.path(), &["a", "b"]).await;
    let (lists, right_until) = cache.load(&orders()).await.expect("what was written");
    assert_eq!((lists["orders"].instances.len(), right_until.as_ms()), (2, 5_000));
    assert!(cache.load(&Scope::Everything).await.is_none(), "another view has another file");
}

#[tokio::test]
async fn another_namespace_does_not_read_it() {
    let directory = tempfile::tempdir().expect("a directory");
    saved(directory.path(), &["a"]).await;
    let other = Cache::new(directory.path().to_path_buf(), subjects("staging"));
    assert!(other.load(&orders()).await.is_none());
}

#[tokio::test]
async fn a_damaged_file_is_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = saved(directory.path(), &["a"]).await;
    let file = cache.file(&orders());
    let whole = std::fs::read(&file).expect("the file");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("written");
    assert!(cache.load(&orders()).await.is_none());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_does_no_harm() {
    let directory = tempfile::tempdir().expect("a directory");
    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "not a directory").expect("written");
    let cache = saved(&in_the_way, &["a"]).await;
    assert!(cache.load(&orders()).await.is_none());
}

#[test]
fn a_list_is_written_again_when_it_changed_and_otherwise_once_a_minute() {
    let mut cache = Cache::new("nowhere".into(), subjects("default"));
    let first = feed(&["a"], 5_000);
    assert!(cache.due(&first, 0).is_some());
    assert!(cache.due(&first, 100_000).is_none(), "not even confirmed again");
    let changed = feed(&["a", "b"], 6_000);
    assert!(cache.due(&changed, CHANGED_MS - 1).is_none(), "too soon");
    assert!(cache.due(&changed, CHANGED_MS).is_some());
    let mut again = Snapshot::clone(&changed.snapshot());
    again.confirmed_at = Some(Timestamp::from_ms(7_000));
    changed.publish(again, Vec::new(), true);
    assert!(cache.due(&changed, CHANGED_MS + UNCHANGED_MS - 1).is_none());
    assert!(cache.due(&changed, CHANGED_MS + UNCHANGED_MS).is_some(), "right until a later moment");
}
