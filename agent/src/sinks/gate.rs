//! When a line is set and when it is released, for a [`super::GpioSink`]: a pure decision over planned pulses.
//!
//! A pulse is planned for each record that asks for one. Where it would overlap another one, that one lasts until the end of both, so
//! that whatever passes a reject gate meanwhile is rejected; and where that one then comes too close to a third, all are one. A pulse that
//! overlaps none and would leave the line less than `min_gap` of rest is not given.
//!
//! Invariants: planned pulses are in order of time, overlap nowhere and lie `min_gap` apart. A pulse lasts its whole time, counted from when
//! the line was really set. Limits: [`MOST_PLANNED`] pulses are planned at a time.

use std::{collections::VecDeque, time::Duration};

/// At most this many pulses are planned.
pub(super) const MOST_PLANNED: usize = 1024;

/// The pulses of a line. All times are nanoseconds of one clock.
#[derive(Debug)]
pub(super) struct Gate {
    pulse: u64,
    gap: u64,
    planned: VecDeque<Pulse>,
    /// The first of those that are planned has begun.
    set: bool,
    /// Before this the line rests.
    rests_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pulse {
    start: u64,
    end: u64,
}

/// What becomes of a pulse that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is planned.
    Planned,
    /// Another one lasts longer for it.
    Joined,
    /// The line would not rest long enough.
    TooSoon,
    /// Too many are planned.
    TooMany,
}

/// What is to be done with the line now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Set it: a pulse begins, which was to begin at this time.
    Set(u64),
    /// Release it.
    Release,
}

impl Gate {
    pub(super) fn new(pulse: Duration, min_gap: Duration) -> Self {
        Self { pulse: nanos(pulse), gap: nanos(min_gap), planned: VecDeque::new(), set: false, rests_until: 0 }
    }

    /// Asks for a pulse that begins at `start`.
    pub(super) fn ask(&mut self, start: u64) -> Asked {
        let end = start.saturating_add(self.pulse);
        if let Some(at) = self.planned.iter().position(|other| start <= other.end && end >= other.start) {
            return self.join(at, start, end);
        }
        let gap = self.gap;
        let near = |other: &Pulse| start < other.end.saturating_add(gap) && other.start < end.saturating_add(gap);
        if start < self.rests_until || self.planned.iter().any(near) {
            return Asked::TooSoon;
        }
        if self.planned.len() >= MOST_PLANNED {
            return Asked::TooMany;
        }
        let at = self.planned.partition_point(|other| other.start < start);
        self.planned.insert(at, Pulse { start, end });
        Asked::Planned
    }

    /// The pulse at `at` takes in another one, and becomes one with those that it comes too close to then.
    fn join(&mut self, at: usize, start: u64, end: u64) -> Asked {
        let begun = self.set && at == 0;
        if let Some(pulse) = self.planned.get_mut(at) {
            if !begun {
                pulse.start = pulse.start.min(start).max(self.rests_until);
            }
            pulse.end = pulse.end.max(end);
        }
        self.bridge();
        Asked::Joined
    }

    /// Pulses that came too close to each other become one.
    fn bridge(&mut self) {
        let mut next = 1;
        while let (Some(before), Some(pulse)) = (self.planned.get(next - 1).copied(), self.planned.get(next).copied()) {
            if pulse.start >= before.end.saturating_add(self.gap) {
                next += 1;
                continue;
            }
            self.planned.remove(next);
            if let Some(before) = self.planned.get_mut(next - 1) {
                before.end = before.end.max(pulse.end);
            }
        }
    }

    /// When [`Gate::turn`] has something to do.
    pub(super) fn due(&self) -> Option<u64> {
        self.planned.front().map(|pulse| if self.set { pulse.end } else { pulse.start.max(self.rests_until) })
    }

    /// What is due.
    pub(super) fn turn(&mut self, now: u64) -> Option<Turn> {
        let first = self.planned.front_mut()?;
        if !self.set && first.start.max(self.rests_until) <= now {
            let planned = first.start;
            first.end = first.end.max(now.saturating_add(self.pulse));
            self.set = true;
            self.bridge();
            return Some(Turn::Set(planned));
        }
        if self.set && first.end <= now {
            self.rests_until = now.saturating_add(self.gap);
            self.planned.pop_front();
            self.set = false;
            return Some(Turn::Release);
        }
        None
    }

