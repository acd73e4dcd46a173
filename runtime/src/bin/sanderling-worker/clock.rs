//! The one clock of the worker: the same two that the supervisor stamps frames with.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use sanderling_runtime::Clock;

/// `CLOCK_REALTIME` and `CLOCK_MONOTONIC`.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        nanoseconds(clock_gettime(ClockId::Realtime))
    }

    fn mono_ns(&self) -> u64 {
        nanoseconds(clock_gettime(ClockId::Monotonic)).unsigned_abs()
    }

    fn pause(&self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
