//! Whether the agent is well, told to the service manager.
//!
//! Purpose: [`Watchdog`] says when a sign of life is due, and withholds it where a part does not get on: a process that lives and does
//! nothing is then killed and started again by systemd. It looks at three things: that the driver's loop comes round, which is that
//! it is asked at all; that the link gets on; and that the threads that keep the disk do ([`progress`]).
//!
//! Invariants: a decision is made of marks and time alone. No sign of life where a part has not got on for longer than it says it takes, and at
//! most one for each call. What is *down* is not stuck: a link that tries in vain, a disk that refuses with an error and a thread with
//! nothing to do get on.
//!
//! Failure modes: none of its own; see [`notify`]. A part that gets on after all is told of, and signs of life go on.
//!
//! Limits: the driver must come by at least every [`Watchdog::interval`], a third of `WATCHDOG_USEC`; what a part does between two looks
//! counts as done at the second.

pub mod notify;
pub mod progress;

use std::{collections::BTreeMap, time::Duration};

use progress::Mark;

/// What stands for the manager's timeout where there is none, for how long a disk may take.
const NO_TIMEOUT: Duration = Duration::from_secs(60);

/// What must get on besides the driver's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The task that serves the connection to the broker.
    Link,
    /// The thread that keeps trust, slots and blobs.
    Keeper,
    /// The thread that keeps the outbox.
    Spool,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link => "the link",
            Self::Keeper => "the thread that keeps the disk",
            Self::Spool => "the thread that keeps the outbox",
        })
    }
}

/// What follows from a look at the marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A sign of life is due.
    pub alive: bool,
    /// These are found stuck now, and for how long they have been.
    pub stuck: Vec<(Part, Duration)>,
    /// These were stuck, and are not any more.
    pub recovered: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    steps: u64,
    /// When it was first seen at this step, or without anything to do.
    since: Duration,
    stuck: bool,
}

/// Decides on signs of life.
#[derive(Debug)]
pub struct Watchdog {
    timeout: Option<Duration>,
    last: Option<Duration>,
    seen: BTreeMap<Part, Seen>,
}

