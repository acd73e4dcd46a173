//! Frames to a real worker and back, beside hand-overs between two threads.

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
    sync::mpsc::sync_channel,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sanderling_agent::{
    frames::{Frame, FrameSink, SensorId},
    workload::{Happened, ModuleSpec, Options, Records, WorkloadEvent, Workloads},
};
use sanderling_runtime::FrameHeader;
use sanderling_tests::workers::{Stand, on_one_thread};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::{
    kernels::{plain, with_imports},
    measure::{Moment, median},
    report::{Budget, Row},
};

const NOTHING: &str = r#"
(func (export "sanderling_frame") (result i32) (i32.const 0))"#;
/// Takes the frame into its memory, and emits.
const EMITS: &str = r#"(data (i32.const 0) "out")
(func (export "sanderling_buffer") (param i32) (result i32) (i32.const 65536))
(func (export "sanderling_frame") (result i32)
  (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3)))"#;
const EMIT: &str = r#"(import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))"#;

const SATURATED: u64 = 500_000;
/// So many frames are under way at once; the queue takes 4096.
const IN_FLIGHT: u64 = 3500;
const BATCH: u64 = 64;
const ROUNDS: usize = 5;
pub(super) const SINGLES: usize = 300;
/// Between single frames, so that each finds a worker asleep.
pub(super) const PAUSE: Duration = Duration::from_millis(2);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    on_one_thread(rows())
}

async fn rows() -> Result<Vec<Row>> {
    let mut bench = Bench::new(sanderling_tests::program("sanderling-worker"))?;
    let mut rows = vec![
        saturated(&mut bench).await?,
        single(&mut bench, "frame-64", "one frame of 64 bytes to the worker and its record back", 64, 60.0).await?,
        single(
            &mut bench,
            "frame-640x480",
            "one frame of 640x480 gray to the worker and its record back",
            307_200,
            100.0,
        )
        .await?,
    ];
    bench.stop().await;
    rows.push(super::pulse::measure(sanderling_tests::program("sanderling-worker")).await?);
    Ok(rows)
}

async fn saturated(bench: &mut Bench) -> Result<Row> {
    let spec = bench.spec(&plain(1, NOTHING)?, &json!({ "queue": 4096 }), 64);
    bench.run(spec).await?;
    let (mut ours, mut channel) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(SATURATED as f64 / bench.flood().await?);
        channel.push(SATURATED as f64 / flood_a_channel()?);
    }
    let row = Row::new("frames-saturated", "frames of 64 bytes through a worker", "frames/s", median(ours));
    let row = row.beside("a channel between threads", median(channel));
    Ok(row.within(Budget::AtLeast(300_000.0)))
}

async fn single(bench: &mut Bench, name: &'static str, what: &str, length: usize, most: f64) -> Result<Row> {
    bench.run(emitting(bench, length)?).await?;
    let (mut ours, mut threads) = (vec![], vec![]);
    let (to, from) = echo();
    for _ in 0..SINGLES {
        ours.push(bench.round_trip(length).await? * 1e6);
        tokio::time::sleep(PAUSE).await;
        let began = Moment::now();
        to.send(())?;
        from.recv()?;
        threads.push(began.past() * 1e6);
    }
    // Behind the frames, so that none of them pays for it.
    let guest = bench.guest_us()?;
    let what = format!("{what}, less the guest's own {guest} µs");
    let row =
        Row::new(name, what, "µs", median(ours) - guest).beside("there and back between threads", median(threads));
    Ok(row.within(Budget::AtMost(most)))
}

/// Seconds for the same number of frames through a channel.
fn flood_a_channel() -> Result<f64> {
    let (to, from) = sync_channel::<[u8; 160]>(IN_FLIGHT as usize);
    let taker = std::thread::spawn(move || from.into_iter().map(|frame| u64::from(frame[0])).sum::<u64>());
    let began = Moment::now();
    for _ in 0..SATURATED {
        to.send([1; 160])?;
    }
    drop(to);
    let taken = taker.join().ok().context("the thread broke")?;
    ensure!(taken == SATURATED, "{taken} frames came through the channel");
    Ok(began.past())
}

/// A module that emits a record for each frame.
pub(super) fn emitting(bench: &Bench, length: usize) -> Result<ModuleSpec> {
    Ok(bench.spec(&with_imports(EMIT, 7, EMITS)?, &json!("latest"), length))
}

/// A thread that answers.
pub(super) fn echo() -> (std::sync::mpsc::SyncSender<()>, std::sync::mpsc::Receiver<()>) {
    let ((to, asked), (answer, from)) = (sync_channel(1), sync_channel(1));
    std::thread::spawn(move || asked.into_iter().try_for_each(|()| answer.send(())));
    (to, from)
}

/// Wakes whoever waits for a record.
struct Heard(Rc<Notify>);

