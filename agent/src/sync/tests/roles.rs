//! What each key may say: releases what may run and with which ceiling, deployments who runs what within it.

use sanderling_protocol::reported::DeploymentState;
use serde_json::{Value, json};

use super::{
    repository::{A, B, Repository, content, document},
    world::Device,
};

fn release(kind: &str) -> Value {
    match kind {
        "module" => json!({ "kind": "module", "abi": 1,
            "ceiling": { "grants": ["infer", "emit:*"], "memory_mib": 1024, "deadline_ms": 600_000 } }),
        "model" => json!({ "kind": "model", "format": "onnx" }),
        _ => json!({ "kind": "deployment", "percent": 100, "salt": "s", "priority": 100 }),
    }
}

/// A device on which `a` runs, and the repository that it follows. Releases may be given channels, 32 MiB and 1000 ms.
fn running() -> (Device, Repository) {
    let mut repository = Repository::new();
    repository.module(A, &content(1, 100_000));
    repository.module(B, &content(2, 100_000));
    repository.deploy("a", A);
    repository.publish();
    let mut device = Device::new(&repository);
    device.up();
    device.pass(11_000);
    assert_eq!((device.runs(), device.committed()), (Some("a"), Some("a")));
    (device, repository)
}

/// Publishes what was changed; the device must refuse it with these words, and go on with what it runs.
fn refused(device: &mut Device, repository: &mut Repository, words: &[&str]) {
    let routed = device.routed;
    repository.publish();
    device.publish(repository);
    let report = device.report().deployment.unwrap();
    let why = report.why.unwrap_or_default();
    assert_eq!(report.state, DeploymentState::Refused, "{words:?}: {why}");
    assert!(words.iter().all(|word| why.contains(word)), "{words:?}: {why}");
    assert_eq!((device.runs(), device.routed), (Some("a"), routed), "the very same generation runs");
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = document("x", B, json!({}));
    change(&mut document["modules"][0]);
    document
}

#[test]
fn more_than_the_ceiling_is_refused_by_what_is_asked_and_what_is_allowed() {
    let (mut device, mut repository) = running();
    let cases: [(Value, &[&str]); 4] = [
        (with(|module| module["grants"] = json!(["infer"])), &["module m", "\"infer\"", "allows emit:*", "anew"]),
        (
            with(|module| module["limits"] = json!({ "memory_mib": 33 })),
            &["module m", "memory_mib 33", "allows 32", "lower it"],
        ),
        (
            with(|module| module["limits"] = json!({ "deadline_ms": 1001 })),
            &["module m", "deadline_ms 1001", "allows 1000", "lower it"],
        ),
        // The second of two is looked at as well.
        (
            {
                let mut both = document("x", A, json!({}));
                let second = json!({ "name": "n", "module": B, "input": [], "limits": { "memory_mib": 64 } });
                both["modules"].as_array_mut().unwrap().push(second);
                both
            },
            &["module n", "memory_mib 64", "allows 32"],
        ),
    ];
    for (document, words) in cases {
        repository.deploy_document("x", &document);
        refused(&mut device, &mut repository, words);
    }
    let just = with(|module| {
        module["grants"] = json!(["emit:c"]);
        module["channels"] = json!({ "c": {} });
        module["limits"] = json!({ "memory_mib": 32, "deadline_ms": 1000 });
    });
    repository.deploy_document("x", &just);
    repository.publish();
    device.publish(&repository);
    assert_eq!(device.runs(), Some("x"), "all that is allowed may be asked for");
}

#[test]
fn a_ceiling_that_is_lowered_holds_for_what_is_deployed_next() {
    let (mut device, mut repository) = running();
    let mut lower = release("module");
    lower["ceiling"]["memory_mib"] = json!(8);
    repository.release_any(B, &content(2, 100_000), lower);
    repository.deploy("b", B);
    refused(&mut device, &mut repository, &["module m", "memory_mib 16", "allows 8"]);
}

#[test]
fn a_deployment_that_the_releases_key_signs_is_nobodys() {
    let (mut device, mut repository) = running();
    let document = document("evil", B, json!({})).to_string().into_bytes();
    repository.release_any("deployments/evil.json", &document, release("deployment"));
    // Nor is the name of one that is honest its to take.
    repository.release_any("deployments/a.json", &document, release("deployment"));
    repository.publish();
    device.publish(&repository);
    device.pass(60_000);
    assert_eq!((device.runs(), device.committed()), (Some("a"), Some("a")));
    repository.withdraw_deployments();
    repository.publish();
    device.publish(&repository);
    device.pass(60_000);
    assert_eq!((device.runs(), device.report().deployment), (None, None), "there is no deployment left");
}

