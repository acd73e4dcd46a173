//! Workers that die or hang, in whatever state: started again, left alone when they fail too often, and nobody's concern but theirs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use sanderling_protocol::{
    reported::{DeploymentState, EventKind, ModuleReport, ModuleState, Reported},
    worker::{FaultCode, FromWorker, Ready},
};
use sanderling_tests::{
    Account, Device, Module, PATIENCE, Process, Site, deployment,
    guests::{TICKS, counts, idles, ticks, traps_at},
    line_module, until,
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

/// A victim and its neighbour, which must not notice.
fn pair(site: &Site, tag: u8, change: impl Fn(Module) -> Module) -> serde_json::Value {
    let path = format!("modules/counts/{}.wasm", char::from(tag));
    site.fleet.add_module(&counts(tag, 0), &path);
    let on_clock = |name: &str| Module::new(name, &path).sensor("clock").emits(TICKS);
    deployment("pair", [change(on_clock("victim")), on_clock("neighbour")])
}

/// Every frame reached the neighbour so far, and more do.
fn assert_undisturbed(site: &Site, device: &Device, tag: u8) {
    let mark = site.observer.mark();
    let handled = site.observer.wait_for("frames of the neighbour", PATIENCE, |seen| {
        let fresh = seen.after(mark).handled(&device.id, "neighbour");
        (fresh.iter().filter(|frame| frame.tag == tag).count() >= 20).then(|| seen.handled(&device.id, "neighbour"))
    });
    assert_eq!(Account::of(&handled).map(|account| account.dropped), Ok(0));
}

#[test]
fn a_worker_that_dies_or_stands_still_while_it_starts_or_runs_is_started_again_and_its_neighbour_loses_no_frame() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    device.lay("workloads", "[workloads]\nload_s = 2\n");
    let door = device.lay_door();
    let agent = device.start();
    let often = |module: Module| module.set("/restart", json!({ "max": 10, "within_s": 300 }));
    let digest = site.fleet.roll_out(&pair(&site, b'a', often), &site.broker);
    let first = site.observer.wait_active(&device.id, digest);
    let neighbour = module(&first, "neighbour").unwrap().pid;

    type Act = fn(&Process, u32);
    let (kill, hold): (Act, Act) = (Process::kill_child, Process::hold_child);
    let acts = [
        (kill, true, FaultCode::Crash, "SIGKILL"),
        (kill, false, FaultCode::Crash, "SIGKILL"),
        (hold, false, FaultCode::Init, "not loaded within 2 s"),
        (hold, true, FaultCode::Deadline, "no progress"),
    ];
    for (round, (act, running, code, words)) in (1..).zip(acts) {
        let state = if running { ModuleState::Running } else { ModuleState::Starting };
        let report = site.observer.wait_report(&device.id, &format!("{state:?} before {words}"), |report| {
            module(report, "victim").is_some_and(|victim| victim.state == state && victim.pid.is_some())
        });
        // What is to be found starting next finds the door shut.
        let shut = acts.get(round).is_some_and(|(_, running, ..)| !running);
        if shut {
            door.shut();
        }
        act(&agent, module(&report, "victim").unwrap().pid.unwrap());
        if !shut {
            door.open();
        }
        let report = site.observer.wait_report(&device.id, words, |report| {
            module(report, "victim").is_some_and(|victim| victim.restarts == round as u64)
        });
        let fault = module(&report, "victim").and_then(|victim| victim.fault.clone()).unwrap();
        assert!(fault.code == code && fault.message.contains(words), "{fault}");
        assert_undisturbed(&site, &device, b'a');
    }
    let report = site.observer.wait_report(&device.id, "the victim runs", |report| {
        module(report, "victim").is_some_and(|victim| victim.state == ModuleState::Running)
    });
    assert_eq!(module(&report, "neighbour").map(|module| (module.pid, module.restarts)), Some((neighbour, 0)));
    assert_undisturbed(&site, &device, b'a');
}

