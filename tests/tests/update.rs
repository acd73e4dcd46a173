//! New versions: as a delta, tampered with, and faulting in probation.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Refused},
    topics::Published,
};
use sanderling_tests::{
    Fleet, PATIENCE, Publication, Site, defects, deployment, guest,
    guests::{hangs_at, padded, ticks, traps_at},
    line, line_module, source, until,
};
use serde_json::{Value, json};

#[test]
fn a_new_model_comes_as_a_delta() {
    let folder = source().join("modules/surface-defect");
    let site = Site::new();
    let device = site.device("gw-1");
    // A held-out image that is a defect to both models, and of which their scores differ by 0.017.
    let image = folder.join("images/held-out/022-brick.png");
    device.lay("cam0", &format!("[sensor.cam0]\nkind = 'replay'\nfiles = [{image:?}]\nrate = 20\nloop = true\n"));
    let _agent = device.start();
    let read = |path: &Path| std::fs::read(path).unwrap();
    site.fleet.add_module(&read(&guest("surface-defect")), "modules/surface-defect/1.wasm");
    let scores = expected_scores(&folder.join("model/expected-scores.csv"), "022-brick.png");
    let mut pulled = Vec::new();
    for (version, score) in [(1, scores.0), (2, scores.1)] {
        let file =
            if version == 1 { "surface-defect.onnx".to_owned() } else { format!("surface-defect-{version}.onnx") };
        let model = format!("models/surface-defect/{version}.onnx");
        site.fleet.add_model(&read(&folder.join("model").join(file)), &model);
        let sent_before = site.broker.sent("gw-1", "/chunk/");
        let document = deployment("line", [defects("cam0", "modules/surface-defect/1.wasm", &model)]);
        let digest = site.fleet.roll_out(&document, &site.broker);
        let mark = site.observer.mark();
        let report = site.observer.wait_active(&device.id, digest);
        let progress = report.deployment.unwrap().progress.unwrap();
        assert_eq!(progress.held, progress.total);
        let sent: u64 = site.broker.sent("gw-1", "/chunk/")[sent_before.len()..].iter().map(|sent| sent.bytes).sum();
        assert_eq!(
            sent, progress.pulled,
            "what the broker sent for version {version} is what the device says it pulled"
        );
        pulled.push((progress.pulled, progress.total));
        let near = |found: f64| (found - score).abs() < 5e-3;
        site.observer.wait_for(&format!("a score of version {version}"), PATIENCE, |seen| {
            let records = seen.after(mark).records(&device.id, "scratch", "defects");
            records.iter().any(|record| record["score"].as_f64().is_some_and(near)).then_some(())
        });
    }
    let [(full, _), (delta, total)] = pulled[..] else { unreachable!() };
    println!("{full} bytes for version 1, {delta} for version 2 of {total} in all");
    assert!(delta > 0 && delta * 4 < full, "version 2 took {delta} bytes, version 1 {full}");
}

fn expected_scores(file: &Path, image: &str) -> (f64, f64) {
    let text = std::fs::read_to_string(file).unwrap();
    let row = text.lines().find_map(|line| line.strip_prefix(&format!("{image},"))).unwrap();
    let (first, second) = row.split_once(',').unwrap();
    (first.parse().unwrap(), second.parse().unwrap())
}

/// What is changed in an honest publication of this blob.
type Tamper = fn(&mut Publication, Digest, &[u8]);

const TAMPERED: [(&str, Tamper, &[&str]); 4] = [
    (
        "cut",
        |publication, digest, wasm| publication.blob(digest, &wasm[..wasm.len() / 2]),
        &["blob/", "signed metadata says"],
    ),
    (
        "too long",
        |publication, digest, wasm| publication.blob(digest, &[wasm, b"more"].concat()),
        &["blob/", "signed metadata says"],
    ),
    ("swapped", |publication, digest, wasm| publication.blob(digest, &swapped(wasm)), &["blob/", "swapped"]),
    (
        "chunk with other content",
        |publication, digest, wasm| {
            let chunk = publication.chunks(digest, wasm.len())[1];
            publication.put(Published::Chunk(chunk), b"\0not what the index lists".to_vec());
        },
        &["chunk/", "index lists"],
    ),
];

