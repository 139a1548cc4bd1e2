//! All durations that a replica lives by, in one place, so that tests and demonstrations can scale them.

/// Durations in milliseconds, and rates. The defaults are the contract; the ratios between them matter more than the
/// values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often the shell sends a tick.
    pub tick_ms: u64,
    /// How often a mark is sent into the heartbeat subjects.
    pub mark_ms: u64,
    /// How often a beacon is sent.
    pub beacon_ms: u64,
    /// A replica whose beacons are missing for this long has no rank.
    pub beacon_silence_ms: u64,
    /// How long each rank waits for the one before it to publish.
    pub hedge_ms: u64,
    /// The longest that any rank waits to publish one change.
    pub hedge_ms_max: u64,
    /// A process that did not run for this long was frozen: it takes in what others did before it ranks itself again.
    pub freeze_ms: u64,
    /// How often every bucket gets a pulse.
    pub pulse_ms: u64,
    /// How long after the last change of a burst its buckets get a pulse.
    pub pulse_after_burst_ms: u64,
    /// How far back a pulse's range reaches.
    pub pulse_window_ms: u64,
    /// How often the log's facts are checked.
    pub inspect_ms: u64,
    /// How long an inspection may take.
    pub inspect_timeout_ms: u64,
    /// How often a failed check is repeated.
    pub verify_every_ms: u64,
    /// How long a check must go on failing before it is believed.
    pub verify_ms: u64,
    /// The same for a stream with several copies.
    pub verify_replicated_ms: u64,
    /// How long a replica listens before it begins a first log; no shorter than the agents' heartbeat period.
    pub listen_ms: u64,
    /// How long to wait before an epoch is proposed again, when the first proposal shows no effect.
    pub epoch_retry_ms: u64,
    /// Lease clock, besides the announcements' pacing, before a log after a lost one counts as recovered.
    pub recover_ms: u64,
    /// Confirmed this long ago to be at the log's end: too old to answer queries.
    pub head_age_ms_max: u64,
    /// Another's pulse with an older confirmation does not count as seen.
    pub pulse_head_age_ms_max: u64,
    /// A replica this long below another's beacon is behind.
    pub behind_ms: u64,
    /// How long each rank waits for the one before it to propose.
    pub propose_rank_ms: u64,
    /// How long a batch of proposals may take before the decision is made anew.
    pub propose_timeout_ms: u64,
    /// How long an agent has to answer a probe.
    pub probe_timeout_ms: u64,
    /// How often a lapse or a recovery that shows no effect is proposed again.
    pub repropose_ms: u64,
    /// How many agents are asked to announce, in a second, by all replicas together.
    pub announce_per_second: u32,
    /// An agent is not asked again for the same digest within this time; doubled each time.
    pub announce_again_ms: u64,
    /// How long after its agreement to announce an agent has had the time to register what it vouches for.
    pub announced_settle_ms: u64,
    /// Nothing charged for this long: alarm, and no proposals.
    pub deaf_ms: u64,
    /// How long what the agents on an unreachable broker server vouch for is kept.
    pub unreachable_limit_ms: u64,
    /// How long a decision waits to hear its agent's broker server before it is made anew.
    pub server_word_ms: u64,
    /// How often a checkpoint is written while there are events.
    pub checkpoint_ms: u64,
    /// How long to wait before a checkpoint that could not be written is tried again.
    pub checkpoint_retry_ms: u64,
    /// How long the list of checkpoints may take.
    pub checkpoint_list_ms: u64,
    /// How long a checkpoint may take to be written or read.
    pub checkpoint_transfer_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick_ms: 20,
            mark_ms: 200,
            beacon_ms: 200,
            beacon_silence_ms: 600,
            hedge_ms: 300,
            hedge_ms_max: 1_000,
            freeze_ms: 300,
            pulse_ms: 2_000,
            pulse_after_burst_ms: 50,
            pulse_window_ms: 6_000,
            inspect_ms: 1_000,
            inspect_timeout_ms: 1_000,
            verify_every_ms: 250,
            verify_ms: 2_000,
            verify_replicated_ms: 10_000,
            listen_ms: 2_000,
            epoch_retry_ms: 1_000,
            recover_ms: 30_000,
            head_age_ms_max: 5_000,
            pulse_head_age_ms_max: 2_000,
            behind_ms: 600,
            propose_rank_ms: 1_000,
            propose_timeout_ms: 5_000,
            probe_timeout_ms: 1_000,
            repropose_ms: 2_000,
            announce_per_second: 200,
            announce_again_ms: 30_000,
            announced_settle_ms: 5_000,
            deaf_ms: 60_000,
            unreachable_limit_ms: crate::core::leases::UNREACHABLE_LIMIT_MS,
            server_word_ms: 3_000,
            checkpoint_ms: 300_000,
            checkpoint_retry_ms: 30_000,
            checkpoint_list_ms: 2_000,
            checkpoint_transfer_ms: 120_000,
        }
    }
}
