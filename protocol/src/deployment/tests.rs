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
fn knows_the_three_ways_to_run_a_module() {
    for (word, execution) in
        [("reactor", Execution::Reactor), ("isolated", Execution::Isolated), ("command", Execution::Command)]
    {
        let deployment = parse(&with("/modules/0/execution", json!(word))).unwrap();
        assert_eq!(deployment.modules[0].execution, execution);
        assert_eq!(serde_json::to_value(execution).unwrap(), json!(word));
    }
    let error = parse(&with("/modules/0/execution", json!("daemon"))).unwrap_err();
    assert!(error.to_string().contains("daemon"), "{error}");
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
fn a_quota_of_state_is_a_plain_number_within_bounds_and_stands_there_once() {
    let quota = |grants: serde_json::Value| {
        let mut document = with("/modules/0/grants", grants);
        document["modules"][0]["channels"] = json!({});
        parse(&document).map(|deployment| deployment.modules[0].state_quota())
    };
    assert_eq!(quota(json!([])), Ok(None));
    assert_eq!(quota(json!(["state:1"])), Ok(Some(1)));
    assert_eq!(quota(json!(["infer", "state:1048576"])), Ok(Some(1 << 20)));
    for bad in
        ["state", "state:", "state:0", "state:1048577", "state:-1", "state:+1", "state:01", "state:1k", "state:*"]
    {
        assert!(matches!(quota(json!([bad])), Err(DeploymentError::Form(_))), "{bad}");
    }
    let twice = Err(DeploymentError::Twice { what: "grant", name: "state".into() });
    assert_eq!(quota(json!(["state:1", "state:2"])), twice);
}

#[test]
fn a_ceiling_of_state_allows_every_quota_up_to_it() {
    let mut document = with("/modules/0/grants", json!(["state:4096"]));
    document["modules"][0]["channels"] = json!({});
    let module = &parse(&document).unwrap().modules[0];
    let check = |grants: &[&str]| module.check_ceiling(&ceiling(grants, 16, 200)).is_ok();
    assert!(check(&["state:4096"]) && check(&["infer", "state:1048576"]) && check(&["state:9", "state:5000"]));
    for odd in ["state:4095", "state:04096", "state:*", "state", "state:9999999", "emit:*", "*"] {
        assert!(!check(&[odd]), "{odd}");
    }
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

fn ceiling(grants: &[&str], memory_mib: u32, deadline_ms: u32) -> Ceiling {
    Ceiling { grants: grants.iter().map(|grant| (*grant).to_owned()).collect(), memory_mib, deadline_ms }
}

#[test]
fn bringing_models_is_a_grant_of_its_own() {
    let deployment = parse(&with("/modules/0/grants", json!(["infer", "infer:load", "emit:defects"]))).unwrap();
    let module = &deployment.modules[0];
    assert_eq!(module.grants.iter().map(ToString::to_string).nth(1).as_deref(), Some("infer:load"));
    let refused = module.check_ceiling(&ceiling(&["infer", "emit:*"], 16, 200));
    assert!(matches!(&refused, Err(DeploymentError::GrantAboveCeiling { grant, .. }) if grant == "infer:load"));
    assert_eq!(module.check_ceiling(&ceiling(&["infer", "infer:load", "emit:*"], 16, 200)), Ok(()));
}

#[test]
fn a_module_may_be_given_all_that_its_release_allows_and_nothing_more() {
    let deployment = parse(&document()).unwrap();
    let module = &deployment.modules[0];
    let scratch = || "scratch".to_owned();
    let check =
        |grants: &[&str], memory_mib, deadline_ms| module.check_ceiling(&ceiling(grants, memory_mib, deadline_ms));
    assert_eq!(check(&["infer", "emit:defects"], 16, 200), Ok(()));
    assert_eq!(check(&["infer", "emit:*"], 17, 201), Ok(()));
    let allowed = |allowed: &str, grant: &str| {
        let (grant, allowed) = (grant.to_owned(), allowed.to_owned());
        Err(DeploymentError::GrantAboveCeiling { module: scratch(), grant, allowed })
    };
    assert_eq!(check(&["infer"], 16, 200), allowed("infer", "emit:defects"));
    assert_eq!(check(&["emit:*"], 16, 200), allowed("emit:*", "infer"));
    assert_eq!(check(&[], 16, 200), allowed("none", "infer"));
    // Neither the beginning of a name nor a star anywhere else stands for more than itself.
    for odd in ["emit:defect", "emit:defects2", "emit:d*", "emit:", "emit", "*", "emit:**", "INFER"] {
        assert!(check(&["infer", odd], 16, 200).is_err(), "{odd}");
    }
    let above = DeploymentError::MemoryAboveCeiling { module: scratch(), asked: 16, allowed: 15 };
    assert_eq!(check(&["infer", "emit:*"], 15, 200), Err(above));
    let above = DeploymentError::DeadlineAboveCeiling { module: scratch(), asked: 200, allowed: 199 };
    assert_eq!(check(&["infer", "emit:*"], 16, 199), Err(above));
}

#[test]
fn what_a_deployment_leaves_out_is_held_to_the_ceiling_too() {
    let mut document = document();
    document["modules"][0].as_object_mut().unwrap().remove("limits");
    let deployment = parse(&document).unwrap();
    let Limits { memory_mib, deadline_ms, .. } = Limits::default();
    let check = |ceiling: Ceiling| deployment.modules[0].check_ceiling(&ceiling);
    assert_eq!(check(ceiling(&["infer", "emit:*"], memory_mib, deadline_ms)), Ok(()));
    assert!(check(ceiling(&["infer", "emit:*"], memory_mib - 1, deadline_ms)).is_err());
    assert!(check(ceiling(&["infer", "emit:*"], memory_mib, deadline_ms - 1)).is_err());
}

#[test]
fn a_refusal_for_the_ceiling_names_module_asked_and_allowed() {
    let deployment = parse(&document()).unwrap();
    let said = |ceiling: Ceiling| deployment.modules[0].check_ceiling(&ceiling).unwrap_err().to_string();
    for (ceiling, words) in [
        (ceiling(&["infer", "emit:other"], 16, 200), ["scratch", "\"emit:defects\"", "infer, emit:other", "anew"]),
        (ceiling(&["infer", "emit:*"], 8, 200), ["scratch", "memory_mib 16", "allows 8", "lower it"]),
        (ceiling(&["infer", "emit:*"], 16, 50), ["scratch", "deadline_ms 200", "allows 50", "lower it"]),
    ] {
        let said = said(ceiling);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn records_go_to_one_sink_or_to_several_and_never_to_none() {
    let sinks = |sink: serde_json::Value| {
        let parsed = parse(&with("/modules/0/channels/defects/sink", sink))?;
        Ok::<_, DeploymentError>(parsed.modules[0].channels["defects"].sink.clone())
    };
    let one = sinks(json!("mqtt")).unwrap();
    assert!(one.mqtt());
    assert_eq!(serde_json::to_value(&one).unwrap(), json!("mqtt"));
    let two = sinks(json!(["mqtt", "reject-gate"])).unwrap();
    assert_eq!(two.names().collect::<Vec<_>>(), ["mqtt", "reject-gate"]);
    assert_eq!(serde_json::to_value(&two).unwrap(), json!(["mqtt", "reject-gate"]));
    assert!(!sinks(json!("reject-gate")).unwrap().mqtt());
    assert!(matches!(sinks(json!([])), Err(DeploymentError::Channel { .. })));
    assert!(matches!(sinks(json!(["a", "a"])), Err(DeploymentError::Twice { .. })));
    assert!(matches!(sinks(json!(["a", "b", "c", "d", "e"])), Err(DeploymentError::TooMany { .. })));
    assert!(matches!(sinks(json!("a/b")), Err(DeploymentError::Name { .. })));
}

/// A deployment of modules that are each given channels of others, or a sensor.
fn chain(modules: &[(&str, &[&str])]) -> Result<Deployment, DeploymentError> {
    let module = |(name, inputs): &(&str, &[&str])| {
        let input = |from: &&str| match from.split_once('/') {
            Some((module, channel)) => json!({ "module": module, "channel": channel }),
            None => json!({ "sensor": from }),
        };
        json!({ "name": name, "module": "modules/m/1.wasm", "input": inputs.iter().map(input).collect::<Vec<_>>(),
            "grants": ["emit:out"], "channels": { "out": {} } })
    };
    parse(&json!({ "schema": SCHEMA, "name": "d", "modules": modules.iter().map(module).collect::<Vec<_>>() }))
}

#[test]
fn a_module_may_be_given_what_another_emits() {
    let deployment = chain(&[("a", &["cam0"]), ("b", &["a/out", "cam0"]), ("c", &["a/out", "b/out"])]).unwrap();
    assert_eq!(deployment.modules[1].input[0].source, Source::Channel { module: "a".into(), channel: "out".into() });
    assert_eq!(deployment.takers("a", "out").map(|module| &*module.name).collect::<Vec<_>>(), ["b", "c"]);
    let again = Deployment::parse(&serde_json::to_vec(&deployment).unwrap()).unwrap();
    assert_eq!(again, deployment);
}

#[test]
fn modules_that_feed_each_other_in_a_circle_are_refused() {
    let cycle = |modules: &[(&str, &[&str])]| match chain(modules) {
        Err(DeploymentError::Cycle { path }) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(cycle(&[("a", &["a/out"])]), "a -> a");
    assert_eq!(
        cycle(&[("x", &["cam0"]), ("a", &["x/out", "c/out"]), ("b", &["a/out"]), ("c", &["b/out"])]),
        "a -> b -> c -> a"
    );
    // Two ways from one module to another are no circle.
    chain(&[("a", &["cam0"]), ("b", &["a/out"]), ("c", &["a/out"]), ("d", &["b/out", "c/out"])]).unwrap();
}

#[test]
fn an_input_is_a_sensor_or_a_channel_that_is_there() {
    assert!(matches!(chain(&[("b", &["a/out"])]), Err(DeploymentError::NoChannel { .. })));
    assert!(matches!(chain(&[("a", &["cam0"]), ("b", &["a/in"])]), Err(DeploymentError::NoChannel { .. })));
    assert!(matches!(chain(&[("a", &["cam0", "cam0"])]), Err(DeploymentError::Twice { what: "input", .. })));
    let long = "a".repeat(40);
    let error = chain(&[(&long, &["cam0"]), ("b", &[&format!("{long}/out")])]).unwrap_err();
    assert!(matches!(error, DeploymentError::LongSource { length: 44, .. }), "{error}");
    for input in
        [json!({}), json!({ "sensor": "s", "module": "m" }), json!({ "module": "m" }), json!({ "channel": "c" })]
    {
        let error = parse(&with("/modules/0/input", json!([input]))).unwrap_err();
        assert!(error.to_string().contains("an input names a `sensor`"), "{error}");
    }
}

#[test]
fn policies_are_read_and_held_to_their_ranges() {
    let policy = |policy: serde_json::Value| {
        let parsed = parse(&with("/modules/0/input/0/policy", policy))?;
        Ok::<_, DeploymentError>(parsed.modules[0].input[0].policy)
    };
    assert_eq!(policy(json!({ "sample": { "every": 10 } })).unwrap(), Policy::Sample(Sample::Every(10)));
    assert_eq!(policy(json!({ "sample": { "per_second": 0.5 } })).unwrap(), Policy::Sample(Sample::PerSecond(0.5)));
    let Policy::Window(window) = policy(json!({ "window": { "samples": 1024 } })).unwrap() else { unreachable!() };
    assert_eq!((window.samples, window.hop(), window.queue), (1024, 1024, 4));
    let Policy::Window(window) = policy(json!({ "window": { "samples": 9, "hop": 3, "queue": 1 } })).unwrap() else {
        unreachable!()
    };
    assert_eq!((window.hop(), window.queue), (3, 1));
    for bad in [json!({ "sample": { "per_second": 0.0 } }), json!({ "sample": { "per_second": 1e9 } })] {
        assert!(matches!(policy(bad), Err(DeploymentError::Rate { .. })));
    }
    for bad in [
        json!({ "sample": { "every": 0 } }),
        json!({ "window": { "samples": 0 } }),
        json!({ "window": { "samples": 5, "hop": 0 } }),
        json!({ "window": { "samples": 5, "queue": 0 } }),
    ] {
        assert!(matches!(policy(bad.clone()), Err(DeploymentError::Range { .. })), "{bad}");
    }
    assert!(matches!(policy(json!({ "window": { "samples": 5, "step": 1 } })), Err(DeploymentError::Form(_))));
}

#[test]
fn there_is_no_window_of_records() {
    let document = json!({ "schema": SCHEMA, "name": "d", "modules": [
        { "name": "a", "module": "m.wasm", "input": [], "grants": ["emit:out"], "channels": { "out": {} } },
        { "name": "b", "module": "m.wasm",
          "input": [{ "module": "a", "channel": "out", "policy": { "window": { "samples": 8 } } }] } ] });
    assert!(matches!(parse(&document), Err(DeploymentError::WindowOfRecords { .. })));
}

#[test]
fn records_may_go_nowhere_but_to_another_module() {
    let document = |input: serde_json::Value| {
        json!({ "schema": SCHEMA, "name": "d", "modules": [
            { "name": "a", "module": "m.wasm", "input": [], "grants": ["emit:out"], "channels": { "out": { "sink": [] } } },
            { "name": "b", "module": "m.wasm", "input": [input] } ] })
    };
    parse(&document(json!({ "module": "a", "channel": "out" }))).unwrap();
    let error = parse(&document(json!({ "sensor": "cam0" }))).unwrap_err();
    assert!(error.to_string().contains("no sink"), "{error}");
}
