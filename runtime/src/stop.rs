//! When to end: the first SIGTERM or SIGINT asks for it, a second one insists.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::exit::end_process;

/// Whether the process is asked to end; clones see the same.
#[derive(Clone, Debug)]
pub struct Stop {
    requested: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// One that only [`Stop::request`] triggers.
    #[must_use]
    pub fn new() -> Self {
        Self { requested: watch::channel(false).0 }
    }

    /// One that SIGTERM and SIGINT (Ctrl-C) trigger. A second signal ends the process at once, with 128 and the
    /// signal's number as its code.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::new();
        for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
            tokio::spawn(watch_signal(stop.clone(), signal(kind)?, kind.as_raw_value(), name));
        }
        Ok(stop)
    }

    /// Asks the process to end.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Whether it is asked to.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until it is asked to; at once if it already was.
    pub async fn requested(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.requested.subscribe().wait_for(|requested| *requested).await;
    }
}

async fn watch_signal(stop: Stop, mut signals: Signal, number: i32, name: &'static str) {
    while signals.recv().await.is_some() {
        if stop.is_requested() {
            tracing::warn!(signal = name, "second signal: ending at once");
            end_process(128 + number);
        }
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        stop.request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_a_request_also_afterwards() {
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.requested().await }
        });
        assert!(!stop.is_requested());
        stop.request();
        waiting.await.unwrap();
        stop.requested().await;
        assert!(stop.clone().is_requested());
    }
}
