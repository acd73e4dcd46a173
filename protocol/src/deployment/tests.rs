#![allow(clippy::unwrap_used)]

use super::*;
use crate::release::Ceiling;
use serde_json::json;

fn document() -> serde_json::Value {
    json!({ "schema": SCHEMA, "name": "line-a", "modules": [ {
        "name": "scratch", "module": "modules/surface-defect/1.2.0.wasm",
        "models": { "defect": "models/surface-defect/7.onnx" },
        "input": [ { "sensor": "cam0", "policy": "latest", "decode": "gray8" } ],
        "execution": "reactor",
        "config": { "threshold": 0.8 },
        "grants": [ "infer", "emit:defects" ],
        "limits": { "memory_mib": 16, "deadline_ms": 200 },
        "channels": { "defects": { "sink": "mqtt", "keep": "newest" } },
        "probation": { "frames": 20, "seconds": 30 } } ] })
}

fn parse(document: &serde_json::Value) -> Result<Deployment, DeploymentError> {
    Deployment::parse(&serde_json::to_vec(document).unwrap())
}

fn with(pointer: &str, value: serde_json::Value) -> serde_json::Value {
    let mut document = document();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

#[test]
fn reads_the_documented_example_and_writes_it_back() {
    let deployment = parse(&document()).unwrap();
    assert_eq!(deployment.artifacts(), ["models/surface-defect/7.onnx", "modules/surface-defect/1.2.0.wasm"]);
    let again = Deployment::parse(&serde_json::to_vec(&deployment).unwrap()).unwrap();
    assert_eq!(again, deployment);
}

#[test]
fn refuses_unknown_fields_by_name() {
    let error = parse(&with("/modules/0/turbo", json!(true))).unwrap_err();
    assert!(error.to_string().contains("turbo"), "{error}");
}

#[test]
fn refuses_another_schema() {
    assert!(matches!(parse(&with("/schema", json!("sanderling.deployment/2"))), Err(DeploymentError::Schema { .. })));
}

#[test]
fn refuses_names_that_would_change_a_topic() {
    for bad in ["", ".", "..", "a/b", "+", "#", "ä", &"x".repeat(65)] {
        assert!(matches!(parse(&with("/modules/0/name", json!(bad))), Err(DeploymentError::Name { .. })), "{bad}");
    }
}

#[test]
fn refuses_limits_outside_their_range() {
    let error = parse(&with("/modules/0/limits/memory_mib", json!(0))).unwrap_err();
    assert!(matches!(error, DeploymentError::Range { field: "memory_mib", .. }), "{error}");
}

#[test]
fn refuses_channels_without_grant_and_grants_without_channel() {
    assert!(matches!(parse(&with("/modules/0/grants", json!(["infer"]))), Err(DeploymentError::Channel { .. })));
    assert!(matches!(
        parse(&with("/modules/0/grants", json!(["emit:defects", "emit:other"]))),
        Err(DeploymentError::Channel { .. })
    ));
}

#[test]
fn refuses_an_unknown_grant() {
    assert!(matches!(parse(&with("/modules/0/grants", json!(["root"]))), Err(DeploymentError::Form(_))));
}

#[test]
fn refuses_two_modules_of_one_name() {
    let mut document = document();
    let module = document["modules"][0].clone();
    document["modules"].as_array_mut().unwrap().push(module);
    assert!(matches!(parse(&document), Err(DeploymentError::Twice { .. })));
}

#[test]
fn refuses_what_is_longer_than_the_limit_without_parsing() {
    assert!(matches!(Deployment::parse(&vec![b' '; MAX_DOCUMENT + 1]), Err(DeploymentError::TooLong { .. })));
}

#[test]
fn holds_a_module_to_the_ceiling_of_its_release() {
    let deployment = parse(&document()).unwrap();
    let module = &deployment.modules[0];
    let ceiling = |grants: &[&str], memory_mib, deadline_ms| Ceiling {
        grants: grants.iter().map(|g| (*g).to_owned()).collect(),
        memory_mib,
        deadline_ms,
    };
    assert_eq!(module.check_ceiling(&ceiling(&["infer", "emit:*"], 16, 200)), Ok(()));
    assert!(module.check_ceiling(&ceiling(&["infer"], 16, 200)).is_err());
    assert!(module.check_ceiling(&ceiling(&["infer", "emit:defects"], 15, 200)).is_err());
    assert!(module.check_ceiling(&ceiling(&["infer", "emit:defects"], 16, 199)).is_err());
}
