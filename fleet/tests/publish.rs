//! Publishing to a real Mosquitto: only what is missing, on after a kill, and never metadata before what it refers to; refreshing
//! from a timer; collecting.

#![allow(clippy::unwrap_used)]

mod support;

use std::{process::Stdio, sync::OnceLock};

use sanderling_protocol::digest::Digest;
use serde_json::Value;
use support::{Fleet, broker::Broker, device, noise};

const NOW: i64 = i64::MIN;

/// A fleet with one module of `length` bytes, signed, and its broker.
fn site(length: usize) -> (Fleet, Broker) {
    let fleet = Fleet::new();
    fleet.init();
    release(&fleet, 1, length);
    let broker = Broker::start(&fleet, "");
    (fleet, broker)
}

/// Signs a version of the module, and the deployment that names it alone.
fn release(fleet: &Fleet, version: u64, length: usize) {
    let path = format!("modules/m/{version}.wasm");
    fleet.add_module(&noise(version, length), &path);
    fleet.deploy("line", &path);
    if version > 1 {
        fleet.done(&["repo", "remove", &format!("modules/m/{}.wasm", version - 1)]);
    }
    fleet.done(&["repo", "sign"]);
}

fn numbers(told: &Value) -> (u64, u64) {
    (told["uploaded"].as_u64().unwrap(), told["skipped"].as_u64().unwrap())
}

/// Whether a new device gets all that the broker's timestamp leads to.
fn pulls(fleet: &Fleet, broker: &Broker) -> Vec<String> {
    let retained = broker.retained(fleet);
    device::pull(&device::refresh(device::new(fleet), &retained, NOW).unwrap(), &retained)
}

#[test]
fn sends_only_what_the_broker_does_not_hold() {
    let (fleet, broker) = site(300_000);
    let (uploaded, skipped) = numbers(&broker.json(&fleet, &["repo", "publish"]));
    assert!(uploaded > 12 && skipped == 0, "{uploaded} {skipped}");
    assert_eq!(pulls(&fleet, &broker), ["deployments/line.json", "modules/m/1.wasm"]);
    for words in [&["repo", "publish"][..], &["repo", "publish", "--quick"]] {
        let told = broker.json(&fleet, words);
        assert_eq!((numbers(&told), &told["bytes"]), ((0, uploaded), &0.into()), "{told}");
    }

    // A new timestamp is one message.
    fleet.done(&["repo", "sign"]);
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])), (1, uploaded - 1));

    // What the broker lost or holds wrong is mended, each of it and nothing else.
    let chunk = broker.retained(&fleet).into_keys().filter(|topic| topic.starts_with("chunk/")).collect::<Vec<_>>();
    broker.put(&fleet, &[(&chunk[0], b""), (&chunk[1], b"\0wrong"), ("repo/1.targets", b"{}")]);
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish", "--quick"])).0, 1, "quick believes the index");
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])).0, 2);
    pulls(&fleet, &broker);
}

#[test]
fn a_publish_that_is_killed_anywhere_leaves_the_old_or_the_new_and_goes_on() {
    let (fleet, broker) = site(1_000_000);
    broker.json(&fleet, &["repo", "publish"]);
    let mut killed = 0;
    for (version, cut) in (2_u64..).zip([1, 3, 8, 16, 22, 26, 28, 29, 30, 31, 32]) {
        release(&fleet, version, 1_000_000);
        let words = broker.words(&["repo", "publish"]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let publish = OnceLock::new();
        let start = || {
            let mut command = fleet.command(&words);
            publish
                .set(std::sync::Mutex::new(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
                .unwrap();
        };
        broker.count(&fleet, start, |count| {
            let Some(process) = publish.get() else { return true };
            let mut process = process.lock().unwrap();
            if count >= cut {
                process.kill().unwrap();
            }
            process.try_wait().unwrap().is_none()
        });
        killed += u64::from(!publish.get().unwrap().lock().unwrap().wait().unwrap().success());

        let seen = pulls(&fleet, &broker);
        let (old, new) = (format!("modules/m/{}.wasm", version - 1), format!("modules/m/{version}.wasm"));
        assert!(seen.contains(&old) || seen.contains(&new), "after {cut}: {seen:?}");
        let (uploaded, skipped) = numbers(&broker.json(&fleet, &["repo", "publish"]));
        let arrived = cut.min((uploaded + skipped) as usize);
        assert!(skipped as usize >= arrived, "after {cut}: {uploaded} sent again, {skipped} not");
        assert!(pulls(&fleet, &broker).contains(&new));
        assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])).0, 0);
    }
    assert!(killed >= 6, "only {killed} were cut off");
}

