//! A repository whose every part a test can replace.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::LazyLock;

use ring::rand::SystemRandom;
use serde_json::Value;

use super::super::author::{self, Delegate, KeyKind, KeyPair, RoleKeys, RootKeys, Sealed, Signer};
use super::super::*;

pub(super) const NOW: i64 = 1_900_000_000;
pub(super) const LATER: i64 = 2_000_000_000;
pub(super) const PAST: i64 = NOW;

/// Keys are made once: the same for all tests.
pub(super) static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let kind = |at: usize| if at.is_multiple_of(3) { KeyKind::EcdsaP256 } else { KeyKind::Ed25519 };
    (0..12).map(|at| KeyPair::generate(kind(at), &random).unwrap()).collect()
});

pub(super) fn keys(at: &[usize], threshold: u32) -> RoleKeys {
    let keys = at.iter().map(|at| KEYS[*at].key()).collect();
    RoleKeys { keys, threshold: NonZeroU32::new(threshold).unwrap() }
}

pub(super) fn signers(at: &[usize]) -> Vec<&'static dyn Signer> {
    at.iter().map(|at| &KEYS[*at] as &dyn Signer).collect()
}

pub(super) fn sealed(version: u64, expires: i64) -> Sealed {
    Sealed { version: NonZeroU64::new(version).unwrap(), expires }
}

pub(super) fn listed(version: u64, bytes: &[u8]) -> MetaFile {
    MetaFile::of(NonZeroU64::new(version).unwrap(), bytes)
}

pub(super) fn unlisted(version: u64) -> MetaFile {
    MetaFile { length: None, hashes: None, ..listed(version, b"") }
}

/// Root keys 0, 1 (threshold 2), timestamp 2, snapshot 3, targets 4.
pub(super) fn root_keys() -> RootKeys {
    RootKeys { root: keys(&[0, 1], 2), timestamp: keys(&[2], 1), snapshot: keys(&[3], 1), targets: keys(&[4], 1) }
}

pub(super) fn root(version: u64, expires: i64, trusted: RootKeys, by: &[usize]) -> Vec<u8> {
    author::sign(&author::root(sealed(version, expires), trusted).unwrap(), &signers(by)).unwrap()
}

pub(super) fn timestamp(version: u64, expires: i64, snapshot: MetaFile, by: &[usize]) -> Vec<u8> {
    author::sign(&author::timestamp(sealed(version, expires), snapshot), &signers(by)).unwrap()
}

pub(super) fn snapshot(version: u64, expires: i64, roles: &[(&str, MetaFile)], by: &[usize]) -> Vec<u8> {
    let roles = roles.iter().map(|(role, file)| (role.to_string(), file.clone())).collect();
    author::sign(&author::snapshot(sealed(version, expires), roles), &signers(by)).unwrap()
}

pub(super) fn targets(version: u64, expires: i64, paths: &[&str], delegates: Vec<Delegate>, by: &[usize]) -> Vec<u8> {
    let files = paths.iter().map(|path| (path.to_string(), author::target(path.as_bytes(), None))).collect();
    let delegations = (!delegates.is_empty()).then(|| author::delegations(delegates).unwrap());
    author::sign(&author::targets(sealed(version, expires), files, delegations), &signers(by)).unwrap()
}

pub(super) fn delegate(name: &str, at: &[usize], paths: &[&str], terminating: bool) -> Delegate {
    let paths = paths.iter().map(ToString::to_string).collect();
    Delegate { name: name.into(), keys: keys(at, 1), paths, terminating }
}

/// The delegations of a fleet: `releases` by key 5, `deployments` by key 6.
pub(super) fn fleet_delegates() -> Vec<Delegate> {
    vec![delegate("releases", &[5], &["modules/*"], false), delegate("deployments", &[6], &["deployments/*"], true)]
}

/// What a broker or a server holds, by the name that is asked for.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A whole repository, everything at `version` but the root, which is at 1.
pub(super) fn repository(version: u64) -> Files {
    let top = targets(version, LATER, &[], fleet_delegates(), &[4]);
    let releases = targets(version, LATER, &["modules/a"], Vec::new(), &[5]);
    let deployments = targets(version, LATER, &["deployments/line", "modules/b"], Vec::new(), &[6]);
    let mut files = Files::new();
    for (name, bytes) in [("targets", top), ("releases", releases), ("deployments", deployments)] {
        files.insert(format!("{version}.{name}"), bytes);
    }
    relist(&mut files, version, LATER);
    files.insert("1.root".into(), root(1, LATER, root_keys(), &[0, 1]));
    files
}

/// Signs a new snapshot and timestamp over the targets roles of `version`.
pub(super) fn relist(files: &mut Files, version: u64, expires: i64) {
    let roles: Vec<(String, MetaFile)> = files
        .iter()
        .filter_map(|(name, bytes)| {
            Some((name.strip_prefix(&format!("{version}."))?.to_owned(), listed(version, bytes)))
        })
        .filter(|(role, _)| role != "root" && role != "snapshot")
        .collect();
    let roles: Vec<(&str, MetaFile)> = roles.iter().map(|(role, file)| (role.as_str(), file.clone())).collect();
    let bytes = snapshot(version, expires, &roles, &[3]);
    files.insert("timestamp".into(), timestamp(version, LATER, listed(version, &bytes), &[2]));
    files.insert(format!("{version}.snapshot"), bytes);
}

pub(super) fn fresh() -> Trusted {
    Trusted::from_root(&root(1, LATER, root_keys(), &[0, 1])).unwrap()
}

/// Drives a refresh to its end or its first refusal.
pub(super) fn drive(refresh: &mut Refresh, files: &Files) -> Result<Vec<String>, TrustError> {
    let mut asked = Vec::new();
    while let Step::Fetch(spec) = refresh.next() {
        let name = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
        asked.push(name.clone());
        match files.get(&name) {
            Some(bytes) => refresh.supply(bytes)?,
            None => refresh.absent()?,
        }
    }
    Ok(asked)
}

/// A refresh at `NOW`; what is trusted afterwards, and how it ended.
pub(super) fn refresh(trusted: Trusted, files: &Files) -> (Trusted, Result<Vec<String>, TrustError>) {
    let mut refresh = Refresh::start(trusted, NOW);
    let result = drive(&mut refresh, files);
    (refresh.finish(), result)
}

pub(super) fn refreshed(files: &Files) -> Trusted {
    let (trusted, result) = refresh(fresh(), files);
    result.unwrap();
    trusted
}

pub(super) fn refusal(trusted: Trusted, files: &Files) -> TrustError {
    refresh(trusted, files).1.unwrap_err()
}

/// The message with its JSON changed by `edit`, signatures as they were.
pub(super) fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// The message with its signed part changed by `edit` and signed anew.
pub(super) fn resigned(bytes: &[u8], by: &[usize], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let unsigned = edited(bytes, |value| {
        edit(&mut value["signed"]);
        value["signatures"] = Value::Array(Vec::new());
    });
    author::add_signatures(&unsigned, &signers(by)).unwrap()
}
