//! The shell's clocks: a monotonic one in milliseconds, which everything is decided by, and the host's, for people.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use muster_schemas::Timestamp;

/// A monotonic clock that began with the process's registry; copies agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// Begins at 0.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The host's clock.
    pub(crate) fn wall(self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
