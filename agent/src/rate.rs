//! Bounds on the rate at which others may ask for work: workers that say things, and whoever sends commands.
//!
//! Generous, so that nobody is held up who does as agreed: bursts of ten seconds' worth pass, since this process may have been held up itself and
//! reads the work of seconds at once.

use std::time::Duration;

/// Lets through a number of things a second, and a burst of ten seconds' worth.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_s: u64,
    // In billionths of a thing, so that nothing is lost to rounding.
    level: u64,
    at: Duration,
    refused: u64,
}

const ONE: u64 = 1_000_000_000;
const BURST_S: u64 = 10;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_s: u32, now: Duration) -> Self {
        let per_s = u64::from(per_s.max(1));
        Self { per_s, level: per_s * BURST_S * ONE, at: now, refused: 0 }
    }

    /// Whether one more may pass.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_s)).min(self.per_s * BURST_S * ONE);
        if self.level < ONE {
            self.refused += 1;
            return false;
        }
        self.level -= ONE;
        true
    }

    /// How many did not pass since the last time this was asked.
    pub(crate) fn refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_a_burst_then_the_rate() {
        let mut bucket = Bucket::new(5, Duration::ZERO);
        assert_eq!((0..1000).filter(|_| bucket.take(Duration::ZERO)).count(), 50);
        assert_eq!(bucket.refused(), 950);
        assert!(!bucket.take(Duration::from_millis(199)));
        assert!(bucket.take(Duration::from_millis(200)));
        assert!(!bucket.take(Duration::from_millis(200)));
    }

    #[test]
    fn is_not_confused_by_a_clock_that_goes_back_or_far_ahead() {
        let mut bucket = Bucket::new(1, Duration::from_secs(100));
        for _ in 0..10 {
            assert!(bucket.take(Duration::from_secs(100)));
        }
        assert!(!bucket.take(Duration::ZERO));
        assert!(!bucket.take(Duration::from_secs(100)));
        assert!(bucket.take(Duration::MAX));
    }
}
