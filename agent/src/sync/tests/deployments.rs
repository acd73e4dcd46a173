//! What runs, through updates, faults and power cuts.

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Handover},
    topics::Published,
};
use serde_json::json;

use super::{
    repository::{A, B, Repository, content, document, of_two},
    world::{Behaviour, Device, committed_of_two},
};
use crate::sync::Event;

const LENGTH: usize = 300_000;

fn repository() -> Repository {
    of_two(LENGTH)
}

fn committed() -> (Device, Repository) {
    committed_of_two(LENGTH)
}

fn behave(device: &mut Device, behaviour: Behaviour) {
    device.behaviours.insert(Digest::of(&content(2, LENGTH)), behaviour);
}

#[test]
fn is_committed_after_its_seconds_and_frames() {
    let mut device = Device::new(&repository());
    device.frames_come = false;
    device.up();
    assert_eq!(device.state(), Some(DeploymentState::Probation));
    assert_eq!(device.disk.slots.trial.as_ref().map(|trial| trial.starts), Some(1));
    device.pass(60_000);
    assert_eq!(device.state(), Some(DeploymentState::Probation), "no frames came");
    device.frames_come = true;
    device.pass(1_000);
    assert_eq!(device.state(), Some(DeploymentState::Active));
    assert!(matches!(device.told.as_slice(), [EventKind::Committed { .. }]));
    assert_eq!(device.sync.wake_at(), None, "nothing ticks while nothing happens");
}

#[test]
fn the_new_one_runs_before_the_old_one_stops() {
    let (mut device, repository) = committed();
    device.publish(&Repository::new());
    device.offer(&repository);
    while device.step() {
        assert!(device.runs().is_some(), "frames always reach a generation that runs");
    }
    assert_eq!(device.runs(), Some("b"));
    assert_eq!(device.generations.len(), 1);
    device.pass(11_000);
    assert_eq!(device.committed(), Some("b"));
    assert_eq!(device.disk.slots.previous.as_ref().map(|slot| slot.name.as_str()), Some("a"));
    assert_eq!(device.disk.blobs.len(), 2, "the blobs of both are kept, those of the documents are not");
}

/// What is told of a switch to `b`, and reported.
fn switched(device: &Device) -> (Vec<Handover>, Option<Handover>) {
    let told = device.told.iter().filter_map(|told| match told {
        EventKind::Switched { deployment, handover, .. } if deployment == "b" => Some(handover.clone()),
        _ => None,
    });
    (told.collect(), device.report().deployment.and_then(|deployment| deployment.handover))
}

fn no_room() -> Handover {
    Handover::BreakBeforeMake { why: "no room".into() }
}

#[test]
fn a_switch_is_told_and_reported_in_its_order() {
    for handover in [Handover::MakeBeforeBreak, no_room()] {
        let (mut device, repository) = committed();
        assert_eq!(
            device.report().deployment.and_then(|deployment| deployment.handover),
            None,
            "nothing ran before it"
        );
        device.handover = handover.clone();
        device.publish(&repository);
        assert_eq!((device.runs(), device.generations.len()), (Some("b"), 1));
        assert_eq!(switched(&device), (vec![handover.clone()], Some(handover.clone())));
        device.pass(11_000);
        assert_eq!((device.committed(), switched(&device).1), (Some("b"), Some(handover)));
        let mut device = device.reboot(&repository);
        device.up();
        assert_eq!(switched(&device), (vec![], None));
    }
}

#[test]
fn without_room_for_both_the_old_one_is_stopped_before_the_new_one_runs() {
    let (mut device, repository) = committed();
    device.handover = no_room();
    behave(&mut device, Behaviour::FailsStart);
    let old = device.routed;
    device.offer(&repository);
    while device.step() && device.routed == old {}
    assert_ne!(device.routed, old, "frames go to the new one, and wait there");
    assert_eq!(
        device.disk.slots.trial.as_ref().map(|trial| trial.slot.name.as_str()),
        Some("b"),
        "it is on disk by then"
    );
    device.run();
    assert_eq!(
        (device.runs(), device.committed()),
        (Some("a"), Some("a")),
        "and it fails, so the old one is taken back"
    );
    assert_eq!(device.state(), Some(DeploymentState::RolledBack));
    assert_eq!((device.disk.slots.trial.as_ref(), device.generations.len()), (None, 1));
}

