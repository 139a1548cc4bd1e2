//! What the connection's event callback says, kept so that nothing is lost however late it is read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{Event, ServerError};
use tokio::sync::Notify;

/// Flags that stay up until they are read.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    slow: AtomicBool,
    refused: Mutex<Option<String>>,
    raised: Notify,
}

impl Signals {
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => self.slow.store(true, Ordering::Release),
            Event::ServerError(ServerError::Other(text)) if text.to_lowercase().contains("permissions violation") => {
                if let Ok(mut refused) = self.refused.lock() {
                    refused.get_or_insert_with(|| text.clone());
                }
            }
            _ => {}
        }
        self.raised.notify_one();
    }

    /// Waits until something was noted.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    pub(crate) fn take_slow(&self) -> bool {
        self.slow.swap(false, Ordering::AcqRel)
    }

    /// The first subject that the broker refused, in its own words.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().ok().and_then(|refused| refused.clone())
    }
}
