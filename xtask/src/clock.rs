//! The only place of this program that reads a clock.

use std::time::{Duration, Instant};

/// How long `work` took, and what it gave.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

/// What `look` finds, looked for until it does or the time is over.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wait_for<T>(limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