#[test]
fn going_back_to_what_is_committed_needs_no_room_for_both() {
    let (mut device, mut repository) = committed();
    device.handover = no_room();
    device.publish(&repository);
    assert_eq!((device.runs(), device.state()), (Some("b"), Some(DeploymentState::Probation)));
    repository.deploy("a", A);
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.runs(), device.state()), (Some("a"), Some(DeploymentState::Active)));
    assert_eq!((device.disk.slots.trial.as_ref(), device.disk.slots.rejected.len()), (None, 0));
}

#[test]
fn what_is_committed_is_not_rejected_where_it_does_not_load_again() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    device.behaviours.insert(Digest::of(&content(1, LENGTH)), Behaviour::FailsDryStart);
    repository.deploy("a", A);
    repository.publish();
    device.publish(&repository);
    assert_eq!(
        (device.runs(), device.state()),
        (Some("b"), Some(DeploymentState::Refused)),
        "b, on probation, runs on"
    );
    assert_eq!(device.disk.slots.rejected, []);
}

#[test]
fn a_fault_in_probation_takes_the_old_one_back_and_is_remembered() {
    let (mut device, mut repository) = committed();
    behave(&mut device, Behaviour::FaultsOnFrames);
    device.publish(&repository);
    assert_eq!((device.runs(), device.committed()), (Some("a"), Some("a")));
    let report = device.report().deployment.unwrap();
    assert_eq!((report.state, report.name.as_str()), (DeploymentState::RolledBack, "b"));
    assert!(report.why.unwrap().contains("trap"));
    assert!(device.told.iter().any(|told| matches!(told, EventKind::RolledBack { .. })));
    let generations = device.generations.clone();
    repository.publish();
    device.publish(&repository);
    device.pass(3_600_000);
    assert_eq!(device.generations.len(), generations.len());
    assert_eq!(device.state(), Some(DeploymentState::RolledBack), "the same is not tried again");
    let mut device = device.reboot(&repository);
    assert_eq!((device.runs(), device.committed()), (Some("a"), Some("a")));
    device.up();
    assert_eq!((device.runs(), device.state()), (Some("a"), Some(DeploymentState::RolledBack)));
    device.behaviours.clear();
    repository.deploy_document("b", &document("b", B, json!({ "changed": true })));
    repository.publish();
    device.publish(&repository);
    assert_eq!(device.runs(), Some("b"), "a changed document is tried");
}

#[test]
fn a_candidate_that_does_not_start_is_rolled_back_and_the_old_one_never_stopped() {
    let (mut device, repository) = committed();
    behave(&mut device, Behaviour::FailsStart);
    let before = device.routed;
    device.publish(&repository);
    assert_eq!(device.routed, before, "the very same generation runs");
    assert_eq!(device.state(), Some(DeploymentState::RolledBack));
    assert_eq!(device.disk.slots.trial, None);
}

#[test]
fn a_candidate_that_does_not_load_is_refused() {
    let (mut device, repository) = committed();
    behave(&mut device, Behaviour::FailsDryStart);
    let before = device.routed;
    device.publish(&repository);
    assert_eq!((device.routed, device.state()), (before, Some(DeploymentState::Refused)));
    assert!(device.refusals()[0].1.contains("module m: trap"));
    assert!(!device.told.iter().any(|told| matches!(told, EventKind::RolledBack { .. })));
}

#[test]
fn the_first_deployment_of_all_may_fail_too() {
    let repository = repository();
    let mut device = Device::new(&repository);
    device.behaviours.insert(Digest::of(&content(1, LENGTH)), Behaviour::FaultsOnFrames);
    device.up();
    assert_eq!((device.runs(), device.generations.len()), (None, 0));
    assert_eq!(device.state(), Some(DeploymentState::RolledBack));
}

#[test]
fn what_is_committed_starts_without_a_network() {
    let (device, repository) = committed();
    let device = device.reboot(&repository);
    assert_eq!((device.runs(), device.state()), (Some("a"), Some(DeploymentState::Active)));
    assert!(device.disk.slots.trial.is_none());
}

#[test]
fn nothing_is_pulled_again_after_a_restart() {
    let (device, _) = committed();
    let same = repository();
    let mut device = device.reboot(&same);
    device.up();
    device.pass(60_000);
    assert_eq!(device.pulled, []);
    assert_eq!(device.state(), Some(DeploymentState::Active));
}