#[test]
fn a_copy_of_the_folder_that_is_behind_publishes_and_collects_nothing() {
    let (fleet, broker) = site(10_000);
    broker.json(&fleet, &["repo", "publish"]);
    let copy = fleet.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::process::Command::new("cp").arg("-r").arg(fleet.path("fleet")).arg(&copy).status().unwrap();
    release(&fleet, 2, 10_000);
    broker.json(&fleet, &["repo", "publish"]);
    let behind = Fleet::at(&copy);
    let before = broker.retained(&fleet);
    let said = broker.refused(&behind, &["repo", "publish"]);
    assert!(said.contains("not the copy that was published last"), "{said}");
    assert!(broker.refused(&behind, &["repo", "gc"]).contains("not the copy that was published last"));
    assert_eq!(broker.retained(&fleet), before);
    // What nobody signed is no reason to stop: the broker is not believed.
    broker.put(&fleet, &[("repo/timestamp", br#"{"signatures":[],"signed":{"_type":"timestamp","version":9999}}"#)]);
    broker.json(&fleet, &["repo", "publish"]);
    assert_eq!(broker.retained(&fleet), before);
}

#[test]
fn a_timer_keeps_the_fleet_fresh_and_warns_of_offline_keys() {
    let (fleet, broker) = site(100_000);
    broker.json(&fleet, &["repo", "publish"]);
    for role in ["root", "targets", "releases", "deployments"] {
        std::fs::rename(fleet.path(&format!("fleet/keys/{role}.pem")), fleet.path(&format!("{role}.pem"))).unwrap();
    }
    // Staged, and not to be released by a timer.
    fleet.add_module(b"later", "modules/later/1.wasm");
    let before = device::refresh(device::new(&fleet), &broker.retained(&fleet), NOW).unwrap();
    let told = broker.json(&fleet, &["repo", "refresh", "--publish"]);
    assert_eq!(told["signed"].as_array().unwrap().len(), 1, "the snapshot is young: {told}");
    assert_eq!((told["published"]["uploaded"].as_u64(), told["expiring"].as_array().unwrap().len()), (Some(1), 0));
    let after = device::refresh(before.clone(), &broker.retained(&fleet), NOW).unwrap();
    assert!(after.version("timestamp") > before.version("timestamp"));
    assert_eq!(after.version("releases"), before.version("releases"));

    // The snapshot has 30 days: of 70 that is less than half.
    let told = broker.json(&fleet, &["repo", "refresh", "--publish", "--timestamp-days", "70"]);
    assert_eq!(told["signed"][0][0], "snapshot", "{told}");
    assert_eq!(told["published"]["uploaded"], 2);
    let renewed = device::refresh(after.clone(), &broker.retained(&fleet), NOW).unwrap();
    assert!(renewed.expires("snapshot") > after.expires("snapshot"));

    let output = fleet.run(&["repo", "refresh", "--warn-days", "400"]);
    assert_eq!(output.status.code(), Some(3), "done, and something wants attention");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("targets version 1 expires at") && said.contains("repo renew targets"), "{said}");
    let expiring = fleet.run(&["--json", "repo", "refresh", "--warn-days", "400"]).stdout;
    let expiring: Value = serde_json::from_slice(&expiring).unwrap();
    assert_eq!(expiring["expiring"].as_array().unwrap().len(), 3);

    std::fs::remove_file(fleet.path("fleet/keys/timestamp.pem")).unwrap();
    assert!(fleet.refused(&["repo", "refresh"]).contains("1 of the timestamp keys must sign"));
}

#[test]
fn collects_what_nothing_refers_to_and_keeps_what_devices_may_be_pulling() {
    let (fleet, broker) = site(200_000);
    broker.json(&fleet, &["repo", "publish"]);
    for version in 2..=4 {
        release(&fleet, version, 200_000);
        broker.json(&fleet, &["repo", "publish"]);
    }
    let all = broker.retained(&fleet);
    let looked = broker.json(&fleet, &["repo", "gc", "--dry-run"]);
    assert_eq!(broker.retained(&fleet), all, "a dry run removes nothing");
    let told = broker.json(&fleet, &["repo", "gc"]);
    for what in ["metadata", "indexes", "chunks", "bytes"] {
        assert_eq!(told[what], looked[what], "{what}");
        assert!(told[what].as_u64() > Some(0), "{what}");
    }
    let left = broker.retained(&fleet);
    let gone = |kind: &str| {
        let count =
            |messages: &device::Messages| messages.keys().filter(|topic| topic.starts_with(kind)).count() as u64;
        Some(count(&all) - count(&left))
    };
    assert_eq!(told["metadata"].as_u64(), gone("repo/"));
    assert_eq!((told["indexes"].as_u64(), told["chunks"].as_u64()), (gone("blob/"), gone("chunk/")));
    assert!(left.contains_key("repo/1.root") && left.contains_key("repo/timestamp"));
    let bytes = |messages: &device::Messages| messages.values().map(|payload| payload.len() as u64).sum::<u64>();
    assert_eq!(told["bytes"].as_u64(), Some(bytes(&all) - bytes(&left)));
    assert_eq!(pulls(&fleet, &broker), ["deployments/line.json", "modules/m/4.wasm"]);

    // A device that is still at the state before the current one pulls on: what that one refers to is there.
    let timestamps = device::signed(&fleet);
    let mut earlier = left.clone();
    earlier.insert("repo/timestamp".to_owned(), timestamp_of(&fleet, &timestamps, 3));
    let trusted = device::refresh(device::new(&fleet), &earlier, NOW).unwrap();
    assert_eq!(device::pull(&trusted, &earlier), ["deployments/line.json", "modules/m/3.wasm"]);

    let again = broker.json(&fleet, &["repo", "gc"]);
    assert_eq!((&again["metadata"], &again["chunks"]), (&0.into(), &0.into()), "nothing is left to do");
    let told = broker.json(&fleet, &["repo", "gc", "--keep", "0"]);
    assert!(told["chunks"].as_u64() > Some(0), "{told}");
    assert_eq!(pulls(&fleet, &broker), ["deployments/line.json", "modules/m/4.wasm"]);
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])).0, 0, "nothing of the current state was removed");
}

