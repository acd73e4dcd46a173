//! The Update Framework as python-tuf understands it: a repository that it made is obeyed here, one that `sanderling repo` made is
//! taken in by its client, and what is tampered with is refused on both sides.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use sanderling_protocol::{
    digest::Digest,
    topics::Published,
    tuf::{Refresh, Step, TrustError, Trusted},
};
use sanderling_tests::{Fleet, Publication, Site, guests::ticks, line, python, source};
use serde_json::Value;
use tempfile::TempDir;

/// 2030-01-01: before anything that python-tuf made for these tests expires, but for what it made expired.
const NOW: i64 = 1_893_456_000;

type Files = BTreeMap<String, Vec<u8>>;

/// Runs a script of `tests/python`, which must succeed; gives what it prints.
fn run(script: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(python());
    command
        .arg(source().join("tests/python").join(script))
        .arg(folder)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script} failed: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What python-tuf makes of two modules `ticks`, with the tags `a` and `b`, and a deployment of each.
fn made_by_python() -> TempDir {
    let folder = TempDir::with_prefix("sanderling-").unwrap();
    let input = folder.path().join("input");
    fs::create_dir(&input).unwrap();
    for (state, tag) in [("first", b'a'), ("second", b'b')] {
        fs::write(input.join(format!("{state}.wasm")), ticks(tag)).unwrap();
        fs::write(input.join(format!("{state}.json")), document(tag)).unwrap();
    }
    run("make_repository.py", &[], folder.path());
    folder
}

fn module_path(tag: u8) -> String {
    format!("modules/ticks/{}.wasm", char::from(tag))
}

fn document(tag: u8) -> Vec<u8> {
    serde_json::to_vec(&line(&module_path(tag))).unwrap()
}

