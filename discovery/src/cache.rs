//! The last known lists on disk, so that a consumer that starts during an outage has something to go on.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_schemas::{Instance, Namespace, Prefix, Subjects, Timestamp};
use serde::{Deserialize, Serialize};

use crate::core::io::Scope;
use crate::feed::Feed;
use crate::snapshot::{Lists, ServiceList, Snapshot};

/// A list that changes all the time is written no more often.
const CHANGED_MS: u64 = 2_000;
/// One that does not change is written again so that "right until" stays recent.
const UNCHANGED_MS: u64 = 60_000;

const VERSION: u32 = 1;

/// What stands in a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    v: u32,
    prefix: Prefix,
    namespace: Namespace,
    /// Until when the list was known to be right.
    right_until: Timestamp,
    instances: Vec<Arc<Instance>>,
}

/// A directory with one file per view.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    subjects: Subjects,
    written: BTreeMap<Scope, Written>,
}

#[derive(Debug, Clone)]
struct Written {
    at_ms: u64,
    snapshot: Arc<Snapshot>,
}

impl Cache {
    pub(crate) fn new(directory: PathBuf, subjects: Subjects) -> Self {
        Self { directory, subjects, written: BTreeMap::new() }
    }

    fn file(&self, scope: &Scope) -> PathBuf {
        let (prefix, namespace) = (self.subjects.prefix(), self.subjects.namespace());
        let name = match scope {
            Scope::Everything => format!("{prefix}.{namespace}.everything.json"),
            Scope::Service(service) => format!("{prefix}.{namespace}.service.{}.json", service.token()),
        };
        self.directory.join(name)
    }

    /// What was on disk for a view, and until when it was right; none if there is nothing, or nothing that can be read.
    pub(crate) async fn load(&self, scope: &Scope) -> Option<(Lists, Timestamp)> {
        let (file, subjects) = (self.file(scope), self.subjects.clone());
        let reading = tokio::task::spawn_blocking(move || load_file(&file, &subjects));
        reading.await.ok().flatten()
    }

    /// Writes a view's list, if it is time to. The work is to be awaited by somebody.
    pub(crate) fn due(&mut self, feed: &Feed, now_ms: u64) -> Option<impl Future<Output = ()> + Send + 'static> {
        let snapshot = feed.snapshot();
        let right_until = snapshot.confirmed_at?;
        if let Some(written) = self.written.get(&feed.scope) {
            let is_changed = !snapshot.lists.ptr_eq(&written.snapshot.lists);
            let pause_ms = if is_changed { CHANGED_MS } else { UNCHANGED_MS };
            let is_news = written.snapshot.confirmed_at != snapshot.confirmed_at || is_changed;
            if !is_news || now_ms.saturating_sub(written.at_ms) < pause_ms {
                return None;
            }
        }
        self.written.insert(feed.scope.clone(), Written { at_ms: now_ms, snapshot: snapshot.clone() });
        let file = self.file(&feed.scope);
        let saved = Saved {
            v: VERSION,
            prefix: self.subjects.prefix().clone(),
            namespace: self.subjects.namespace().clone(),
            right_until,
            instances: snapshot.all().cloned().collect(),
        };
        Some(async move {
            let writing = tokio::task::spawn_blocking(move || write_file(&file, &saved).map_err(|error| (file, error)));
            if let Ok(Err((file, error))) = writing.await {
                tracing::warn!(file = %file.display(), %error, "cannot write the last known list: check `cache_dir`");
            }
        })
    }
}

fn load_file(file: &Path, subjects: &Subjects) -> Option<(Lists, Timestamp)> {
    let bytes = std::fs::read(file).ok()?;
    let saved: Saved = match serde_json::from_slice(&bytes) {
        Ok(saved) => saved,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the last known list on disk is damaged: passing over it");
            return None;
        }
    };
    if saved.v != VERSION || saved.prefix != *subjects.prefix() || saved.namespace != *subjects.namespace() {
        return None;
    }
    let mut lists = Lists::new();
    for instance in saved.instances {
        let list: &mut ServiceList = lists.entry(instance.service().clone()).or_default();
        list.instances.insert(instance.id().clone(), instance);
    }
    Some((lists, saved.right_until))
}

/// Written beside and renamed, so that a crash leaves the old file or the new one.
fn write_file(file: &Path, saved: &Saved) -> std::io::Result<()> {
    let beside = file.with_extension("json.new");
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&beside, serde_json::to_vec(saved)?)?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests;
