//! Where the core shows its newest snapshot to whoever answers from it.
//!
//! It changes with every batch of the log, and questions are rarer: who answers takes the newest when it is asked, and is
//! woken only if a question waits for one, or if it may begin or must cease to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::core::replica::Snapshot;

/// The core's side.
#[derive(Debug)]
pub(crate) struct Window {
    snapshots: watch::Sender<Arc<Snapshot>>,
    awaited: Arc<AtomicBool>,
}

/// The side of who answers.
#[derive(Debug)]
pub(crate) struct View {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    awaited: Arc<AtomicBool>,
}

/// Both sides, with something to look at.
pub(crate) fn window(first: Arc<Snapshot>) -> (Window, View) {
    let (sender, snapshots) = watch::channel(first);
    let awaited = Arc::new(AtomicBool::new(false));
    (Window { snapshots: sender, awaited: Arc::clone(&awaited) }, View { snapshots, awaited })
}

impl Window {
    /// Shows a newer one.
    pub(crate) fn show(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.send_if_modified(|shown| {
            // Read while the other side can read nothing: whoever says afterwards that it waits finds this snapshot.
            let woken = self.awaited.load(Ordering::SeqCst) || shown.serving != snapshot.serving;
            *shown = snapshot;
            woken
        });
    }
}

impl View {
    /// The newest.
    pub(crate) fn newest(&mut self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow_and_update())
    }

    /// Says whether every snapshot is waited for. Look at the newest after saying so: it may be the one.
    pub(crate) fn wait_for_each(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    /// Waits for one that is worth waking for. False when there will be none any more.
    pub(crate) async fn changed(&mut self) -> bool {
        self.snapshots.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::queries::catalog_of;

    fn snapshot(revision: u64, serving: bool) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            catalog: catalog_of(&[]),
            epoch: None,
            revision,
            state: muster_schemas::pulse::CatalogState::Ready,
            head_confirmed_ms: None,
            serving,
            reason: None,
        })
    }

    #[test]
    fn nobody_is_woken_for_a_snapshot_that_nobody_waits_for() {
        let (window, mut view) = window(snapshot(1, true));
        window.show(snapshot(2, true));
        assert!(view.changed().now_or_never().is_none());
        assert_eq!(view.newest().revision, 2);
        view.wait_for_each(true);
        window.show(snapshot(3, true));
        assert_eq!(view.changed().now_or_never(), Some(true));
        view.wait_for_each(false);
        window.show(snapshot(4, false));
        assert_eq!(view.changed().now_or_never(), Some(true), "it may not answer any more");
        drop(window);
        assert_eq!(view.changed().now_or_never(), Some(false));
    }
}