impl Records for Heard {
    fn record(&mut self, _module: &str, _channel: &str, _seq: u64, _captured_ns: Option<u64>, _payload: &[u8]) {
        self.0.notify_one();
    }

    fn log(&mut self, module: &str, level: u8, text: &str) {
        eprintln!("{module} [{level}] {text}");
    }
}

pub(super) struct Bench {
    stand: Stand,
    workloads: Workloads,
    events: mpsc::UnboundedReceiver<WorkloadEvent>,
    sensor: SensorId,
    heard: Rc<Notify>,
    generation: u64,
    seq: Cell<u64>,
}

impl Bench {
    fn new(program: PathBuf) -> Result<Self> {
        let heard = Rc::new(Notify::new());
        Self::with(program, Rc::new(RefCell::new(Heard(heard.clone()))), heard)
    }

    /// With records that go there; `heard` is told of them.
    pub(super) fn with(program: PathBuf, records: Rc<RefCell<dyn Records>>, heard: Rc<Notify>) -> Result<Self> {
        let stand = Stand::new(records);
        let (workloads, events) = stand.workloads(Options::new(program));
        let sensor = stand.router.sensor("cam0").context("no room for a sensor")?;
        Ok(Self { stand, workloads, events, sensor, heard, generation: 0, seq: Cell::new(0) })
    }

    fn spec(&self, wasm: &[u8], policy: &Value, largest: usize) -> ModuleSpec {
        let module = json!({
            "name": "guest", "module": "guest.wasm", "input": [ { "sensor": "cam0", "policy": policy } ],
            "grants": [ "emit:out" ], "channels": { "out": {} }, "limits": { "emit_per_s": 1000 } });
        self.stand.spec(module, wasm, &[], largest)
    }

    /// Runs a module in the place of whatever ran before, and waits until it takes frames.
    pub(super) async fn run(&mut self, spec: ModuleSpec) -> Result<()> {
        let old = self.generation;
        self.generation += 1;
        self.workloads.start(self.generation, vec![spec])?;
        let running = async {
            while let Some(event) = self.events.recv().await {
                if event.generation == self.generation && matches!(event.what, Happened::Running) {
                    return Ok(());
                }
                if let Happened::Fault { fault, .. } = event.what {
                    anyhow::bail!("{fault}");
                }
            }
            anyhow::bail!("the workloads are gone")
        };
        tokio::time::timeout(PATIENCE, running).await.context("the worker does not start")??;
        self.stand.router.switch(self.workloads.inlets(self.generation));
        self.workloads.stop(old).await;
        Ok(())
    }

    fn frame(&self, length: usize) -> Result<Frame> {
        self.seq.set(self.seq.get() + 1);
        let block = self.stand.pool.take(length).context("too large a frame")?;
        let header = FrameHeader { seq: self.seq.get(), ..FrameHeader::new("cam0", 0) };
        block.frame(header, 0, length).context("a frame beyond its block")
    }

    fn handled(&self) -> u64 {
        self.workloads.progress(self.generation).first().map_or(0, |progress| progress.frames)
    }

    /// Seconds for many frames, with as many under way as the queue takes.
    async fn flood(&self) -> Result<f64> {
        let start = self.handled();
        let (began, mut offered) = (Moment::now(), 0);
        while self.handled() - start < SATURATED {
            while offered < SATURATED && offered < self.handled() - start + IN_FLIGHT {
                for _ in 0..BATCH.min(SATURATED - offered) {
                    self.stand.router.frame(self.sensor, &self.frame(64)?);
                    offered += 1;
                }
            }
            self.stand.router.flush();
            tokio::task::yield_now().await;
            ensure!(began.past() < PATIENCE.as_secs_f64(), "stuck at {} of {SATURATED}", self.handled() - start);
        }
        let took = began.past();
        let report = self.workloads.reports(self.generation).pop().context("no report")?;
        ensure!(report.dropped == 0, "{} frames were dropped", report.dropped);
        Ok(took)
    }

    /// Gives a frame to a worker that sleeps. Says when.
    pub(super) async fn offer(&self, length: usize) -> Result<Moment> {
        let frame = self.frame(length)?;
        tokio::time::sleep(PAUSE).await;
        let began = Moment::now();
        self.stand.router.frame(self.sensor, &frame);
        self.stand.router.flush();
        Ok(began)
    }

    /// The median of what the guest itself takes for a frame, in microseconds.
    pub(super) fn guest_us(&self) -> Result<f64> {
        let report = self.workloads.reports(self.generation).pop().context("no report")?;
        Ok(report.frame_us_p50 as f64)
    }

    /// Stops the worker.
    pub(super) async fn stop(&self) {
        self.workloads.stop_all().await;
    }

    /// Seconds from a frame's way into the router to its record's way out.
    async fn round_trip(&self, length: usize) -> Result<f64> {
        let began = self.offer(length).await?;
        tokio::time::timeout(PATIENCE, self.heard.notified()).await.context("no record came back")?;
        Ok(began.past())
    }
}