    /// The line is lost: nothing is set any more. Says how many pulses had not begun and are over by now: they are lost too.
    pub(super) fn lose(&mut self, now: u64) -> u64 {
        if std::mem::take(&mut self.set) {
            self.planned.pop_front();
        }
        let mut lost = 0;
        while self.planned.pop_front_if(|pulse| pulse.end <= now).is_some() {
            lost += 1;
        }
        lost
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(pulse: u64, gap: u64) -> Gate {
        Gate::new(Duration::from_nanos(pulse), Duration::from_nanos(gap))
    }

    /// Every change of the line up to `until`, by a clock that ticks in ones.
    fn run(gate: &mut Gate, from: u64, until: u64) -> Vec<(u64, bool)> {
        let mut changes = Vec::new();
        for now in from..=until {
            while let Some(turn) = gate.turn(now) {
                changes.push((now, matches!(turn, Turn::Set(_))));
            }
        }
        changes
    }

    #[test]
    fn a_pulse_begins_and_ends_in_time() {
        let mut gate = gate(50, 0);
        assert_eq!((gate.due(), gate.turn(1_000)), (None, None));
        assert_eq!(gate.ask(100), Asked::Planned);
        assert_eq!(gate.due(), Some(100));
        assert_eq!(run(&mut gate, 0, 1_000), [(100, true), (150, false)]);
    }

    #[test]
    fn pulses_that_touch_become_one_that_lasts_until_the_end_of_both() {
        let mut gate = gate(50, 0);
        assert_eq!([100, 300, 120, 350, 90].map(|start| gate.ask(start)), {
            use Asked::{Joined, Planned};
            [Planned, Planned, Joined, Joined, Joined]
        });
        assert_eq!(run(&mut gate, 0, 130), [(90, true)]);
        assert_eq!(gate.ask(140), Asked::Joined, "while it lasts");
        assert_eq!(run(&mut gate, 131, 1_000), [(190, false), (300, true), (400, false)]);
    }

    #[test]
    fn a_pulse_that_bridges_two_joins_both() {
        let mut gate = gate(50, 10);
        for start in [100, 180] {
            assert_eq!(gate.ask(start), Asked::Planned);
        }
        assert_eq!(gate.ask(140), Asked::Joined);
        assert_eq!(run(&mut gate, 0, 1_000), [(100, true), (230, false)]);
    }

    #[test]
    fn the_line_rests_between_pulses() {
        let mut gate = gate(50, 100);
        assert_eq!(gate.ask(500), Asked::Planned);
        assert_eq!([351, 449].map(|start| gate.ask(start)), [Asked::TooSoon, Asked::TooSoon]);
        assert_eq!([400, 650].map(|start| gate.ask(start)), [Asked::TooSoon, Asked::Planned]);
        assert_eq!([551, 599].map(|start| gate.ask(start)), [Asked::TooSoon, Asked::TooSoon]);
        assert_eq!(run(&mut gate, 0, 710), [(500, true), (550, false), (650, true), (700, false)]);
        assert_eq!([711, 799, 800].map(|start| gate.ask(start)), [Asked::TooSoon, Asked::TooSoon, Asked::Planned]);
    }

    #[test]
    fn a_pulse_that_begins_late_is_as_long_as_any() {
        let mut gate = gate(50, 0);
        let _ = gate.ask(100);
        assert_eq!(gate.turn(180), Some(Turn::Set(100)), "it says when it was to begin");
        assert_eq!(run(&mut gate, 180, 1_000), [(230, false)]);
    }

    #[test]
    fn planned_pulses_are_bounded() {
        let mut gate = gate(1, 0);
        for at in 0..MOST_PLANNED as u64 {
            assert_eq!(gate.ask(10 * at), Asked::Planned);
        }
        assert_eq!(gate.ask(u64::MAX - 100), Asked::TooMany);
        assert_eq!(gate.ask(10), Asked::Joined);
    }

    #[test]
    fn what_is_over_when_the_line_is_lost_is_lost_with_it() {
        let mut gate = gate(50, 0);
        for start in [100, 200, 300, 900] {
            let _ = gate.ask(start);
        }
        assert_eq!(gate.turn(100), Some(Turn::Set(100)));
        assert_eq!(gate.lose(120), 0);
        assert_eq!(gate.lose(360), 2);
        assert_eq!(run(&mut gate, 360, 2_000), [(900, true), (950, false)]);
    }

    #[test]
    fn whatever_is_asked_pulses_never_overlap_and_rest_long_enough() {
        use proptest::prelude::*;
        let asked = proptest::collection::vec((0_u64..3_000, 0_u64..3_000), 0..60);
        proptest!(|(mut asked in asked, pulse in 1_u64..80, gap in 0_u64..80)| {
            asked.sort_unstable();
            let mut gate = gate(pulse, gap);
            let (mut changes, mut last) = (Vec::new(), 0);
            for (now, start) in asked {
                changes.extend(run(&mut gate, last, now));
                let _ = gate.ask(start.max(now));
                last = now + 1;
            }
            changes.extend(run(&mut gate, last, 10_000));
            for (index, (at, set)) in changes.iter().enumerate() {
                prop_assert_eq!(*set, index % 2 == 0, "set and released in turn");
                if let Some((before, _)) = index.checked_sub(1).and_then(|before| changes.get(before)) {
                    prop_assert!(at - before >= if *set { gap } else { pulse }, "{:?}", changes);
                }
            }
            prop_assert_eq!(changes.len() % 2, 0, "it is released in the end");
        });
    }
}