/// A timestamp of the snapshot that lists this version of releases, signed by nobody who matters: the test signs with the fleet's key.
fn timestamp_of(fleet: &Fleet, signed: &device::Messages, releases: u64) -> Vec<u8> {
    use sanderling_protocol::tuf::{MetaFile, author, author::KeyPair};
    let lists = |bytes: &[u8]| {
        let metadata: Value = serde_json::from_slice(bytes).unwrap();
        metadata["signed"]["meta"]["releases.json"]["version"].as_u64() == Some(releases + 1)
    };
    let snapshot = signed.iter().find(|(topic, bytes)| topic.ends_with(".snapshot") && lists(bytes)).unwrap();
    let version: u64 = snapshot.0.strip_prefix("repo/").unwrap().split_once('.').unwrap().0.parse().unwrap();
    let listed = MetaFile::of(version.try_into().unwrap(), snapshot.1);
    let sealed = author::Sealed { version: 1.try_into().unwrap(), expires: 0 };
    let pem = std::fs::read_to_string(fleet.path("fleet/keys/timestamp.pem")).unwrap();
    let key = KeyPair::from_pem(&pem, &ring::rand::SystemRandom::new()).unwrap();
    author::sign(&author::timestamp(sealed, listed), &[&key]).unwrap()
}

