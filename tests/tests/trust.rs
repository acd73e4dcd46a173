//! What each key may say, on real processes: ceilings hold, and a key that was taken away signs nothing more.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, num::NonZeroU64};

use ring::rand::SystemRandom;
use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind},
    topics::Published,
    tuf::{
        MetaFile, Snapshot, TargetFile, Targets, Timestamp,
        author::{KeyPair, read, sign},
    },
};
use sanderling_tests::{
    Fleet, PATIENCE, Publication, Site,
    guests::{TICKS, ticks},
    line,
};
use serde_json::{Value, json};

/// The module `b`, which may be given less than the tool gives by default.
const PATH: &str = "modules/ticks/low.wasm";

/// Stages the module with a low ceiling, and a deployment of it that the operator's tool would not take.
fn ask(fleet: &Fleet, change: impl FnOnce(&mut Value)) -> Digest {
    let file = fleet.path("low.wasm");
    fs::write(&file, ticks(b'b')).unwrap();
    let grant = format!("emit:{TICKS}");
    let (file, limits) = (file.to_str().unwrap(), ["--memory-mib", "16", "--deadline-ms", "1000"]);
    fleet.run(["repo", "add-module", file, PATH, "--grant", &grant].into_iter().chain(limits));
    let mut document = line(PATH);
    fleet.deploy(&document);
    change(&mut document["modules"][0]);
    fleet.restage("deployments/line.json", &serde_json::to_vec(&document).unwrap())
}

#[test]
fn a_deployment_that_asks_for_more_than_the_ceiling_is_refused_and_what_runs_runs_on() {
    let site = Site::new();
    let (device, _agent, first) = site.ticking("gw-1", 20.0);
    let running = site.observer.wait_active(&device.id, first).modules[0].artifact;
    type Change = fn(&mut Value);
    let cases: [(Change, [&str; 3]); 3] = [
        (
            |module| module["grants"].as_array_mut().unwrap().push(json!("infer")),
            ["module ticks", "grant \"infer\"", "allows emit:"],
        ),
        (|module| module["limits"]["memory_mib"] = json!(17), ["module ticks", "memory_mib 17", "allows 16"]),
        (|module| module["limits"]["deadline_ms"] = json!(1001), ["module ticks", "deadline_ms 1001", "allows 1000"]),
    ];
    for (change, words) in cases {
        let digest = ask(&site.fleet, change);
        site.fleet.sign();
        site.fleet.publish(&site.broker);
        let report = site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
        let why = report.deployment.unwrap().why.unwrap();
        assert!(words.iter().all(|word| why.contains(word)), "{words:?}: {why}");
        assert_eq!(report.modules.len(), 1);
        assert_eq!(report.modules[0].artifact, running, "{words:?}");
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        site.observer.wait_for("an event", PATIENCE, |seen| {
            let said = |what: &EventKind| matches!(what, EventKind::Refused(refused) if refused.why == why);
            seen.events(&device.id).iter().any(|event| said(&event.what)).then_some(())
        });
    }
    let within = ask(&site.fleet, |_| ());
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    site.observer.wait_active(&device.id, within);
    site.observer.wait_ticks(&device.id, "ticks", b'b', 3);
}

fn key(fleet: &Fleet, name: &str) -> KeyPair {
    let pem = fs::read_to_string(fleet.path(format!("keys/{name}.pem"))).unwrap();
    KeyPair::from_pem(&pem, &SystemRandom::new()).unwrap()
}

fn after(version: NonZeroU64) -> NonZeroU64 {
    version.checked_add(1).unwrap()
}

fn role(version: NonZeroU64, role: &str) -> Published {
    Published::Metadata { version: version.get(), role: role.into() }
}

/// What a thief of a releases key publishes who also has the keys of snapshot and timestamp: all of the broker's metadata one version on, and
/// `content` released at `path`.
fn forged(fleet: &Fleet, thief: &KeyPair, path: &str, content: TargetFile) -> (Publication, String) {
    let mut publication = Publication::of(fleet);
    let mut timestamp: Timestamp = read(&publication.get(&Published::Timestamp).unwrap()).unwrap();
    let shot = role(timestamp.meta.snapshot.version, "snapshot");
    let mut snapshot: Snapshot = read(&publication.get(&shot).unwrap()).unwrap();
    let listed = snapshot.meta["releases.json"].version;
    let mut releases: Targets = read(&publication.get(&role(listed, "releases")).unwrap()).unwrap();

    releases.version = after(releases.version);
    releases.targets.insert(path.into(), content);
    let releases_message = sign(&releases, &[thief]).unwrap();
    snapshot.version = after(snapshot.version);
    snapshot.meta.insert("releases.json".into(), MetaFile::of(releases.version, &releases_message));
    let snapshot_message = sign(&snapshot, &[&key(fleet, "snapshot")]).unwrap();
    timestamp.version = after(timestamp.version);
    timestamp.meta.snapshot = MetaFile::of(snapshot.version, &snapshot_message);
    let topic = format!("repo/{}.releases", releases.version);
    publication.put(role(releases.version, "releases"), releases_message);
    publication.put(role(snapshot.version, "snapshot"), snapshot_message);
    publication.put(Published::Timestamp, sign(&timestamp, &[&key(fleet, "timestamp")]).unwrap());
    (publication, topic)
}

#[test]
fn a_releases_key_that_was_rotated_away_releases_nothing_more() {
    let site = Site::new();
    let (device, _agent, first) = site.ticking("gw-1", 20.0);
    let thief = key(&site.fleet, "releases");
    site.fleet.run(["keys", "rotate", "releases"]);
    site.fleet.publish(&site.broker);
    let trusted =
        site.observer.wait_report(&device.id, "the new targets metadata", |report| report.metadata.targets > 1);
    assert_eq!(trusted.deployment.unwrap().digest, first);

    // The module that runs, as the thief would have it: other content under its name.
    let evil = ticks(b'e');
    let file = sanderling_protocol::tuf::author::target(&evil, None);
    let (mut publication, topic) = forged(&site.fleet, &thief, "modules/ticks/a.wasm", file);
    publication.blob(Digest::of(&evil), &evil);
    site.observer.publish_all(&publication);
    let report = site.observer.wait_report(&device.id, "a refusal of what the old key signed", |report| {
        report.refused.iter().any(|refused| refused.what == topic && refused.why.contains("of the keys trusted for it"))
    });
    let deployment = report.deployment.unwrap();
    assert_eq!((deployment.digest, deployment.state), (first, DeploymentState::Active));
    site.observer.wait_ticks(&device.id, "ticks", b'a', 10);

    // Who holds the new key goes on: past the versions that the thief used up, so signing once more than publishing.
    site.fleet.add_module(&ticks(b'b'), "modules/ticks/b.wasm");
    site.fleet.sign();
    let honest = site.roll_out_ticks(b'c');
    site.observer.wait_active(&device.id, honest);
    site.observer.wait_ticks(&device.id, "ticks", b'c', 3);
}
