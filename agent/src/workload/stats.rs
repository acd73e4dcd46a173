//! What is counted of a module.

use sanderling_protocol::{reported::ModuleReport, worker::FaultCode};

/// A module in figures, for a scraper.
#[derive(Clone, Debug)]
pub struct ModuleFigures {
    /// As it is reported.
    pub report: ModuleReport,
    /// Frames that did not come to the guest, by cause.
    pub drops: Vec<(&'static str, u64)>,
    /// How long its frames took.
    pub latency: Histogram,
    /// Its faults, by code.
    pub faults: Vec<(FaultCode, u64)>,
    /// Fuel that its frames used.
    pub fuel: u64,
}

/// Times of the last frames, for percentiles. Takes a fixed amount of memory.
#[derive(Clone, Debug)]
pub(crate) struct FrameTimes {
    micros: Box<[u32]>,
    next: usize,
    filled: usize,
}

/// Percentiles are over this many frames.
const WINDOW: usize = 1024;

impl FrameTimes {
    /// No times yet.
    pub(crate) fn new() -> Self {
        Self { micros: vec![0; WINDOW].into_boxed_slice(), next: 0, filled: 0 }
    }

    /// Adds one, in nanoseconds; the oldest makes room.
    pub(crate) fn add(&mut self, nanos: u64) {
        if let Some(slot) = self.micros.get_mut(self.next) {
            *slot = u32::try_from(nanos / 1000).unwrap_or(u32::MAX);
        }
        self.next = (self.next + 1) % WINDOW;
        self.filled = (self.filled + 1).min(WINDOW);
    }

    /// The median and the 99th percentile, in microseconds; zeros where there are no times.
    pub(crate) fn p50_p99(&self) -> (u64, u64) {
        let mut sorted: Vec<u32> = self.micros.iter().take(self.filled).copied().collect();
        sorted.sort_unstable();
        // The nearest rank: the smallest value that so many percent do not exceed.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).copied().map_or(0, u64::from)
        };
        (at(50), at(99))
    }
}

/// Upper bounds of the buckets of a [`Histogram`], in microseconds.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often frames took how long, since the deployment was activated. Takes a fixed amount of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Of each bucket alone; the last is beyond all bounds.
    counts: [u64; BOUNDS_US.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Adds one, in nanoseconds.
    pub(crate) fn add(&mut self, nanos: u64) {
        // At its bound it is still in a bucket.
        let bucket = BOUNDS_US.partition_point(|bound| bound.saturating_mul(1000) < nanos);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ns = self.sum_ns.saturating_add(nanos);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they took together, in seconds.
    pub fn sum_s(&self) -> f64 {
        std::time::Duration::from_nanos(self.sum_ns).as_secs_f64()
    }

    /// The upper bound of each bucket, in seconds, and how many are in it; the last has no bound, which is [`f64::INFINITY`].
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| std::time::Duration::from_micros(*bound).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_first_bucket_that_takes_it() {
        let mut histogram = Histogram::default();
        for nanos in [0, 100_000, 100_001, 10_000_000_000, 10_000_000_001, u64::MAX] {
            histogram.add(nanos);
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(0.0001, 2), (0.000_25, 1), (10.0, 1), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 6);
        assert!(histogram.sum_s() > 1e10, "it saturates");
        assert!(BOUNDS_US.is_sorted());
    }

    #[test]
    fn gives_the_nearest_rank() {
        let mut times = FrameTimes::new();
        assert_eq!(times.p50_p99(), (0, 0));
        times.add(7_999);
        assert_eq!(times.p50_p99(), (7, 7));
        let mut times = FrameTimes::new();
        for micros in (1..=100).rev() {
            times.add(micros * 1000);
        }
        assert_eq!(times.p50_p99(), (50, 99));
    }

    #[test]
    fn forgets_what_is_older_than_its_window() {
        let mut times = FrameTimes::new();
        for _ in 0..10 {
            times.add(u64::MAX);
        }
        for _ in 0..WINDOW {
            times.add(3_000);
        }
        assert_eq!(times.p50_p99(), (3, 3));
    }
}
