//! A victim beside a neighbour.
//!
//! The neighbour gets a frame every few milliseconds all the time, and must handle each.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    cell::{Cell, RefCell},
    fs,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use sanderling_agent::{
    frames::{FrameSink, SensorId},
    workload::{Happened, ModuleSpec, Options, Records, WorkloadEvent, Workloads},
};
use sanderling_guest::frame::FrameHeader;
use sanderling_hostile_guests::{Guest, MODEL, Outcome, frame};
use sanderling_protocol::{
    reported::ModuleReport,
    worker::{Fault, FaultCode},
};
use sanderling_tests::workers::Stand;
pub(crate) use sanderling_tests::workers::on_one_thread;
use serde_json::json;
use tokio::{sync::mpsc, time::interval};

/// Frames that each victim is given.
const FRAMES: u64 = 4;
/// How often the victim is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Between two frames of the neighbour.
const PACE: Duration = Duration::from_millis(2);
/// Whatever a victim does is over by then.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
/// A start function has at least this long.
const LEAST_START: Duration = Duration::from_secs(5);

/// How a victim ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// The fault, where there was one.
    pub(crate) fault: Option<Fault>,
    /// From its deadline to its fault, where it was for the deadline.
    pub(crate) late: Option<Duration>,
    /// How long it took to stop when it was asked.
    pub(crate) stop: Duration,
    /// The most memory that its worker had, as far as it was seen.
    pub(crate) peak: u64,
    /// What it may have, without the program itself.
    pub(crate) most: u64,
    /// As it was reported last.
    pub(crate) report: ModuleReport,
    /// What it emitted last.
    pub(crate) record: Vec<u8>,
}

#[derive(Default)]
struct Heard {
    records: u64,
    last: Vec<u8>,
    line_bytes: usize,
}

impl Records for Heard {
    fn record(&mut self, _module: &str, _channel: &str, _seq: u64, _captured_ns: Option<u64>, payload: &[u8]) {
        self.records += 1;
        self.last = payload.to_vec();
    }

    fn log(&mut self, _module: &str, _level: u8, text: &str) {
        assert!(text.len() <= sanderling_protocol::worker::MAX_LOG_LINE + 64 && !text.chars().any(char::is_control));
        self.line_bytes += text.len();
    }
}

/// Supervision of a victim and of its neighbour.
pub(crate) struct Bench {
    stand: Stand,
    heard: Rc<RefCell<Heard>>,
    neighbours: Workloads,
    victims: Workloads,
    events: mpsc::UnboundedReceiver<WorkloadEvent>,
    victim: SensorId,
    offered: Rc<Cell<u64>>,
    generation: u64,
}

impl Bench {
    /// Starts the neighbour. `program` is what runs the victims.
    pub(crate) async fn new(program: PathBuf, edit: impl FnOnce(&mut Options)) -> Self {
        let heard = Rc::new(RefCell::new(Heard::default()));
        let stand = Stand::new(heard.clone());
        let (neighbours, mut settled) = stand.workloads(Options::new(sanderling_tests::program("sanderling-worker")));
        let mut options = Options::new(program);
        edit(&mut options);
        let (victims, events) = stand.workloads(options);
        let [victim, beat] = ["victim", "beat"].map(|name| stand.router.sensor(name).unwrap());
        let bench = Self { stand, heard, neighbours, victims, events, victim, offered: Rc::default(), generation: 0 };
        let quiet = Guest::new("neighbour", "", sanderling_tests::guests::idles(), "survives");
        let mut spec = bench.spec(&quiet, "beat", &json!({ "queue": 4096 }));
        spec.module.limits.deadline_ms = 10_000;
        bench.neighbours.start(1, vec![spec]).unwrap();
        while !matches!(settled.recv().await.unwrap().what, Happened::Running) {}
        bench.stand.router.switch(bench.neighbours.inlets(1));
        bench.feed_neighbour(beat);
        bench
    }

