//! Several keys by role, thresholds, rotation, and roots that are signed on several machines: with the real tool, judged by the client
//! workflow of a device that goes along.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use sanderling_protocol::tuf::{
    MetaFile, TrustError, Trusted,
    author::{self, KeyPair, Sealed},
};
use serde_json::{Value, json};
use support::{Fleet, device, mode};

const NOW: i64 = 2_220_000_000;

/// A fleet with one module staged and signed, and a device that has seen it.
fn begin() -> (Fleet, Trusted) {
    let fleet = Fleet::new();
    fleet.init();
    fleet.add_module(b"a", "modules/m/1.wasm");
    fleet.done(&["repo", "sign"]);
    let device = go_on(&fleet, device::new(&fleet));
    (fleet, device)
}

/// The same device at what is signed now. The clock stands still, for expiry is another test's matter.
fn go_on(fleet: &Fleet, trusted: Trusted) -> Trusted {
    device::refresh(trusted, &device::signed(fleet), i64::MIN).unwrap()
}

fn file_of(fleet: &Fleet, key_id: &str) -> String {
    let listed = fleet.json(&["keys", "list"]);
    let keys = listed["roles"].as_array().unwrap().iter().flat_map(|role| role["keys"].as_array().unwrap());
    let key = keys.into_iter().find(|key| key["key_id"] == key_id).unwrap();
    key["file"].as_str().unwrap().to_owned()
}

#[test]
fn every_role_rotates_and_devices_follow_and_refuse_the_old_key() {
    let (fleet, mut trusted) = begin();
    for role in ["timestamp", "snapshot", "deployments", "releases", "targets", "root"] {
        let old = fleet.key_ids(role);
        let before = trusted.clone();
        let told = fleet.json(&["keys", "rotate", role]);
        assert_eq!((&told["removed"], told["role"].as_str()), (&json!(old[0]), Some(role)), "{told}");
        assert_eq!(fleet.key_ids(role), [told["added"].as_str().unwrap()]);
        assert_eq!(mode(Path::new(told["key_file"].as_str().unwrap())), 0o600);
        assert_eq!(told["waits"], Value::Null, "{told}");
        let signed: Vec<&str> =
            told["signed"].as_array().unwrap().iter().map(|made| made[0].as_str().unwrap()).collect();
        let expected: &[&str] = match role {
            "root" | "timestamp" => &["timestamp"],
            "snapshot" => &["snapshot", "timestamp"],
            "targets" => &["targets", "snapshot", "timestamp"],
            "releases" => &["targets", "releases", "snapshot", "timestamp"],
            _ => &["targets", "deployments", "snapshot", "timestamp"],
        };
        let without_root: Vec<&str> = signed.iter().copied().filter(|made| *made != "root" || role == "root").collect();
        let root_too: Vec<&str> = [&["root"][..], expected].concat();
        assert!(without_root == expected || (role == "root" && signed == root_too), "{role}: {signed:?}");

        // Going on, and new: both come to the same.
        trusted = go_on(&fleet, trusted);
        let fresh = go_on(&fleet, device::new(&fleet));
        assert_eq!(trusted.version("timestamp"), fresh.version("timestamp"));
        assert!(trusted.version("timestamp") > before.version("timestamp"));
        assert_eq!(trusted.targets_under("").unwrap().len(), 1, "what was released stays released");

        // Without the old key's file all goes on; with nothing but it nothing would.
        let unused = fleet.json(&["keys", "list"])["unused"].clone();
        let unused = unused.as_array().unwrap();
        assert_eq!(unused.len(), 1, "{unused:?}");
        std::fs::remove_file(unused[0].as_str().unwrap()).unwrap();
        fleet.done(&["repo", "sign"]);
        trusted = go_on(&fleet, trusted);
    }
    assert_eq!(trusted.version("root"), Some(5), "four of the six are named by root");
}

/// A key file of the fleet, read.
fn pair(fleet: &Fleet, name: &str) -> KeyPair {
    let pem = std::fs::read_to_string(fleet.path(&format!("fleet/keys/{name}.pem"))).unwrap();
    KeyPair::from_pem(&pem, &ring::rand::SystemRandom::new()).unwrap()
}

