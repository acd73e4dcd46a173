//! Whether the clock can be right, and whether somebody keeps it so.

use super::{Finding, Outcome, synchronised::Synchronised};
use crate::clock;

const AREA: &str = "clock";
/// A clock this far behind the time that was saved was set back; less is between two saves.
const BACK: i64 = 3600;

/// What the clock says now, what the agent saved last, both Unix seconds, and what the kernel says of who keeps it.
pub(super) fn examine(wall: i64, saved: Option<i64>, kept: Synchronised) -> Vec<Finding> {
    let (outcome, says) = sane(wall, clock::build_time(), saved);
    let mut findings = vec![Finding { area: AREA, check: "time", outcome, says }];
    let kept = match kept {
        Synchronised::Yes => Some((Outcome::Good, "the kernel's clock is kept by NTP")),
        Synchronised::No => Some((
            Outcome::Lacking,
            "nobody keeps the kernel's clock; run systemd-timesyncd, chrony or another NTP client, else expiry is judged by a clock that drifts",
        )),
        Synchronised::Unknown => None,
    };
    findings.extend(kept.map(|(outcome, says)| Finding {
        area: AREA,
        check: "synchronised",
        outcome,
        says: says.to_owned(),
    }));
    findings
}

fn sane(wall: i64, built: i64, saved: Option<i64>) -> (Outcome, String) {
    const CURE: &str = "set it; until then expiry is judged by the latest time that is known";
    if wall < built {
        return (
            Outcome::Bad,
            format!("the clock says {wall} s since 1970, and this program was built at {built}; {CURE}"),
        );
    }
    match saved {
        Some(saved) if wall < saved.saturating_sub(BACK) => {
            (Outcome::Bad, format!("the clock says {wall} s since 1970, and {saved} was reached already; {CURE}"))
        }
        Some(_) => (Outcome::Good, "later than this program was built and than what was reached before".to_owned()),
        None => (Outcome::Good, "later than this program was built".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_or_before_what_was_reached_is_bad() {
        assert_eq!(sane(99, 100, None).0, Outcome::Bad);
        assert_eq!(sane(100, 100, None).0, Outcome::Good);
        assert_eq!(sane(10_000, 100, Some(10_000 + BACK)).0, Outcome::Good);
        assert_eq!(sane(10_000, 100, Some(10_001 + BACK)).0, Outcome::Bad);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_told_of_and_a_kernel_that_does_not_say_is_not() {
        let kept = |kept| examine(i64::MAX, None, kept).get(1).map(|found| found.outcome);
        assert_eq!(kept(Synchronised::Yes), Some(Outcome::Good));
        assert_eq!(kept(Synchronised::No), Some(Outcome::Lacking));
        assert_eq!(kept(Synchronised::Unknown), None);
    }
}
