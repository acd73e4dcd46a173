//! Which faults a capsule is kept of.
//!
//! Purpose: a module that faults at every start must not wear out the flash. A capsule is kept of the first fault of its kind, and of no more
//! than a few in an hour.
//!
//! Invariants: a kind is module, code, trap, export and the guest's own number; what is told apart by them is told apart by whoever
//! looks for the cause. What is remembered is bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sanderling_protocol::{digest::Digest, worker::Fault};

/// A fault of the same kind is worth another capsule after this time.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// So many capsules are kept in [`HOUR`] at most.
const MOST: usize = 6;
const HOUR: Duration = Duration::from_secs(3600);
/// So many kinds are remembered.
const KINDS: usize = 64;

type Kind = (Digest, String, Option<i32>);

/// Says of which faults a capsule is kept.
#[derive(Debug, Default)]
pub struct Pace {
    kinds: BTreeMap<Kind, Duration>,
    kept: VecDeque<Duration>,
}

impl Pace {
    /// Whether to keep a capsule of this fault of this module, at this monotonic time.
    pub fn admits(&mut self, module: Digest, fault: &Fault, now: Duration) -> bool {
        let words = format!("{} {:?} {:?}", fault.code, fault.trap, fault.export);
        let kind = (module, words, fault.guest_code);
        if self.kinds.get(&kind).is_some_and(|at| now.saturating_sub(*at) < AGAIN) {
            return false;
        }
        while self.kept.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR) {
            self.kept.pop_front();
        }
        if self.kept.len() >= MOST {
            return false;
        }
        if self.kinds.len() >= KINDS {
            let oldest = self.kinds.iter().min_by_key(|(_, at)| **at).map(|(kind, _)| kind.clone());
            oldest.map(|kind| self.kinds.remove(&kind));
        }
        self.kinds.insert(kind, now);
        self.kept.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sanderling_protocol::worker::FaultCode;

    fn fault(code: FaultCode, trap: &str) -> Fault {
        Fault { trap: Some(trap.to_owned()), ..Fault::new(code, "why") }
    }

    #[test]
    fn the_same_fault_is_kept_once_in_six_hours() {
        let mut pace = Pace::default();
        let module = Digest::of(b"m");
        let trap = fault(FaultCode::Trap, "unreachable");
        let kept = |pace: &mut Pace, hours: u64| {
            let times = (0..100).map(|second| Duration::from_secs(hours * 3600 + second));
            times.filter(|at| pace.admits(module, &trap, *at)).count()
        };
        assert_eq!([kept(&mut pace, 1), kept(&mut pace, 2), kept(&mut pace, 8)], [1, 0, 1]);
        assert!(pace.admits(module, &fault(FaultCode::Trap, "stack_overflow"), Duration::from_secs(9 * 3600)));
        assert!(pace.admits(Digest::of(b"other"), &trap, Duration::from_secs(9 * 3600)));
    }

    #[test]
    fn many_kinds_at_once_are_held_to_a_rate_and_to_a_number() {
        let mut pace = Pace::default();
        let module = Digest::of(b"m");
        let admitted = |pace: &mut Pace, hour: u64, numbers: std::ops::Range<i32>| {
            numbers
                .filter(|number| {
                    let fault = Fault { guest_code: Some(*number), ..Fault::new(FaultCode::Guest, "why") };
                    pace.admits(module, &fault, Duration::from_secs(hour * 3600))
                })
                .count()
        };
        for hour in 0..100 {
            let first = i32::try_from(hour).unwrap_or_default() * 1000;
            assert_eq!(admitted(&mut pace, hour, first..first + 1000), MOST);
        }
        assert!(pace.kinds.len() <= KINDS);
    }
}
