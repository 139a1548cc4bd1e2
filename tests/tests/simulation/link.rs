//! A broker connection of a process: what is sent on it arrives in order, late, or not at all.

/// Who a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeId {
    Registry(usize),
    /// A process, not a host: each start is another one.
    Agent(usize),
    Consumer(usize),
}

/// What a connection is for; agents and consumers have one for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Log,
    Output,
    Queries,
    Proposals,
    Everything,
}

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) usize);

/// What a fault injector between broker and client does to what is broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Noise {
    pub(crate) drop_percent: u64,
    pub(crate) repeat_percent: u64,
    /// Messages overtake each other by up to so much.
    pub(crate) shuffle_ms: u64,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    /// The broker server that it is to.
    pub(crate) server: usize,
    pub(crate) up: bool,
    /// Raised by every break: what was under way then does not arrive.
    pub(crate) life: u32,
    /// On top of the usual, each way.
    pub(crate) delay_ms: u64,
    /// Nothing passes before; then everything does.
    pub(crate) stalled_until_ms: u64,
    pub(crate) noise: Noise,
    last_out_ms: u64,
    last_in_ms: u64,
}

impl Link {
    pub(crate) fn new(node: NodeId, role: Role) -> Self {
        Self {
            node,
            role,
            server: 0,
            up: false,
            life: 0,
            delay_ms: 0,
            stalled_until_ms: 0,
            noise: Noise::default(),
            last_out_ms: 0,
            last_in_ms: 0,
        }
    }

    /// When a message that leaves the client now reaches the broker.
    pub(crate) fn out_at_ms(&mut self, now_ms: u64, latency_ms: u64) -> u64 {
        let at_ms = now_ms + latency_ms + self.delay_ms;
        self.last_out_ms = self.last_out_ms.max(at_ms).max(self.stalled_until_ms);
        self.last_out_ms
    }

    /// When a message that leaves the broker now reaches the client.
    pub(crate) fn in_at_ms(&mut self, now_ms: u64, latency_ms: u64) -> u64 {
        let at_ms = now_ms + latency_ms + self.delay_ms;
        self.last_in_ms = self.last_in_ms.max(at_ms).max(self.stalled_until_ms);
        self.last_in_ms
    }

    /// It broke.
    pub(crate) fn cut(&mut self) {
        self.up = false;
        self.life += 1;
        self.last_out_ms = 0;
        self.last_in_ms = 0;
        self.stalled_until_ms = 0;
    }

    /// Messages pass without much delay.
    pub(crate) fn is_sound(&self, now_ms: u64) -> bool {
        self.up && now_ms >= self.stalled_until_ms
    }
}
