//! How fast instances may be given up: a storm of silence is more often our mistake than everybody's death.

/// Instances a second, whatever the size of the fleet.
const PER_SECOND_MIN: u64 = 100;

/// Share of the fleet a second.
const FLEET_SHARE: u64 = 10;

/// What may be handed out at once is what accrues in this time, in milliseconds.
const BURST_MS: u64 = 200;

/// A budget of instances that accrues with time.
#[derive(Debug, Default)]
pub(super) struct ExpiryRate {
    /// In thousandths of an instance.
    budget_milli: u64,
    refilled_ms: Option<u64>,
}

impl ExpiryRate {
    /// How many instances may be handed out now.
    pub(super) fn available(&mut self, now_ms: u64, fleet: usize) -> usize {
        let per_second = PER_SECOND_MIN.max(fleet as u64 / FLEET_SHARE);
        let elapsed_ms = self.refilled_ms.map_or(BURST_MS, |at| now_ms.saturating_sub(at));
        // Instances a second are thousandths of an instance a millisecond.
        let accrued = elapsed_ms.min(BURST_MS) * per_second;
        self.budget_milli = (self.budget_milli + accrued).min(BURST_MS * per_second);
        self.refilled_ms = Some(now_ms);
        usize::try_from(self.budget_milli / 1_000).unwrap_or(usize::MAX)
    }

    pub(super) fn spend(&mut self, instances: usize) {
        self.budget_milli = self.budget_milli.saturating_sub(instances as u64 * 1_000);
    }
}
