//! What a module keeps survives its worker, the agent, an update and the rollback of a bad one; and is held to its quota.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, Handover, ModuleState},
    topics::DeviceId,
};
use sanderling_tests::{
    Module, PATIENCE, Site, deployment,
    guests::{TICKS, fills, remembers, spoils},
};

/// Frames a second.
const RATE: u32 = 50;
const QUOTA: u64 = 64;
const ENOSPC: u64 = 28;

/// Rolls out the guest as the module `counter`.
fn roll_out(site: &Site, wasm: &[u8], version: &str) -> Digest {
    let path = format!("modules/counter/{version}.wasm");
    site.fleet.add_module(wasm, &path);
    let module = Module::new("counter", &path).sensor("clock").emits(TICKS).keeps(QUOTA);
    site.fleet.roll_out(&deployment("line", [module]), &site.broker)
}

/// The last count that was seen of guests with this tag.
fn last(site: &Site, device: &DeviceId, tag: u8) -> u64 {
    let ticks = site.observer.wait_ticks(device, "counter", tag, 10);
    ticks.iter().map(|tick| tick.seq).max().unwrap()
}

#[test]
fn state_survives_kills_of_worker_and_agent_an_update_and_the_rollback_of_a_bad_one() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", f64::from(RATE));
    let mut agent = device.start();
    let digest = roll_out(&site, &remembers(b'a'), "1");
    let report = site.observer.wait_active(&device.id, digest);

    let before = last(&site, &device.id, b'a');
    agent.kill_child(report.modules[0].pid.unwrap());
    site.observer.wait_report(&device.id, "it runs again", |report| {
        report.modules.first().is_some_and(|module| module.restarts == 1 && module.state == ModuleState::Running)
    });
    let after = last(&site, &device.id, b'a');
    assert!(after > before, "its worker was killed at {before}, and it counts {after}");

    agent.kill();
    let before = last_seen(&site, &device.id);
    drop(agent);
    let mark = site.observer.mark();
    let _agent = device.start();
    let resumed = site.observer.wait_for("a count of the agent that was started again", PATIENCE, |seen| {
        let status = seen.after(mark).status(&device.id)?;
        let ticks = seen.after(mark).ticks(&device.id, "counter");
        ticks.iter().map(|tick| tick.seq).find(|count| status.online && *count > before)
    });
    assert_eq!(resumed, before + 1, "the first that was not seen before the agent was killed");

    let digest = roll_out(&site, &remembers(b'b'), "2");
    let report = site.observer.wait_active(&device.id, digest);
    let Some(Handover::BreakBeforeMake { why }) = report.deployment.unwrap().handover else {
        panic!("two versions at once wrote one state")
    };
    assert!(why.contains("counter keeps state"), "{why}");
    let before = last(&site, &device.id, b'b');

    // Its twentieth frame traps, long before its second of probation is over.
    let digest = roll_out(&site, &spoils(20, b's'), "3");
    site.observer.wait_state(&device.id, digest, DeploymentState::RolledBack);
    let spoiled = site.observer.wait_for("counts of the bad version", PATIENCE, |seen| {
        seen.ticks(&device.id, "counter").iter().filter(|tick| tick.tag == b's').map(|tick| tick.seq).max()
    });
    assert!(spoiled > 1_000_000, "it wrote {spoiled}");
    let after = last(&site, &device.id, b'b');
    assert!(after > before && after < 1_000_000, "from {before} it went on to {after}");

    let counts: BTreeSet<u64> = site.observer.wait_for("all counts", PATIENCE, |seen| {
        let good = seen.ticks(&device.id, "counter").into_iter().filter(|tick| tick.tag != b's');
        Some(good.map(|tick| tick.seq).collect())
    });
    let most = *counts.last().unwrap();
    assert!((1..=most).all(|count| counts.contains(&count)), "a state without its record: {counts:?}");
}

fn last_seen(site: &Site, device: &DeviceId) -> u64 {
    site.observer.wait_for("counts", PATIENCE, |seen| seen.ticks(device, "counter").iter().map(|tick| tick.seq).max())
}

#[test]
fn what_is_kept_is_held_to_the_quota() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", f64::from(RATE));
    let _agent = device.start();
    let digest = roll_out(&site, &fills(b'f'), "1");
    site.observer.wait_active(&device.id, digest);
    let answers = site.observer.wait_for("the quota", PATIENCE, |seen| {
        let answers: Vec<u64> = seen.ticks(&device.id, "counter").iter().map(|tick| tick.seq).collect();
        (answers.len() > 20).then_some(answers)
    });
    let kept = usize::try_from(QUOTA / 8).unwrap();
    assert!(answers[..kept].iter().all(|answer| *answer == 0), "{answers:?}");
    assert!(answers[kept..].iter().all(|answer| *answer == ENOSPC), "{answers:?}");
}

#[test]
fn a_quota_above_the_ceiling_of_the_release_is_refused() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", f64::from(RATE));
    let _agent = device.start();
    let file = site.fleet.path("counter.wasm");
    std::fs::write(&file, remembers(b'a')).unwrap();
    let file = file.display().to_string();
    let release = |quota: &str| {
        site.fleet.run(["repo", "add-module", &file, "modules/counter/1.wasm", "--grant", "emit:*", "--grant", quota])
    };
    let module = Module::new("counter", "modules/counter/1.wasm").sensor("clock").emits(TICKS).keeps(QUOTA);
    // The operator's tool refuses it too, so that the ceiling is lowered behind its back.
    release("state:64");
    let digest = site.fleet.deploy(&deployment("line", [module]));
    release("state:63");
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    let report = site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
    let why = report.deployment.unwrap().why.unwrap();
    assert!(why.contains("state:64") && why.contains("state:63"), "{why}");
}
