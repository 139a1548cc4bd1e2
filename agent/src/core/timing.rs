//! Every duration that the vouching obeys, in milliseconds.

/// The durations; the defaults are meant for everybody but tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// From one heartbeat to the next; a fifth of the shortest TTL if that is less.
    pub heartbeat_ms: u64,
    /// How long the stream may take to acknowledge an event.
    pub acknowledge_ms: u64,
    /// How long a registry or an agent may take to answer.
    pub answer_ms: u64,
    /// The first wait before something is tried again; doubled by each further one.
    pub retry_first_ms: u64,
    /// The longest wait before something is tried again.
    pub retry_max_ms: u64,
    /// An acknowledged event that no answering registry has reached for so long is sent anew.
    pub behind_limit_ms: u64,
    /// How often the holder of a duplicate is looked at.
    pub duplicate_ms: u64,
    /// How often an evicted instance, or one that registries do not understand yet, asks again, at first.
    pub fenced_first_ms: u64,
    /// And at the most.
    pub fenced_max_ms: u64,
    /// Over how long an announcement of many instances is spread.
    pub announce_window_ms: u64,
    /// How long after its start, and after a reconnect, the agent looks for a second one of its id.
    pub self_check_ms: u64,
    /// Over how long everything is confirmed once more after a reconnect or a freeze.
    pub recheck_window_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 2_000,
            acknowledge_ms: 2_000,
            answer_ms: 1_000,
            retry_first_ms: 100,
            retry_max_ms: 2_000,
            behind_limit_ms: 5_000,
            duplicate_ms: 3_000,
            fenced_first_ms: 10_000,
            fenced_max_ms: 60_000,
            announce_window_ms: 1_000,
            self_check_ms: 3_000,
            recheck_window_ms: 2_000,
        }
    }
}
