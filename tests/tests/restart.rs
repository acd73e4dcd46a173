//! Restarts with growing pauses, quarantine, and the command that ends it.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::{
    reported::{ModuleReport, ModuleState, Reported},
    worker::FaultCode,
};
use sanderling_tests::{
    Account, Broker, Device, Module, PATIENCE, Site, deployment,
    guests::{TICKS, counts, traps_at},
};
use serde_json::{Value, json};

fn module<'r>(report: &'r Reported, name: &str) -> Option<&'r ModuleReport> {
    report.modules.iter().find(|module| module.name == name)
}

fn restart(site: &Site, device: &Device, module: &str) -> Result<Value, String> {
    let port = site.broker.port().to_string();
    let arguments = ["--json", "restart", device.id.as_str(), module, "--host", Broker::HOST, "--port", &port];
    site.fleet.try_run(arguments).map(|said| serde_json::from_str(&said).unwrap())
}

#[test]
fn a_quarantined_module_runs_again_when_it_is_told_to_and_its_neighbour_loses_no_frame() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 100.0);
    let mut agent = device.start();
    site.fleet.add_module(&traps_at(100, b'v'), "modules/ticks/v.wasm");
    site.fleet.add_module(&counts(b'n', 0), "modules/counts/n.wasm");
    let on_clock = |name: &str, path: &str| Module::new(name, path).sensor("clock").emits(TICKS);
    let victim = on_clock("victim", "modules/ticks/v.wasm")
        .set("/restart", json!({ "max": 3, "within_s": 300 }))
        .set("/probation", json!({ "frames": 1, "seconds": 0 }));
    let neighbour =
        on_clock("neighbour", "modules/counts/n.wasm").set("/probation", json!({ "frames": 1, "seconds": 0 }));
    let digest = site.fleet.roll_out(&deployment("pair", [victim, neighbour]), &site.broker);
    site.observer.wait_active(&device.id, digest);

    // It traps, is started again after pauses of 200, 400 and 800 ms, and is left alone then.
    let report = site.observer.wait_report(&device.id, "quarantined", |report| {
        module(report, "victim").is_some_and(|victim| victim.state == ModuleState::Quarantined)
    });
    let victim = module(&report, "victim").unwrap();
    assert_eq!((victim.restarts, victim.next_restart, victim.pid), (3, None, None));
    assert_eq!(victim.fault.as_ref().map(|fault| fault.code), Some(FaultCode::Trap));
    let quarantined_since = victim.since;
    let waited = site.observer.wait_for("a report of the pause", PATIENCE, |seen| {
        let reports = seen.reports(&device.id);
        let pause = reports
            .iter()
            .filter_map(|report| module(report, "victim"))
            .find(|victim| victim.state == ModuleState::Faulted);
        pause.cloned()
    });
    let next = waited.next_restart.unwrap();
    assert!((waited.since..=waited.since + 2).contains(&next), "faulted at {}, started again at {next}", waited.since);

    let answer = restart(&site, &device, "victim").unwrap();
    assert_eq!((&answer["was"], &answer["restarts"]), (&json!("quarantined"), &json!(3)), "{answer}");
    let report = site.observer.wait_report(&device.id, "it runs again", |report| {
        module(report, "victim").is_some_and(|victim| victim.state == ModuleState::Running && victim.restarts == 4)
    });
    assert!(module(&report, "victim").unwrap().since >= quarantined_since);
    site.observer.wait_ticks(&device.id, "victim", b'v', 20);
    // Its count of faults begins anew.
    let report = site.observer.wait_report(&device.id, "quarantined again", |report| {
        module(report, "victim").is_some_and(|victim| victim.state == ModuleState::Quarantined)
    });
    assert_eq!(module(&report, "victim").unwrap().restarts, 7);

    // One that runs is stopped and started, and loses nothing that it was handed.
    let before = module(&report, "neighbour").unwrap().pid.unwrap();
    let answer = restart(&site, &device, "neighbour").unwrap();
    assert_eq!(answer["was"], "running", "{answer}");
    let report = site.observer.wait_report(&device.id, "another worker", |report| {
        module(report, "neighbour").is_some_and(|one| one.restarts == 1 && one.state == ModuleState::Running)
    });
    assert_ne!(module(&report, "neighbour").unwrap().pid, Some(before));
    let mark = site.observer.mark();
    let handled = site.observer.wait_for("frames of the neighbour", PATIENCE, |seen| {
        let fresh = seen.after(mark).handled(&device.id, "neighbour").len();
        (fresh >= 20).then(|| seen.handled(&device.id, "neighbour"))
    });
    assert_eq!(Account::of(&handled).map(|account| account.dropped), Ok(0));

    let refused = restart(&site, &device, "nobody").unwrap_err();
    assert!(refused.contains("no module \"nobody\""), "{refused}");
    let wrong = site.observer.request(&device.id, "restart", b"victim");
    assert!(!wrong.ok && wrong.error.as_ref().is_some_and(|error| error.contains("an example: ")), "{wrong:?}");
    assert!(agent.terminate(PATIENCE).success());
    let absent = restart(&site, &device, "victim").unwrap_err();
    assert!(absent.contains("gw-1 is not connected"), "{absent}");
}

#[test]
fn a_device_on_which_nothing_runs_says_so() {
    let site = Site::new();
    let device = site.device("gw-1");
    let _agent = device.start();
    let answer = site.observer.request(&device.id, "restart", br#"{"module":"scratch"}"#);
    assert!(!answer.ok && answer.error.as_ref().is_some_and(|error| error.contains("nothing runs")), "{answer:?}");
}
