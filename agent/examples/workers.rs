//! Feeds real workers as the agent does, checks how their faults end, and measures how fast frames pass.
//!
//! `cargo run -p sanderling-agent --example workers -- target/debug/sanderling-worker`
//!
//! The worker program belongs to another crate, so its path is an argument. Exit status 0 only if every check held; the
//! figures are printed, one a line, as `name value unit`.

use std::{
    cell::{Cell, RefCell},
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sanderling_agent::{
    clock::{Clock, SystemClock},
    frames::{Frame, FrameSink, Pool, SensorId},
    router::Router,
    sensors::{self, Sensors, Socket, SocketSettings},
    workload::{Happened, ModuleSpec, Options, Ports, Records, WorkloadEvent, Workloads, fake::FakeBlobs, ring_bytes},
};
use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    digest::Digest,
    reported::ModuleState,
    worker::{Blob, FaultCode},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

const NOTHING: &str = r#"(module (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_start") (result i32) (i32.const 0))
  (func (export "sanderling_frame") (result i32) (i32.const 0)))"#;
const EMITS: &str = r#"(module
  (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "out")
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_start") (result i32) (i32.const 0))
  (func (export "sanderling_frame") (result i32)
    (drop (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3))) (i32.const 0)))"#;
const TRAPS: &str = r#"(module (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) unreachable)
  (func (export "sanderling_start") (result i32) (i32.const 0)))"#;
const LOOPS: &str = r#"(module (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (loop $l (br $l)) (i32.const 0))
  (func (export "sanderling_start") (result i32) (i32.const 0)))"#;

/// Counts records, and wakes whoever waits for one.
#[derive(Default)]
struct Heard {
    records: Rc<Cell<u64>>,
    one: Rc<Notify>,
}

impl Records for Heard {
    fn record(&mut self, _module: &str, _channel: &str, _seq: u64, _payload: &[u8]) {
        self.records.set(self.records.get() + 1);
        self.one.notify_one();
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
    clock: Arc<SystemClock>,
    pool: Pool,
    heard: Rc<Notify>,
    generation: u64,
    seq: Cell<u64>,
}

impl Bench {
    fn new(program: &Path) -> Result<Self> {
        let (blobs, clock, pool) = (Rc::new(FakeBlobs::default()), Arc::new(SystemClock::new()), Pool::new(4 << 20));
        let records = Heard::default();
        let heard = records.one.clone();
        let ports = Ports {
            blobs: blobs.clone(),
            records: Rc::new(RefCell::new(records)),
            clock: clock.clone(),
            pool: pool.clone(),
        };
        let (workloads, events) = Workloads::new(Options::new(program.to_owned()), ports);
        let router = Router::new();
        let sensor = router.sensor("cam0").context("no room for a sensor")?;
        let folder = tempfile::tempdir()?;
        let (generation, seq) = (0, Cell::new(0));
        Ok(Self { folder, blobs, workloads, events, router, sensor, clock, pool, heard, generation, seq })
    }

    fn spec(&self, guest: &str, policy: &Value, limits: &Value, largest: usize) -> Result<ModuleSpec> {
        let wasm = wat::parse_str(guest)?;
        let digest = Digest::of(&wasm);
        let path = self.folder.path().join(digest.to_string());
        std::fs::write(&path, &wasm)?;
        self.blobs.put(&digest, path);
        let document = json!({ "schema": SCHEMA, "name": "bench", "modules": [ {
            "name": "guest", "module": "guest.wasm", "input": [ { "sensor": "cam0", "policy": policy } ],
            "grants": [ "emit:out" ], "channels": { "out": {} }, "limits": limits,
            "restart": { "max": 1, "within_s": 300 } } ] });
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
        self.until("it runs", |what| matches!(what, Happened::Running)).await?;
        self.router.switch(self.workloads.inlets(self.generation));
        self.workloads.stop(old).await;
        Ok(())
    }

