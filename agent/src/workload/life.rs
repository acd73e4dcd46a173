//! The life of one worker: loaded, begun, fed, ended.
//!
//! A worker that another generation takes over from first answers the frames that it was handed, for a bounded time, and is told to
//! stop then.
//!
//! Invariants: a worker that gets on with nothing for longer than it may is killed, by this side's clock (`silence`).

mod silence;

use std::{rc::Rc, time::Duration};

use sanderling_protocol::{
    deployment::Grant,
    worker::{Fault, FromWorker, Inbox, Ready, ToWorker},
};

use crate::rate::Bucket;

use super::{
    Happened, exit,
    flight::FlightFile,
    instance::{Ask, Instance},
    keeping::Keeping,
    metrics::Counting,
    worker::{Received, Worker},
};

/// Lines that a guest may log a second, as this side sees it.
const LOG_PER_S: u32 = 100;
/// Host functions that are remembered as denied.
const MOST_DENIED: usize = 32;
/// How often the number of frames is told.
const TELL_FRAMES: Duration = Duration::from_secs(1);

/// How a life ends.
pub(super) enum End {
    /// Someone asked for it.
    Asked(Ask),
    /// By itself, with what it had recorded.
    Fault(Box<(Fault, Option<FlightFile>)>),
}

/// How a life ends, before what it recorded is taken.
enum Close {
    Asked(Ask),
    Fault(Fault),
}

/// What a worker says that changes its life.
enum Turn {
    None,
    Running,
    Fault(Fault),
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting { due: Duration },
    Running,
    Draining { ask: Ask, due: Duration },
    Stopping { ask: Ask, due: Duration, interrupted: bool },
}

struct Life<'a> {
    instance: &'a Rc<Instance>,
    phase: Phase,
    lines: Bucket,
    records: Bucket,
    keeping: Keeping,
    counting: Counting,
    /// Its next frame is to be recorded, and is not yet.
    capturing: bool,
    told: Duration,
}

/// Starts a worker and stays with it to its end. `running` is called when its start function has returned.
pub(super) async fn live(instance: &Rc<Instance>, running: impl FnMut(Duration)) -> End {
    let (mut worker, ready) = match load(instance).await {
        Ok(loaded) => loaded,
        Err(end) => return end,
    };
    instance.tally.borrow_mut().unconfined.clone_from(&ready.unconfined);
    instance.tell(Happened::Ready(ready));
    let keeping = Keeping::new(instance);
    keeping.restore(&worker);
    worker.say(&ToWorker::Begin);
    let now = instance.now();
    let mut life = Life {
        instance,
        phase: Phase::Starting { due: now + instance.options.start },
        lines: Bucket::new(LOG_PER_S, now),
        records: Bucket::new(instance.spec.module.limits.emit_per_s.saturating_mul(2), now),
        keeping,
        counting: Counting::new(&instance.metrics, &instance.name),
        capturing: false,
        told: Duration::ZERO,
    };
    let close = life.lead(&mut worker, running).await;
    life.keeping.forget();
    match close {
        Close::Asked(ask) => {
            worker.leave().await;
            instance.inlet.shut();
            End::Asked(ask)
        }
        Close::Fault(fault) => faulted(worker, fault).await,
    }
}

async fn faulted(mut worker: Worker, fault: Fault) -> End {
    let flight = worker.flight().await;
    End::Fault(Box::new((fault, flight)))
}

/// A worker that has loaded the module: one that waits already, or a new one.
async fn load(instance: &Rc<Instance>) -> Result<(Worker, Ready), End> {
    if let Some(staged) = instance.take_staged() {
        instance.tally.borrow_mut().pid = Some(staged.worker.pid());
        return Ok((staged.worker, staged.ready));
    }
    let started = Worker::start(&instance.spec, &instance.options, &*instance.ports.blobs);
    let mut worker = started.map_err(|fault| End::Fault(Box::new((fault, None))))?;
    instance.tally.borrow_mut().pid = Some(worker.pid());
    tokio::select! {
        ready = worker.ready(&instance.options) => match ready {
            Ok(ready) => Ok((worker, ready)),
            Err(fault) => Err(faulted(worker, fault).await),
        },
        ask = instance.asked() => {
            worker.stop(instance.options.stop).await;
            Err(End::Asked(ask))
        }
    }
}