#[test]
fn the_third_start_without_a_commit_falls_back() {
    let (mut device, repository) = committed();
    device.publish(&repository);
    assert_eq!(device.runs(), Some("b"));
    let device = device.reboot(&repository);
    assert_eq!(device.runs(), Some("b"), "probation starts again");
    assert_eq!(device.state(), Some(DeploymentState::Probation));
    let mut device = device.reboot(&repository);
    assert_eq!(device.runs(), Some("a"));
    device.up();
    assert_eq!(device.state(), Some(DeploymentState::RolledBack));
    let device = device.reboot(&repository);
    assert_eq!(device.runs(), Some("a"));
}

#[test]
fn a_power_cut_at_any_step_leaves_one_of_the_two_running() {
    for cut in 0..2000 {
        let (mut device, repository) = committed();
        device.offer(&repository);
        let ended = (0..cut).any(|_| !device.step());
        let mut device = device.reboot(&repository);
        assert!(matches!(device.runs(), Some("a" | "b")), "cut after {cut} steps: {:?}", device.runs());
        device.up();
        device.pass(30_000);
        assert_eq!((device.runs(), device.committed()), (Some("b"), Some("b")), "cut after {cut} steps");
        if ended {
            return;
        }
    }
    panic!("the update takes more than 2000 steps");
}

#[test]
fn a_deployment_that_wins_no_longer_is_stopped() {
    let (mut device, mut repository) = committed();
    repository.withdraw_deployments();
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.runs(), device.generations.len(), device.committed()), (None, 0, None));
    assert_eq!(device.report().deployment, None);
    let mut device = device.reboot(&repository);
    assert_eq!(device.runs(), None);
    repository.deploy("a", A);
    repository.publish();
    device.publish(&repository);
    device.up();
    assert_eq!(device.runs(), Some("a"));
    assert_eq!(device.pulled, [], "blobs and document of the previous one are kept");
}

#[test]
fn going_back_to_what_is_committed_needs_no_probation() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    assert_eq!(device.state(), Some(DeploymentState::Probation));
    repository.deploy("a", A);
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.runs(), device.state()), (Some("a"), Some(DeploymentState::Active)));
    assert_eq!(device.disk.slots.trial, None);
    assert_eq!(device.disk.slots.rejected, []);
}

#[test]
fn a_newer_one_replaces_the_one_on_probation() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    repository.deploy_document("c", &document("c", B, json!(3)));
    repository.publish();
    device.publish(&repository);
    assert_eq!(device.runs(), Some("c"));
    device.pass(11_000);
    assert_eq!(device.committed(), Some("c"));
    assert_eq!(device.disk.slots.previous.as_ref().map(|slot| slot.name.as_str()), Some("a"));
}

#[test]
fn a_newer_one_that_does_not_start_leaves_the_one_on_probation() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    let wasm = content(3, 50_000);
    repository.module("modules/c/1.wasm", &wasm);
    repository.deploy("c", "modules/c/1.wasm");
    repository.publish();
    device.behaviours.insert(Digest::of(&wasm), Behaviour::FailsStart);
    device.publish(&repository);
    assert_eq!(device.runs(), Some("b"));
    assert_eq!(device.disk.slots.trial.as_ref().map(|trial| trial.slot.name.as_str()), Some("b"));
    device.pass(11_000);
    assert_eq!(device.committed(), Some("b"));
}

#[test]
fn refuses_what_the_device_cannot_run_and_says_why() {
    let (mut device, mut repository) = committed();
    let cases = [
        (document("x", "modules/none.wasm", json!(1)), "not released"),
        (document("x", "deployments/x.json", json!(1)), "not the path of a module"),
        (json!({ "schema": "sanderling.deployment/1", "name": "x", "modules": [], "extra": 1 }), "unknown field"),
        (
            json!({ "schema": "sanderling.deployment/1", "name": "x", "modules": [
                { "name": "m", "module": B, "input": [ { "sensor": "cam9" } ] } ] }),
            "no sensor \"cam9\"",
        ),
        (
            json!({ "schema": "sanderling.deployment/1", "name": "x", "modules": [
                { "name": "m", "module": B, "input": [], "grants": ["emit:c"],
                  "channels": { "c": { "sink": ["mqtt", "log", "gate"] } } } ] }),
            "module m, channel c: there is no sink \"gate\" in the configuration (there are: mqtt, log)",
        ),
        (
            json!({ "schema": "sanderling.deployment/1", "name": "x", "modules": [
                { "name": "m", "module": B, "input": [], "grants": ["infer"] } ] }),
            "ceiling",
        ),
        (
            json!({ "schema": "sanderling.deployment/1", "name": "x", "modules": [
                { "name": "m", "module": B, "input": [], "models": { "n": "models/none.onnx" } } ] }),
            "not released",
        ),
    ];
    for (document, why) in cases {
        repository.deploy_document("x", &document);
        repository.publish();
        device.publish(&repository);
        let report = device.report().deployment.unwrap();
        assert_eq!(report.state, DeploymentState::Refused, "{why}");
        assert!(report.why.as_ref().unwrap().contains(why), "{why}: {:?}", report.why);
        assert_eq!(device.runs(), Some("a"));
    }
}

