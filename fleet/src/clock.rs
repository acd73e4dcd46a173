//! The only place of the operator's tool that reads a clock.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970.
pub(crate) fn unix_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Measures time from when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The clock of a guest that runs here; monotonic time starts with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestClock(Stopwatch);

impl GuestClock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Stopwatch::start())
    }
}

impl sanderling_runtime::Clock for GuestClock {
    fn wall_ns(&self) -> i64 {
        unix_nanos()
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn pause(&self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }
}
