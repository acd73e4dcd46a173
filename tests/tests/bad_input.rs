//! Bad input is normal: each gets an error that names cause and cure, in the log and where there is a link in the reported
//! state; the agent stays up, and what runs runs on.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, process::Command};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind},
};
use sanderling_tests::{
    Fleet, Module, PATIENCE, Process, Site, defects, deployment, expired_client, foreign_authority, guest, guests,
    line, line_module, program, source,
};
use serde_json::{Value, json};

fn check(file: &std::path::Path) -> (Option<i32>, String) {
    let output = Command::new(program("sanderling-agent")).arg("--config").arg(file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_configuration_that_is_wrong_ends_with_status_78_and_names_file_key_and_cure() {
    let site = Site::new();
    let device = site.device("gw-1");
    let cases: [(&str, &[&str]); 5] = [
        ("[brokr]\nhost = 'x'\n", &["brokr", "expected"]),
        ("[broker]\nhots = 'x'\n", &["hots", "expected", "host"]),
        ("[broker]\nkeep_alive_s = 3600\n", &["broker.keep_alive_s", "3600", "1 to 30"]),
        ("[sensor.cam0]\nkind = 'camera'\n", &["camera", "replay", "socket"]),
        ("[broker\n", &["line 1"]),
    ];
    for (text, words) in cases {
        let file = device.lay("99-wrong", text);
        let (status, said) = check(&device.configuration());
        assert_eq!(status, Some(78), "{text}: {said}");
        assert!(said.contains(&*file.to_string_lossy()), "{text}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
    let root = device.lay("99-wrong", "[trust]\nroot = '/nowhere/root.json'\n");
    let (status, said) = check(&device.configuration());
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("/nowhere/root.json") && said.contains("[trust] root"), "{said}");
    fs::remove_file(root).unwrap();
    fs::write(device.file("root.json"), b"{}").unwrap();
    let (status, said) = check(&device.configuration());
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("root.json") && said.contains("not valid"), "{said}");
}

#[test]
fn an_agent_outlasts_a_broker_that_is_absent_or_untrusted_or_does_not_trust_it() {
    let mut site = Site::new();
    let device = site.device("gw-1");
    let wait_online = |site: &Site, mark: usize| {
        site.observer.wait_for("online", PATIENCE, |seen| {
            seen.after(mark).status(&device.id).filter(|status| status.online).map(|_| ())
        });
    };
    let offline = |site: &Site, agent: &mut Process| {
        agent.terminate(PATIENCE);
        site.observer.mark()
    };

    site.broker.stop();
    let mut agent = device.start();
    let port = site.broker.port().to_string();
    agent.wait_for_line(PATIENCE, &["no broker answers", &port, "check `host` and `port`"]);
    assert!(agent.is_running());
    let mark = site.observer.mark();
    site.broker.start_again();
    wait_online(&site, mark);

    // Certificates are read for each connection: putting them right needs no restart.
    let authority = device.file("ca.pem");
    let right = fs::read(&authority).unwrap();
    let mark = offline(&site, &mut agent);
    fs::write(&authority, foreign_authority()).unwrap();
    let mut agent = device.start();
    agent.wait_for_line(PATIENCE, &["not signed by the CA", "ca.pem", "correct `ca`"]);
    assert!(agent.is_running());
    fs::write(&authority, right).unwrap();
    wait_online(&site, mark);

    let (certificate, key) = (device.file("device.pem"), device.file("device.key"));
    let right = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let mark = offline(&site, &mut agent);
    let expired = expired_client(&site.fleet, "gw-1");
    fs::write(&certificate, expired.0).unwrap();
    fs::write(&key, expired.1).unwrap();
    let mut agent = device.start();
    let said = agent.wait_for_line(PATIENCE, &["device.pem", "provision the device again"]);
    assert!(said.to_lowercase().contains("expired"), "{said}");
    assert!(agent.is_running());
    fs::write(&certificate, right.0).unwrap();
    fs::write(&key, right.1).unwrap();
    wait_online(&site, mark);
}

/// What is staged, and what a device must say of it.
struct Case {
    name: &'static str,
    stage: fn(&Fleet) -> Digest,
    state: DeploymentState,
    words: &'static [&'static str],
}

const fn refused(name: &'static str, stage: fn(&Fleet) -> Digest, words: &'static [&'static str]) -> Case {
    Case { name, stage, state: DeploymentState::Refused, words }
}

/// A module whose content is whatever it is.
fn module_of(fleet: &Fleet, name: &str, content: &[u8]) -> Digest {
    let path = format!("modules/bad/{name}.wasm");
    fleet.add_module(&guests::ticks(b'?'), &path);
    let digest = fleet.deploy(&line(&path));
    fleet.restage(&path, content);
    digest
}

/// A model whose content is whatever it is.
fn model_of(fleet: &Fleet, name: &str, content: &[u8]) -> Digest {
    let path = format!("models/bad/{name}.onnx");
    fleet.add_module(&fs::read(guest("surface-defect")).unwrap(), "modules/surface-defect/1.wasm");
    fleet.add_model(content, &path);
    fleet.deploy(&deployment("line", [defects("clock", "modules/surface-defect/1.wasm", &path)]))
}

/// A deployment that the operator's tool would not take.
fn document_of(fleet: &Fleet, change: impl Fn(&mut Value)) -> Digest {
    let mut document = line("modules/ticks/a.wasm");
    fleet.deploy(&document);
    change(&mut document);
    fleet.restage("deployments/line.json", &serde_json::to_vec(&document).unwrap())
}

fn cases() -> Vec<Case> {
    vec![
        refused(
            "absent module",
            |fleet| {
                fleet.add_module(&guests::ticks(b'?'), "modules/bad/absent.wasm");
                let digest = fleet.deploy(&line("modules/bad/absent.wasm"));
                fleet.run(["repo", "remove", "modules/bad/absent.wasm"]);
                digest
            },
            &["modules/bad/absent.wasm is not released", "add it to the repository"],
        ),
        refused(
            "absent model",
            |fleet| {
                let digest = model_of(fleet, "absent", b"model");
                fleet.run(["repo", "remove", "models/bad/absent.onnx"]);
                digest
            },
            &["models/bad/absent.onnx is not released", "add it to the repository"],
        ),
        refused(
            "absent sensor",
            |fleet| fleet.deploy(&deployment("line", [Module::new("ticks", "modules/ticks/a.wasm").sensor("cam9")])),
            &["module ticks", "cam9", "there are: clock", "add it"],
        ),
        refused(
            "unknown field",
            |fleet| document_of(fleet, |document| document["modules"][0]["turbo"] = json!(true)),
            &["unknown field", "turbo"],
        ),
        refused(
            "above the release's ceiling",
            |fleet| document_of(fleet, |document| document["modules"][0]["limits"]["memory_mib"] = json!(1024)),
            &["memory_mib 1024", "ceiling", "lower it"],
        ),
        refused(
            "not wasm",
            |fleet| module_of(fleet, "text", b"#!/bin/sh\nexit 0\n"),
            &["module ticks", "init", "not WebAssembly", "publish the compiled .wasm file"],
        ),
        refused(
            "cut wasm",
            |fleet| module_of(fleet, "cut", &guests::ticks(b'?')[..60]),
            &["module ticks", "init", "cut off"],
        ),
        refused(
            "a component",
            |fleet| module_of(fleet, "component", &guests::component()),
            &["module ticks", "init", "component", "build a core module"],
        ),
        refused(
            "unknown import",
            |fleet| module_of(fleet, "import", &guests::imports_something_unknown()),
            &["module ticks", "init", "sanderling_v1.launch", "frame_info"],
        ),
        refused(
            "no exports",
            |fleet| module_of(fleet, "empty", &guests::exports_nothing()),
            &["module ticks", "init", "does not export", "memory"],
        ),
        refused(
            "a model that does not parse",
            |fleet| model_of(fleet, "text", b"this is no model"),
            &["module scratch", "init", "model", "defect"],
        ),
        refused(
            "a model that is cut",
            |fleet| {
                let model = fs::read(source().join("modules/surface-defect/model/surface-defect.onnx")).unwrap();
                model_of(fleet, "cut", &model[..model.len() / 2])
            },
            &["module scratch", "init", "model", "defect"],
        ),
        Case {
            name: "a start function that says no",
            stage: |fleet| module_of(fleet, "start", &guests::refuses_to_start()),
            state: DeploymentState::RolledBack,
            words: &["module ticks", "7"],
        },
    ]
}

#[test]
fn a_deployment_that_cannot_run_is_refused_with_cause_and_cure_and_what_runs_runs_on() {
    let site = Site::new();
    let (device, mut agent, _) = site.ticking("gw-1", 50.0);
    for Case { name, stage, state, words } in cases() {
        let digest = stage(&site.fleet);
        site.fleet.sign();
        site.fleet.publish(&site.broker);
        let report = site.observer.wait_report(&device.id, name, |report| {
            let deployment = report.deployment.as_ref().filter(|deployment| deployment.digest == digest);
            deployment.is_some_and(|deployment| deployment.state == state)
        });
        let why = report.deployment.unwrap().why.unwrap();
        assert!(words.iter().all(|word| why.contains(word)), "{name}: {why}");
        let listed = report.refused.iter().find(|refused| refused.digest == Some(digest));
        assert_eq!(
            listed.map(|refused| refused.what.as_str()),
            Some("deployments/line"),
            "{name}: {:?}",
            report.refused
        );
        site.observer.wait_for("an event", PATIENCE, |seen| {
            let ours = |kind: &EventKind| match kind {
                EventKind::Refused(refused) => refused.digest == Some(digest),
                EventKind::RolledBack { digest: told, .. } => *told == digest,
                _ => false,
            };
            seen.events(&device.id).iter().any(|event| ours(&event.what)).then_some(())
        });
        agent.wait_for_line(PATIENCE, words);
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        assert!(agent.is_running(), "{name}");
    }
    let good = site.roll_out_ticks(b'z');
    let report = site.observer.wait_active(&device.id, good);
    assert_eq!(report.modules[0].restarts, 0);
    site.observer.wait_ticks(&device.id, "ticks", b'z', 5);
}

#[test]
fn an_image_that_does_not_decode_is_counted_and_the_module_goes_on() {
    let site = Site::new();
    let device = site.device("gw-1");
    let images = device.runtime("images");
    fs::create_dir(&images).unwrap();
    let right = fs::read(source().join("modules/surface-defect/images/held-out/000-grass.png")).unwrap();
    let mut damaged = right.clone();
    damaged.truncate(right.len() / 2);
    for (name, content) in [("1.png", right.as_slice()), ("2.png", &damaged), ("3.jpg", b"no jpeg"), ("4.png", &right)]
    {
        fs::write(images.join(name), content).unwrap();
    }
    device.lay("clock", &format!("[sensor.clock]\nkind = 'replay'\npath = {images:?}\nrate = 20\nloop = true\n"));
    let agent = device.start();
    site.fleet.add_module(&guests::ticks(b'i'), "modules/ticks/i.wasm");
    let module = Module::new("ticks", "modules/ticks/i.wasm").decoded("clock", "gray8").emits(guests::TICKS);
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let ticks = site.observer.wait_for("two passes", PATIENCE, |seen| {
        let ticks = seen.ticks(&device.id, "ticks");
        (ticks.len() >= 4).then_some(ticks)
    });
    let places: Vec<u64> = ticks[..4].iter().map(|tick| tick.seq).collect();
    assert_eq!(places, [1, 4, 5, 8], "the frames that can be decoded, by number");
    agent.wait_for_line(PATIENCE, &["ticks", "a frame could not be given"]);
    let report = site.observer.request(&device.id, "report", b"").body.unwrap();
    let module = &report["modules"][0];
    assert!(module["unreadable"].as_u64() >= Some(4), "{module}");
    assert_eq!((&module["state"], &module["restarts"]), (&json!("running"), &json!(0)), "{module}");
}

#[test]
fn the_operators_tool_refuses_before_anything_is_signed() {
    let site = Site::new();
    let deploy = |document: &Value| {
        let file = site.fleet.path("document.json");
        fs::write(&file, document.to_string()).unwrap();
        site.fleet.try_run(["repo".as_ref(), "deploy".as_ref(), file.as_os_str()]).unwrap_err()
    };
    let said = deploy(&line("modules/bad/absent.wasm"));
    assert!(said.contains("modules/bad/absent.wasm") && said.contains("add-module"), "{said}");
    site.fleet.add_module(&guests::ticks(b'a'), "modules/ticks/a.wasm");
    let said =
        deploy(&deployment("line", [line_module("modules/ticks/a.wasm").set("/limits/memory_mib", json!(1024))]));
    assert!(said.contains("memory_mib 1024") && said.contains("ceiling"), "{said}");
    let file = site.fleet.path("text.wasm");
    fs::write(&file, "#!/bin/sh").unwrap();
    let said =
        site.fleet.try_run(["repo".as_ref(), "add-module".as_ref(), file.as_os_str(), "modules/a/1.wasm".as_ref()]);
    assert!(said.unwrap_err().contains("not a WebAssembly file"));
}
