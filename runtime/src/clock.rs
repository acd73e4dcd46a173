//! The clock port. The library never reads a clock of its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the time to the runtime and, through `now` and WASI, to the guest.
pub trait Clock: Send + Sync {
    /// Wall-clock time, nanoseconds since 1970.
    fn wall_ns(&self) -> i64;
    /// Monotonic time, nanoseconds since a moment that does not change while the process lives.
    fn mono_ns(&self) -> u64;
    /// Lets about so much time pass, for a guest that sleeps; it may be less.
    fn pause(&self, ns: u64);
}

/// A clock for tests: it moves by a fixed step each time it is read, and by hand.
#[derive(Debug, Default)]
pub struct FakeClock {
    now: AtomicU64,
    step: u64,
}

impl FakeClock {
    /// A clock that starts at 0 and moves by `step` nanoseconds each time monotonic time is read.
    pub fn with_step(step: u64) -> Self {
        Self { now: AtomicU64::new(0), step }
    }

    /// Moves the clock on.
    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn wall_ns(&self) -> i64 {
        i64::try_from(self.now.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    fn mono_ns(&self) -> u64 {
        self.now.fetch_add(self.step, Ordering::Relaxed)
    }

    fn pause(&self, ns: u64) {
        self.advance(ns);
    }
}