#[test]
fn a_module_or_model_that_the_deployments_key_signs_is_not_released() {
    let (mut device, mut repository) = running();
    for (path, kind) in [("modules/evil.wasm", "module"), ("modules/evil/1.wasm", "module")] {
        repository.deploy_document("x", &document("x", path, json!({})));
        repository.deploy_any(path, &content(9, 50_000), release(kind));
        refused(&mut device, &mut repository, &[path, "not released"]);
    }
    for path in ["models/evil.onnx", "models/evil/1.onnx"] {
        repository.deploy_document("x", &with(|module| module["models"] = json!({ "n": path })));
        repository.deploy_any(path, &content(9, 50_000), release("model"));
        refused(&mut device, &mut repository, &[path, "not released"]);
    }
    // Under its own prefix it may list what it likes, but that is no place for a module.
    for (path, kind) in [("deployments/evil.wasm", "module"), ("deployments/evil.onnx", "model")] {
        let field = if kind == "module" { json!(path) } else { json!(B) };
        let models = if kind == "model" { json!({ "n": path }) } else { json!({}) };
        let document = with(|module| (module["module"], module["models"]) = (field, models));
        repository.deploy_document("x", &document);
        repository.deploy_any(path, &content(9, 50_000), release(kind));
        refused(&mut device, &mut repository, &[path, "not the path of a", kind]);
    }
}

#[test]
fn a_ceiling_that_the_deployments_key_signs_does_not_count() {
    let (mut device, mut repository) = running();
    repository.deploy_document("x", &with(|module| module["limits"] = json!({ "memory_mib": 512 })));
    repository.deploy_any(B, &content(2, 100_000), release("module"));
    refused(&mut device, &mut repository, &["module m", "memory_mib 512", "allows 32"]);
}

#[test]
fn no_key_speaks_across_the_slashes_of_its_patterns() {
    let (mut device, mut repository) = running();
    for path in ["modules/a/b/c.wasm", "modules/a/b/", "modules/a//c.wasm"] {
        repository.release_any(path, &content(9, 50_000), release("module"));
        repository.deploy_document("x", &document("x", path, json!({})));
        refused(&mut device, &mut repository, &[path, "not released"]);
    }
    repository.release_any("models/a/b/c.onnx", &content(9, 50_000), release("model"));
    repository.deploy_document("x", &with(|module| module["models"] = json!({ "n": "models/a/b/c.onnx" })));
    refused(&mut device, &mut repository, &["models/a/b/c.onnx", "not released"]);
    // A deployment one level too deep is seen by no device: the one before it stays.
    repository.deploy("a", A);
    let deep = document("deep", B, json!({})).to_string().into_bytes();
    repository.deploy_any("deployments/line/deep.json", &deep, release("deployment"));
    repository.publish();
    device.publish(&repository);
    device.pass(60_000);
    assert_eq!(device.runs(), Some("a"));
}

#[test]
fn what_is_released_as_one_kind_is_not_run_as_another() {
    let (mut device, mut repository) = running();
    repository.release_any("modules/odd.wasm", &content(9, 50_000), release("model"));
    repository.release_any("models/odd.onnx", &content(9, 50_000), release("module"));
    repository.deploy_document("x", &document("x", "modules/odd.wasm", json!({})));
    refused(&mut device, &mut repository, &["modules/odd.wasm", "not released as a module"]);
    repository.deploy_document("x", &with(|module| module["models"] = json!({ "n": "models/odd.onnx" })));
    refused(&mut device, &mut repository, &["models/odd.onnx", "not released as a model"]);
    repository.deploy_document("x", &document("x", "models/odd.onnx", json!({})));
    refused(&mut device, &mut repository, &["models/odd.onnx", "not the path of a module"]);
}

#[test]
fn a_revoked_releases_key_releases_nothing_more() {
    let (mut device, mut repository) = running();
    repository.revoke_releases_key();
    repository.module("modules/c/1.wasm", &content(3, 50_000));
    repository.deploy("c", "modules/c/1.wasm");
    repository.publish();
    device.publish(&repository);
    device.pass(60_000);
    let refusals = device.refusals();
    let said = |(topic, why): &(String, String)| topic == "repo/2.releases" && why.contains("of the keys trusted");
    assert!(refusals.iter().any(said), "{refusals:?}");
    assert_eq!((device.runs(), device.committed()), (Some("a"), Some("a")), "what runs goes on running");
    repository.sign_releases_anew();
    repository.publish();
    device.publish(&repository);
    device.pass(600_000);
    assert_eq!(device.runs(), Some("c"), "the new key's signature counts");
}
