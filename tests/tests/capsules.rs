//! Capsules on the real agent: kept of a fault whatever ended the worker, fetched by the operator, and run again to the same fault. And frames of
//! sensors and executions of modules, captured.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use sanderling_protocol::{
    capsule::CapsuleId,
    digest::Digest,
    reported::{EventKind, ModuleReport},
    worker::{Fault, FaultCode},
};
use sanderling_tests::{Broker, Device, Module, PATIENCE, Process, Site, deployment, guests, program};
use serde_json::{Value, json};

/// A device whose module has handled frames for a while and is committed, and then ends as `guest` does.
fn line(site: &Site, wasm: &[u8], limits: Value) -> (Device, Process, Digest) {
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let agent = device.start();
    let path = "modules/remembers/1.wasm";
    site.fleet.add_module(wasm, path);
    let module = Module::new("remembers", path)
        .sensor("clock")
        .emits(guests::TICKS)
        .set("/limits", limits)
        .set("/restart", json!({ "max": 0, "within_s": 300 }));
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    (device, agent, digest)
}

fn fault_of(site: &Site, device: &Device) -> Fault {
    let report = site.observer.wait_report(&device.id, "a fault", |report| fault(&report.modules).is_some());
    let reported = fault(&report.modules).unwrap();
    let told = site.observer.wait_for("its event", PATIENCE, |seen| {
        seen.events(&device.id).into_iter().find_map(|event| match event.what {
            EventKind::Fault { fault, .. } => Some(fault),
            _ => None,
        })
    });
    assert_eq!(told.capsule, reported.capsule, "event and report name the same capsule");
    reported
}

fn fault(modules: &[ModuleReport]) -> Option<Fault> {
    modules.first()?.fault.clone()
}

fn sanderling(site: &Site, arguments: &[&str]) -> (bool, Value, String) {
    let mut command = site.fleet.command();
    let output = command.arg("--json").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or("null");
    (
        output.status.success(),
        serde_json::from_str(last).unwrap_or_default(),
        format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)),
    )
}

fn at_broker<'a>(broker: &Broker, arguments: &[&'a str], port: &'a mut String) -> Vec<String> {
    *port = broker.port().to_string();
    let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    all.extend(["--host".to_owned(), Broker::HOST.to_owned(), "--port".to_owned(), port.clone()]);
    all
}

/// Runs a capsule again; what `sanderling replay` says of it.
fn replay(site: &Site, file: &str) -> Value {
    let (ok, replayed, all) = sanderling(site, &["replay", file]);
    assert!(ok && replayed["came_again"] == true, "{all}");
    replayed
}