#[test]
fn what_the_key_signs_that_was_rotated_away_is_refused() {
    let (fleet, trusted) = begin();
    let stolen = pair(&fleet, "releases");
    fleet.done(&["keys", "rotate", "releases"]);
    let trusted = go_on(&fleet, trusted);

    // The thief has the broker and the online keys as well, and signs releases with the old key; then the owner does with the new one.
    let forge = |key: &KeyPair| {
        let version = |number: u64| number.try_into().unwrap();
        let sealed = |number| Sealed { version: version(number), expires: i64::from(i32::MAX) };
        let mut messages = device::signed(&fleet);
        let file = author::target(b"evil", None);
        let files = std::collections::BTreeMap::from([("modules/evil/1.wasm".to_owned(), file)]);
        let releases = author::sign(&author::targets(sealed(9), files, None), &[key]).unwrap();
        let listed = ["targets", "deployments"].map(|role| {
            let at = trusted.version(role).unwrap();
            (role.to_owned(), MetaFile::of(version(at), &messages[&format!("repo/{at}.{role}")]))
        });
        let listed = listed.into_iter().chain([("releases".to_owned(), MetaFile::of(version(9), &releases))]);
        let snapshot = author::snapshot(sealed(9), listed.collect());
        let snapshot = author::sign(&snapshot, &[&pair(&fleet, "snapshot")]).unwrap();
        let timestamp = author::timestamp(sealed(99), MetaFile::of(version(9), &snapshot));
        let timestamp = author::sign(&timestamp, &[&pair(&fleet, "timestamp")]).unwrap();
        let forged = [("repo/9.releases", releases), ("repo/9.snapshot", snapshot), ("repo/timestamp", timestamp)];
        messages.extend(forged.map(|(topic, bytes)| (topic.to_owned(), bytes)));
        messages
    };
    let error = device::refresh(trusted.clone(), &forge(&stolen), i64::MIN).unwrap_err();
    assert!(matches!(&error, TrustError::Threshold { role, valid: 0, .. } if role == "releases"), "{error}");
    let owned = device::refresh(trusted.clone(), &forge(&pair(&fleet, "releases-2")), i64::MIN).unwrap();
    assert!(owned.target("modules/evil/1.wasm").unwrap().is_some(), "the test could tell");
}

#[test]
fn a_release_by_two_of_three_needs_two() {
    let fleet = Fleet::new();
    fleet.done(&["keys", "create"]);
    assert!(fleet.refused(&["repo", "init", "--threshold", "releases=2"]).contains("--count 2"));
    assert_eq!(fleet.done(&["keys", "create", "--role", "releases", "--count", "3"]).lines().count(), 2);
    fleet.done(&["repo", "init", "--threshold", "releases=2"]);
    let ids = fleet.key_ids("releases");
    assert_eq!(ids.len(), 3);
    let trusted = go_on(&fleet, device::new(&fleet));

    // Two of the three are carried away; on their token they sign again.
    let token = fleet.path("token");
    std::fs::create_dir(&token).unwrap();
    for id in &ids[1..] {
        let file = file_of(&fleet, id);
        std::fs::rename(&file, token.join(Path::new(&file).file_name().unwrap())).unwrap();
    }
    fleet.add_module(b"a", "modules/m/1.wasm");
    let said = fleet.refused(&["repo", "sign"]);
    assert!(said.contains("2 of the releases keys must sign and 1 are here") && said.contains("--keys"), "{said}");
    assert!(said.contains(&ids[1]) && said.contains(&ids[2]), "{said}");
    assert_eq!(go_on(&fleet, trusted.clone()).targets_under("modules/").unwrap().len(), 0);
    fleet.done(&["--keys", token.to_str().unwrap(), "repo", "sign"]);
    assert_eq!(go_on(&fleet, trusted).targets_under("modules/").unwrap().len(), 1);
}

#[test]
fn keys_are_added_and_removed_and_thresholds_set() {
    let (fleet, mut trusted) = begin();
    for role in ["deployments", "releases", "targets", "root", "snapshot", "timestamp"] {
        let first = fleet.key_ids(role)[0].clone();
        assert!(fleet.refused(&["repo", "set-threshold", role, "2"]).contains("add a key first"));
        assert!(fleet.refused(&["repo", "remove-key", role, &first]).contains("never meet"));
        let added = fleet.json(&["repo", "add-key", role, "--kind", "ecdsa-p256"]);
        let second = added["added"].as_str().unwrap().to_owned();
        fleet.done(&["repo", "set-threshold", role, "2"]);
        trusted = go_on(&fleet, trusted);
        assert!(fleet.refused(&["keys", "rotate", role]).contains("--replace"), "which of the two");
        fleet.done(&["repo", "set-threshold", role, "1"]);
        fleet.done(&["repo", "remove-key", role, &first[..12]]);
        assert_eq!(fleet.key_ids(role), [second]);
        trusted = go_on(&fleet, trusted);
    }
    let fresh = go_on(&fleet, device::new(&fleet));
    assert_eq!(fresh.version("root"), trusted.version("root"));
    assert_eq!(fresh.targets_under("").unwrap().len(), 1);
}

