//! The only place of this program that reads a clock.

use std::time::{Duration, Instant};

/// How long `work` took, and what it gave.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}
