//! The only place in the agent that reads a clock.
//!
//! Purpose: decisions take time as a parameter; whoever carries them out reads it here, through [`Clock`].
//! Invariants: [`Clock::mono`] never goes back and is not touched by a wall clock that is set. [`Clock::wall_ms`] is what
//! the system says and may be wrong by decades: whoever judges an expiry uses [`floor`].
//! Failure modes: a wall clock before 1970 reads as 1970.
//! Limits: `mono` stands still while the machine is suspended.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 by the system's clock.
    fn wall_ms(&self) -> i64;

    /// Time since the clock was made.
    fn mono(&self) -> Duration;

    /// Seconds since 1970 by the system's clock.
    fn wall(&self) -> i64 {
        self.wall_ms().div_euclid(1000)
    }

    /// The stamps of something captured now.
    fn capture(&self) -> Capture {
        let now = self.now();
        let mono_ns = u64::try_from(now.mono.as_nanos()).unwrap_or(u64::MAX);
        Capture { unix_ns: now.wall_ms.saturating_mul(1_000_000), mono_ns }
    }

    /// Both at once.
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms(), mono: self.mono() }
    }
}

/// A point in time, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970 by the system's clock.
    pub wall_ms: i64,
    /// Time since the process started.
    pub mono: Duration,
}

/// When a frame was captured, as its header says and other programs on this machine understand it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// Nanoseconds since 1970 by the system's clock.
    pub unix_ns: i64,
    /// Nanoseconds by the kernel's monotonic clock.
    pub mono_ns: u64,
}

/// When this program was built, Unix seconds: no true clock says less.
pub fn build_time() -> i64 {
    env!("SANDERLING_BUILD_TIME").parse().unwrap_or(0)
}

/// The time that expiry is judged by: the latest of the system's clock, the build time and the time last saved, all Unix
/// seconds. A gateway that boots in 1970 does not take expired metadata for fresh.
pub fn floor(wall: i64, saved: Option<i64>) -> i64 {
    wall.max(build_time()).max(saved.unwrap_or(i64::MIN))
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    #[allow(clippy::disallowed_methods)]
    fn mono(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods)]
    fn capture(&self) -> Capture {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(mono.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(mono.tv_nsec).unwrap_or(0);
        Capture {
            unix_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            mono_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
        }
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Default)]
pub struct FakeClock {
    wall_ms: AtomicI64,
    mono_us: AtomicU64,
}

impl FakeClock {
    /// A clock whose wall time is `wall_ms` and whose monotonic time is zero.
    pub fn at(wall_ms: i64) -> Self {
        Self { wall_ms: AtomicI64::new(wall_ms), mono_us: AtomicU64::new(0) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.mono_us.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sets the wall clock alone, as time synchronisation does.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn mono(&self) -> Duration {
        Duration::from_micros(self.mono_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_judged_by_the_latest_time_known() {
        let build = build_time();
        assert!(build > 1_700_000_000, "the build time is set");
        assert_eq!(floor(0, None), build);
        assert_eq!(floor(build + 5, None), build + 5);
        assert_eq!(floor(0, Some(build + 9)), build + 9);
        assert_eq!(floor(build + 10, Some(build + 9)), build + 10);
    }

    #[test]
    fn no_clock_makes_it_earlier_than_what_is_known() {
        const TEN_YEARS: i64 = 315_569_520;
        const PAST_2038: i64 = 1 << 31;
        let build = build_time();
        for behind in [i64::MIN, -1, 0, build - TEN_YEARS] {
            assert_eq!(floor(behind, None), build, "{behind}");
            assert_eq!(floor(behind, Some(build + TEN_YEARS)), build + TEN_YEARS, "{behind}");
        }
        for ahead in [build + TEN_YEARS, PAST_2038, PAST_2038 + 1, i64::MAX] {
            assert_eq!(floor(ahead, None), ahead);
            assert_eq!(floor(build, Some(ahead)), ahead, "what was reached stays reached");
        }
        assert_eq!(floor(build + 1, Some(0)), build + 1, "a saved time that is damaged or old does no harm");
    }

    #[test]
    fn seconds_of_a_wall_clock_are_right_in_1970_and_past_2038() {
        for seconds in [0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, 253_402_300_799_i64] {
            let clock = FakeClock::at(seconds * 1000 + 999);
            assert_eq!((clock.wall(), clock.now().wall_ms), (seconds, seconds * 1000 + 999));
        }
        let capture = FakeClock::at(i64::MAX).capture();
        assert_eq!(capture.unix_ns, i64::MAX, "a time that nanoseconds cannot count is the last that they can");
    }

    #[test]
    fn setting_the_wall_clock_leaves_the_monotonic_one() {
        let clock = FakeClock::at(1_000);
        clock.advance(Duration::from_millis(2_500));
        clock.set_wall_ms(-1);
        assert_eq!(clock.now(), Now { wall_ms: -1, mono: Duration::from_millis(2_500) });
        assert_eq!(clock.wall(), -1, "rounds down before 1970");
    }

    #[test]
    fn the_system_clock_moves_on() {
        let clock = SystemClock::new();
        let before = clock.mono();
        assert!(clock.mono() >= before);
        assert!(clock.wall() > 1_600_000_000);
    }
}
