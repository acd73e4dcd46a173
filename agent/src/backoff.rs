//! How long a sensor or a sink waits before it tries again: twice as long after each failure in a row.
//!
//! Without jitter: what they wait for is on this device or beside it, and no fleet comes back to it all at once.

use std::time::Duration;

/// The wait after the first failure.
pub(crate) const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// The waits of one sensor or sink.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The device did its work. Opening it is not yet that: a device that opens and fails at its first frame, again and
    /// again, would else be tried without a pause.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits after one more failure.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = after(Some(wait));
        wait
    }
}

/// The wait that follows on this one; the first where there was none.
pub(crate) fn after(wait: Option<Duration>) -> Duration {
    wait.map_or(FIRST, |wait| (2 * wait).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        backoff.reset();
        assert_eq!(backoff.step(), FIRST);
    }
}
