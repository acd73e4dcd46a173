//! How long to wait before the next attempt: doubling, with jitter, so that a fleet does not come back all at once.

use std::time::Duration;

/// The wait after failures in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// A connection did its work.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half of and the whole of `min * 2^n`, at most `max`. `random` is any
    /// number.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.min.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.max);
        self.failures = self.failures.saturating_add(1).min(31);
        let half = ceiling / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(random % (span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        // The largest jitter gives the ceiling itself.
        let waits: Vec<u64> = (0..8)
            .map(|n: u32| {
                let half = (1_000_000_u64 << n).min(60_000_000) / 2;
                backoff.next(half).as_millis() as u64
            })
            .collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_millis(500));
    }

    #[test]
    fn jitter_stays_between_half_and_whole_for_ever() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(3600));
        for random in [0, 1, u64::MAX, 12_345_678_901].into_iter().cycle().take(100) {
            let before = Duration::from_millis(50).saturating_mul(1 << backoff.failures).min(Duration::from_secs(3600));
            let wait = backoff.next(random);
            assert!(wait >= before / 2 && wait <= before, "{wait:?} of {before:?}");
        }
    }
}
