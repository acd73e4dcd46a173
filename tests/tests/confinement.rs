//! What a worker of the real agent has and has not, what `sanderling-agent doctor` says of it, and what becomes of a worker that is not confined as
//! it must be.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, process::Command};

use sanderling_protocol::{
    reported::{DeploymentState, ModuleReport, ModuleState},
    worker::{FromWorker, Measure, Missing, Ready},
};
use sanderling_tests::{Device, Process, Site, deployment, line_module, program};
use serde_json::{Value, json};

/// What landlock and `/proc` give, which a kernel may not have.
const FURTHER: [Measure; 4] = [Measure::Files, Measure::Network, Measure::Scopes, Measure::OomScore];

fn doctor(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("sanderling-agent"));
    command.arg("doctor").args(arguments).env("SECRET", "of the agent");
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_doctor_finds_each_measure_in_force_by_trying_it_and_agrees_with_itself() {
    let worker = program("sanderling-worker");
    let arguments = ["--worker", worker.to_str().unwrap()];
    let (status, json) = doctor(&[&arguments[..], &["--json"]].concat());
    let found: Value = serde_json::from_str(&json).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let outcome = |check: &str| {
        let finding = findings.iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("{check} was not tried: {json}"))["outcome"].clone()
    };
    for measure in Measure::ALL.into_iter().filter(|measure| !FURTHER.contains(measure)) {
        assert_eq!(outcome(measure.name()), "good", "{measure}: {json}");
    }
    assert_eq!(outcome("worker"), "good", "{json}");
    // Landlock where the kernel has none; and there is no configuration here, and nobody keeps the clock of a container.
    let lacking = findings.iter().any(|finding| finding["outcome"] == "lacking");
    assert_eq!(status, Some(if lacking { 3 } else { 0 }), "{json}");
    let (words_status, words) = doctor(&arguments);
    assert_eq!(words_status, status, "{words}");
    for finding in findings {
        assert!(words.contains(finding["check"].as_str().unwrap()), "{words}");
    }
}

#[test]
fn the_doctor_says_what_a_worker_program_that_takes_no_measures_does_not_give() {
    let folder = tempfile::tempdir().unwrap();
    let idle = folder.path().join("worker");
    fs::write(&idle, "#!/bin/sh\necho it takes none >&2\nexit 1\n").unwrap();
    fs::set_permissions(&idle, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (status, words) = doctor(&["--worker", idle.to_str().unwrap()]);
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("BAD      system_calls       it takes none"), "{words}");
    assert!(words.contains("Modules are not run on this device"), "{words}");
    let (status, words) = doctor(&["--worker", "/does/not/exist", "--json"]);
    assert!(status == Some(1) && words.contains("/does/not/exist cannot be started"), "{words}");
}

#[test]
fn a_worker_of_the_agent_has_its_descriptors_and_nothing_else_of_it() {
    let site = Site::new();
    let (device, agent, _) = site.ticking("gw-1", 50.0);
    let report = site.observer.wait_report(&device.id, "a worker", |report| {
        report.modules.first().is_some_and(|module| module.pid.is_some())
    });
    let module = &report.modules[0];
    assert!(module.unconfined.iter().all(|missing| FURTHER.contains(&missing.measure)), "{:?}", module.unconfined);
    let pid = module.pid.unwrap();
    assert!(agent.children().contains(&pid));
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(read("environ"), "");
    let links = |number: &str| fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    open.sort_unstable();
    assert_eq!(
        open,
        ["0", "1", "2", "3"],
        "standard streams and the socket; ring and blobs are closed once they are mapped and read"
    );
    assert_eq!((links("0").to_str(), links("1").to_str()), (Some("/dev/null"), Some("/dev/null")));
    assert!(links("2").to_string_lossy().starts_with("pipe:") && links("3").to_string_lossy().starts_with("socket:"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let stat: Vec<String> = read("stat").split(' ').skip(4).take(3).map(str::to_owned).collect();
    assert_eq!(stat, [pid.to_string(), pid.to_string(), "0".to_owned()], "group, session and terminal");
    assert!(
        module.unconfined.iter().any(|missing| missing.measure == Measure::OomScore)
            || read("oom_score_adj").trim() == "500"
    );
    // Nothing of what is mapped can be executed and written, and nothing of the store is mapped.
    let maps = read("maps");
    assert!(!maps.lines().any(|line| line.contains("rwxp") || line.contains("wx")), "{maps}");
    assert!(!maps.contains("/blobs/"), "{maps}");
}

/// A device whose worker says that it is not confined as it should be.
fn lacking(site: &Site, id: &str, measure: Measure, settings: &str) -> (Device, Process) {
    let device = site.device(id);
    device.lay_clock("clock", 50.0);
    let (mut ready, mut running) = (Vec::new(), Vec::new());
    let missing = Missing { measure, why: "this kernel has none".into() };
    FromWorker::Ready(Ready { unconfined: vec![missing], ..Ready::default() }).encode(&mut ready);
    FromWorker::Running.encode(&mut running);
    device.lay_worker(&ready, &running);
    device.lay("60-confinement", settings);
    let agent = device.start();
    (device, agent)
}

fn unconfined(module: &ModuleReport) -> Vec<Measure> {
    module.unconfined.iter().map(|missing| missing.measure).collect()
}

#[test]
fn a_worker_without_an_essential_measure_is_not_run_unless_the_configuration_lets_it() {
    let site = Site::new();
    let report_only = "[workloads]\nconfinement = 'report'\n";
    let (strict, _strict_agent) = lacking(&site, "gw-1", Measure::SystemCalls, "");
    let (lenient, lenient_agent) = lacking(&site, "gw-2", Measure::SystemCalls, report_only);
    let module = line_module("modules/ticks/a.wasm").set("/probation", json!({ "frames": 0, "seconds": 0 }));
    site.fleet.add_module(&sanderling_tests::guests::ticks(b'a'), "modules/ticks/a.wasm");
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    let report = site.observer.wait_state(&strict.id, digest, DeploymentState::Refused);
    let why = report.deployment.unwrap().why.unwrap();
    for words in ["system_calls", "this kernel has none", "doctor", "[workloads] confinement"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    let report = site.observer.wait_report(&lenient.id, "it runs, and what is missing is reported", |report| {
        report.modules.first().is_some_and(|module| module.state == ModuleState::Running)
    });
    assert_eq!(unconfined(&report.modules[0]), [Measure::SystemCalls]);
    let told = |line: &&String| line.contains("do without a measure") && line.contains("system_calls");
    assert_eq!(lenient_agent.lines().iter().filter(told).count(), 1, "once in the log");
}

#[test]
fn landlock_may_be_missing_unless_the_configuration_demands_all() {
    let site = Site::new();
    let (usual, _usual_agent) = lacking(&site, "gw-1", Measure::Files, "");
    let (demanding, _demanding_agent) = lacking(&site, "gw-2", Measure::Files, "[workloads]\nconfinement = 'all'\n");
    let module = line_module("modules/ticks/a.wasm").set("/probation", json!({ "frames": 0, "seconds": 0 }));
    site.fleet.add_module(&sanderling_tests::guests::ticks(b'a'), "modules/ticks/a.wasm");
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    let report = site.observer.wait_report(&usual.id, "it runs, and what is missing is reported", |report| {
        report.modules.first().is_some_and(|module| module.state == ModuleState::Running)
    });
    assert_eq!(unconfined(&report.modules[0]), [Measure::Files]);
    let report = site.observer.wait_state(&demanding.id, digest, DeploymentState::Refused);
    assert!(report.deployment.unwrap().why.unwrap().contains("files (this kernel has none)"));
}
