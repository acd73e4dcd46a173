//! What becomes of a worker that does not get on, by this side's clock.
//!
//! Invariants: before a worker is blamed it is heard once more, since a supervisor that was held up itself is late to hear, and may have held
//! up the worker's words too. That takes no longer than [`Options::slack`](crate::workload::Options::slack): one that never ceases to
//! speak is late all the same.

use std::time::Duration;

use sanderling_protocol::worker::{Fault, FaultCode};

use super::{Close, Life, Phase};
use crate::workload::worker::Worker;

impl Life<'_> {
    /// Returns when the worker may have got on with nothing for too long.
    pub(super) async fn watch(&self) {
        let due = loop {
            match self.due() {
                Some(due) => break due,
                None => self.instance.inlet.unwatched.notified().await,
            }
        };
        let left = due.saturating_sub(self.instance.now());
        // Even the shortest sleep takes a turn of the timer, and whoever speaks all the time would always be heard before.
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    /// When the worker will have been silent for too long; `None` while it has nothing to do.
    fn due(&self) -> Option<Duration> {
        match self.phase {
            Phase::Starting { due } | Phase::Stopping { due, .. } => Some(due),
            Phase::Running if self.instance.inlet.is_broken() => Some(Duration::ZERO),
            Phase::Running => self.stuck_at(),
            Phase::Draining { due, .. } => Some(self.stuck_at().map_or(due, |stuck| stuck.min(due))),
        }
    }

    fn stuck_at(&self) -> Option<Duration> {
        self.instance.inlet.stuck_since().map(|(since, _)| since + self.patience())
    }

    fn patience(&self) -> Duration {
        let deadline = Duration::from_millis(u64::from(self.instance.spec.module.limits.deadline_ms));
        deadline + self.instance.options.slack
    }

    fn is_overdue(&self) -> bool {
        self.due().is_some_and(|due| due <= self.instance.now())
    }

    /// Hears what the worker has to say, and ends it where it did not get on by that; `None` where it did.
    pub(super) async fn overdue(&mut self, worker: &mut Worker, running: &mut impl FnMut(Duration)) -> Option<Close> {
        let until = self.instance.now() + self.instance.options.slack;
        while let Some(received) = worker.try_receive() {
            let end = self.hear(worker, received, running).await;
            if end.is_some() || !self.is_overdue() {
                return end;
            }
            if self.instance.now() >= until {
                break;
            }
            tokio::task::yield_now().await;
        }
        if self.is_overdue() { self.late(worker) } else { None }
    }

    /// What becomes of a worker that is overdue.
    fn late(&mut self, worker: &mut Worker) -> Option<Close> {
        let now = self.instance.now();
        match self.phase {
            Phase::Running if self.instance.inlet.is_broken() => Some(self.broken(worker)),
            Phase::Starting { .. } => Some(Close::Fault(worker.killed(Fault::new(
                FaultCode::Deadline,
                format!(
                    "the start function did not return within {} s; the worker was killed",
                    self.instance.options.start.as_secs()
                ),
            )))),
            Phase::Running => {
                let (since, seq) = self.instance.inlet.stuck_since()?;
                let fault = Fault::new(
                    FaultCode::Deadline,
                    format!(
                        "no progress for {} ms, and `deadline_ms` is {}; the worker was killed. Look for native work (a \
                         model) that does not end in time, or raise `deadline_ms`",
                        now.saturating_sub(since).as_millis(),
                        self.instance.spec.module.limits.deadline_ms
                    ),
                );
                Some(Close::Fault(worker.killed(Fault { seq: Some(seq), ..fault })))
            }
            Phase::Draining { ask, .. } => {
                self.end(worker, ask);
                None
            }
            Phase::Stopping { ask, interrupted: false, .. } => {
                self.instance.inlet.interrupt();
                let due = now + self.instance.options.stop / 2;
                self.phase = Phase::Stopping { ask, due, interrupted: true };
                None
            }
            Phase::Stopping { ask, interrupted: true, .. } => {
                worker.killed(Fault::new(FaultCode::Deadline, "it did not stop when asked"));
                Some(Close::Asked(ask))
            }
        }
    }

    /// Ends a worker that has spoilt its ring.
    pub(super) fn broken(&self, worker: &mut Worker) -> Close {
        Close::Fault(worker.breach("counters in its ring that contradict each other"))
    }
}