impl Watchdog {
    /// A watchdog for a manager that waits `timeout`; with `None` no sign of life is ever due.
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, last: None, seen: BTreeMap::new() }
    }

    /// At the latest after this long [`Self::look`] wants to be called.
    pub fn interval(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout / 3)
    }

    /// How long one thing that a thread does with the disk may take: worn flash stalls for tens of seconds and is not stuck.
    pub fn disk_patience(&self) -> Duration {
        self.timeout.unwrap_or(NO_TIMEOUT) * 2
    }

    /// The driver's loop came round, at `mono` on the monotonic clock, and these are the marks of the other parts.
    pub fn look(&mut self, mono: Duration, marks: impl IntoIterator<Item = (Part, Mark)>) -> Verdict {
        let mut verdict = Verdict::default();
        for (part, mark) in marks {
            let fresh = Seen { steps: mark.steps, since: mono, stuck: false };
            let seen = self.seen.entry(part).or_insert(fresh);
            let waited = mono.saturating_sub(seen.since);
            match mark.within {
                Some(within) if seen.steps == mark.steps => {
                    if waited > within && !seen.stuck {
                        seen.stuck = true;
                        verdict.stuck.push((part, waited));
                    }
                }
                _ => {
                    if seen.stuck {
                        verdict.recovered.push(part);
                    }
                    *seen = fresh;
                }
            }
        }
        let well = self.seen.values().all(|seen| !seen.stuck);
        verdict.alive = well && self.is_due(mono);
        if verdict.alive {
            self.last = Some(mono);
        }
        verdict
    }

    /// Half an interval: a loop that comes exactly every interval must not skip a turn.
    fn is_due(&self, mono: Duration) -> bool {
        self.interval().is_some_and(|interval| self.last.is_none_or(|last| mono.saturating_sub(last) >= interval / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn mark(steps: u64, within: Option<u64>) -> Mark {
        Mark { steps, within: within.map(s) }
    }

    /// Signs of life in each of these seconds, with the loop coming round in each, and what is said of one part.
    fn signs(seconds: std::ops::Range<u64>, part: Part, mark: impl Fn(u64) -> Mark) -> Vec<u64> {
        let mut watchdog = Watchdog::new(Some(TIMEOUT));
        seconds.filter(|at| watchdog.look(s(*at), [(part, mark(*at))]).alive).collect()
    }

    #[test]
    fn a_loop_that_comes_round_gives_few_signs_of_life_and_one_that_does_not_none() {
        let mut watchdog = Watchdog::new(Some(Duration::from_millis(3000)));
        assert_eq!(watchdog.interval(), Some(s(1)));
        let given = (0..5000).filter(|at| watchdog.look(Duration::from_millis(*at), []).alive).count();
        assert_eq!(given, 10, "two in an interval at most");
        // A loop that never comes round asks nothing, and a sign of life comes of being asked alone.
        assert!(watchdog.look(s(60), []).alive, "it goes on where the loop does");
    }

    #[test]
    fn silent_where_nobody_watches_but_what_is_stuck_is_told_all_the_same() {
        let mut watchdog = Watchdog::new(None);
        assert_eq!((watchdog.interval(), watchdog.disk_patience()), (None, s(120)));
        assert_eq!(watchdog.look(s(0), [(Part::Link, mark(1, Some(5)))]), Verdict::default());
        assert_eq!(watchdog.look(s(6), [(Part::Link, mark(1, Some(5)))]).stuck, [(Part::Link, s(6))]);
    }

    #[test]
    fn a_link_that_is_stuck_beyond_its_own_time_gives_no_sign_of_life() {
        let last = signs(0..1000, Part::Link, |_| mark(7, Some(100))).last().copied();
        assert!(last.is_some_and(|last| (95..=100).contains(&last)), "{last:?}");
    }

    #[test]
    fn a_link_that_is_down_and_tries_again_for_ever_lives() {
        // A wait of an hour between two attempts of 15 s each.
        let attempts = |at: u64| match at % 3615 {
            0..15 => mark(2 * (at / 3615), Some(20)),
            _ => mark(2 * (at / 3615) + 1, Some(3605)),
        };
        let signs = signs(0..100_000, Part::Link, attempts);
        assert!(signs.windows(2).all(|pair| pair[1] - pair[0] <= 30) && signs.last() > Some(&99_900));
    }

    #[test]
    fn a_thread_that_hangs_in_one_job_gives_no_sign_of_life_and_one_that_refuses_does() {
        for part in [Part::Keeper, Part::Spool] {
            let last = signs(0..1000, part, |at| mark(at.min(500), Some(60))).last().copied();
            assert!(last.is_some_and(|last| (555..=560).contains(&last)), "{last:?}");
            assert!(signs(0..1000, part, |at| mark(at / 50, Some(60))).last() > Some(&980), "slow is not stuck");
            assert!(signs(0..1000, part, |_| mark(7, None)).last() > Some(&980), "nothing to do is not stuck");
        }
    }

    #[test]
    fn a_job_that_comes_after_a_long_rest_has_its_whole_time() {
        let last = signs(0..1000, Part::Keeper, |at| mark(7, (at >= 500).then_some(60))).last().copied();
        assert!(last.is_some_and(|last| (555..=560).contains(&last)), "{last:?}");
    }

    #[test]
    fn one_part_that_is_stuck_is_enough_and_is_told_once_and_so_is_that_it_goes_on() {
        let mut watchdog = Watchdog::new(Some(TIMEOUT));
        let at = |link: u64, spool: u64| {
            [(Part::Link, mark(link, Some(1000))), (Part::Keeper, mark(0, None)), (Part::Spool, mark(spool, Some(60)))]
        };
        assert!(watchdog.look(s(0), at(1, 1)).alive);
        assert!(watchdog.look(s(60), at(2, 1)).alive);
        let found = watchdog.look(s(61), at(3, 1));
        assert_eq!(found, Verdict { alive: false, stuck: vec![(Part::Spool, s(61))], recovered: vec![] });
        assert_eq!(watchdog.look(s(100), at(4, 1)), Verdict::default());
        let after = watchdog.look(s(101), at(5, 2));
        assert_eq!(after, Verdict { alive: true, stuck: vec![], recovered: vec![Part::Spool] });
    }
}
