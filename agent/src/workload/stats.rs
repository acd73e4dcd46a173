//! What is counted of a module.

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

#[cfg(test)]
mod tests {
    use super::*;

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
