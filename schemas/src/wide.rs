//! Numbers of 128 bits that lie where one of 64 may lie: by itself such a number pads whatever holds it to 16 bytes, and that
//! is a tenth of what a catalog takes.

/// Compared as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Wide {
    high: u64,
    low: u64,
}

impl Wide {
    pub(crate) const ZERO: Self = Self { high: 0, low: 0 };

    pub(crate) const fn new(number: u128) -> Self {
        Self { high: (number >> u64::BITS) as u64, low: number as u64 }
    }

    pub(crate) const fn get(self) -> u128 {
        (self.high as u128) << u64::BITS | self.low as u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_their_order_and_need_no_more_room_than_two_words() {
        let numbers = [0, 1, u128::from(u64::MAX), 1 << 64, (1 << 64) + 1, u128::MAX - 1, u128::MAX];
        assert!(numbers.iter().all(|number| Wide::new(*number).get() == *number));
        assert!(numbers.map(Wide::new).is_sorted());
        assert_eq!((align_of::<Wide>(), size_of::<Wide>()), (align_of::<u64>(), 16));
    }
}