impl Life<'_> {
    async fn lead(&mut self, worker: &mut Worker, mut running: impl FnMut(Duration)) -> Close {
        loop {
            let end = tokio::select! {
                received = worker.receive() => self.hear(worker, received, &mut running).await,
                ask = self.instance.asked(), if self.leaving().is_none() => {
                    self.stop(worker, ask);
                    None
                }
                () = self.instance.capture_wanted(), if self.phase == Phase::Running && !self.capturing => {
                    worker.capture();
                    self.capturing = true;
                    None
                }
                () = self.watch() => self.overdue(worker, &mut running).await,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Takes what was received; `Some` where the life is over.
    async fn hear(
        &mut self,
        worker: &mut Worker,
        received: Received,
        running: &mut impl FnMut(Duration),
    ) -> Option<Close> {
        let now = self.instance.now();
        if received == Received::End {
            return Some(match self.leaving() {
                Some(ask) => Close::Asked(ask),
                None => Close::Fault(worker.crashed().await),
            });
        }
        loop {
            match self.next(worker.inbox(), now) {
                Ok(None) => break,
                Ok(Some(Turn::None)) => {}
                Ok(Some(Turn::Running)) => {
                    if self.leaving().is_none() {
                        self.begin(worker);
                        running(now);
                        self.instance.tell(Happened::Running);
                    }
                }
                Ok(Some(Turn::Stopped)) => {
                    return Some(match self.leaving() {
                        Some(ask) => Close::Asked(ask),
                        None => Close::Fault(worker.out_of_turn()),
                    });
                }
                Ok(Some(Turn::Fault(fault))) => {
                    worker.leave().await;
                    let fault = exit::bounded(fault);
                    return Some(match self.leaving() {
                        Some(ask) => {
                            tracing::warn!(module = self.instance.name(), %fault, "a module faulted while it was stopped");
                            Close::Asked(ask)
                        }
                        None => Close::Fault(fault),
                    });
                }
                Err(breach) => return Some(Close::Fault(worker.breach(&breach))),
            }
        }
        if self.capturing
            && let Some(captured) = worker.captured()
        {
            self.capturing = false;
            self.instance.captured(captured);
        }
        self.instance.inlet.pump();
        self.tell_frames(now);
        if self.instance.inlet.is_broken() {
            return Some(self.broken(worker));
        }
        if let Phase::Draining { ask, .. } = self.phase
            && self.instance.inlet.is_drained()
        {
            self.end(worker, ask);
        }
        None
    }

    /// Takes one message; `None` where there is no whole one.
    fn next(&mut self, inbox: &mut Inbox, now: Duration) -> Result<Option<Turn>, String> {
        let Some(message) = inbox.next().map_err(|error| error.to_string())? else { return Ok(None) };
        let instance = self.instance;
        match FromWorker::decode(message).map_err(|error| error.to_string())? {
            FromWorker::FrameDone(done) => {
                instance.inlet.answered(done.seq, now).map_err(|error| error.to_string())?;
                self.keeping.keep()?;
                let mut tally = instance.tally.borrow_mut();
                tally.frames += 1;
                tally.times.add(done.took_ns);
                tally.latency.add(done.took_ns);
                tally.fuel = tally.fuel.saturating_add(done.fuel);
            }
            FromWorker::Emit { seq, channel, payload } => self.emit(channel, seq, payload, now)?,
            FromWorker::FrameRefused { seq, why } => {
                instance.inlet.answered(seq, now).map_err(|error| error.to_string())?;
                self.keeping.forget();
                let mut tally = instance.tally.borrow_mut();
                tally.unreadable += 1;
                // A sensor that gives nothing else must not fill the log.
                if tally.unreadable.is_power_of_two() {
                    let (why, unreadable) = (exit::clip(why, 256), tally.unreadable);
                    tracing::warn!(module = instance.name(), seq, unreadable, "a frame could not be given: {why}");
                }
            }
            FromWorker::Log { level, text } => self.log(level, text, now),
            FromWorker::Denied { function } => self.denied(function),
            FromWorker::Metric { name, metric } => self.counting.tell(name, metric)?,
            FromWorker::StateSet { key, value } => self.keeping.change(key, Some(value))?,
            FromWorker::StateDelete { key } => self.keeping.change(key, None)?,
            FromWorker::Running => {
                if matches!(self.phase, Phase::Running | Phase::Draining { .. }) {
                    return Err("it says twice that it runs".into());
                }
                self.keeping.keep()?;
                return Ok(Some(Turn::Running));
            }
            FromWorker::Fault(fault) => return Ok(Some(Turn::Fault(fault))),
            FromWorker::Stopped => {
                self.keeping.keep()?;
                return Ok(Some(Turn::Stopped));
            }
            FromWorker::Ready(_) => return Err("it says twice that it is ready".into()),
        }
        Ok(Some(Turn::None))
    }

    fn emit(&mut self, channel: &str, seq: u64, payload: &[u8], now: Duration) -> Result<(), String> {
        let granted = |grant: &Grant| matches!(grant, Grant::Emit(granted) if granted == channel);
        if !self.instance.spec.module.grants.iter().any(granted) {
            return Err(format!("a record on channel {:?}, which is not granted", exit::clip(channel, 64)));
        }
        if self.records.take(now) {
            self.keeping.record(channel, seq, self.instance.inlet.captured(seq), payload);
        } else {
            self.instance.tally.borrow_mut().excess.records += 1;
        }
        Ok(())
    }

    fn log(&mut self, level: u8, text: &str, now: Duration) {
        if !self.lines.take(now) {
            self.instance.tally.borrow_mut().excess.log_lines += 1;
            return;
        }
        let refused = self.lines.refused();
        let mut records = self.instance.ports.records.borrow_mut();
        if refused > 0 {
            records.log(self.instance.name(), 1, &format!("{refused} lines were left out: too many a second"));
        }
        let line = exit::clip(text, sanderling_protocol::worker::MAX_LOG_LINE);
        records.log(self.instance.name(), level, &line);
    }

    fn denied(&self, function: &str) {
        let function = exit::clip(function, 64);
        let mut tally = self.instance.tally.borrow_mut();
        if tally.denied.len() >= MOST_DENIED || tally.denied.contains(&function) {
            return;
        }
        tally.denied.push(function.clone());
        drop(tally);
        self.instance.tell(Happened::Denied { function });
    }

    fn begin(&mut self, worker: &mut Worker) {
        self.phase = Phase::Running;
        if let Some(feed) = worker.feed() {
            self.instance.inlet.open(feed);
        }
    }

    fn tell_frames(&mut self, now: Duration) {
        let total = self.instance.tally.borrow().frames;
        if total > 0 && (self.told.is_zero() || now.saturating_sub(self.told) >= TELL_FRAMES) {
            self.told = now.max(Duration::from_nanos(1));
            self.instance.tell(Happened::Frames { total });
        }
    }

    /// What it was asked that makes it leave.
    fn leaving(&self) -> Option<Ask> {
        match self.phase {
            Phase::Draining { ask, .. } | Phase::Stopping { ask, .. } => Some(ask),
            Phase::Starting { .. } | Phase::Running => None,
        }
    }

    fn stop(&mut self, worker: &Worker, ask: Ask) {
        self.instance.inlet.hold();
        if ask == Ask::Stop || self.instance.inlet.is_drained() {
            self.end(worker, ask);
        } else {
            self.phase = Phase::Draining { ask, due: self.instance.now() + self.instance.options.drain };
        }
    }

    fn end(&mut self, worker: &Worker, ask: Ask) {
        worker.say(&ToWorker::Stop);
        let due = self.instance.now() + self.instance.options.stop / 2;
        self.phase = Phase::Stopping { ask, due, interrupted: false };
    }
}
