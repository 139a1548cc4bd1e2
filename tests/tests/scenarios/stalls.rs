//! How long this machine lets a process wait that wants to run: what is promised for an idle one is not held against a busy
//! one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Measures as long as it lives.
#[derive(Debug)]
pub(crate) struct Stalls {
    worst_ms: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stalls {
    pub(crate) fn start() -> Self {
        const PERIOD: Duration = Duration::from_millis(10);
        let worst_ms = Arc::new(AtomicU64::new(0));
        let worst = worst_ms.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut last = ticks.tick().await;
            loop {
                ticks.tick().await;
                let late = last.elapsed().saturating_sub(PERIOD);
                worst.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                last = tokio::time::Instant::now();
            }
        });
        Self { worst_ms, task }
    }

    /// The longest wait so far.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_millis(self.worst_ms.load(Ordering::Relaxed))
    }
}
