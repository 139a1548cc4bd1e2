//! Forgetting: what is kept of the gone goes a day of stream time after its end, so that nothing grows for ever.

use super::{Catalog, KEPT_MS};

/// At most so many tombstones go with one event: after a mass removal, no single fold takes long. More are due only while
/// events come more slowly than removals did, and then the next events take them.
const FORGOTTEN_PER_EVENT_MAX: usize = 64;

impl Catalog {
    /// Drops the tombstones whose time is over, oldest first.
    pub(super) fn forget(&mut self) {
        for _ in 0..FORGOTTEN_PER_EVENT_MAX {
            let Some(((at, _), (service, instance))) = self.gone.get_min().cloned() else {
                return;
            };
            if self.stream_time.as_ms().saturating_sub(at.as_ms()) < KEPT_MS {
                return;
            }
            self.drop_tombstone(&service, &instance);
        }
    }
}