#[test]
fn a_change_that_is_refused_leaves_no_key_behind_and_no_trace() {
    let (fleet, _) = begin();
    let files = |folder: &str| {
        let entries = std::fs::read_dir(fleet.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    let (keys, state) = (files("fleet/keys"), std::fs::read(fleet.path("fleet/repo/state.json")).unwrap());
    std::fs::rename(fleet.path("fleet/keys/targets.pem"), fleet.path("targets.pem")).unwrap();
    let said = fleet.refused(&["keys", "rotate", "releases"]);
    assert!(said.contains("1 of the targets keys must sign"), "{said}");
    std::fs::rename(fleet.path("targets.pem"), fleet.path("fleet/keys/targets.pem")).unwrap();
    assert!(fleet.refused(&["keys", "rotate", "releases", "--replace", "ff"]).contains("0 of the releases keys"));
    let own = fleet.path("fleet/keys/releases.pem");
    assert!(fleet.refused(&["repo", "add-key", "releases", "--key", own.to_str().unwrap()]).contains("already"));
    let public = fleet.write("none.pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    assert!(fleet.refused(&["repo", "add-key", "releases", "--public", &public]).contains("not a public key"));
    assert_eq!(files("fleet/keys"), keys);
    assert_eq!(std::fs::read(fleet.path("fleet/repo/state.json")).unwrap(), state);
}

#[test]
fn what_cannot_be_signed_here_waits_for_where_its_keys_are() {
    let (fleet, trusted) = begin();
    let away = fleet.path("online");
    std::fs::create_dir(&away).unwrap();
    for role in ["snapshot", "timestamp"] {
        std::fs::rename(fleet.path(&format!("fleet/keys/{role}.pem")), away.join(format!("{role}.pem"))).unwrap();
    }
    let told = fleet.json(&["keys", "rotate", "releases"]);
    assert!(told["waits"].as_str().unwrap().contains("1 of the snapshot keys must sign"), "{told}");
    assert!(told["next"][0].as_str().unwrap().contains("repo sign"), "{told}");
    let said = fleet.refused(&["repo", "publish"]);
    assert!(said.contains("not whole") && said.contains("repo sign"), "{said}");
    fleet.done(&["--keys", away.to_str().unwrap(), "repo", "sign"]);
    assert_eq!(go_on(&fleet, trusted).version("releases"), Some(3));
}

#[test]
fn rotation_releases_nothing_that_is_only_staged() {
    let (fleet, trusted) = begin();
    fleet.add_module(b"b", "modules/m/2.wasm");
    fleet.done(&["keys", "rotate", "releases"]);
    let trusted = go_on(&fleet, trusted);
    assert_eq!(trusted.targets_under("modules/").unwrap().len(), 1);
    fleet.done(&["repo", "sign"]);
    assert_eq!(go_on(&fleet, trusted).targets_under("modules/").unwrap().len(), 2);
}

#[test]
fn every_role_is_renewed_before_it_expires() {
    let (fleet, mut trusted) = begin();
    for role in ["root", "targets", "releases", "deployments", "snapshot", "timestamp"] {
        let before = (trusted.version(role).unwrap(), trusted.expires(role).unwrap());
        fleet.done(&[
            "repo",
            "renew",
            role,
            "--root-days",
            "9000",
            "--targets-days",
            "8000",
            "--timestamp-days",
            "7000",
        ]);
        trusted = go_on(&fleet, trusted);
        assert!(trusted.version(role).unwrap() > before.0, "{role}");
        assert!(trusted.expires(role).unwrap() >= before.1, "{role}");
    }
    // In the year 2040, when nothing of the first signing would be good any longer.
    assert!(device::refresh(device::new(&fleet), &device::signed(&fleet), NOW).is_ok());
}
