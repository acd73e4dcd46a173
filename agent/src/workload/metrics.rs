//! What modules count and measure, by module and name.
//!
//! A counter goes on over restarts of its worker and over versions of its module; it begins at 0 with the agent, and where no deployment that
//! runs has the module any more. What a worker counted and had not told when it was killed is lost: two seconds' worth at most. A
//! gauge holds until the worker that set it ends.
//!
//! Invariants: at most [`MAX_METRICS`] names a module; those of an earlier worker make room for those of the one that runs.

use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
    rc::Rc,
};

use sanderling_protocol::worker::{MAX_METRICS, Metric};

type Named = BTreeMap<String, Metric>;

/// The metrics of all modules.
#[derive(Debug, Default)]
pub(super) struct Board(RefCell<BTreeMap<Rc<str>, Named>>);

impl Board {
    /// The metrics of a module.
    pub(super) fn of(&self, module: &str) -> Named {
        self.0.borrow().get(module).cloned().unwrap_or_default()
    }

    /// Forgets modules that are not there any more.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.0.borrow_mut().retain(|module, _| is_there(module));
    }
}

/// What one worker counts and measures.
pub(super) struct Counting {
    board: Rc<Board>,
    module: Rc<str>,
    /// What earlier workers counted.
    before: Named,
    told: Named,
}

impl Counting {
    /// A worker of this module begins.
    pub(super) fn new(board: &Rc<Board>, module: &Rc<str>) -> Self {
        let mut modules = board.0.borrow_mut();
        let metrics = modules.entry(module.clone()).or_default();
        metrics.retain(|_, metric| matches!(metric, Metric::Counter(_)));
        let before = metrics.clone();
        Self { board: board.clone(), module: module.clone(), before, told: Named::new() }
    }

    /// The worker says what a metric is now.
    ///
    /// # Errors
    /// What is wrong, where no worker that does its duty would say so.
    pub(super) fn tell(&mut self, name: &str, metric: Metric) -> Result<(), String> {
        match self.told.get(name) {
            None if self.told.len() >= MAX_METRICS => return Err("more metrics than a module may have".into()),
            Some(before) if before.kind() != metric.kind() => return Err("a counter that is a gauge".into()),
            Some(Metric::Counter(before)) if *before > metric.value() => return Err("a counter that shrinks".into()),
            _ => {}
        }
        self.told.insert(name.to_owned(), metric);
        let metric = match (metric, self.before.get(name)) {
            (Metric::Counter(counted), Some(before)) => Metric::Counter((before.value() + counted).min(f64::MAX)),
            (metric, _) => metric,
        };
        let mut modules = self.board.0.borrow_mut();
        let metrics = modules.entry(self.module.clone()).or_default();
        if let Entry::Occupied(mut known) = metrics.entry(name.to_owned()) {
            known.insert(metric);
            return Ok(());
        }
        if metrics.len() >= MAX_METRICS
            && let Some(older) = metrics.keys().find(|name| !self.told.contains_key(*name)).cloned()
        {
            metrics.remove(&older);
        }
        metrics.insert(name.to_owned(), metric);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn named<const N: usize>(metrics: [(&str, Metric); N]) -> Named {
        metrics.map(|(name, metric)| (name.to_owned(), metric)).into()
    }

    #[test]
    fn counters_go_on_over_workers_and_gauges_do_not() {
        let (board, module): (Rc<Board>, Rc<str>) = (Rc::default(), "m".into());
        let mut first = Counting::new(&board, &module);
        first.tell("seen", Metric::Counter(3.0)).unwrap();
        first.tell("seen", Metric::Counter(5.0)).unwrap();
        first.tell("level", Metric::Gauge(0.5)).unwrap();
        assert_eq!(board.of("m"), named([("seen", Metric::Counter(5.0)), ("level", Metric::Gauge(0.5))]));
        let mut second = Counting::new(&board, &module);
        assert_eq!(board.of("m"), named([("seen", Metric::Counter(5.0))]));
        second.tell("seen", Metric::Counter(2.0)).unwrap();
        assert_eq!(board.of("m"), named([("seen", Metric::Counter(7.0))]));
        board.keep(|name| name != "m");
        assert!(board.of("m").is_empty());
    }

    #[test]
    fn a_worker_that_contradicts_itself_is_told_of() {
        let (board, module): (Rc<Board>, Rc<str>) = (Rc::default(), "m".into());
        let mut counting = Counting::new(&board, &module);
        counting.tell("seen", Metric::Counter(3.0)).unwrap();
        assert!(counting.tell("seen", Metric::Counter(2.0)).is_err());
        assert!(counting.tell("seen", Metric::Gauge(4.0)).is_err());
        (1..MAX_METRICS).for_each(|at| counting.tell(&at.to_string(), Metric::Gauge(0.0)).unwrap());
        assert!(counting.tell("more", Metric::Gauge(0.0)).is_err());
        let mut next = Counting::new(&board, &module);
        (0..MAX_METRICS).for_each(|at| next.tell(&format!("new{at}"), Metric::Gauge(0.0)).unwrap());
        assert_eq!(board.of("m").len(), MAX_METRICS, "what the earlier worker counted made room");
    }
}
