//! The operator's tool as a program: what it makes, and what it says when something is missing.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};

use support::{Fleet, deployment, mode};

#[test]
fn keys_are_made_once_and_readable_by_their_owner_alone() {
    let fleet = Fleet::new();
    assert_eq!(fleet.done(&["keys", "create"]).lines().count(), 6);
    assert_eq!(mode(&fleet.path("fleet/keys/root.pem")), 0o600);
    let before = std::fs::read(fleet.path("fleet/keys/root.pem")).unwrap();
    assert_eq!(fleet.done(&["keys", "create"]), "");
    assert_eq!(std::fs::read(fleet.path("fleet/keys/root.pem")).unwrap(), before);
}

#[test]
fn only_what_changed_is_signed_anew() {
    let fleet = Fleet::new();
    fleet.init();
    let wasm = fleet.write("m.wasm", b"\0asm\x01\0\0\0");
    fleet.done(&["repo", "add-module", &wasm, "modules/m/1.wasm", "--grant", "emit:*"]);
    let signed: Value = serde_json::from_str(&fleet.done(&["--json", "repo", "sign"])).unwrap();
    assert_eq!(signed["roles"], json!([["releases", 2], ["snapshot", 2], ["timestamp", 2]]));
    let signed: Value = serde_json::from_str(&fleet.done(&["--json", "repo", "sign"])).unwrap();
    assert_eq!(signed["roles"], json!([["timestamp", 3]]));
}

#[test]
fn each_step_says_which_one_is_missing_before_it() {
    let fleet = Fleet::new();
    assert!(fleet.refused(&["repo", "init"]).contains("sanderling keys create"));
    assert!(fleet.refused(&["repo", "sign"]).contains("sanderling repo init"));
    assert!(fleet.refused(&["repo", "publish"]).contains("sanderling repo init"));
    fleet.init();
    assert!(fleet.refused(&["repo", "init"]).contains("already"));
}

#[test]
fn refuses_what_a_device_would_refuse() {
    let fleet = Fleet::new();
    fleet.init();
    let text = fleet.write("text.wasm", b"hello");
    assert!(fleet.refused(&["repo", "add-module", &text, "modules/m/1.wasm"]).contains("not a WebAssembly file"));
    let wasm = fleet.write("m.wasm", b"\0asm\x01\0\0\0");
    assert!(fleet.refused(&["repo", "add-module", &wasm, "modules/../1.wasm"]).contains("target path"));
    assert!(
        fleet.refused(&["repo", "add-module", &wasm, "modules/m/1.wasm", "--grant", "root"]).contains("unknown grant")
    );
    let absent = fleet.write("d.json", &deployment(&json!(["emit:out"])));
    assert!(fleet.refused(&["repo", "deploy", &absent]).contains("add-module"));
    fleet.done(&["repo", "add-module", &wasm, "modules/m/1.wasm", "--grant", "infer"]);
    assert!(fleet.refused(&["repo", "deploy", &absent]).contains("ceiling"));
    fleet.done(&["repo", "add-module", &wasm, "modules/m/1.wasm", "--grant", "emit:*"]);
    fleet.done(&["repo", "deploy", &absent]);
    fleet.done(&["repo", "remove", "deployments/line-a.json"]);
    assert!(fleet.refused(&["repo", "remove", "deployments/line-a.json"]).contains("not in the repository"));
}

#[test]
fn a_device_folder_holds_all_that_a_device_gets_and_is_made_once() {
    let fleet = Fleet::new();
    fleet.init();
    fleet.done(&["provision", "broker", "--host", "broker.example"]);
    fleet.done(&["provision", "device", "gw-1", "--host", "broker.example", "--label", "site=north"]);
    let folder = fleet.path("fleet/devices/gw-1");
    for file in ["agent.toml", "ca.pem", "device.pem", "device.key", "root.json"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    assert_eq!(mode(&folder.join("device.key")), 0o600);
    let settings = std::fs::read_to_string(folder.join("agent.toml")).unwrap();
    assert!(settings.contains("\"site\" = \"north\"") && settings.contains("host = \"broker.example\""), "{settings}");
    assert!(fleet.refused(&["provision", "device", "gw-1"]).contains("provisioned already"));
    assert!(fleet.refused(&["provision", "device", "operator"]).contains("the operator's own name"));
}

#[test]
fn an_absent_broker_is_named_with_what_to_check() {
    let fleet = Fleet::new();
    fleet.init();
    fleet.done(&["provision", "broker"]);
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let said = fleet.refused(&["repo", "publish", "--port", &port]);
    assert!(said.contains(&format!("localhost:{port}")) && said.contains("check host and port"), "{said}");
}
