//! Frames to a real worker and back, beside hand-overs between two threads.
//!
//! The agent's own router, rings and supervision are used, without sensors and network.

use std::{
    cell::Cell,
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sanderling_agent::{
    clock::SystemClock,
    frames::{Frame, FrameSink, Pool, SensorId},
    router::Router,
    workload::{
        Happened, ModuleSpec, NoCapsules, Options, Ports, Records, WorkloadEvent, Workloads,
        fake::{FakeBlobs, FakeStates},
        ring_bytes,
    },
};
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    digest::Digest,
    worker::Blob,
};
use sanderling_runtime::FrameHeader;
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
const SINGLES: usize = 300;
/// Between single frames, so that each finds a worker asleep.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, rows())
}

async fn rows() -> Result<Vec<Row>> {
    let mut bench = Bench::new(sanderling_tests::program("sanderling-worker"))?;
    let rows = vec![
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
    bench.workloads.stop_all().await;
    Ok(rows)
}

async fn saturated(bench: &mut Bench) -> Result<Row> {
    let spec = bench.spec(&plain(1, NOTHING)?, &json!({ "queue": 4096 }), 64)?;
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
    let spec = bench.spec(&with_imports(EMIT, 7, EMITS)?, &json!("latest"), length)?;
    bench.run(spec).await?;
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
    let report = bench.workloads.reports(bench.generation).pop().context("no report")?;
    let guest = report.frame_us_p50 as f64;
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

/// A thread that answers.
fn echo() -> (std::sync::mpsc::SyncSender<()>, std::sync::mpsc::Receiver<()>) {
    let ((to, asked), (answer, from)) = (sync_channel(1), sync_channel(1));
    std::thread::spawn(move || asked.into_iter().try_for_each(|()| answer.send(())));
    (to, from)
}

/// Wakes whoever waits for a record.
struct Heard(Rc<Notify>);

impl Records for Heard {
    fn record(&mut self, _module: &str, _channel: &str, _seq: u64, _payload: &[u8]) {
        self.0.notify_one();
    }

    fn log(&mut self, module: &str, level: u8, text: &str) {
        eprintln!("{module} [{level}] {text}");
    }
}

struct Bench {
    folder: tempfile::TempDir,
    blobs: Rc<FakeBlobs>,
    workloads: Workloads,
    events: mpsc::UnboundedReceiver<WorkloadEvent>,
    router: Rc<Router>,
    sensor: SensorId,
    pool: Pool,
    heard: Rc<Notify>,
    generation: u64,
    seq: Cell<u64>,
}

impl Bench {
    fn new(program: PathBuf) -> Result<Self> {
        let (blobs, pool, heard) = (Rc::new(FakeBlobs::default()), Pool::new(4 << 20), Rc::new(Notify::new()));
        let ports = Ports {
            blobs: blobs.clone(),
            records: Rc::new(RefCell::new(Heard(heard.clone()))),
            states: Rc::new(RefCell::new(FakeStates::default())),
            clock: Arc::new(SystemClock::new()),
            pool: pool.clone(),
            capsules: Rc::new(NoCapsules),
        };
        let (workloads, events) = Workloads::new(Options::new(program), ports);
        let router = Router::new();
        let sensor = router.sensor("cam0").context("no room for a sensor")?;
        let folder = tempfile::tempdir()?;
        Ok(Self { folder, blobs, workloads, events, router, sensor, pool, heard, generation: 0, seq: Cell::new(0) })
    }

    fn spec(&self, wasm: &[u8], policy: &Value, largest: usize) -> Result<ModuleSpec> {
        let digest = Digest::of(wasm);
        let path = self.folder.path().join(digest.to_string());
        std::fs::write(&path, wasm)?;
        self.blobs.put(&digest, path);
        let document = json!({ "schema": SCHEMA, "name": "bench", "modules": [ {
            "name": "guest", "module": "guest.wasm", "input": [ { "sensor": "cam0", "policy": policy } ],
            "grants": [ "emit:out" ], "channels": { "out": {} }, "limits": { "emit_per_s": 1000 } } ] });
        let module = Deployment::parse(document.to_string().as_bytes())?.modules.remove(0);
        let ring_bytes = ring_bytes(&module, |_| largest);
        let wasm = Blob { sha256: digest, length: wasm.len() as u64 };
        Ok(ModuleSpec { module, wasm, models: Vec::new(), ring_bytes })
    }

    /// Runs a module in the place of whatever ran before, and waits until it takes frames.
    async fn run(&mut self, spec: ModuleSpec) -> Result<()> {
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
        self.router.switch(self.workloads.inlets(self.generation));
        self.workloads.stop(old).await;
        Ok(())
    }

    fn frame(&self, length: usize) -> Result<Frame> {
        self.seq.set(self.seq.get() + 1);
        let block = self.pool.take(length).context("too large a frame")?;
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
                    self.router.frame(self.sensor, &self.frame(64)?);
                    offered += 1;
                }
            }
            self.router.flush();
            tokio::task::yield_now().await;
            ensure!(began.past() < PATIENCE.as_secs_f64(), "stuck at {} of {SATURATED}", self.handled() - start);
        }
        let took = began.past();
        let report = self.workloads.reports(self.generation).pop().context("no report")?;
        ensure!(report.dropped == 0, "{} frames were dropped", report.dropped);
        Ok(took)
    }

    /// Seconds from a frame's way into the router to its record's way out.
    async fn round_trip(&self, length: usize) -> Result<f64> {
        let frame = self.frame(length)?;
        tokio::time::sleep(PAUSE).await;
        let began = Moment::now();
        self.router.frame(self.sensor, &frame);
        self.router.flush();
        tokio::time::timeout(PATIENCE, self.heard.notified()).await.context("no record came back")?;
        Ok(began.past())
    }
}