/// As long as the honest one, and a module as well, but with a byte that is another.
fn swapped(wasm: &[u8]) -> Vec<u8> {
    let mut wasm = wasm.to_vec();
    let last = wasm.len() - 1;
    wasm[last] ^= 1;
    wasm
}

#[test]
fn a_tampered_module_is_refused_and_the_honest_one_is_taken_afterwards() {
    let site = Site::new();
    let (device, _agent, first) = site.ticking("gw-1", 20.0);
    let (mut running, mut tag) = (first, b'a');
    for (number, (name, tamper, words)) in (b'b'..).zip(TAMPERED) {
        let wasm = padded(ticks(number), 200_000, number);
        let path = format!("modules/ticks/{}.wasm", char::from(number));
        site.fleet.add_module(&wasm, &path);
        let digest = site.fleet.deploy(&line(&path));
        site.fleet.sign();
        let mut publication = Publication::of(&site.fleet);
        tamper(&mut publication, Digest::of(&wasm), &wasm);
        site.observer.publish_all(&publication);

        let report =
            site.observer.wait_report(&device.id, &format!("a refusal of the blob that is {name}"), |report| {
                let wanted = report.deployment.as_ref().is_some_and(|deployment| deployment.digest == digest);
                wanted
                    && report.refused.iter().any(|refused| {
                        words.iter().all(|word| refused.what.contains(word) || refused.why.contains(word))
                    })
            });
        let deployment = report.deployment.unwrap();
        assert_eq!(deployment.state, DeploymentState::Fetching, "{name}: {deployment:?}");
        assert_eq!(report.modules[0].artifact, artifact(&site.fleet, running), "{name}: what ran runs on");
        site.observer.wait_ticks(&device.id, "ticks", tag, 10);
        site.observer.wait_for("an event", PATIENCE, |seen| {
            let events = seen.events(&device.id);
            events
                .iter()
                .any(|event| matches!(&event.what, EventKind::Refused(refused) if refused.what.contains(words[0])))
                .then_some(())
        });

        site.fleet.publish(&site.broker);
        site.observer.wait_active(&device.id, digest);
        site.observer.wait_ticks(&device.id, "ticks", number, 3);
        (running, tag) = (digest, number);
    }
}

/// The digest of the module that a deployment of [`line`] runs.
fn artifact(fleet: &Fleet, deployment: Digest) -> Digest {
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(fleet.path(path)).unwrap()).unwrap() };
    let document = read(&format!("repo/blobs/{deployment}"));
    let path = document["modules"][0]["module"].as_str().unwrap();
    serde_json::from_value(read("repo/state.json")["releases"][path]["sha256"].clone()).unwrap()
}

