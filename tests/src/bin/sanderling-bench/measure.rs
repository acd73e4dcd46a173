//! Taking turns, medians, and the only place of this program that reads a clock.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use anyhow::Result;
use sanderling_runtime::Clock;

/// What takes turns: does its work once.
pub(crate) type Turn<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The seconds that something took.
pub(crate) fn seconds<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let began = Instant::now();
    let done = work();
    (began.elapsed().as_secs_f64(), done)
}

/// A moment, to see how long ago it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// Seconds from an earlier one to this one.
    pub(crate) fn after(self, earlier: Self) -> f64 {
        self.0.saturating_duration_since(earlier.0).as_secs_f64()
    }

    /// Seconds since.
    pub(crate) fn past(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A clock for guests, as the worker's own.
#[derive(Debug)]
pub(crate) struct GuestClock(Instant);

impl Default for GuestClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for GuestClock {
    fn wall_ns(&self) -> i64 {
        sanderling_tests::unix_nanos()
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn pause(&self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }
}

/// The value in the middle; 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Seconds for one turn, of each that took turns.
#[derive(Debug)]
pub(crate) struct Turns(Vec<Vec<f64>>);

impl Turns {
    /// The median of one that took turns.
    pub(crate) fn median(&self, of: usize) -> f64 {
        median(self.0.iter().filter_map(|round| round.get(of).copied()))
    }

    /// The median of one over another, round by round.
    pub(crate) fn ratio(&self, of: usize, over: usize) -> f64 {
        median(self.0.iter().filter_map(|round| Some(round.get(of)? / round.get(over)?)))
    }
}

/// Lets each do its work `times` in a row, in `rounds`, every other round in the other order; after a round that is not counted.
pub(crate) fn take_turns(rounds: usize, times: usize, turns: &mut [Turn<'_>]) -> Result<Turns> {
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let mut each = vec![0.0; turns.len()];
        let order: Vec<usize> =
            if round % 2 == 0 { (0..turns.len()).collect() } else { (0..turns.len()).rev().collect() };
        for at in order {
            let (took, done) = seconds(|| (0..times).try_for_each(|_| turns[at]()));
            done?;
            each[at] = took / times as f64;
        }
        if round > 0 {
            taken.push(each);
        }
    }
    Ok(Turns(taken))
}
