//! `metric_add` and `metric_set`: counters and gauges that are reported with the module.
//!
//! Invariants: a counter only grows and a name is one of both for good; values are finite. What is counted holds at once, and in a
//! frame that faults too: a metric says what happened.
//!
//! Failure modes, as errnos: `EINVAL` for what is no name ([`MAX_METRIC_NAME`] characters of A-Z a-z 0-9 . _ -), for a value that is not
//! finite, for a negative one that is added, and for a name of the other kind; `E2BIG` for a name that is too long; `ENOSPC` beyond
//! [`MAX_METRICS`] names.

use std::collections::BTreeMap;

use sanderling_guest::IMPORTS;
use sanderling_protocol::worker::{MAX_METRIC_NAME, MAX_METRICS, Metric, MetricKind, check_metric};
use wasmi::{Caller, errors::LinkerError};

use super::{Errno, HostState, Linker, answer, charge_copy};
use crate::GuestMemory;

/// A module's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    all: BTreeMap<String, Entry>,
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    metric: Metric,
    changed: bool,
}

impl Metrics {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Metric)> {
        self.all.iter().map(|(name, entry)| (name.as_str(), entry.metric))
    }

    /// Whether any has changed since they were last [told](Self::tell).
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Tells those that have changed since the last time.
    pub fn tell(&mut self, mut to: impl FnMut(&str, Metric)) {
        self.changed = false;
        for (name, entry) in self.all.iter_mut().filter(|(_, entry)| entry.changed) {
            entry.changed = false;
            to(name, entry.metric);
        }
    }

    fn change(&mut self, name: &str, kind: MetricKind, value: f64) -> Result<(), Errno> {
        let before = self.all.get(name).map(|entry| entry.metric);
        let after = match (before, kind) {
            (Some(before), kind) if before.kind() != kind => return Err(Errno::INVAL),
            (Some(before), MetricKind::Counter) => Metric::Counter(before.value() + value),
            _ => Metric::new(kind, value),
        };
        // Checked as what is added, which may be infinite, and as what it comes to.
        if !check_metric(name, Metric::new(kind, value)) || !check_metric(name, after) {
            return Err(Errno::INVAL);
        }
        if before.is_none() && self.all.len() >= MAX_METRICS {
            return Err(Errno::NOSPC);
        }
        if before == Some(after) {
            return Ok(());
        }
        self.changed = true;
        self.all.insert(name.to_owned(), Entry { metric: after, changed: true });
        Ok(())
    }
}

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    for (function, kind) in [("metric_add", MetricKind::Counter), ("metric_set", MetricKind::Gauge)] {
        linker.func_wrap(
            IMPORTS,
            function,
            move |mut caller: Caller<'_, HostState>, name: i32, len: i32, value: f64| -> i32 {
                charge_copy(&mut caller, MAX_METRIC_NAME);
                answer(change(&mut caller, (name, len), kind, value))
            },
        )?;
    }
    Ok(())
}

fn change(caller: &mut Caller<'_, HostState>, name: (i32, i32), kind: MetricKind, value: f64) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let name = memory.read(name.0, name.1)?;
    if name.len() > MAX_METRIC_NAME {
        return Err(Errno::TOO_BIG);
    }
    let name = std::str::from_utf8(name).map_err(|_| Errno::INVAL)?;
    state.metrics.change(name, kind, value)?;
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sanderling_guest::errno::{E2BIG, EFAULT, EINVAL, ENOSPC};

    use super::*;
    use crate::testing::{Rig, value_of};

    #[test]
    fn every_pointer_and_length_is_held_to_memory() {
        for (ptr, len) in [(65536, 1), (65535, 2), (0, 65537), (-1, 1), (0, -1), (-1, -1), (0x7fff_ffff, 0x7fff_ffff)] {
            for function in ["metric_add", "metric_set"] {
                let call = format!("(call ${function} (i32.const {ptr}) (i32.const {len}) (f64.const 1))");
                assert_eq!(value_of(&call), -EFAULT, "{call}");
            }
        }
        let edge = "(i32.store8 (i32.const 65535) (i32.const 97)) (call $metric_add (i32.const 65535) (i32.const 1) (f64.const 1))";
        assert_eq!(value_of(edge), 0);
    }

    #[test]
    fn names_and_values_are_held_to_what_they_may_be() {
        let call = |function: &str, name: &str, value: &str| {
            value_of(&format!(
                "(i64.store (i32.const 0) (i64.const {})) (call ${function} (i32.const 0) (i32.const {}) (f64.const {value}))",
                name.bytes().rev().fold(0_u64, |word, byte| word << 8 | u64::from(byte)),
                name.len()
            ))
        };
        assert_eq!(call("metric_set", "a.b-c_9", "-1.5"), 0);
        for (function, name, value) in [
            ("metric_add", "a", "-1"),
            ("metric_add", "a", "nan"),
            ("metric_add", "a", "inf"),
            ("metric_set", "a", "-inf"),
            ("metric_set", "", "1"),
            ("metric_set", "a b", "1"),
            ("metric_set", "..", "1"),
        ] {
            assert_eq!(call(function, name, value), -EINVAL, "{function} {name} {value}");
        }
        assert_eq!(value_of("(call $metric_set (i32.const 0) (i32.const 65) (f64.const 1))"), -E2BIG);
    }

    #[test]
    fn counts_and_measures_and_tells_what_has_changed() {
        let body = r#"(data (i32.const 0) "count") (data (i32.const 8) "gauge")
            (func (export "sanderling_frame") (result i32)
                (drop (call $metric_add (i32.const 0) (i32.const 5) (f64.const 1.5)))
                (drop (call $metric_set (i32.const 8) (i32.const 5) (f64.const -2)))
                (i32.add (call $metric_set (i32.const 0) (i32.const 5) (f64.const 1)) (i32.const 22)))"#;
        let mut rig = Rig::new(body);
        let told = |rig: &mut Rig| {
            let mut told = Vec::new();
            rig.guest.metrics_mut().unwrap().tell(|name, metric| told.push((name.to_owned(), metric)));
            told
        };
        rig.done();
        let gauge = ("gauge".to_owned(), Metric::Gauge(-2.0));
        assert_eq!(told(&mut rig), [("count".to_owned(), Metric::Counter(1.5)), gauge]);
        assert_eq!(told(&mut rig), []);
        rig.done();
        assert!(rig.guest.metrics_mut().unwrap().has_changed());
        assert_eq!(told(&mut rig), [("count".to_owned(), Metric::Counter(3.0))], "the gauge is what it was");
    }

    #[test]
    fn a_counter_never_becomes_infinite_and_the_number_of_names_is_bounded() {
        let mut metrics = Metrics::default();
        metrics.change("a", MetricKind::Counter, f64::MAX).unwrap();
        assert_eq!(metrics.change("a", MetricKind::Counter, f64::MAX), Err(Errno::INVAL));
        for at in 1..MAX_METRICS {
            metrics.change(&format!("m{at}"), MetricKind::Gauge, 0.0).unwrap();
        }
        assert_eq!(metrics.change("one", MetricKind::Gauge, 0.0), Err(Errno(ENOSPC)));
        metrics.change("m1", MetricKind::Gauge, 1.0).unwrap();
        assert_eq!(metrics.iter().count(), MAX_METRICS);
    }
}
