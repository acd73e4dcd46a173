use super::*;
use crate::{clock::SystemClock, frames::Pool};
use fake::{FakeRecords, FakeStates};
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    digest::Digest,
    worker::{Blob, FaultCode, FromWorker},
};
use serde_json::json;
use std::{fs::File, future::Future, io, os::unix::fs::PermissionsExt, sync::Arc};
use tokio::task::LocalSet;

struct Bench {
    folder: tempfile::TempDir,
    workloads: Workloads,
    events: mpsc::UnboundedReceiver<WorkloadEvent>,
    records: Rc<RefCell<FakeRecords>>,
    states: Rc<RefCell<FakeStates>>,
    spec: ModuleSpec,
}

/// Workers are scripts that say that they are ready and, after a while, that they run; they listen to nothing.
fn bench() -> Bench {
    bench_of(&[], &[FromWorker::Running])
}

/// Workers of a module with these grants say these things after a while.
fn bench_of(grants: &[&str], said: &[FromWorker<'_>]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, messages: &[FromWorker<'_>]| {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (ready, running) = (file("ready", &[FromWorker::Ready(Ready::default())]), file("running", said));
    let program = folder.path().join("worker");
    let script =
        format!("#!/bin/sh\n/bin/cat {ready:?} >&3\n/bin/sleep 0.3\n/bin/cat {running:?} >&3\nexec /bin/sleep 1000\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let blobs = fake::FakeBlobs::default();
    let wasm = Blob { sha256: Digest::of(b"wasm"), length: 4 };
    let path = folder.path().join("wasm");
    std::fs::write(&path, b"wasm").unwrap();
    blobs.put(&wasm.sha256, path);
    let document = json!({ "schema": SCHEMA, "name": "d", "modules": [
        { "name": "m", "module": "modules/m", "input": [], "restart": { "max": 0, "within_s": 1 }, "grants": grants,
          "channels": if grants.contains(&"emit:c") { json!({ "c": {} }) } else { json!({}) } } ] });
    let module = Deployment::parse(document.to_string().as_bytes()).unwrap().modules.remove(0);
    let spec = ModuleSpec { module, wasm, models: Vec::new(), ring_bytes: 1 << 16 };
    let (records, states) = (Rc::<RefCell<FakeRecords>>::default(), Rc::<RefCell<FakeStates>>::default());
    let ports = Ports {
        blobs: Rc::new(blobs),
        records: records.clone(),
        states: states.clone(),
        clock: Arc::new(SystemClock::new()),
        pool: Pool::new(1 << 16),
        capsules: Rc::new(NoCapsules),
    };
    let options = Options { stop: Duration::from_millis(50), ..Options::new(program) };
    let (workloads, events) = Workloads::new(options, ports);
    Bench { folder, workloads, events, records, states, spec }
}

fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

impl Bench {
    async fn next(&mut self) -> Happened {
        self.events.recv().await.unwrap().what
    }
}

#[test]
fn the_worker_that_was_staged_is_the_one_that_runs() {
    on_one_thread(async {
        let mut bench = bench();
        let staged = bench.workloads.stage(&bench.spec).await.unwrap();
        assert_eq!(staged.module(), "m");
        let pid = staged.worker.pid();
        bench.workloads.place(1, vec![bench.spec.clone()]).unwrap();
        // Another could not be started any more.
        std::fs::remove_file(bench.folder.path().join("worker")).unwrap();
        bench.workloads.launch(1, vec![staged]);
        assert!(matches!(bench.next().await, Happened::Ready(_)));
        assert_eq!(bench.next().await, Happened::Running);
        assert_eq!(bench.workloads.reports(1)[0].pid, Some(pid));
        assert_eq!((bench.workloads.pids(), bench.workloads.needs(1)), (vec![pid], bench.spec.memory()));
        bench.workloads.stop(1).await;
        assert_eq!((bench.workloads.pids(), bench.workloads.needs(1)), (vec![], 0));
    });
}

#[test]
fn a_generation_that_is_placed_has_entrances_and_no_worker_before_it_is_launched() {
    on_one_thread(async {
        let mut bench = bench();
        bench.workloads.place(1, vec![bench.spec.clone()]).unwrap();
        tokio::task::yield_now().await;
        assert_eq!((bench.workloads.inlets(1).len(), bench.workloads.pids()), (1, vec![]));
        assert_eq!(bench.workloads.place(1, vec![]), Err(WorkloadError::Started { generation: 1 }));
        bench.workloads.restart(1, "m").unwrap();
        bench.workloads.launch(1, Vec::new());
        assert!(matches!(bench.next().await, Happened::Ready(_)));
        bench.workloads.place(2, vec![bench.spec.clone()]).unwrap();
        bench.workloads.drain(2).await;
        assert_eq!(bench.workloads.inlets(2).len(), 0, "it ends without having begun");
        bench.workloads.stop_all().await;
        assert!(bench.workloads.pids().is_empty());
    });
}

#[test]
fn a_worker_that_dies_while_it_waits_to_be_launched_is_a_crash() {
    on_one_thread(async {
        let mut bench = bench();
        let staged = bench.workloads.stage(&bench.spec).await.unwrap();
        let pid = rustix::process::Pid::from_raw(staged.worker.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        bench.workloads.place(1, vec![bench.spec.clone()]).unwrap();
        bench.workloads.launch(1, vec![staged]);
        let fault = loop {
            if let Happened::Fault { fault, quarantined } = bench.next().await {
                assert!(quarantined, "by its policy");
                break fault;
            }
        };
        assert!(fault.code == FaultCode::Crash && fault.message.contains("SIGKILL"), "{fault}");
    });
}

#[test]
fn what_is_staged_and_not_wanted_any_more_is_killed() {
    on_one_thread(async {
        let bench = bench();
        let staged = bench.workloads.stage(&bench.spec).await.unwrap();
        let status = format!("/proc/{}/status", staged.worker.pid());
        drop(staged);
        let ended = |status: &str| std::fs::read_to_string(status).map_or(true, |text| text.contains("State:\tZ"));
        while !ended(&status) {
            tokio::task::yield_now().await;
        }
    });
}

impl Bench {
    /// Starts the module, and gives the fault that ends it.
    async fn fault(mut self) -> Fault {
        self.workloads.start(1, vec![self.spec.clone()]).unwrap();
        loop {
            if let Happened::Fault { fault, .. } = self.next().await {
                return fault;
            }
        }
    }

    async fn runs(&mut self) {
        while self.next().await != Happened::Running {}
    }
}

const EMIT: FromWorker<'_> = FromWorker::Emit { seq: 0, channel: "c", payload: b"r" };
const SET: FromWorker<'_> = FromWorker::StateSet { key: b"k", value: b"v" };

#[test]
fn what_a_call_changes_of_the_state_is_kept_with_its_records() {
    on_one_thread(async {
        let mut bench = bench_of(&["state:100", "emit:c"], &[EMIT, SET, FromWorker::Running]);
        bench.workloads.start(1, vec![bench.spec.clone()]).unwrap();
        bench.runs().await;
        let states = bench.states.borrow();
        let (module, records, changes) = &states.kept[0];
        assert_eq!((module.as_str(), records.len(), changes.len()), ("m", 1, 1));
        assert_eq!(states.state(1, "m").get(b"k").map(|value| &value[..]), Some(&b"v"[..]));
        assert!(bench.records.borrow().records.is_empty(), "they are not handed over alone");
    });
}

#[test]
fn a_call_that_faults_gives_its_records_and_keeps_nothing() {
    on_one_thread(async {
        let fault = FromWorker::Fault(Fault::new(FaultCode::Trap, "unreachable"));
        let bench = bench_of(&["state:100", "emit:c"], &[EMIT, SET, fault]);
        let (records, states) = (bench.records.clone(), bench.states.clone());
        assert_eq!(bench.fault().await.code, FaultCode::Trap);
        assert_eq!(records.borrow().records, [("m".into(), "c".into(), 0, b"r".to_vec())]);
        assert!(states.borrow().kept.is_empty() && states.borrow().states.is_empty());
    });
}

#[test]
fn a_worker_that_breaks_the_rules_of_its_state_is_ended() {
    on_one_thread(async {
        let twice = &[SET, SET, FromWorker::Running][..];
        let big = vec![0; 60_000];
        let much: Vec<FromWorker<'_>> = (0..18)
            .map(|at| FromWorker::StateSet { key: &b"abcdefghijklmnopqrs"[at..], value: &big })
            .chain([FromWorker::Running])
            .collect();
        let cases = [
            (&["emit:c"][..], &[SET, FromWorker::Running][..], "not granted"),
            (&["state:1"], &[SET, FromWorker::Running], "the deployment grants 1"),
            (&["state:100"], twice, "two changes of one key"),
            (&["state:1048576"], &much, "more changes"),
        ];
        for (grants, said, why) in cases {
            let bench = bench_of(grants, said);
            let states = bench.states.clone();
            let fault = bench.fault().await;
            assert!(fault.code == FaultCode::Crash && fault.message.contains(why), "{fault}");
            assert!(states.borrow().kept.is_empty(), "{why}");
        }
    });
}

#[test]
fn a_module_that_keeps_state_begins_when_the_one_before_has_ended() {
    on_one_thread(async {
        let mut bench = bench_of(&["state:100"], &[SET, FromWorker::Running]);
        bench.workloads.start(1, vec![bench.spec.clone()]).unwrap();
        bench.runs().await;
        assert_eq!(bench.workloads.keeping(1), ["m"]);
        // Loaded beside the one that runs.
        let staged = bench.workloads.stage(&bench.spec).await.unwrap();
        bench.workloads.place(2, vec![bench.spec.clone()]).unwrap();
        bench.workloads.launch(2, vec![staged]);
        tokio::task::yield_now().await;
        let written = bench.states.borrow().kept.len();
        bench.workloads.stop(1).await;
        assert_eq!(bench.states.borrow().kept.len(), written, "nobody wrote beside it");
        bench.runs().await;
        assert_eq!(bench.states.borrow().kept.len(), written + 1);
        // Placed and stopped while it waits.
        bench.workloads.start(3, vec![bench.spec.clone()]).unwrap();
        bench.workloads.stop(3).await;
        assert_eq!(bench.workloads.keeping(2), ["m"]);
        bench.workloads.stop_all().await;
    });
}

#[test]
fn what_is_to_stop_while_it_is_started_anew_stops() {
    on_one_thread(async {
        let mut bench = bench();
        bench.workloads.start(1, vec![bench.spec.clone()]).unwrap();
        while bench.next().await != Happened::Running {}
        let pid = bench.workloads.pids();
        bench.workloads.restart(1, "m").unwrap();
        // Its task takes that up, and waits for the worker, which listens to nothing, to end.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.workloads.pids(), pid);
        bench.workloads.stop(1).await;
        assert!(bench.workloads.pids().is_empty());
    });
}

#[test]
fn a_module_that_is_started_anew_counts_it_and_one_that_is_stopped_or_unknown_is_not_started() {
    on_one_thread(async {
        let mut bench = bench();
        bench.workloads.start(1, vec![bench.spec.clone()]).unwrap();
        while bench.next().await != Happened::Running {}
        bench.workloads.restart(1, "m").unwrap();
        while bench.next().await != Happened::Running {}
        let report = &bench.workloads.reports(1)[0];
        assert_eq!((report.restarts, report.state, &report.fault), (1, ModuleState::Running, &None));
        let unknown = WorkloadError::Unknown { generation: 1, module: "n".into() };
        assert_eq!(bench.workloads.restart(1, "n"), Err(unknown));
        bench.workloads.stop_modules(1, &["m".to_owned()]);
        assert_eq!(bench.workloads.restart(1, "m"), Err(WorkloadError::Stopped { module: "m".into() }));
        bench.workloads.stop_all().await;
    });
}

#[test]
fn a_worker_is_never_given_a_file_that_it_could_write() {
    on_one_thread(async {
        struct Writable(std::path::PathBuf);
        impl Blobs for Writable {
            fn open(&self, _digest: &Digest) -> io::Result<File> {
                std::fs::OpenOptions::new().read(true).write(true).open(&self.0)
            }
        }
        let bench = bench();
        let ports =
            Ports { blobs: Rc::new(Writable(bench.folder.path().join("wasm"))), ..bench.workloads.ports.clone() };
        let (workloads, _events) = Workloads::new((*bench.workloads.options).clone(), ports);
        let fault = workloads.dry_start(&bench.spec).await.unwrap_err();
        assert!(fault.code == FaultCode::Init && fault.message.contains("open for writing"), "{fault}");
    });
}
