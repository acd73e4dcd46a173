//! Whether the agent is well, told to the service manager.
//!
//! Purpose: [`Watchdog`] gives signs of life, but only while the driver's loop gets on: a process that lives and does
//! nothing is killed and started again by systemd.
//!
//! Invariant: at most one sign of life for each call of [`Watchdog::progress`], and none without.
//! Failure modes: none of its own; see [`notify`].
//! Limits: the driver must come by at least every [`Watchdog::interval`], a third of `WATCHDOG_USEC`.

pub mod notify;

use std::time::Duration;

use notify::Notify;

/// Signs of life.
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    last: Option<Duration>,
}

impl Watchdog {
    /// A watchdog for a manager that waits `timeout`; with `None` it is silent.
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { interval: timeout.map(|timeout| timeout / 3), last: None }
    }

    /// At the latest after this long [`Self::progress`] wants to be called.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The driver's loop came round, at `mono` on the monotonic clock.
    pub fn progress(&mut self, mono: Duration, notify: &dyn Notify) {
        let Some(interval) = self.interval else { return };
        // Half an interval: a loop that comes exactly every interval must not skip a turn.
        if self.last.is_none_or(|last| mono.saturating_sub(last) >= interval / 2) {
            self.last = Some(mono);
            notify.alive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{notify::FakeNotify, *};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn no_sign_of_life_without_progress_and_few_with_much() {
        let notify = FakeNotify::default();
        let mut watchdog = Watchdog::new(Some(ms(3000)));
        assert_eq!(watchdog.interval(), Some(ms(1000)));
        for at in 0..5000 {
            watchdog.progress(ms(at), &notify);
        }
        assert_eq!(notify.alive.get(), 10);
    }

    #[test]
    fn silent_where_nobody_watches() {
        let notify = FakeNotify::default();
        let mut watchdog = Watchdog::new(None);
        watchdog.progress(ms(0), &notify);
        assert_eq!((notify.alive.get(), watchdog.interval()), (0, None));
    }
}
