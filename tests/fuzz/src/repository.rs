//! Valid repositories: one that is built here with keys that everybody knows, in two forms, and those of python-tuf.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

use sanderling_protocol::tuf::{
    MetaFile, Refresh, Step, Trusted,
    author::{Delegate, RoleKeys, RootKeys, Sealed, delegations, root, sign, snapshot, target, targets, timestamp},
};
use serde_json::{Value, json};

use crate::{
    keys::{holder, signers},
    walk::{Files, Walk},
};

/// The time of all refreshes, Unix seconds.
pub const NOW: i64 = 1_900_000_000;
const EXPIRES: i64 = 4_000_000_000;
/// The version of everything but the root before our own refreshes, and that at their end.
pub(crate) const OLD: u64 = 5;
pub(crate) const NEW: u64 = 7;

/// The number of the refresh in which signed metadata lists versions alone.
pub(crate) const WITHOUT_DIGESTS: usize = 1;

/// The refreshes whose messages are mutated.
pub fn walks() -> Vec<Walk> {
    let ours = |name, listing| {
        let old = fleet(1, OLD, listing);
        let shipped = Trusted::from_root(&old["1.root"]).unwrap();
        let trusted = refreshed(shipped, &old);
        let mut walk = Walk::through(name, Refresh::start(trusted, NOW), &fleet(2, NEW, listing), stolen);
        // What was signed once may be sent again.
        walk.others.extend(old.into_values());
        walk
    };
    let foreign = |_: &str| holder::NOBODY.to_vec();
    let python = python_tuf();
    let begun = Trusted::from_root(&python["1.root"]).unwrap();
    let bins = python_tuf_bins();
    let binned = Refresh::start_for(Trusted::from_root(&bins["1.root"]).unwrap(), "models/a", NOW);
    vec![
        ours("with digests", Listing::Digests),
        ours("without digests", Listing::Versions),
        Walk::through("python-tuf", Refresh::start(begun, NOW), &python, foreign),
        Walk::through("hash bins", binned, &bins, foreign),
    ]
}

/// What a device has on its disk after a refresh: the root of its image, and the files that were stored.
pub fn stored() -> (Vec<u8>, Files, Trusted) {
    let old = fleet(1, OLD, Listing::Digests);
    let shipped = old["1.root"].clone();
    let trusted = refreshed(Trusted::from_root(&shipped).unwrap(), &old);
    let trusted = refreshed(trusted, &fleet(2, NEW, Listing::Digests));
    let files = trusted.files().map(|(role, bytes)| (role.to_owned(), bytes.to_vec())).collect();
    (shipped, files, trusted)
}

/// What snapshot and timestamp say of other metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    Digests,
    Versions,
}

/// Every key but so many of the role's own that they do not meet its threshold.
fn stolen(role: &str) -> Vec<usize> {
    let own = holder::of(role);
    // Those of several keys have a threshold of two.
    let kept = if own.len() > 1 { &own[1..] } else { own };
    (0..=*holder::NOBODY.last().unwrap()).filter(|number| !kept.contains(number)).collect()
}

fn role_keys(numbers: &[usize]) -> RoleKeys {
    let threshold = if numbers.len() > 1 { 2 } else { 1 };
    let keys = signers(numbers).into_iter().map(|signer| signer.key()).collect();
    RoleKeys { keys, threshold: NonZeroU32::new(threshold).unwrap() }
}

pub(crate) fn sealed(version: u64) -> Sealed {
    Sealed { version: NonZeroU64::new(version).unwrap(), expires: EXPIRES }
}

fn root_of(version: u64) -> Vec<u8> {
    let keys = RootKeys {
        root: role_keys(&holder::ROOT),
        timestamp: role_keys(&holder::TIMESTAMP),
        snapshot: role_keys(&holder::SNAPSHOT),
        targets: role_keys(&holder::TARGETS),
    };
    sign(&root(sealed(version), keys).unwrap(), &signers(&holder::ROOT[..2])).unwrap()
}

