//! What is no longer signed is stopped, and does not come back by itself.

use std::collections::BTreeSet;

use sanderling_protocol::{
    reported::DeploymentState::{Active, Refused},
    topics::Published,
};
use serde_json::json;

use super::{
    repository::{A, B, Repository, content, modules},
    world::{Device, EXPIRES, START},
};
use crate::sync::Event;

const C: &str = "modules/c/1.wasm";

fn line(named: &[(&str, &str)], config: u8) -> serde_json::Value {
    let named: Vec<_> = named.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
    modules("line", &named, json!(config))
}

fn published() -> Repository {
    let mut repository = Repository::new();
    for (seed, path) in (1..).zip([A, B, C]) {
        repository.module(path, &content(seed, 40_000));
    }
    repository.deploy_document("line", &line(&[("a", A), ("b", B)], 1));
    repository.publish();
    repository
}

/// A device on which the modules `a` and `b` are committed.
fn committed() -> (Device, Repository) {
    let repository = published();
    let mut device = Device::new(&repository);
    device.up();
    device.pass(11_000);
    assert_eq!((device.committed(), device.modules()), (Some("line"), vec!["a".to_owned(), "b".to_owned()]));
    (device, repository)
}

#[test]
fn a_module_that_is_no_longer_released_stops_and_the_others_run_on() {
    let (mut device, mut repository) = committed();
    let before = device.routed;
    repository.withdraw_module(B);
    repository.publish();
    device.publish(&repository);
    assert_eq!(
        (device.routed, device.modules()),
        (before, vec!["a".to_owned()]),
        "the same generation, less one module"
    );
    assert_eq!(device.state(), Some(Refused));
    assert!(device.refusals().iter().any(|(what, why)| what == B && why.contains("module b is stopped")));
    let mut device = device.reboot(&repository);
    assert_eq!(device.modules(), ["a"], "not after a restart without a network either");
    device.disk.lose_metadata("releases");
    let mut device = device.reboot(&repository);
    assert_eq!(device.modules(), ["a"], "nor without the metadata that says so");
    repository.module(B, &content(2, 40_000));
    repository.publish();
    device.publish(&repository);
    device.up();
    assert_eq!((device.modules().len(), device.state()), (2, Some(Active)), "released again, it runs again");
    assert_eq!(device.pulled, [], "its blob was kept");
    assert_eq!(device.reboot(&repository).modules().len(), 2);
}

#[test]
fn a_module_of_which_all_are_revoked_leaves_nothing_running() {
    let (mut device, mut repository) = committed();
    repository.withdraw_module(A);
    repository.withdraw_module(B);
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.modules(), device.state()), (vec![], Some(Refused)));
    assert_eq!(device.reboot(&repository).modules(), Vec::<String>::new());
}

#[test]
fn a_power_cut_after_the_metadata_is_stored_does_not_bring_the_module_back() {
    for cut in 0..200 {
        let (mut device, mut repository) = committed();
        repository.withdraw_module(B);
        repository.publish();
        device.offer(&repository);
        let ended = (0..cut).any(|_| !device.step());
        let stored = device.disk.snapshot(&repository) == Some(2);
        let device = device.reboot(&repository);
        assert_eq!(device.modules().contains(&"b".to_owned()), !stored, "cut after {cut} steps");
        assert!(device.modules().contains(&"a".to_owned()));
        if ended {
            return;
        }
    }
    panic!("it takes more than 200 steps");
}

#[test]
fn what_is_on_probation_gives_way_when_a_module_of_it_is_revoked() {
    let (mut device, mut repository) = committed();
    repository.deploy_document("next", &line(&[("a", A), ("c", C)], 2));
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.modules(), device.committed()), (vec!["a".to_owned(), "c".to_owned()], Some("line")));
    repository.withdraw_module(C);
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.modules(), device.state()), (vec!["a".to_owned(), "b".to_owned()], Some(Refused)));
    assert_eq!((device.disk.slots.trial.as_ref(), device.disk.slots.rejected.len()), (None, 0));
    repository.module(C, &content(3, 40_000));
    repository.publish();
    device.publish(&repository);
    device.pass(11_000);
    assert_eq!(
        (device.modules(), device.state()),
        (vec!["a".to_owned(), "c".to_owned()], Some(Active)),
        "it was not rejected"
    );
}

#[test]
fn what_would_be_fallen_back_to_is_not_started_with_a_revoked_module() {
    let (mut device, mut repository) = committed();
    repository.deploy_document("next", &line(&[("a", A), ("c", C)], 2));
    repository.withdraw_module(B);
    repository.publish();
    device.publish(&repository);
    let generation = device.routed.unwrap();
    assert_eq!(device.modules(), ["a", "c"]);
    device.fault(generation, "c".into());
    device.run();
    assert_eq!(device.modules(), ["a"], "b of the committed one is revoked");
}

#[test]
fn other_content_under_the_same_path_is_an_update_and_stops_nothing_before_it_runs() {
    let (mut device, mut repository) = committed();
    repository.module(B, &content(9, 40_000));
    repository.publish();
    device.offer(&repository);
    while device.step() {
        assert_eq!(device.modules().len(), 2);
    }
    device.pass(11_000);
    assert_eq!((device.modules().len(), device.state()), (2, Some(Active)));
}

#[test]
fn a_deployment_that_is_taken_back_stops_its_modules_and_stays_stopped() {
    let (mut device, mut repository) = committed();
    repository.withdraw_deployments();
    repository.publish();
    device.publish(&repository);
    assert_eq!((device.modules(), device.generations.len(), device.state()), (vec![], 0, None));
    assert_eq!(device.reboot(&repository).modules(), Vec::<String>::new());
}

#[test]
fn a_power_cut_after_the_metadata_is_stored_does_not_bring_the_deployment_back() {
    for cut in 0..200 {
        let (mut device, mut repository) = committed();
        repository.withdraw_deployments();
        repository.publish();
        device.offer(&repository);
        let ended = (0..cut).any(|_| !device.step());
        let stored = device.disk.snapshot(&repository) == Some(2);
        assert_eq!(device.reboot(&repository).modules().is_empty(), stored, "cut after {cut} steps");
        if ended {
            return;
        }
    }
    panic!("it takes more than 200 steps");
}

#[test]
fn losing_sight_of_the_broker_stops_nothing() {
    let (mut device, repository) = committed();
    let before = device.routed;
    device.down();
    device.pass(u64::try_from(EXPIRES - START).unwrap() * 2000);
    assert_eq!((device.routed, device.modules().len()), (before, 2), "not even when all metadata is expired");
    device.broker.clear();
    device.up();
    device.pass(600_000);
    assert_eq!((device.routed, device.modules().len()), (before, 2), "nor a broker that has lost everything");
    let mut hostile = repository.clone();
    for (what, payload) in &mut hostile.retained {
        if !matches!(what, Published::Metadata { version: 1, .. }) {
            payload.reverse();
        }
    }
    device.publish(&hostile);
    device.handle(Event::Refresh);
    device.pass(600_000);
    assert_eq!((device.routed, device.modules().len()), (before, 2), "nor one that lies");
    let kept: BTreeSet<_> = device.reboot(&repository).modules().into_iter().collect();
    assert_eq!(kept.len(), 2);
}

#[test]
fn stored_metadata_with_a_hole_revokes_nothing() {
    for role in ["deployments", "releases", "targets", "snapshot"] {
        let (mut device, repository) = committed();
        device.disk.lose_metadata(role);
        let device = device.reboot(&repository);
        assert_eq!(device.modules().len(), 2, "without {role}");
    }
}