    fn feed_neighbour(&self, beat: SensorId) {
        let (router, pool, offered) = (self.stand.router.clone(), self.stand.pool.clone(), self.offered.clone());
        tokio::task::spawn_local(async move {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                offered.set(offered.get() + 1);
                let header = FrameHeader { seq: offered.get(), ..FrameHeader::new("beat", 0) };
                router.frame(beat, &pool.take(64).unwrap().frame(header, 0, 64).unwrap());
                router.flush();
            }
        });
    }

    /// Waits until the neighbour has handled all that it was given so far, and holds it to that.
    pub(crate) async fn hold_neighbour(&self) -> u64 {
        let offered = self.offered.get();
        let handled = || self.neighbours.reports(1).pop().unwrap();
        let all = async {
            let mut look = interval(LOOK);
            while handled().frames < offered {
                look.tick().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, all).await;
        let report = handled();
        assert!(waited.is_ok(), "the neighbour handled {} of {offered} frames", report.frames);
        assert_eq!((report.dropped, report.restarts, &report.fault), (0, 0, &None), "the neighbour noticed");
        offered
    }

    fn spec(&self, guest: &Guest, sensor: &str, policy: &serde_json::Value) -> ModuleSpec {
        let bound = guest.model.iter().map(|_| (MODEL.to_owned(), json!("models/m.onnx")));
        let channels =
            guest.grants.iter().filter_map(|grant| Some((grant.strip_prefix("emit:")?.to_owned(), json!({}))));
        let module = json!({
            "name": "guest", "module": "guest.wasm", "input": [ { "sensor": sensor, "policy": policy } ],
            "models": bound.collect::<serde_json::Map<_, _>>(), "grants": guest.grants,
            "channels": channels.collect::<serde_json::Map<_, _>>(), "restart": { "max": 0, "within_s": 1 },
            "config": { "a": 1 } });
        let models: Vec<(&str, &[u8])> = guest.model.iter().map(|bytes| (MODEL, &bytes[..])).collect();
        let mut spec = self.stand.spec(module, &guest.module, &models, 64);
        spec.module.limits = guest.limits;
        spec
    }

    /// Runs a victim from its start to its end.
    pub(crate) async fn run(&mut self, guest: &Guest) -> Ended {
        let spec = self.spec(guest, "victim", &json!({ "queue": 16 }));
        let deadline = Duration::from_millis(u64::from(guest.limits.deadline_ms));
        let start = LEAST_START.max(10 * deadline);
        // Beside the program itself, which is there for every worker.
        let most = u64::from(guest.limits.memory_mib + guest.limits.native_memory_mib) * MIB
            + 12 * spec.wasm.length
            + spec.ring_bytes as u64;
        self.generation += 1;
        *self.heard.borrow_mut() = Heard::default();
        self.victims.start(self.generation, vec![spec]).unwrap();
        let life = Life { stage: "load", since: self.stand.clock.mono(), may: start, sent: 0, peak: 0 };
        let lived = tokio::time::timeout(PATIENCE, self.follow(life, deadline, start)).await;
        let (life, fault) = lived.unwrap_or_else(|_| panic!("{} came to no end", guest.name));
        let at = self.stand.clock.mono();
        let report = self.victims.reports(self.generation).pop().unwrap();
        self.victims.stop(self.generation).await;
        let stop = self.stand.clock.mono().saturating_sub(at);
        self.stand.router.switch(self.neighbours.inlets(1));
        let late = fault.as_ref().filter(|fault| fault.code == FaultCode::Deadline);
        Ended {
            outcome: fault.as_ref().map_or(Outcome::Survived, |fault| Outcome::of(fault, life.stage)),
            late: late.map(|_| at.saturating_sub(life.since + life.may)),
            fault,
            stop,
            peak: life.peak,
            most,
            report,
            record: self.heard.borrow().last.clone(),
        }
    }

    /// Stays with a victim until it faults or has answered all its frames.
    async fn follow(&mut self, mut life: Life, deadline: Duration, start: Duration) -> (Life, Option<Fault>) {
        let mut look = interval(LOOK);
        loop {
            let happened = tokio::select! {
                event = self.events.recv() => Some(event.unwrap()),
                _ = look.tick() => None,
            };
            let report = self.victims.reports(self.generation).pop().unwrap();
            life.peak = life.peak.max(report.pid.map_or(0, peak));
            match happened.filter(|event| event.generation == self.generation).map(|event| event.what) {
                Some(Happened::Ready(_)) => life.enter("start", self.stand.clock.mono(), start),
                Some(Happened::Running) => {
                    let inlets = [self.neighbours.inlets(1), self.victims.inlets(self.generation)];
                    self.stand.router.switch(inlets.concat());
                    life.enter("frame", self.stand.clock.mono(), deadline);
                }
                Some(Happened::Fault { fault, .. }) => return (life, Some(fault)),
                _ => {}
            }
            if life.stage != "frame" || report.frames + report.unreadable < life.sent {
                continue;
            }
            if life.sent == FRAMES {
                return (life, None);
            }
            life.sent += 1;
            life.enter("frame", self.stand.clock.mono(), deadline);
            self.send(life.sent);
        }
    }

    fn send(&self, seq: u64) {
        let (header, content) = frame(seq);
        let mut block = self.stand.pool.take(content.len()).unwrap();
        block.bytes_mut().unwrap()[..content.len()].copy_from_slice(&content);
        self.stand.router.frame(self.victim, &block.frame(header, 0, content.len()).unwrap());
        self.stand.router.flush();
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        self.victims.stop_all().await;
        self.neighbours.stop_all().await;
    }
}

struct Life {
    stage: &'static str,
    since: Duration,
    may: Duration,
    sent: u64,
    peak: u64,
}

impl Life {
    fn enter(&mut self, stage: &'static str, since: Duration, may: Duration) {
        (self.stage, self.since, self.may) = (stage, since, may);
    }
}

/// The most memory that a process had, in bytes; 0 where it is gone.
pub(crate) fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