#[test]
fn what_was_refused_for_a_missing_module_runs_once_it_is_released() {
    let (mut device, mut repository) = committed();
    repository.withdraw_module(B);
    repository.publish();
    device.publish(&repository);
    assert_eq!(device.state(), Some(DeploymentState::Refused));
    repository.module(B, &content(2, LENGTH));
    repository.publish();
    device.publish(&repository);
    assert_eq!(device.runs(), Some("b"));
}

#[test]
fn refuses_what_the_disk_has_no_room_for_before_it_is_pulled() {
    let (mut device, repository) = committed();
    device.free = 300_500;
    let before = device.pulled.len();
    device.publish(&repository);
    let report = device.report().deployment.unwrap();
    assert_eq!(report.state, DeploymentState::Refused);
    assert!(report.why.unwrap().contains("free space"));
    assert_eq!(device.pulled.len(), before + 1, "only the document was pulled");
    device.free = 1 << 30;
    device.handle(Event::Refresh);
    assert_eq!(device.runs(), Some("b"), "it is tried again at the next look");
}

#[test]
fn damaged_blobs_are_pulled_again_and_the_deployment_started() {
    let (mut device, _) = committed();
    device.disk.blobs.values_mut().for_each(|content| content[7] ^= 1);
    device.disk.blobs.retain(|digest, content| Digest::of(content) == *digest);
    let repository = repository();
    let mut device = device.reboot(&repository);
    assert_eq!(device.runs(), None);
    device.up();
    assert_eq!((device.runs(), device.state()), (Some("a"), Some(DeploymentState::Active)));
}

#[test]
fn a_commit_does_not_forget_that_another_one_is_to_be_tried_again() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    assert_eq!((device.runs(), device.committed()), (Some("b"), Some("a")), "it is on probation");
    repository.module("modules/c/1.wasm", &content(3, LENGTH));
    repository.deploy("c", "modules/c/1.wasm");
    repository.publish();
    device.disk.rots = true;
    device.publish(&repository);
    device.pass(11_000);
    assert_eq!((device.runs(), device.committed()), (Some("b"), Some("b")));
    device.disk.rots = false;
    device.pass(200_000);
    assert_eq!((device.runs(), device.refusals()), (Some("c"), vec![]));
}

#[test]
fn only_missing_chunks_are_pulled_after_a_cut_link() {
    let (mut device, repository) = committed();
    device.pulled.clear();
    let withheld: Vec<Published> =
        repository.retained.keys().filter(|what| matches!(what, Published::Chunk(_))).cloned().collect();
    let mut partial = repository.clone();
    partial.retained.retain(|what, _| !withheld.iter().skip(withheld.len() / 2).any(|other| other == what));
    device.publish(&partial);
    device.pass(1_000);
    device.down();
    device.publish(&repository);
    device.up();
    device.pass(1_000);
    assert_eq!(device.runs(), Some("b"));
    let mut unique = device.pulled.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), device.pulled.len(), "no chunk came twice");
}

#[test]
fn a_fault_of_what_is_committed_is_the_supervisors_to_mend() {
    let (mut device, _) = committed();
    let generation = device.routed.unwrap();
    let fault = sanderling_protocol::worker::Fault::new(sanderling_protocol::worker::FaultCode::Crash, "killed");
    device.handle(Event::Faulted { generation, module: "m".into(), fault });
    assert_eq!((device.routed, device.state()), (Some(generation), Some(DeploymentState::Active)));
    assert_eq!(device.errors, []);
}
