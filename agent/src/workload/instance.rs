//! One module of a generation: what its task ([`run`]) and everybody else know of it, and how they tell each other.

mod task;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use sanderling_protocol::{
    command::KeptCapsule,
    reported::{Drops, Excess, ModuleReport, ModuleState},
    worker::{Fault, FaultCode, Missing},
};
use tokio::sync::{Notify, mpsc};

use super::{
    Happened, ModuleFigures, ModuleProgress, ModuleSpec, Options, Ports, Record, Recorded, WorkloadEvent,
    flight::Captured,
    inlet::Inlet,
    metrics::Board,
    stats::{FrameTimes, Histogram},
    supervise::Supervision,
    worker::Staged,
};
pub(super) use task::run;

/// What someone asks of a module's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// End it.
    Stop,
    /// End it, when its worker has answered what it was handed.
    Drain,
    /// Start it anew.
    Restart,
}

/// What is counted of a module.
pub(super) struct Tally {
    pub(super) frames: u64,
    pub(super) faults: u64,
    /// The same by their codes.
    pub(super) fault_codes: Vec<(FaultCode, u64)>,
    pub(super) unreadable: u64,
    pub(super) times: FrameTimes,
    pub(super) latency: Histogram,
    pub(super) fuel: u64,
    pub(super) excess: Excess,
    pub(super) denied: Vec<String>,
    pub(super) pid: Option<u32>,
    pub(super) unconfined: Vec<Missing>,
    fault: Option<Fault>,
    state: ModuleState,
    since: i64,
    restarts: u64,
    next_restart: Option<i64>,
}

/// One module of a generation.
pub(super) struct Instance {
    pub(super) generation: u64,
    pub(super) name: Rc<str>,
    pub(super) spec: ModuleSpec,
    pub(super) options: Rc<Options>,
    pub(super) ports: Ports,
    pub(super) inlet: Rc<Inlet>,
    pub(super) tally: RefCell<Tally>,
    pub(super) metrics: Rc<Board>,
    events: mpsc::UnboundedSender<WorkloadEvent>,
    asked: Cell<Option<Ask>>,
    asks: Notify,
    capture: Cell<bool>,
    captures: Notify,
    staged: RefCell<Option<Staged>>,
    launched: Cell<bool>,
    launches: Notify,
    /// Those of other generations that write the same state; it begins when they have ended.
    before: RefCell<Vec<Rc<Instance>>>,
    ended: Cell<bool>,
    ends: Notify,
}

impl Instance {
    /// A module that does not run yet.
    pub(super) fn new(
        generation: u64,
        spec: ModuleSpec,
        options: Rc<Options>,
        ports: Ports,
        metrics: Rc<Board>,
        events: mpsc::UnboundedSender<WorkloadEvent>,
    ) -> Rc<Self> {
        let inputs = spec.module.input.iter().map(|input| (input.source.name(), input.policy));
        let name: Rc<str> = spec.module.name.as_str().into();
        let inlet = Rc::new(Inlet::new(name.clone(), inputs, ports.pool.clone(), ports.clock.clone()));
        let tally = Tally {
            frames: 0,
            faults: 0,
            fault_codes: Vec::new(),
            unreadable: 0,
            times: FrameTimes::new(),
            latency: Histogram::default(),
            fuel: 0,
            excess: Excess::default(),
            denied: Vec::new(),
            pid: None,
            unconfined: Vec::new(),
            next_restart: None,
            fault: None,
            state: ModuleState::Starting,
            since: ports.clock.wall(),
            restarts: 0,
        };
        Rc::new(Self {
            generation,
            name,
            spec,
            options,
            ports,
            inlet,
            tally: RefCell::new(tally),
            metrics,
            events,
            asked: Cell::new(None),
            asks: Notify::new(),
            capture: Cell::new(false),
            captures: Notify::new(),
            staged: RefCell::new(None),
            launched: Cell::new(false),
            launches: Notify::new(),
            before: RefCell::default(),
            ended: Cell::new(false),
            ends: Notify::new(),
        })
    }

    /// Its name in the deployment.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its entrance.
    pub(super) fn inlet(&self) -> &Rc<Inlet> {
        &self.inlet
    }

    /// Lets its task begin: with the worker that has loaded it already, where there is one.
    pub(super) fn launch(&self, staged: Option<Staged>) {
        self.staged.replace(staged);
        self.launched.set(true);
        self.launches.notify_one();
    }

    /// Whether it keeps state, and may still change it.
    pub(super) fn is_keeping(&self) -> bool {
        self.spec.module.state_quota().is_some() && !self.has_ended()
    }

    /// These write its state too; where it has one, it begins when they have ended.
    pub(super) fn comes_after(&self, others: Vec<Rc<Self>>) {
        if self.is_keeping() {
            self.before.replace(others);
        }
    }

    /// Returns when nobody else writes its state any more.
    async fn alone(&self) {
        loop {
            let Some(other) = self.before.borrow().last().cloned() else { return };
            other.ended().await;
            self.before.borrow_mut().retain(|one| !Rc::ptr_eq(one, &other));
        }
    }

    async fn launched(&self) {
        while !self.launched.get() {
            self.launches.notified().await;
        }
    }

    /// The worker that has loaded it, where that waits.
    pub(super) fn take_staged(&self) -> Option<Staged> {
        self.staged.take()
    }