/// The messages in a folder by name, without `.json`. An empty one is not there.
fn files(folder: &Path) -> Files {
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap().strip_suffix(".json").unwrap().to_owned();
        (name, fs::read(entry.path()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

fn refresh(trusted: Trusted, files: &Files) -> (Trusted, Result<(), TrustError>) {
    let mut refresh = Refresh::start(trusted, NOW);
    let result = drive(&mut refresh, files);
    (refresh.finish(), result)
}

fn drive(refresh: &mut Refresh, files: &Files) -> Result<(), TrustError> {
    while let Step::Fetch(spec) = refresh.next() {
        let name = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
        match files.get(&name).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => refresh.supply(bytes)?,
            None => refresh.absent()?,
        }
    }
    Ok(())
}

fn paths(trusted: &Trusted) -> Vec<(String, Option<Digest>)> {
    let resolved = trusted.targets_under("").unwrap();
    resolved.into_iter().map(|target| (target.path.to_owned(), target.file.sha256())).collect()
}

fn expected(tag: u8) -> Vec<(String, Option<Digest>)> {
    let document = ("deployments/line.json".to_owned(), Some(Digest::of(&document(tag))));
    vec![document, (module_path(tag), Some(Digest::of(&ticks(tag))))]
}

#[test]
fn a_repository_of_python_tuf_is_taken_in_and_each_tampered_one_refused() {
    let folder = made_by_python();
    let state = |name: &str| files(&folder.path().join(name));
    let (honest_first, honest_second) = (state("first"), state("second"));
    let (first, result) = refresh(Trusted::from_root(&honest_first["1.root"]).unwrap(), &honest_first);
    result.unwrap();
    assert_eq!(paths(&first), expected(b'a'), "what no delegation covers is seen by nobody");
    let (second, result) = refresh(first.clone(), &honest_second);
    result.unwrap();
    assert_eq!((second.version("root"), second.version("bin-0")), (Some(3), Some(2)));
    assert_eq!(paths(&second), expected(b'b'));

    let cases = fs::read(folder.path().join("cases.json")).unwrap();
    let cases: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() > 20, "{}", cases.len());
    for (name, case) in cases {
        let (before, tag) = if case["before"] == "first" { (&first, b'a') } else { (&second, b'b') };
        let mut offered = honest_second.clone();
        offered.extend(state(&format!("tampered/{}", case["folder"])));
        let (after, result) = refresh(before.clone(), &offered);
        let refused = format!("{:?}", result.expect_err(&name));
        let role = format!("role: {:?}", case["role"]);
        assert!(refused.starts_with(&case["error"]), "{name}: {refused}");
        assert!(case["role"].is_empty() || refused.contains(&role), "{name}: {refused}");
        assert_eq!(paths(&after), expected(tag), "{name}: what was trusted before stays");
    }
}

/// A state of the repository as messages, and the blobs that it names.
fn publication(files: &Files, tag: u8) -> Publication {
    let mut publication = Publication::default();
    publication.put(Published::Timestamp, files["timestamp"].clone());
    for (name, bytes) in files {
        if let Some((version, role)) = name.split_once('.') {
            let version = version.parse().unwrap();
            publication.put(Published::Metadata { version, role: role.to_owned() }, bytes.clone());
        }
    }
    for content in [ticks(tag), document(tag)] {
        publication.blob(Digest::of(&content), &content);
    }
    publication
}

#[test]
fn the_agent_obeys_a_repository_of_python_tuf_through_rotations_and_a_lying_broker() {
    let folder = made_by_python();
    let (first, second) = (files(&folder.path().join("first")), files(&folder.path().join("second")));
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 20.0);
    fs::write(device.file("root.json"), &first["1.root"]).unwrap();
    let _agent = device.start();
    site.observer.publish_all(&publication(&first, b'a'));
    site.observer.wait_active(&device.id, Digest::of(&document(b'a')));
    site.observer.wait_ticks(&device.id, "ticks", b'a', 3);

    // One role's message is another than was signed; everything else is as python-tuf made it.
    let mut lie = second.clone();
    lie.insert("2.releases".into(), first["1.releases"].clone());
    site.observer.publish_all(&publication(&lie, b'b'));
    // The new root has another key for timestamps: in between, none is trusted.
    let report = site.observer.wait_report(&device.id, "a refusal of releases alone", |report| {
        let refused = report.refused.iter().any(|refused| refused.what == "repo/2.releases");
        refused && (report.metadata.root, report.metadata.timestamp) == (3, 2)
    });
    assert_eq!(report.deployment.unwrap().digest, Digest::of(&document(b'a')));
    site.observer.wait_ticks(&device.id, "ticks", b'a', 3);

    site.observer.publish_all(&publication(&second, b'b'));
    site.observer.wait_active(&device.id, Digest::of(&document(b'b')));
    site.observer.wait_ticks(&device.id, "ticks", b'b', 3);
}

#[test]
fn python_tuf_takes_in_a_repository_of_the_operators_tool_and_refuses_each_tampered_one() {
    for kind in ["ed25519", "ecdsa-p256"] {
        let fleet = Fleet::with_keys(kind);
        for tag in [b'a', b'b'] {
            fleet.add_module(&ticks(tag), &module_path(tag));
            fleet.deploy(&line(&module_path(tag)));
            fleet.sign();
        }
        fleet.add_model(b"a model", "models/ticks/1.onnx");
        fleet.sign();
        let targets = ["modules/ticks/a.wasm", "modules/ticks/b.wasm", "models/ticks/1.onnx", "deployments/line.json"];
        let told: Value = serde_json::from_str(&run("ngclient.py", &targets, &fleet.path("repo"))).unwrap();
        let contents = [ticks(b'a'), ticks(b'b'), b"a model".to_vec(), document(b'b')];
        for (path, content) in targets.iter().zip(contents) {
            assert_eq!(told["targets"][path], Digest::of(&content).to_string(), "{kind}: {path}");
        }
        let signed: Value = serde_json::from_slice(&fs::read(fleet.path("repo/state.json")).unwrap()).unwrap();
        for role in ["root", "targets", "releases", "deployments", "snapshot", "timestamp"] {
            assert_eq!(told["versions"][role], signed["signed"][role]["version"], "{kind}: {role}");
        }
        let refused = told["refused"].as_object().unwrap();
        assert_eq!(refused.len(), 6 + targets.len());
        for (lie, exception) in refused {
            assert!(exception.is_string(), "{kind}: python-tuf believed {lie}");
        }
    }
}