#[test]
fn what_faults_in_probation_is_rolled_back_and_not_tried_again() {
    let site = Site::new();
    let (device, mut agent, first) = site.ticking("gw-1", 20.0);
    let original = artifact(&site.fleet, first);
    let probation = json!({ "frames": 100, "seconds": 2 });
    let restart = json!({ "max": 0, "within_s": 60 });
    let cases = [
        (b't', traps_at(5, b't'), "modules/ticks/traps.wasm", ["trap", "unreachable"]),
        (b'h', hangs_at(5, b'h'), "modules/ticks/hangs.wasm", ["deadline", "1000 ms"]),
    ];
    for (tag, wasm, path, words) in cases {
        site.fleet.add_module(&wasm, path);
        let limits = json!({ "deadline_ms": 1000, "emit_per_s": 10000, "fuel_per_frame": 1_u64 << 49 });
        let module = line_module(path).set("/probation", probation.clone()).set("/restart", restart.clone());
        let document = deployment("line", [module.set("/limits", limits)]);
        let bad = site.fleet.roll_out(&document, &site.broker);
        let report = site.observer.wait_state(&device.id, bad, DeploymentState::RolledBack);
        let why = report.deployment.unwrap().why.unwrap();
        assert!(words.iter().all(|word| why.contains(word)), "{path}: {why}");
        let told = site.observer.wait_for("an event", PATIENCE, |seen| {
            seen.events(&device.id)
                .into_iter()
                .find(|event| matches!(&event.what, EventKind::RolledBack { digest, .. } if *digest == bad))
        });
        assert!(matches!(told.what, EventKind::RolledBack { why: told, .. } if told == why));
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        let report = site.observer.wait_report(&device.id, "the committed module", |report| {
            report.modules.first().is_some_and(|module| module.artifact == original)
        });
        assert_eq!(report.modules.len(), 1);

        // Neither a restart nor new metadata makes it try again.
        assert!(agent.terminate(PATIENCE).success());
        let mark = site.observer.mark();
        agent = device.start();
        site.fleet.sign();
        site.fleet.publish(&site.broker);
        let trusted = site.observer.wait_state(&device.id, bad, DeploymentState::RolledBack).metadata.timestamp;
        site.fleet.sign();
        site.fleet.publish(&site.broker);
        let report =
            site.observer.wait_report(&device.id, "newer metadata", |report| report.metadata.timestamp > trusted);
        let deployment = report.deployment.unwrap();
        assert_eq!((deployment.state, deployment.why), (DeploymentState::RolledBack, Some(why)));
        site.observer.wait_ticks(&device.id, "ticks", b'a', 10);
        site.observer.wait_for("what happened since the restart", PATIENCE, |seen| {
            let again = seen.after(mark).ticks(&device.id, "ticks").into_iter().find(|tick| tick.tag == tag);
            assert_eq!(again, None, "{path} was started again");
            let events = seen.after(mark).events(&device.id);
            assert!(!events.iter().any(|event| matches!(event.what, EventKind::RolledBack { .. })), "{events:?}");
            Some(())
        });
    }
    let cured = site.roll_out_ticks(b'z');
    site.observer.wait_active(&device.id, cured);
    site.observer.wait_ticks(&device.id, "ticks", b'z', 3);
}

#[test]
fn metadata_that_is_forged_or_old_is_refused_and_a_deployment_can_be_taken_back() {
    let site = Site::new();
    let (device, mut agent, _) = site.ticking("gw-1", 20.0);
    let old = Publication::of(&site.fleet);
    let current = site.roll_out_ticks(b'b');
    site.observer.wait_active(&device.id, current);

    // As signed, but for a version that nobody signed.
    let mut forged = Publication::of(&site.fleet);
    let mut timestamp: Value = serde_json::from_slice(&forged.get(&Published::Timestamp).unwrap()).unwrap();
    timestamp["signed"]["version"] = json!(1000);
    forged.put(Published::Timestamp, serde_json::to_vec(&timestamp).unwrap());
    for (publication, words) in [
        (forged, ["repo/timestamp", "of the keys trusted for it signed"]),
        (old, ["repo/timestamp", "older than the trusted version"]),
    ] {
        site.observer.publish_all(&publication);
        let report = site.observer.wait_report(&device.id, &format!("a refusal for {words:?}"), |report| {
            let said = |refused: &Refused| format!("{}: {}", refused.what, refused.why).to_lowercase();
            report.refused.iter().any(|refused| words.iter().all(|word| said(refused).contains(word)))
        });
        let deployment = report.deployment.unwrap();
        assert_eq!((deployment.digest, deployment.state), (current, DeploymentState::Active));
        site.observer.wait_ticks(&device.id, "ticks", b'b', 5);
    }
    // Nor does a restart make it forget what it has seen.
    agent.kill();
    let mark = site.observer.mark();
    let agent = device.start();
    site.observer.wait_for("the module again", PATIENCE, |seen| {
        seen.after(mark).ticks(&device.id, "ticks").into_iter().find(|tick| tick.seq == 1 && tick.tag == b'b')
    });

    site.fleet.run(["repo", "remove", "deployments/line.json"]);
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    site.observer
        .wait_report(&device.id, "nothing deployed", |report| report.deployment.is_none() && report.modules.is_empty());
    let ended = until(PATIENCE, || agent.children().is_empty().then_some(()));
    assert!(ended.is_some(), "the worker is stopped");
}
