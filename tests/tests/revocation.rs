//! What is taken out of signed metadata stops; a broker that is out of sight stops nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, ModuleState, Reported},
};
use sanderling_tests::{
    Device, Module, PATIENCE, Process, Seen, Site, deployment,
    guests::{TICKS, ticks},
};

const KEPT: &str = "modules/kept/1.wasm";
const GONE: &str = "modules/gone/1.wasm";

fn module(name: &str, path: &str) -> Module {
    Module::new(name, path).sensor("clock").emits(TICKS)
}

/// A device on which a deployment of two modules is committed.
fn two_modules(site: &Site) -> (Device, Process, Digest) {
    let device = site.device("gw-1");
    device.lay_clock("clock", 50.0);
    let agent = device.start();
    site.fleet.add_module(&ticks(b'k'), KEPT);
    site.fleet.add_module(&ticks(b'g'), GONE);
    let document = deployment("line", [module("kept", KEPT), module("gone", GONE)]);
    let digest = site.fleet.roll_out(&document, &site.broker);
    site.observer.wait_active(&device.id, digest);
    site.observer.wait_ticks(&device.id, "kept", b'k', 5);
    site.observer.wait_ticks(&device.id, "gone", b'g', 5);
    (device, agent, digest)
}

fn state(reported: &Reported, module: &str) -> Option<ModuleState> {
    Some(reported.modules.iter().find(|one| one.name == module)?.state)
}

#[test]
fn a_module_that_is_no_longer_released_stops_and_the_others_run_on() {
    let mut site = Site::new();
    let (device, mut agent, digest) = two_modules(&site);
    let before = site.observer.wait_report(&device.id, "two modules", |reported| reported.modules.len() == 2);
    site.fleet.run(["repo", "remove", GONE]);
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    let after = site.observer.wait_report(&device.id, "the module to be stopped", |reported| {
        state(reported, "gone").is_none_or(|state| state == ModuleState::Stopped)
    });
    let pid = |reported: &Reported| reported.modules.iter().find(|one| one.name == "kept").and_then(|one| one.pid);
    assert_eq!(
        (pid(&after), state(&after, "kept")),
        (pid(&before), Some(ModuleState::Running)),
        "the very same process"
    );
    site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
    site.observer.wait_for("an event that says why", PATIENCE, |seen| {
        let mut events = seen.events(&device.id).into_iter();
        events.find_map(|event| match event.what {
            EventKind::Refused(refused) if refused.what == GONE => {
                refused.why.contains("no longer released").then_some(())
            }
            _ => None,
        })
    });
    // What it said before is through when the other has said as much again.
    site.observer.wait_ticks(&device.id, "kept", b'k', 20);
    let mark = site.observer.mark();
    site.observer.wait_ticks(&device.id, "kept", b'k', 20);
    let more = |seen: Seen<'_>| Some(seen.after(mark).ticks(&device.id, "gone").len());
    assert_eq!(site.observer.wait_for("ticks", PATIENCE, more), 0, "it goes on");
    // Not after a restart without a broker either.
    site.broker.stop();
    agent.kill();
    let agent = device.start();
    agent.wait_for_line(PATIENCE, &["module runs", "kept"]);
    assert_eq!(agent.children().len(), 1, "one worker, for one module");
}

#[test]
fn a_deployment_that_is_taken_back_stops_its_modules() {
    let mut site = Site::new();
    let (device, mut agent, _) = two_modules(&site);
    let workers = agent.children();
    site.fleet.run(["repo", "remove", "deployments/line.json"]);
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    site.observer.wait_report(&device.id, "nothing to run", |reported| {
        reported.deployment.is_none() && reported.modules.is_empty()
    });
    for worker in workers {
        agent.wait_gone(worker, PATIENCE);
    }
    site.broker.stop();
    agent.kill();
    agent = device.start();
    agent.wait_for_line(PATIENCE, &["the link is down"]);
    assert!(agent.children().is_empty(), "not after a restart without a broker either");
}

#[test]
fn a_broker_out_of_sight_stops_nothing() {
    let mut site = Site::new();
    let (device, mut agent, digest) = two_modules(&site);
    let workers = agent.children();
    site.broker.stop();
    agent.wait_for_line(PATIENCE, &["the link is down"]);
    agent.wait_for_lines(PATIENCE, &["the link is down"], 3);
    assert_eq!(agent.children(), workers);
    agent.kill();
    agent = device.start();
    agent.wait_for_lines(PATIENCE, &["module runs"], 2);
    agent.wait_for_lines(PATIENCE, &["the link is down"], 3);
    assert_eq!(agent.children().len(), 2, "both run after a restart in the dark");
    site.broker.start_again();
    site.observer.wait_active(&device.id, digest);
    site.observer.wait_ticks(&device.id, "kept", b'k', 5);
    site.observer.wait_ticks(&device.id, "gone", b'g', 5);
}