#[test]
fn a_sweep_finds_what_this_folder_knows_nothing_of_and_says_when_it_cannot_see_all() {
    let (fleet, broker) = site(100_000);
    broker.json(&fleet, &["repo", "publish"]);
    let before = broker.retained(&fleet);
    let stray =
        [format!("chunk/{}", Digest::of(b"a")), format!("blob/{}", Digest::of(b"b")), "repo/77.releases".to_owned()];
    let messages: Vec<(&str, &[u8])> = stray.iter().map(|topic| (topic.as_str(), &b"stray"[..])).collect();
    broker.put(&fleet, &messages);
    let told = broker.json(&fleet, &["repo", "gc"]);
    assert_eq!((&told["chunks"], &told["unseen"]), (&0.into(), &Value::Null), "what is not known is not looked for");
    let told = broker.json(&fleet, &["repo", "gc", "--sweep"]);
    assert_eq!((&told["metadata"], &told["indexes"], &told["chunks"]), (&1.into(), &1.into(), &1.into()), "{told}");
    assert_eq!(told["unseen"], 0);
    assert_eq!(broker.retained(&fleet), before);
    drop(broker);

    // A broker with a short queue drops most of a sweep, and is not believed to have shown all.
    let (fleet, broker) = site(1);
    drop(broker);
    release(&fleet, 2, 3_000_000);
    let broker = Broker::start(&fleet, "max_inflight_messages 20\nmax_queued_messages 20");
    let (uploaded, _) = numbers(&broker.json(&fleet, &["repo", "publish"]));
    assert!(uploaded > 60, "{uploaded}");
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])).0, 0, "windows do not overflow the queue");
    let told = broker.json(&fleet, &["repo", "gc", "--sweep"]);
    assert!(told["unseen"].as_u64() > Some(0), "{told}");
    assert_eq!(told["chunks"], 0);
    assert_eq!(numbers(&broker.json(&fleet, &["repo", "publish"])).0, 0);
}

#[test]
fn what_is_taken_back_by_name_is_gone_for_devices() {
    let (fleet, broker) = site(10_000);
    fleet.add_module(b"other", "modules/other/1.wasm");
    fleet.add_module(b"other 2", "modules/other/2.wasm");
    fleet.done(&["repo", "sign"]);
    broker.json(&fleet, &["repo", "publish"]);
    assert_eq!(pulls(&fleet, &broker).len(), 4);
    let told = fleet.json(&["repo", "remove", "module", "other"]);
    assert_eq!(told["removed"].as_array().unwrap().len(), 2, "every version: {told}");
    assert_eq!(told["named_by"], serde_json::json!([]));
    let told = fleet.json(&["repo", "remove", "module", "m/1"]);
    assert_eq!(told["named_by"], serde_json::json!(["deployments/line.json"]), "{told}");
    fleet.done(&["repo", "sign"]);
    broker.json(&fleet, &["repo", "publish"]);
    assert_eq!(pulls(&fleet, &broker), ["deployments/line.json"]);
    fleet.done(&["repo", "remove", "deployment", "line"]);
    fleet.done(&["repo", "sign"]);
    broker.json(&fleet, &["repo", "publish"]);
    assert_eq!(pulls(&fleet, &broker), [""; 0]);
    assert!(fleet.refused(&["repo", "remove", "model", "m"]).contains("not in the repository, which has nothing"));
}