    /// Asks its task for something. To stop is not taken back.
    pub(super) fn ask(&self, ask: Ask) {
        let stays = match self.asked.get() {
            Some(Ask::Stop) => true,
            Some(Ask::Drain) => ask != Ask::Stop,
            Some(Ask::Restart) | None => false,
        };
        if !stays {
            self.asked.set(Some(ask));
        }
        self.asks.notify_one();
    }

    /// It is being started anew, as it was asked; to stop may have been asked of it since.
    fn restarting(&self) {
        if self.asked.get() == Some(Ask::Restart) {
            self.asked.set(None);
        }
        self.inlet.reopen();
    }

    /// Whether it was asked to stop for good.
    pub(super) fn is_to_stop(&self) -> bool {
        self.asked.get() == Some(Ask::Stop)
    }

    /// Whether its task is over, and with it its worker.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Returns when its task is over.
    pub(super) async fn ended(&self) {
        while !self.ended.get() {
            let ends = self.ends.notified();
            if !self.ended.get() {
                ends.await;
            }
        }
    }

    /// What is asked of the task, once it is. May be dropped at any time; nothing is lost.
    pub(super) async fn asked(&self) -> Ask {
        loop {
            if let Some(ask) = self.asked.get() {
                return ask;
            }
            self.asks.notified().await;
        }
    }

    /// A record of its next frame is wanted.
    pub(super) fn capture(&self) {
        self.capture.set(true);
        self.captures.notify_one();
    }

    /// Returns once a record of its next frame is wanted. May be dropped at any time; nothing is lost.
    pub(super) async fn capture_wanted(&self) {
        while !self.capture.get() {
            self.captures.notified().await;
        }
    }

    /// A frame of it was recorded: keeps it, and tells.
    pub(super) fn captured(&self, captured: io::Result<Captured>) {
        self.capture.set(false);
        self.tell(Happened::Captured(match captured {
            Err(error) => Err(format!("what the worker recorded cannot be read: {error}")),
            Ok(Captured { partial, record }) => {
                let length = record.len();
                let recorded = Recorded { fault: None, partial, length, record: Record::Read(record) };
                let capsule = self.ports.capsules.keep(self.generation, &self.spec, recorded);
                let kept = capsule.map(|capsule| KeptCapsule { capsule, partial });
                kept.ok_or_else(|| {
                    format!(
                        "this device keeps no capsules, or none of {length} bytes; see `[capsules]` in its configuration"
                    )
                })
            }
        }));
    }

    /// Monotonic time.
    pub(super) fn now(&self) -> Duration {
        self.ports.clock.mono()
    }

    /// Tells what happened.
    pub(super) fn tell(&self, what: Happened) {
        // Nobody listens when the agent ends.
        let _ = self.events.send(WorkloadEvent { generation: self.generation, module: self.name.clone(), what });
    }

    /// The module as it is reported.
    pub(super) fn report(&self) -> ModuleReport {
        let tally = self.tally.borrow();
        let counts = self.inlet.counts();
        let (frame_us_p50, frame_us_p99) = tally.times.p50_p99();
        ModuleReport {
            name: self.name.to_string(),
            artifact: self.spec.wasm.sha256,
            state: tally.state,
            since: tally.since,
            restarts: tally.restarts,
            frames: tally.frames,
            dropped: counts.drops.total(),
            drops: counts.drops,
            skipped: counts.skipped,
            unreadable: tally.unreadable,
            frame_us_p50,
            frame_us_p99,
            excess: tally.excess,
            metrics: self.metrics.of(&self.name),
            denied: tally.denied.clone(),
            pid: tally.pid,
            next_restart: tally.next_restart,
            unconfined: tally.unconfined.clone(),
            fault: tally.fault.clone(),
        }
    }

    /// Frames that did not come to the guest, by cause.
    fn drops(&self) -> Vec<(&'static str, u64)> {
        let Drops { overtaken, lost, oversize, unfit, broken } = self.inlet.counts().drops;
        vec![
            ("overtaken", overtaken),
            ("lost", lost),
            ("oversize", oversize),
            ("unfit", unfit),
            ("broken", broken),
            ("unreadable", self.tally.borrow().unreadable),
        ]
    }

    /// The module in figures.
    pub(super) fn figures(&self) -> ModuleFigures {
        let (report, drops) = (self.report(), self.drops());
        let tally = self.tally.borrow();
        ModuleFigures {
            report,
            drops,
            latency: tally.latency.clone(),
            faults: tally.fault_codes.clone(),
            fuel: tally.fuel,
        }
    }

    /// How far it is.
    pub(super) fn progress(&self) -> ModuleProgress {
        let tally = self.tally.borrow();
        ModuleProgress { name: self.name.clone(), state: tally.state, frames: tally.frames, faults: tally.faults }
    }

    /// The wall-clock second in which the monotonic clock will show `at`, by what both show now.
    fn wall_at(&self, at: Duration) -> i64 {
        let now = self.ports.clock.now();
        let rest = i64::try_from(at.saturating_sub(now.mono).as_millis()).unwrap_or(i64::MAX);
        now.wall_ms.saturating_add(rest).div_euclid(1000)
    }

    fn show(&self, supervision: &Supervision) {
        let mut tally = self.tally.borrow_mut();
        if tally.state != supervision.state() {
            tally.state = supervision.state();
            tally.since = self.ports.clock.wall();
        }
        tally.restarts = supervision.restarts();
        tally.next_restart = supervision.due().map(|due| self.wall_at(due));
    }
}