/// Fetches a capsule and runs it again; what `sanderling replay` says of it.
fn fetch_and_replay(site: &Site, device: &Device, id: &CapsuleId, folder: &Path) -> Value {
    let file = folder.join("capsule.tar");
    let file = file.to_str().unwrap();
    let mut port = String::new();
    let fetch = ["capsule", "fetch", device.id.as_str(), id.as_str(), "--output", file];
    let fetch = at_broker(&site.broker, &fetch, &mut port);
    let (ok, told, all) = sanderling(site, &fetch.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(ok && told["id"] == id.as_str(), "{all}");
    replay(site, file)
}

#[test]
fn a_fault_after_thousands_of_frames_comes_again_on_the_operators_machine() {
    let site = Site::new();
    let limits = json!({ "deadline_ms": 1000, "emit_per_s": 10000 });
    let (device, mut agent, _) = line(&site, &guests::sums_up(700, "(unreachable)"), limits);
    let fault = fault_of(&site, &device);
    assert_eq!((fault.code, fault.trap.as_deref()), (FaultCode::Trap, Some("unreachable")), "{fault:?}");
    assert_eq!(fault.export.as_deref(), Some("sanderling_frame"));
    assert!(fault.fuel_used > 0 && fault.memory_bytes == 65_536 && fault.host_calls == 1, "{fault:?}");
    assert!(fault.module.is_some() && fault.frame == Some(Digest::of(b"tick")), "{fault:?}");
    let folder = tempfile::tempdir().unwrap();
    let replayed = fetch_and_replay(&site, &device, fault.capsule.as_ref().unwrap(), folder.path());
    assert_eq!(replayed["fault"]["code"], "trap");
    assert_eq!(replayed["fault"]["seq"], json!(fault.seq));
    assert_eq!(replayed["fault"]["fuel_used"], json!(fault.fuel_used));
    assert_eq!(replayed["state"], replayed["recorded_state"]);
    assert!(!replayed["state"].is_null());
    assert!(agent.is_running());
}

#[test]
fn a_worker_that_is_killed_leaves_a_capsule_that_leads_to_that_point() {
    let site = Site::new();
    let limits = json!({ "deadline_ms": 1000, "emit_per_s": 10000 });
    let (device, agent, digest) = line(&site, &guests::sums_up(0, ""), limits);
    let report = site.observer.wait_active(&device.id, digest);
    agent.kill_child(report.modules[0].pid.unwrap());
    let fault = fault_of(&site, &device);
    assert_eq!(fault.code, FaultCode::Crash, "{fault:?}");
    let folder = tempfile::tempdir().unwrap();
    let replayed = fetch_and_replay(&site, &device, fault.capsule.as_ref().unwrap(), folder.path());
    assert!(replayed["fault"].is_null() && replayed["frames"].as_u64() > Some(0), "{replayed}");
}

#[test]
fn a_guest_that_never_returns_comes_to_the_same_instruction_again() {
    let site = Site::new();
    let limits = json!({ "deadline_ms": 300, "emit_per_s": 10000, "fuel_per_frame": 1_u64 << 50 });
    let (device, _agent, _) = line(&site, &guests::sums_up(700, "(loop (br 0))"), limits);
    let fault = fault_of(&site, &device);
    assert_eq!(fault.code, FaultCode::Deadline, "{fault:?}");
    let folder = tempfile::tempdir().unwrap();
    let replayed = fetch_and_replay(&site, &device, fault.capsule.as_ref().unwrap(), folder.path());
    // On a busy machine the agent ends the worker before that says how far it was; then the replay comes to nothing more exact than that.
    if fault.fuel_used > 0 {
        assert_eq!(replayed["fault"]["code"], "deadline");
        assert_eq!(replayed["fault"]["fuel_used"], json!(fault.fuel_used));
        assert_eq!(replayed["state"], replayed["recorded_state"]);
    }
}

#[test]
fn a_fetch_that_was_cut_off_goes_on_and_the_list_names_what_there_is() {
    let site = Site::new();
    let limits = json!({ "deadline_ms": 1000, "emit_per_s": 10000 });
    let (device, _agent, _) = line(&site, &guests::sums_up(700, "(unreachable)"), limits);
    let id = fault_of(&site, &device).capsule.unwrap();
    let mut port = String::new();
    let list = at_broker(&site.broker, &["capsule", "list", device.id.as_str()], &mut port);
    let (ok, listed, all) = sanderling(&site, &list.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(ok && listed[0]["id"] == id.as_str(), "{all}");
    let folder = tempfile::tempdir().unwrap();
    fetch_and_replay(&site, &device, &id, folder.path());
    let file = folder.path().join("capsule.tar");
    let whole = fs::read(&file).unwrap();
    assert_eq!(listed[0]["length"], json!(whole.len()));
    fs::rename(&file, folder.path().join("whole.tar")).unwrap();
    fs::write(folder.path().join("capsule.tar.part"), &whole[..whole.len() / 2]).unwrap();
    fetch_and_replay(&site, &device, &id, folder.path());
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert!(!folder.path().join("capsule.tar.part").exists());
}

#[test]
fn capsules_are_kept_of_new_faults_alone_and_none_where_the_configuration_says_so() {
    for (max, wanted) in [(4, 1), (0, 0)] {
        let site = Site::new();
        let device = site.device("gw-1");
        device.lay_clock("clock", 200.0);
        device.lay("capsules", &format!("[capsules]\nmax = {max}\n"));
        let _agent = device.start();
        site.fleet.add_module(&guests::traps_at(300, b't'), "modules/ticks/t.wasm");
        let module = Module::new("ticks", "modules/ticks/t.wasm")
            .sensor("clock")
            .emits(guests::TICKS)
            .set("/restart", json!({ "max": 2, "within_s": 300 }));
        site.fleet.roll_out(&deployment("line", [module]), &site.broker);
        let faults = site.observer.wait_for("three faults", PATIENCE, |seen| {
            let faults: Vec<Fault> = seen
                .events(&device.id)
                .into_iter()
                .filter_map(|event| match event.what {
                    EventKind::Fault { fault, .. } => Some(fault),
                    _ => None,
                })
                .collect();
            (faults.len() == 3).then_some(faults)
        });
        assert_eq!(faults.iter().filter(|fault| fault.capsule.is_some()).count(), wanted, "{faults:?}");
    }
}

#[test]
fn the_next_frame_of_a_sensor_is_captured_as_it_was_delivered() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 50.0);
    let _agent = device.start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.bin");
    let mut port = String::new();
    let capture = ["capture", device.id.as_str(), "clock", "--output", file.to_str().unwrap()];
    let capture = at_broker(&site.broker, &capture, &mut port);
    // No deployment asks for the sensor; the agent may not listen to commands yet.
    let captured = sanderling_tests::until(PATIENCE, || {
        sanderling(&site, &capture.iter().map(String::as_str).collect::<Vec<_>>()).0.then_some(())
    });
    assert!(captured.is_some());
    assert_eq!(fs::read(&file).unwrap(), b"tick");
    let absent = ["capture", device.id.as_str(), "nothing"];
    let absent = at_broker(&site.broker, &absent, &mut port);
    let (ok, _, told) = sanderling(&site, &absent.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!ok && told.contains("there is no sensor") && told.contains("clock"), "{told}");
}

