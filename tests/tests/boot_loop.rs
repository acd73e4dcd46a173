//! A deployment with which the agent dies again and again is given up: within three starts the one before it runs, whether there is
//! a broker or not, and the fleet hears why.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Reported},
};
use sanderling_tests::{
    Device, PATIENCE, Process, Site, deployment, guests::ticks, line_module, proof, unix_nanos, until,
};
use serde_json::json;

/// So many starts with a deployment on probation; at the last one the device falls back.
const STARTS: usize = 3;

/// Rolls out the guest `tag`, which never gets through its probation; each `case` is another deployment.
fn roll_out_endless(site: &Site, tag: u8, case: u64) -> Digest {
    let path = format!("modules/ticks/{}.wasm", char::from(tag));
    site.fleet.add_module(&ticks(tag), &path);
    let endless = json!({ "frames": case + 1, "seconds": 3600 });
    site.fleet.roll_out(&deployment("line", [line_module(&path).set("/probation", endless)]), &site.broker)
}

/// As a crash of the agent: it is over at once, and its workers with it.
fn crash(agent: &mut Process) {
    let workers = agent.children();
    agent.kill();
    for worker in workers {
        let gone = until(PATIENCE, || (!Path::new(&format!("/proc/{worker}")).exists()).then_some(()));
        assert!(gone.is_some(), "worker {worker} outlives its agent");
    }
}

fn wait_given_up(site: &Site, device: &Device, deadly: Digest) -> Reported {
    let report = site.observer.wait_state(&device.id, deadly, DeploymentState::RolledBack);
    let why = report.deployment.as_ref().and_then(|deployment| deployment.why.as_deref()).unwrap();
    assert!(why.contains("3 times") && why.contains("probation"), "{why}");
    let listed = report.refused.iter().find(|refused| refused.digest == Some(deadly));
    assert!(listed.is_some_and(|refused| refused.why == why), "{:?}", report.refused);
    site.observer.wait_for("an event", PATIENCE, |seen| {
        let told = |kind: &EventKind| matches!(kind, EventKind::RolledBack { digest, .. } if *digest == deadly);
        seen.events(&device.id).iter().any(|event| told(&event.what)).then_some(())
    });
    report
}

#[test]
fn a_deployment_with_which_the_agent_dies_in_probation_is_given_up_at_the_third_start() {
    let site = Site::new();
    let (device, mut agent, _) = site.ticking("gw-1", 50.0);
    let cases = proof::cases(2);
    for case in 0..cases {
        let tag = b'A' + u8::try_from(case % 26).unwrap();
        let deadly = roll_out_endless(&site, tag, case);
        for _ in 1..STARTS {
            site.observer.wait_state(&device.id, deadly, DeploymentState::Probation);
            site.observer.wait_ticks(&device.id, "ticks", tag, 5);
            crash(&mut agent);
            agent = device.start();
        }
        wait_given_up(&site, &device, deadly);
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        // It is not tried again, after however many starts.
        crash(&mut agent);
        let crashed = unix_nanos();
        agent = device.start();
        site.observer.wait_state(&device.id, deadly, DeploymentState::RolledBack);
        // What waited in the outbox when the agent died comes too.
        site.observer.wait_for("ticks of the old one after the last crash", PATIENCE, |seen| {
            let ticks = seen.ticks(&device.id, "ticks").into_iter();
            let after: Vec<_> = ticks.filter(|tick| tick.captured > crashed).collect();
            assert!(after.iter().all(|tick| tick.tag == b'a'), "what was given up runs again");
            (after.len() >= 5).then_some(())
        });
    }
    // A fresh version has its own count, and commits.
    let good = site.roll_out_ticks(b'z');
    site.observer.wait_active(&device.id, good);
    site.observer.wait_ticks(&device.id, "ticks", b'z', 5);
    proof::found("boot-loop", cases, 0, "back on the old one at the third start");
}

#[test]
fn an_agent_that_dies_at_each_start_is_back_on_the_old_one_without_a_broker() {
    let mut site = Site::new();
    let (device, mut agent, _) = site.ticking("gw-1", 50.0);
    let deadly = roll_out_endless(&site, b'd', 0);
    site.observer.wait_state(&device.id, deadly, DeploymentState::Probation);
    site.broker.stop();
    let mut crashed = 0;
    for _ in 1..STARTS {
        // At the second start it dies before any module of it runs.
        crash(&mut agent);
        crashed = unix_nanos();
        agent = device.start();
        agent.wait_for_line(PATIENCE, &["a deployment is started"]);
    }
    agent.wait_for_line(PATIENCE, &["first frame"]);
    let back = unix_nanos();
    site.broker.start_again();
    wait_given_up(&site, &device, deadly);
    let ticks = site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
    assert!(ticks.iter().any(|tick| tick.captured > back));
    site.observer.wait_for("what it did without a broker", PATIENCE, |seen| {
        let ticks = seen.ticks(&device.id, "ticks");
        ticks.into_iter().find(|tick| tick.tag == b'a' && (crashed..back).contains(&tick.captured))
    });
}
