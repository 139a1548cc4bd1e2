//! The run's clock, and how long this program itself was kept from running: what it sees then proves nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the watch looks at the clock.
const LOOK: Duration = Duration::from_millis(20);
/// A look that comes later than this is a starvation of the whole machine.
const LATE_MS: u64 = 250;

/// Milliseconds since the run began.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_wall_ms: i64,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |wall| wall.as_millis());
        Self { started: Instant::now(), started_wall_ms: i64::try_from(wall).unwrap_or(0) }
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.at(Instant::now())
    }

    /// Of a moment.
    #[must_use]
    pub fn at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Of a time since 1970 on this machine.
    #[must_use]
    pub fn of_wall(&self, wall_ms: i64) -> u64 {
        u64::try_from(wall_ms - self.started_wall_ms).unwrap_or(0)
    }
}

/// When this program did not get to run: from, until, in milliseconds of the run.
#[derive(Debug, Clone, Default)]
pub struct Starved {
    windows: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Starved {
    /// Watches from a thread of its own until the last copy of this is gone.
    #[must_use]
    pub fn watch(clock: Clock) -> Self {
        let starved = Self::default();
        let windows = Arc::downgrade(&starved.windows);
        std::thread::spawn(move || {
            let mut last_ms = clock.now_ms();
            while let Some(windows) = windows.upgrade() {
                let now_ms = clock.now_ms();
                if now_ms.saturating_sub(last_ms) > LATE_MS {
                    windows.lock().unwrap_or_else(PoisonError::into_inner).push((last_ms, now_ms));
                }
                drop(windows);
                last_ms = now_ms;
                std::thread::sleep(LOOK);
            }
        });
        starved
    }

    /// All of them so far.
    #[must_use]
    pub fn windows(&self) -> Vec<(u64, u64)> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