/// Asks for a capsule of what the module makes of its next frame, and runs it again.
fn capture_and_replay(site: &Site, device: &Device, folder: &Path) -> Value {
    let file = folder.join("captured.tar");
    let file = file.to_str().unwrap();
    let mut port = String::new();
    let capture = ["capture", device.id.as_str(), "--module", "remembers", "--output", file];
    let capture = at_broker(&site.broker, &capture, &mut port);
    let (ok, told, all) = sanderling(site, &capture.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(ok && told["file"] == file, "{all}");
    replay(site, file)
}

#[test]
fn what_a_module_makes_of_its_next_frame_is_kept_when_somebody_asks_and_is_the_same_when_it_is_run_again() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let mut agent = device.start();
    let path = "modules/remembers/1.wasm";
    site.fleet.add_module(&guests::sums_up(0, ""), path);
    let module = |path| Module::new("remembers", path).sensor("clock").emits(guests::TICKS);
    let digest = site.fleet.roll_out(&deployment("line", [module(path).grant("capture")]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let replayed = capture_and_replay(&site, &device, folder.path());
        assert!(replayed["fault"].is_null() && replayed["recorded"].is_null(), "{replayed}");
        assert!(replayed["frames"].as_u64() >= Some(1) && replayed["calls"].as_u64() >= Some(1), "{replayed}");
        assert!(!replayed["state"].is_null() && replayed["state"] == replayed["recorded_state"], "{replayed}");
    }
    assert!(agent.is_running());
    let report = site.observer.wait_active(&device.id, digest);
    assert_eq!((report.modules[0].restarts, report.modules[0].fault.clone()), (0, None));

    // The same module without the grant.
    let digest = site.fleet.roll_out(&deployment("line", [module(path)]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let mut port = String::new();
    let capture = at_broker(&site.broker, &["capture", device.id.as_str(), "--module", "remembers"], &mut port);
    let (ok, _, told) = sanderling(&site, &capture.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!ok && told.contains("is not granted capture"), "{told}");
}

/// Every module of the repository on frames of several kinds: each frame is recorded and run again, and comes to the same end with the same
/// fuel and the same state.
#[test]
fn executions_of_every_module_are_the_same_when_they_are_run_again() {
    let guests = sanderling_tests::guest("surface-defect").parent().unwrap().to_owned();
    let mut tried = BTreeSet::new();
    for entry in fs::read_dir(guests).unwrap() {
        let module = entry.unwrap().path();
        if module.extension().is_some_and(|extension| extension == "wasm") {
            executions(&module).iter().for_each(|execution| run_again(&module, execution));
            tried.insert(module.file_stem().unwrap().to_owned());
        }
    }
    for entry in fs::read_dir(sanderling_tests::source().join("modules")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(tried.contains(&name), "{name:?} was not built, and not tried");
    }
}

/// As what a module can be run: a plain program has no functions of ours, and what keeps nothing in memory may have an instance for each frame.
fn executions(module: &Path) -> &'static [&'static str] {
    let code = fs::read(module).unwrap();
    let exports = |name: &str| code.windows(name.len()).any(|window| window == name.as_bytes());
    match module.file_stem().and_then(|stem| stem.to_str()) {
        Some("fraud-rule") => &["reactor", "isolated"],
        _ if exports("_start") && !exports("sanderling_frame") => &["command"],
        _ => &["reactor"],
    }
}

fn run_again(module: &Path, execution: &str) {
    let source = sanderling_tests::source();
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    fs::write(folder.path().join("a.json"), br#"{"amount":120,"account":"a","value":1.5}"#).unwrap();
    fs::write(folder.path().join("b.bin"), [7; 4096]).unwrap();
    let images = source.join("modules/surface-defect/images/held-out");
    let mut images: Vec<_> = fs::read_dir(images).unwrap().map(|entry| entry.unwrap().path()).collect();
    images.sort();
    let output = {
        let mut run = Command::new(program("sanderling"));
        run.args(["--json", "run", "--execution", execution, "--record-all", "--restarts", "100"]);
        run.args(["--deadline-ms", "10000", "--memory-mib", "64", "--capsule-kib", "16384", "--csv-window", "1024"]);
        run.arg(module).arg("--record").arg(&records).arg("--frames");
        run.args(images.iter().take(6)).arg(source.join("modules/vibration/data/faulty.csv"));
        run.arg(folder.path().join("a.json")).arg(folder.path().join("b.bin"));
        for grant in ["infer", "emit:defects", "emit:alarms", "emit:vibration", "emit:stdout"] {
            run.args(["--grant", grant]);
        }
        let model = source.join("modules/surface-defect/model/surface-defect.onnx");
        run.arg("--model").arg(format!("defect={}", model.display()));
        run.output().unwrap()
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut capsules: Vec<_> = fs::read_dir(&records)
        .unwrap_or_else(|_| panic!("{}: no records: {told}", module.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    capsules.sort();
    assert!(!capsules.is_empty(), "{}: no records: {told}", module.display());
    for capsule in &capsules {
        let mut replay = Command::new(program("sanderling"));
        let output = replay.args(["--json", "replay"]).arg(capsule).arg("--module").arg(module).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value: Value = serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap_or_default();
        let told = format!(
            "{} {execution} {}: {text} {}",
            module.display(),
            capsule.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success() && value["came_again"] == true, "{told}");
        // An instance that is for one frame is gone when that has ended well, and its state with it.
        assert!(execution != "reactor" || !value["state"].is_null(), "{told}");
        assert_eq!(value["state"], value["recorded_state"], "{told}");
    }
}