    async fn until(&mut self, what: &str, found: impl Fn(&Happened) -> bool) -> Result<Happened> {
        let search = async {
            loop {
                let event = self.events.recv().await.context("the workloads are gone")?;
                if event.generation == self.generation && found(&event.what) {
                    return anyhow::Ok(event.what);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.with_context(|| format!("waiting until {what}"))?
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
}

/// A fault ends in `code`, a restart, and then quarantine; then a restart on request lifts it.
async fn faults(bench: &mut Bench, guest: &str, code: FaultCode) -> Result<()> {
    let spec = bench.spec(guest, &json!("latest"), &json!({ "deadline_ms": 50 }), 64)?;
    bench.run(spec).await?;
    for last in [false, true] {
        bench.router.frame(bench.sensor, &bench.frame(64)?);
        bench.router.flush();
        let happened = bench.until("it faults", |what| matches!(what, Happened::Fault { .. })).await?;
        let Happened::Fault { fault, quarantined } = happened else { anyhow::bail!("not a fault") };
        ensure!(fault.code == code && fault.seq == Some(bench.seq.get()), "{fault:?}");
        ensure!(quarantined == last, "quarantined: {quarantined}, after {fault}");
        if !last {
            bench.until("it runs again", |what| matches!(what, Happened::Running)).await?;
        }
    }
    bench.workloads.restart(bench.generation, "guest")?;
    bench.until("it runs after quarantine", |what| matches!(what, Happened::Running)).await?;
    let report = bench.workloads.reports(bench.generation).pop().context("no report")?;
    ensure!(report.state == ModuleState::Running && report.restarts == 2 && report.pid.is_some(), "{report:?}");
    Ok(())
}

/// A worker that is killed, or held, from outside.
async fn ended_from_outside(bench: &mut Bench) -> Result<()> {
    let spec = bench.spec(NOTHING, &json!("latest"), &json!({ "deadline_ms": 50 }), 64)?;
    for (signal, code, words) in [
        (rustix::process::Signal::KILL, FaultCode::Crash, "SIGKILL"),
        (rustix::process::Signal::STOP, FaultCode::Deadline, "killed"),
    ] {
        bench.run(spec.clone()).await?;
        let report = bench.workloads.reports(bench.generation).pop().context("no report")?;
        let pid = report.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).context("no process")?;
        rustix::process::kill_process(pid, signal)?;
        bench.router.frame(bench.sensor, &bench.frame(64)?);
        bench.router.flush();
        let happened = bench.until("it faults", |what| matches!(what, Happened::Fault { .. })).await?;
        let Happened::Fault { fault, .. } = happened else { anyhow::bail!("not a fault") };
        ensure!(fault.code == code && fault.message.contains(words), "{fault:?}");
        bench.until("it runs again", |what| matches!(what, Happened::Running)).await?;
    }
    Ok(())
}

async fn dry_starts(bench: &mut Bench) -> Result<()> {
    let good = bench.spec(NOTHING, &json!("latest"), &json!({}), 64)?;
    let ready = bench.workloads.dry_start(&good).await.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    println!("dry_start_module_us {} us", ready.module_us);
    let bad = bench.spec(r#"(module (import "env" "x" (func)))"#, &json!("latest"), &json!({}), 64)?;
    let fault = bench.workloads.dry_start(&bad).await.err().context("a bad module loads")?;
    ensure!(fault.code == FaultCode::Init, "{fault:?}");
    let absent = ModuleSpec { wasm: Blob { sha256: Digest::of(b"absent"), length: 1 }, ..good };
    let fault = bench.workloads.dry_start(&absent).await.err().context("an absent module loads")?;
    ensure!(fault.code == FaultCode::Init && fault.message.contains("cannot be read"), "{fault:?}");
    Ok(())
}

/// Frames a second, straight into the router, with as many in flight as the queue takes.
async fn saturated(bench: &mut Bench, frames: u64, length: usize) -> Result<()> {
    let spec = bench.spec(NOTHING, &json!({ "queue": 4096 }), &json!({}), length)?;
    bench.run(spec).await?;
    // What waits is bounded in bytes too.
    let in_flight = (8 << 20) / length.next_power_of_two() as u64;
    let in_flight = in_flight.clamp(2, 3500);
    let from = bench.clock.mono();
    let mut offered = 0;
    while bench.handled() < frames {
        while offered < frames && offered < bench.handled() + in_flight {
            for _ in 0..in_flight.min(64) {
                bench.router.frame(bench.sensor, &bench.frame(length)?);
                offered += 1;
            }
        }
        bench.router.flush();
        tokio::task::yield_now().await;
        ensure!(bench.clock.mono() - from < Duration::from_secs(60), "stuck at {} of {frames}", bench.handled());
    }
    let took = bench.clock.mono() - from;
    let report = bench.workloads.reports(bench.generation).pop().context("no report")?;
    ensure!(report.dropped == 0, "{} dropped", report.dropped);
    println!("saturated_{length} {:.0} frames/s", report.frames as f64 / took.as_secs_f64());
    println!("guest_p50_{length} {} us", report.frame_us_p50);
    Ok(())
}

/// From a frame's way into the router to its record's way out, one frame at a time.
async fn single(bench: &mut Bench, length: usize) -> Result<()> {
    let spec = bench.spec(EMITS, &json!("latest"), &json!({ "emit_per_s": 1000 }), length)?;
    bench.run(spec).await?;
    let mut times = Vec::new();
    for _ in 0..900 {
        let frame = bench.frame(length)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let from = bench.clock.mono();
        bench.router.frame(bench.sensor, &frame);
        bench.router.flush();
        bench.heard.notified().await;
        times.push((bench.clock.mono() - from).as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0.0);
    println!("single_{length}_p50 {:.1} us", at(50));
    println!("single_{length}_p99 {:.1} us", at(99));
    Ok(())
}

/// Frames a second through the socket sensor, from a program that writes as fast as it can.
async fn through_socket(bench: &mut Bench, frames: u64) -> Result<()> {
    let spec = bench.spec(NOTHING, &json!({ "queue": 4096 }), &json!({}), 64)?;
    bench.run(spec).await?;
    let path: PathBuf = bench.folder.path().join("frames.sock");
    let socket = Socket::new(SocketSettings { path: path.clone(), max_frame: 1 << 16 });
    let ports = sensors::Ports { sink: bench.router.clone(), clock: bench.clock.clone(), pool: bench.pool.clone() };
    let sensors = Sensors::start([("cam0".into(), bench.sensor, Box::new(socket) as _)], &ports);
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let from = bench.clock.mono();
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = UnixStream::connect(path)?;
        let mut one = 160u32.to_le_bytes().to_vec();
        one.extend_from_slice(&FrameHeader::new("", 64).to_bytes());
        one.extend_from_slice(&[7; 64]);
        let batch = one.repeat(400);
        for _ in 0..frames / 400 {
            stream.write_all(&batch)?;
        }
        Ok(())
    });
    let count = || sensors.reports().first().map_or(0, |report| report.frames);
    let mut report;
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        report = bench.workloads.reports(bench.generation).pop().context("no report")?;
        if count() >= frames && report.frames + report.dropped >= frames {
            break;
        }
        ensure!(bench.clock.mono() - from < Duration::from_secs(60), "stuck: {report:?}, {} read", count());
    }
    let took = (bench.clock.mono() - from).as_secs_f64();
    let _ = writer.join();
    println!("socket_read {:.0} frames/s", frames as f64 / took);
    println!("socket_handled {:.0} frames/s", report.frames as f64 / took);
    println!("socket_dropped {:.1} %", report.dropped as f64 * 100.0 / frames as f64);
    println!("blocks_made {} blocks", bench.pool.made());
    Ok(())
}

async fn all(program: &Path) -> Result<()> {
    let mut bench = Bench::new(program)?;
    dry_starts(&mut bench).await.context("dry starts")?;
    faults(&mut bench, TRAPS, FaultCode::Trap).await.context("a guest that traps")?;
    faults(&mut bench, LOOPS, FaultCode::Deadline).await.context("a guest that loops")?;
    ended_from_outside(&mut bench).await.context("a worker that is ended from outside")?;
    saturated(&mut bench, 1_000_000, 64).await.context("saturated")?;
    saturated(&mut bench, 20_000, 300_000).await.context("saturated with large frames")?;
    single(&mut bench, 64).await.context("single frames")?;
    single(&mut bench, 300_000).await.context("single large frames")?;
    through_socket(&mut bench, 1_000_000).await.context("through a socket")?;
    bench.workloads.stop_all().await;
    println!("checks held");
    Ok(())
}

fn main() -> Result<()> {
    let program = std::env::args_os().nth(1).context("give the path of sanderling-worker")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, all(Path::new(&program)))
}
