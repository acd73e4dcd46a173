//! The only place of this program that reads a clock.

use std::time::{Duration, Instant};

/// How long `work` took, and what it gave.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

/// A moment until which something may take.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// One that lies so far ahead.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The time until then; none once it has come.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What `look` finds, looked for until it does or the time is over.
pub(crate) fn wait_for<T>(limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if deadline.left().is_zero() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
