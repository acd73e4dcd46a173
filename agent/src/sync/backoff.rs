//! How long to wait before something is tried again.
//!
//! Doubling from a first wait to a longest one, each spread by a quarter up or down, so that a fleet that lost its broker
//! does not come back as one wave. Chance is a seed that the caller gives: the same seed waits the same times.

/// Waits that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait, in milliseconds.
    pub first_ms: u64,
    /// The longest wait, in milliseconds.
    pub longest_ms: u64,
}

impl Backoff {
    /// The wait after `failures` failures in a row (0 is taken as 1), in milliseconds.
    pub fn wait_ms(&self, failures: u32, chance: &mut Chance) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let wait = self.first_ms.saturating_mul(1 << doublings).min(self.longest_ms);
        // Between three quarters and five quarters.
        (wait - wait / 4).saturating_add(chance.below(wait / 2 + 1))
    }
}

/// A sequence of numbers that a seed decides (SplitMix64, public domain, Vigna 2015). Not for secrets.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, below `limit`; 0 where the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first_ms: 1000, longest_ms: 300_000 };

    #[test]
    fn doubles_up_to_the_longest_wait() {
        let mut chance = Chance::new(1);
        for (failures, around) in [(0, 1000), (1, 1000), (2, 2000), (5, 16_000), (9, 256_000), (u32::MAX, 300_000)] {
            let wait = BACKOFF.wait_ms(failures, &mut chance);
            assert!((around * 3 / 4..=around * 5 / 4).contains(&wait), "{failures}: {wait}");
        }
    }

    #[test]
    fn two_devices_do_not_wait_alike() {
        let waits = |seed| {
            let mut chance = Chance::new(seed);
            [1, 2, 3].map(|failures| BACKOFF.wait_ms(failures, &mut chance))
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(7), waits(7));
    }

    #[test]
    fn no_limit_breaks_it() {
        let mut chance = Chance::new(0);
        assert_eq!(chance.below(0), 0);
        assert_eq!(Backoff { first_ms: 0, longest_ms: 0 }.wait_ms(3, &mut chance), 0);
        let widest = Backoff { first_ms: u64::MAX, longest_ms: u64::MAX };
        assert!(widest.wait_ms(9, &mut chance) > u64::MAX / 2);
    }
}