fn delegate(name: &str, numbers: &[usize], paths: &[&str], terminating: bool) -> Delegate {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Delegate { name: name.into(), keys: role_keys(numbers), paths, terminating }
}

fn signed_targets(version: u64, content: &[(&str, Value)], delegates: Vec<Delegate>, by: &[usize]) -> Vec<u8> {
    let files = content
        .iter()
        .map(|(path, custom)| {
            let bytes = format!("{path} {version}");
            ((*path).to_owned(), target(bytes.as_bytes(), Some(json!({ "sanderling": custom }))))
        })
        .collect();
    let delegated = (!delegates.is_empty()).then(|| delegations(delegates).unwrap());
    sign(&targets(sealed(version), files, delegated), &signers(by)).unwrap()
}

/// A fleet's repository: all of it at `version` but the root.
fn fleet(root: u64, version: u64, listing: Listing) -> Files {
    let patterns = ["modules/*", "modules/*/*", "models/*", "models/*/*"];
    let delegates = vec![
        delegate("releases", &holder::RELEASES, &patterns, true),
        delegate("deployments", &holder::DEPLOYMENTS, &["deployments/*"], true),
    ];
    let module = json!({ "kind": "module", "abi": 1,
        "ceiling": { "grants": ["infer", "emit:*"], "memory_mib": 16, "deadline_ms": 200 } });
    let model = json!({ "kind": "model", "format": "onnx" });
    let rollout = json!({ "kind": "deployment", "percent": 100, "salt": "s" });
    let released = [("modules/defect/1.0.0.wasm", module), ("models/defect/1.onnx", model)];
    let roles = [
        ("targets", signed_targets(version, &[], delegates, &holder::TARGETS)),
        ("releases", signed_targets(version, &released, Vec::new(), &holder::RELEASES[..2])),
        (
            "deployments",
            signed_targets(version, &[("deployments/line-a.json", rollout)], Vec::new(), &holder::DEPLOYMENTS),
        ),
    ];
    let of = |message: &[u8]| listed(listing, version, message);
    let lists: BTreeMap<String, MetaFile> =
        roles.iter().map(|(role, message)| ((*role).to_owned(), of(message))).collect();
    let shot = sign(&snapshot(sealed(version), lists), &signers(&holder::SNAPSHOT)).unwrap();
    let stamp = sign(&timestamp(sealed(version), of(&shot)), &signers(&holder::TIMESTAMP)).unwrap();
    let mut files: Files = roles.map(|(role, message)| (format!("{version}.{role}"), message)).into();
    files.insert(format!("{version}.snapshot"), shot);
    files.insert("timestamp".into(), stamp);
    files.insert(format!("{root}.root"), root_of(root));
    files
}

pub(crate) fn listed(listing: Listing, version: u64, message: &[u8]) -> MetaFile {
    let file = MetaFile::of(NonZeroU64::new(version).unwrap(), message);
    match listing {
        Listing::Digests => file,
        Listing::Versions => MetaFile { length: None, hashes: None, ..file },
    }
}

fn refreshed(trusted: Trusted, files: &Files) -> Trusted {
    let mut refresh = Refresh::start(trusted, NOW);
    while let Step::Fetch(spec) = refresh.next() {
        let asked = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
        match files.get(&asked) {
            Some(message) => refresh.supply(message).unwrap(),
            None => refresh.absent().unwrap(),
        }
    }
    refresh.finish()
}

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        Files::from([$((
            $name.to_owned(),
            include_bytes!(concat!("../../../protocol/testdata/python-tuf/", $folder, $name, ".json")).to_vec(),
        )),*])
    };
}

/// What python-tuf signed: ECDSA, RSA beside a key that counts, a rotated root.
fn python_tuf() -> Files {
    files!["": "1.root", "2.root", "timestamp", "1.snapshot", "1.targets", "1.releases", "1.deployments"]
}

fn python_tuf_bins() -> Files {
    files!["bins/": "1.root", "timestamp", "1.snapshot", "1.targets", "1.bin-07", "1.bin-12"]
}