#[test]
fn a_worker_that_dies_or_stands_still_in_probation_takes_the_old_version_back_and_its_neighbour_loses_no_frame() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let agent = device.start();
    let digest = site.fleet.roll_out(&pair(&site, b'a', |module| module), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let long = |module: Module| module.set("/probation", json!({ "frames": 1, "seconds": 3600 }));
    for (tag, hold) in [(b'k', false), (b's', true)] {
        let digest = site.fleet.roll_out(&pair(&site, tag, long), &site.broker);
        let report = site.observer.wait_state(&device.id, digest, DeploymentState::Probation);
        let pid = module(&report, "victim").and_then(|victim| victim.pid).unwrap();
        if hold {
            agent.hold_child(pid)
        } else {
            agent.kill_child(pid)
        }
        let report = site.observer.wait_state(&device.id, digest, DeploymentState::RolledBack);
        let why = report.deployment.unwrap().why.unwrap();
        let words = if hold { "deadline" } else { "SIGKILL" };
        assert!(why.contains("module victim") && why.contains(words), "{why}");
        assert_undisturbed(&site, &device, b'a');
        agent.wait_gone(pid, PATIENCE);
    }
}

#[test]
fn a_worker_that_stands_still_when_it_is_stopped_is_killed_and_holds_up_nobody() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let agent = device.start();
    site.fleet.add_module(&idles(), "modules/idle/1.wasm");
    let document = |tag: u8| {
        let mut document = pair(&site, tag, |module| module);
        // It gets no frames, so that nobody notices before it is stopped that it stands still.
        document["modules"][0] = deployment("", [Module::new("victim", "modules/idle/1.wasm")])["modules"][0].take();
        document
    };
    let digest = site.fleet.roll_out(&document(b'a'), &site.broker);
    let report = site.observer.wait_active(&device.id, digest);
    let pid = module(&report, "victim").and_then(|victim| victim.pid).unwrap();
    agent.hold_child(pid);
    let digest = site.fleet.roll_out(&document(b'b'), &site.broker);
    site.observer.wait_active(&device.id, digest);
    agent.wait_gone(pid, PATIENCE);
    assert_undisturbed(&site, &device, b'b');
    let alone = until(PATIENCE, || (agent.children().len() == 2).then_some(()));
    assert!(alone.is_some(), "{:?}", agent.children());
}

#[test]
fn what_a_worker_says_beyond_its_rates_is_counted_by_cause() {
    const RECORDS: u64 = 1000;
    const LINES: u64 = 3000;
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 20.0);
    // A worker that was taken over: it does not limit its guest, and has none.
    let mut flood = Vec::new();
    FromWorker::Running.encode(&mut flood);
    for _ in 0..RECORDS {
        FromWorker::Emit { seq: 0, channel: TICKS, payload: &[0; 17] }.encode(&mut flood);
    }
    for _ in 0..LINES {
        FromWorker::Log { level: 4, text: "flood" }.encode(&mut flood);
    }
    let mut ready = Vec::new();
    FromWorker::Ready(Ready::default()).encode(&mut ready);
    device.lay_worker(&ready, &flood);
    let _agent = device.start();
    site.fleet.add_module(&ticks(b'f'), "modules/ticks/f.wasm");
    let limits = json!({ "deadline_ms": 1000, "emit_per_s": 5 });
    let module = line_module("modules/ticks/f.wasm").set("/limits", limits).set("/input", json!([]));
    site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    let report = site.observer.wait_report(&device.id, "an excess", |report| {
        report.modules.first().is_some_and(|module| module.excess.log_lines >= LINES - 1500)
    });
    let excess = report.modules[0].excess;
    // Twice the rate passes, with a burst of ten seconds: 100 records and 1000 lines, and what may be said while they are said.
    assert!((RECORDS - 150..=RECORDS - 100).contains(&excess.records), "{excess:?}");
    assert!((LINES - 1500..=LINES - 1000).contains(&excess.log_lines), "{excess:?}");
    let records = site.observer.wait_for("what passed", PATIENCE, |seen| {
        let records = seen.of(&device.id, "data/ticks/ticks").count() as u64;
        (records >= RECORDS - excess.records).then_some(records)
    });
    assert_eq!(records + excess.records, RECORDS);
}
