//! How far the parts of the agent are, as they say themselves.
//!
//! Purpose: a part counts its steps where it does its work; whoever watches ([`super::Watchdog`]) looks at the count from time to time, by its
//! own clock. So a part that hangs in a system call needs nothing to be found out: it counts no further.
//!
//! Invariants: nothing here waits, allocates or reads a clock. A step is counted when it is over, whether it went well or not: what fails
//! and says so gets on.
//!
//! Failure modes: none.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How far a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How many steps it has done.
    pub steps: u64,
    /// Within which time its next step is over, where it gets on; `None` where it has nothing to do.
    pub within: Option<Duration>,
}

/// The mark of a part that gives itself something to do, and knows how long that takes at most.
#[derive(Debug, Default)]
pub struct Pulse {
    steps: AtomicU64,
    /// In milliseconds; 0 where nothing is to come.
    within: AtomicU64,
}

impl Pulse {
    /// A step is over, and the next is over within this time.
    pub fn step(&self, within: Duration) {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        self.within.store(within, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// The last step is over.
    pub fn rest(&self) {
        self.within.store(0, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn mark(&self) -> Mark {
        let within = self.within.load(Ordering::Relaxed);
        Mark { steps: self.steps.load(Ordering::Relaxed), within: (within > 0).then(|| Duration::from_millis(within)) }
    }
}

/// The mark of a thread that is given its work: by others, and by itself.
#[derive(Debug, Default)]
pub struct Jobs {
    given: AtomicU64,
    done: AtomicU64,
}

impl Jobs {
    /// There is one more to do.
    pub fn give(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    /// One is over.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// How far the thread is, where each job is over within `patience`.
    pub fn mark(&self, patience: Duration) -> Mark {
        // In this order: what is given meanwhile is then something to do, never something that was done before.
        let steps = self.done.load(Ordering::Acquire);
        let waits = self.given.load(Ordering::Acquire) != steps;
        Mark { steps, within: waits.then_some(patience) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_thread_has_something_to_do_until_all_that_was_given_is_done() {
        let jobs = Jobs::default();
        assert_eq!(jobs.mark(SECOND), Mark { steps: 0, within: None });
        (0..2).for_each(|_| jobs.give());
        assert_eq!(jobs.mark(SECOND), Mark { steps: 0, within: Some(SECOND) });
        jobs.done();
        assert_eq!(jobs.mark(SECOND), Mark { steps: 1, within: Some(SECOND) });
        jobs.done();
        assert_eq!(jobs.mark(SECOND), Mark { steps: 2, within: None });
    }

    #[test]
    fn a_pulse_says_when_its_next_step_is_due() {
        let pulse = Pulse::default();
        assert_eq!(pulse.mark(), Mark { steps: 0, within: None });
        pulse.step(SECOND);
        assert_eq!(pulse.mark(), Mark { steps: 1, within: Some(SECOND) });
        pulse.step(Duration::ZERO);
        assert!(pulse.mark().within.is_some_and(|within| !within.is_zero()), "no time at all is not nothing to do");
        pulse.rest();
        assert_eq!(pulse.mark(), Mark { steps: 3, within: None });
    }
}
