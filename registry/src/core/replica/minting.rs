//! Names for epochs and events, from the host's clock and randomness that came in with the last tick.

use muster_schemas::{EpochId, Timestamp};

/// What names are minted from.
#[derive(Debug, Default)]
pub(super) struct Minting {
    wall: Timestamp,
    random: u128,
}

/// An odd number without pattern: stepping by it visits every value once.
const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

impl Minting {
    /// Takes in the clock and fresh randomness.
    pub(super) fn refresh(&mut self, wall: Timestamp, random: u128) {
        self.wall = wall;
        self.random = random;
    }

    /// The host's clock as of the last tick.
    pub(super) fn wall(&self) -> Timestamp {
        self.wall
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.wall.as_ms()).unwrap_or(0)
    }

    fn random(&mut self) -> u128 {
        self.random = self.random.wrapping_add(STEP);
        self.random
    }

    /// A new epoch above all that are known.
    pub(super) fn epoch(&mut self, largest_known: Option<EpochId>) -> EpochId {
        let random = self.random();
        EpochId::mint(self.wall_ms(), random, largest_known)
    }

    /// An id for an event: a ULID like any other.
    pub(super) fn event_id(&mut self) -> String {
        let random = self.random();
        EpochId::from_parts(self.wall_ms(), random).to_string()
    }
}
