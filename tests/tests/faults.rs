//! Modules that are committed and fail later: started again, left alone when they fail too often, and nobody's concern but theirs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use sanderling_protocol::{
    reported::{EventKind, ModuleReport, ModuleState, Reported},
    worker::FaultCode,
};
use sanderling_tests::{
    Module, PATIENCE, Site, deployment,
    guests::{TICKS, ticks, traps_at},
    line_module,
};
use serde_json::json;

fn module<'r>(report: &'r Reported, name: &str) -> Option<&'r ModuleReport> {
    report.modules.iter().find(|module| module.name == name)
}

#[test]
fn a_worker_that_is_killed_is_started_again_and_its_neighbour_loses_no_frame() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 100.0);
    let agent = device.start();
    let on_clock = |name: &str, tag: u8| {
        let path = format!("modules/ticks/{name}.wasm");
        site.fleet.add_module(&ticks(tag), &path);
        Module::new(name, &path).sensor("clock").emits(TICKS)
    };
    let document = deployment("pair", [on_clock("victim", b'v'), on_clock("neighbour", b'n')]);
    let digest = site.fleet.roll_out(&document, &site.broker);
    let first = site.observer.wait_active(&device.id, digest);
    assert_eq!(agent.children().len(), 2, "a worker for each module");

    let killed = module(&first, "victim").unwrap().pid.unwrap();
    let mark = site.observer.mark();
    agent.kill_child(killed);
    let report = site.observer.wait_report(&device.id, "the victim runs again", |report| {
        module(report, "victim").is_some_and(|victim| victim.restarts == 1 && victim.state == ModuleState::Running)
    });
    let victim = module(&report, "victim").unwrap();
    assert_ne!(victim.pid, Some(killed));
    assert_eq!(victim.fault.as_ref().map(|fault| fault.code), Some(FaultCode::Crash), "{victim:?}");
    site.observer.wait_for("an event", PATIENCE, |seen| {
        let events = seen.after(mark).events(&device.id);
        let told = |kind: &EventKind| matches!(kind, EventKind::Fault { module, quarantined: false, .. } if module == "victim");
        events.iter().any(|event| told(&event.what)).then_some(())
    });
    site.observer.wait_ticks(&device.id, "victim", b'v', 20);
    site.observer.wait_ticks(&device.id, "neighbour", b'n', 20);
    let seqs: BTreeSet<u64> = site.observer.wait_for("the neighbour's records", PATIENCE, |seen| {
        Some(seen.ticks(&device.id, "neighbour").iter().map(|tick| tick.seq).collect())
    });
    let (first, last) = (*seqs.first().unwrap(), *seqs.last().unwrap());
    assert!((first..=last).all(|seq| seqs.contains(&seq)), "the neighbour lost frames between {first} and {last}");
    let neighbour = module(&report, "neighbour").unwrap();
    assert_eq!((neighbour.restarts, neighbour.dropped, &neighbour.fault), (0, 0, &None));
    let deployment = report.deployment.unwrap();
    assert_eq!((deployment.digest, deployment.why), (digest, None));
}

#[test]
fn a_committed_module_that_faults_again_and_again_is_quarantined_until_a_new_version_comes() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let mut agent = device.start();
    // At 200 frames a second it passes its probation of one second, and traps at the second.
    site.fleet.add_module(&traps_at(400, b't'), "modules/ticks/t.wasm");
    let module = line_module("modules/ticks/t.wasm").set("/restart", json!({ "max": 2, "within_s": 300 }));
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let report = site.observer.wait_report(&device.id, "quarantined", |report| {
        report.modules.first().is_some_and(|module| module.state == ModuleState::Quarantined)
    });
    let fault = report.modules[0].fault.as_ref().unwrap();
    assert_eq!(
        (fault.code, fault.trap.as_deref(), fault.export.as_deref()),
        (FaultCode::Trap, Some("unreachable"), Some("sanderling_frame"))
    );
    assert_eq!((report.modules[0].restarts, report.deployment.unwrap().digest), (2, digest));
    let faults = site.observer.wait_for("an event of the quarantine", PATIENCE, |seen| {
        let faults: Vec<bool> = seen
            .events(&device.id)
            .into_iter()
            .filter_map(|event| match event.what {
                EventKind::Fault { quarantined, .. } => Some(quarantined),
                _ => None,
            })
            .collect();
        faults.contains(&true).then_some(faults)
    });
    assert_eq!(faults, [false, false, true]);
    assert!(agent.is_running());
    let cured = site.roll_out_ticks(b'z');
    site.observer.wait_active(&device.id, cured);
    site.observer.wait_ticks(&device.id, "ticks", b'z', 10);
}
