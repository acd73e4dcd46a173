use super::*;
use crate::clock::SystemClock;
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    worker::{Blob, FaultCode, FromWorker},
};
use serde_json::json;
use std::{future::Future, os::unix::fs::PermissionsExt};
use tokio::task::LocalSet;

struct Bench {
    folder: tempfile::TempDir,
    workloads: Workloads,
    events: mpsc::UnboundedReceiver<WorkloadEvent>,
    spec: ModuleSpec,
}

/// Workers are scripts that say that they are ready and, after a while, that they run; they listen to nothing.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, message: FromWorker<'_>| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (ready, running) = (file("ready", FromWorker::Ready(Ready::default())), file("running", FromWorker::Running));
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
        { "name": "m", "module": "modules/m", "input": [], "restart": { "max": 0, "within_s": 1 } } ] });
    let module = Deployment::parse(document.to_string().as_bytes()).unwrap().modules.remove(0);
    let spec = ModuleSpec { module, wasm, models: Vec::new(), ring_bytes: 1 << 16 };
    let ports = Ports {
        blobs: Rc::new(blobs),
        records: Rc::new(RefCell::new(fake::FakeRecords::default())),
        clock: Arc::new(SystemClock::new()),
        pool: Pool::new(1 << 16),
    };
    let options = Options { stop: Duration::from_millis(50), ..Options::new(program) };
    let (workloads, events) = Workloads::new(options, ports);
    Bench { folder, workloads, events, spec }
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
