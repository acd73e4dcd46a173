//! Native work that does not end in time, wants more memory than it may have, or does not come to its end while it is loaded: only the module it belongs to
//! notices.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, ModuleState},
    worker::{Fault, FaultCode},
};
use sanderling_tests::{
    Account, Device, Module, PATIENCE, Site, deployment,
    guests::{TICKS, counts, infers},
    onnx,
};
use serde_json::{Value, json};

/// The frame at which the victim infers for the first time: its deployment is committed by then.
const FIRST: u32 = 60;
const MODEL: &str = "models/costly/1.onnx";

fn on_clock(name: &str, path: &str) -> Module {
    let module = Module::new(name, path).sensor("clock").emits(TICKS);
    module.set("/probation", json!({ "frames": 1, "seconds": 0 }))
}

/// A victim that runs this model, and its neighbour, which must not notice.
fn pair(site: &Site, tag: u8, side: u32, model: &[u8]) -> Value {
    let [victim, neighbour] = ["infers", "counts"].map(|name| format!("modules/{name}/{}.wasm", char::from(tag)));
    site.fleet.add_module(&infers(tag, side, FIRST), &victim);
    site.fleet.add_module(&counts(tag, 0), &neighbour);
    site.fleet.add_model(model, MODEL);
    let limits = json!({ "deadline_ms": 300, "emit_per_s": 10000, "native_memory_mib": 64 });
    let victim = on_clock("victim", &victim)
        .model("costly", MODEL)
        .set("/limits", limits)
        .set("/restart", json!({ "max": 0, "within_s": 300 }));
    deployment("pair", [victim, on_clock("neighbour", &neighbour)])
}

fn site() -> (Site, Device) {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 100.0);
    (site, device)
}

/// The fault that quarantines the victim, which is reported as an event.
fn fault_of_victim(site: &Site, device: &Device, digest: Digest) -> Fault {
    site.observer.wait_active(&device.id, digest);
    let report = site.observer.wait_report(&device.id, "quarantined", |report| {
        report.modules.iter().any(|module| module.name == "victim" && module.state == ModuleState::Quarantined)
    });
    let reported = report.modules.into_iter().find(|module| module.name == "victim").and_then(|victim| victim.fault);
    site.observer.wait_for("an event of it", PATIENCE, |seen| {
        let told = |kind: &EventKind| matches!(kind, EventKind::Fault { module, fault, quarantined: true } if module == "victim" && Some(fault) == reported.as_ref());
        seen.events(&device.id).iter().any(|event| told(&event.what)).then_some(())
    });
    reported.unwrap()
}

/// Every frame reached the neighbour so far, and more do.
fn assert_undisturbed(site: &Site, device: &Device, tag: u8) {
    let mark = site.observer.mark();
    let handled = site.observer.wait_for("frames of the neighbour", PATIENCE, |seen| {
        let fresh = seen.after(mark).handled(&device.id, "neighbour");
        (fresh.iter().filter(|frame| frame.tag == tag).count() >= 50).then(|| seen.handled(&device.id, "neighbour"))
    });
    assert_eq!(Account::of(&handled).map(|account| account.dropped), Ok(0));
}

#[test]
fn an_inference_that_does_not_return_is_killed_and_its_neighbour_loses_no_frame() {
    let (site, device) = site();
    let agent = device.start();
    // Some ten thousand times as long as it may take.
    let digest = site.fleet.roll_out(&pair(&site, b'a', 1024, &onnx::slow_to_run(1024, 2000)), &site.broker);
    let fault = fault_of_victim(&site, &device, digest);
    assert_eq!((fault.code, fault.seq.is_some()), (FaultCode::Deadline, true), "{fault}");
    assert!(fault.message.contains("`deadline_ms` is 300") && fault.message.contains("killed"), "{fault}");
    let took =
        fault.message.split("no progress for ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(took.is_some_and(|took| (380..2000).contains(&took)), "{fault}");
    assert_undisturbed(&site, &device, b'a');
    assert_eq!(agent.children().len(), 1, "the worker is gone");
}

#[test]
fn an_inference_that_needs_more_native_memory_than_it_may_have_says_so() {
    let (site, device) = site();
    let _agent = device.start();
    // Each matrix takes 56 of the 64 MiB, and a multiplication holds more than one.
    let mut document = pair(&site, b'm', 3840, &onnx::slow_to_run(3840, 2));
    // The memory is to be what it wants for, however busy the machine is: neither time, nor fuel, as which the time of inference counts.
    document["modules"][0]["limits"]["deadline_ms"] = json!(30_000);
    document["modules"][0]["limits"]["fuel_per_frame"] = json!(50_000_000_000_u64);
    let digest = site.fleet.roll_out(&document, &site.broker);
    let fault = fault_of_victim(&site, &device, digest);
    assert_eq!(fault.code, FaultCode::NativeMemory, "{fault}");
    assert!(fault.message.contains("refused") && fault.message.contains("native_memory_mib"), "{fault}");
    assert_undisturbed(&site, &device, b'm');
}

#[test]
fn a_model_that_needs_more_native_memory_to_load_than_it_may_have_is_refused_for_that() {
    let (site, device) = site();
    let _agent = device.start();
    let digest = site.fleet.roll_out(&pair(&site, b'l', 3840, &onnx::large_constant(8192)), &site.broker);
    let report = site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
    let why = report.deployment.unwrap().why.unwrap();
    assert!(why.contains("native_memory") && why.contains("victim"), "{why}");
}

#[test]
fn a_module_that_takes_for_ever_to_load_is_given_up_and_commands_are_answered_meanwhile() {
    let (site, device) = site();
    device.lay("workloads", "[workloads]\nload_s = 4\n");
    let door = device.lay_door();
    let agent = device.start();
    site.fleet.add_module(&counts(b'n', 0), "modules/counts/n.wasm");
    let alone = deployment("pair", [on_clock("neighbour", "modules/counts/n.wasm")]);
    let first = site.fleet.roll_out(&alone, &site.broker);
    site.observer.wait_active(&device.id, first);
    door.shut();
    let digest = site.fleet.roll_out(&pair(&site, b's', 64, &onnx::slow_to_run(64, 1)), &site.broker);
    site.observer.wait_state(&device.id, digest, DeploymentState::Staging);
    let mut pings = 0;
    let state = loop {
        // The neighbour's ticks set the pace: a device answers a few requests a second.
        let mark = site.observer.mark();
        site.observer.wait_for("more ticks of the neighbour", PATIENCE, |seen| {
            (seen.after(mark).of(&device.id, &format!("data/neighbour/{TICKS}")).count() >= 40).then_some(())
        });
        assert!(site.observer.request(&device.id, "ping", b"").ok);
        let report: Value = site.observer.request(&device.id, "report", b"").body.unwrap();
        if report["deployment"]["state"] != "staging" {
            break report;
        }
        pings += 1;
    };
    assert!(pings >= 3, "{pings} pings were answered while it was loaded");
    assert_eq!(state["deployment"]["state"], "refused", "{state}");
    let why = state["deployment"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("not loaded within 4 s") && why.contains("victim"), "{why}");
    assert_undisturbed(&site, &device, b'n');
    assert_eq!(agent.children().len(), 1, "the worker that loaded it is gone");
}
