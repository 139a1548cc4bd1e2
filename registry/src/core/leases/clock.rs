//! The lease clock: it runs only while silence means something.

/// A mark that was processed later than this after it was sent proves nothing, in milliseconds.
pub const MARK_LATE_MS_MAX: u64 = 600;

/// Two marks that were both in time, and none lost between them, are no further apart than this, in milliseconds: a period
/// of 200 ms and the greatest delay. Further apart means that the sender stood still.
pub const MARK_GAP_MS_MAX: u64 = 200 + MARK_LATE_MS_MAX;

/// A clock that only marks move.
#[derive(Debug, Default)]
pub(super) struct LeaseClock {
    charged_ms: u64,
    /// What the clock showed when the charge of every silence last began again at zero.
    restarted_at: u64,
    last_mark: Option<TimelyMark>,
    charged_last_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct TimelyMark {
    processed_ms: u64,
    counter: u64,
}

impl LeaseClock {
    pub(super) fn now(&self) -> u64 {
        self.charged_ms
    }

    /// What the clock will show when it has been charged up to now: whoever is heard between two marks is not charged for
    /// what came before.
    pub(super) fn at(&self, now_ms: u64) -> u64 {
        let since_mark_ms = self.last_mark.map_or(0, |mark| now_ms.saturating_sub(mark.processed_ms));
        self.charged_ms + since_mark_ms.min(MARK_GAP_MS_MAX)
    }

    pub(super) fn restarted_at(&self) -> u64 {
        self.restarted_at
    }

    pub(super) fn charged_last_ms(&self) -> Option<u64> {
        self.charged_last_ms
    }

    /// A mark was processed. Returns what it charged; `None` if the charge begins again at zero instead.
    pub(super) fn mark(&mut self, processed_ms: u64, sent_ms: u64, counter: u64) -> Option<u64> {
        let is_timely = processed_ms.checked_sub(sent_ms).is_some_and(|late_ms| late_ms <= MARK_LATE_MS_MAX);
        let charge_ms = self.last_mark.filter(|_| is_timely).and_then(|last| {
            let gap_ms = processed_ms.checked_sub(last.processed_ms)?;
            (counter == last.counter + 1 && gap_ms <= MARK_GAP_MS_MAX).then_some(gap_ms)
        });
        match charge_ms {
            Some(charge_ms) => {
                self.charged_ms += charge_ms;
                self.charged_last_ms = Some(processed_ms);
            }
            None => self.restart(),
        }
        self.last_mark = is_timely.then_some(TimelyMark { processed_ms, counter });
        charge_ms
    }

    /// Every present silence counts from zero again, and from the next mark on.
    pub(super) fn restart(&mut self) {
        self.restarted_at = self.charged_ms;
        self.last_mark = None;
    }
}
