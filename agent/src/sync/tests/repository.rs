//! What an operator signs and publishes.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU32, NonZeroU64},
    sync::{LazyLock, Mutex},
};

use ring::rand::SystemRandom;
use sanderling_protocol::{
    blob::{self, encode_chunk},
    digest::Digest,
    topics::Published,
    tuf::{
        MetaFile, TargetFile,
        author::{
            Delegate, KeyKind, KeyPair, RoleKeys, RootKeys, Sealed, Signer as _, delegations, root, sign, snapshot,
            target, targets, timestamp,
        },
    },
};
use serde_json::{Value, json};

use super::world::EXPIRES;

pub(super) const A: &str = "modules/a/1.wasm";
pub(super) const B: &str = "modules/b/1.wasm";

static KEYS: LazyLock<[KeyPair; 4]> = LazyLock::new(|| {
    let random = SystemRandom::new();
    std::array::from_fn(|_| KeyPair::generate(KeyKind::Ed25519, &random).unwrap())
});
const ROOT: usize = 0;
const RELEASES: usize = 1;
const DEPLOYMENTS: usize = 2;
const NEW_RELEASES: usize = 3;

fn keys(of: usize) -> RoleKeys {
    RoleKeys { keys: vec![KEYS[of].key()], threshold: NonZeroU32::MIN }
}

/// The messages of a blob, made once: compressing takes its time.
static BLOBS: Mutex<BTreeMap<Digest, Messages>> = Mutex::new(BTreeMap::new());
type Messages = Vec<(Published, Vec<u8>)>;

/// What an operator publishes.
#[derive(Clone)]
pub(super) struct Repository {
    pub(super) root: u64,
    version: u64,
    /// When all of it expires, Unix seconds.
    pub(super) expires: i64,
    /// The digests of all that was ever signed: documents and artifacts.
    pub(super) signed: BTreeSet<Digest>,
    releases: BTreeMap<String, TargetFile>,
    deployments: BTreeMap<String, TargetFile>,
    /// The key to which releases are delegated, and the one that signs them.
    releases_keys: (usize, usize),
    pub(super) retained: BTreeMap<Published, Vec<u8>>,
}

/// Two modules of this length, and the deployment `a` of the first, published.
pub(super) fn of_two(length: usize) -> Repository {
    let mut repository = Repository::new();
    repository.module(A, &content(1, length));
    repository.module(B, &content(2, length));
    repository.deploy("a", A);
    repository.publish();
    repository
}

impl Repository {
    pub(super) fn new() -> Self {
        let mut repository = Self {
            root: 0,
            version: 0,
            expires: EXPIRES,
            signed: BTreeSet::new(),
            releases: BTreeMap::new(),
            deployments: BTreeMap::new(),
            releases_keys: (RELEASES, RELEASES),
            retained: BTreeMap::new(),
        };
        repository.rotate_root();
        repository
    }

    /// Publishes a root of the next version. Its keys stay.
    pub(super) fn rotate_root(&mut self) -> Vec<u8> {
        self.root += 1;
        let all = RootKeys { root: keys(ROOT), timestamp: keys(ROOT), snapshot: keys(ROOT), targets: keys(ROOT) };
        let bytes = sign(&root(self.sealed(self.root), all).unwrap(), &[&KEYS[ROOT]]).unwrap();
        self.retained.insert(meta(self.root, "root"), bytes.clone());
        bytes
    }

    pub(super) fn shipped_root(&self) -> Vec<u8> {
        self.retained[&meta(1, "root")].clone()
    }

    fn blob(&mut self, content: &[u8]) {
        let digest = Digest::of(content);
        let mut blobs = BLOBS.lock().unwrap();
        let messages = blobs.entry(digest).or_insert_with(|| {
            let (index, chunks) = blob::cut(content).unwrap();
            let chunk = |chunk: &[u8]| (Published::Chunk(Digest::of(chunk)), encode_chunk(chunk));
            let index = [(Published::Index(digest), index.encode())];
            index.into_iter().chain(chunks.into_iter().map(chunk)).collect()
        });
        self.retained.extend(messages.iter().cloned());
    }

    pub(super) fn module(&mut self, path: &str, content: &[u8]) {
        let custom = json!({ "sanderling": { "kind": "module", "abi": 1,
            "ceiling": { "grants": ["emit:*"], "memory_mib": 32, "deadline_ms": 1000 } } });
        self.releases.insert(path.into(), target(content, Some(custom)));
        self.blob(content);
    }

    /// Lists a target under the releases key, whatever its path and whatever is said of it.
    pub(super) fn release_any(&mut self, path: &str, content: &[u8], ours: Value) {
        self.releases.insert(path.into(), target(content, Some(json!({ "sanderling": ours }))));
        self.blob(content);
    }

    /// The same under the deployments key.
    pub(super) fn deploy_any(&mut self, path: &str, content: &[u8], ours: Value) {
        self.deployments.insert(path.into(), target(content, Some(json!({ "sanderling": ours }))));
        self.blob(content);
    }

    /// Delegates releases to another key from now on. Who signs them still has the old one.
    pub(super) fn revoke_releases_key(&mut self) {
        self.releases_keys = (NEW_RELEASES, RELEASES);
    }

    /// Signs releases with the key to which they are delegated.
    pub(super) fn sign_releases_anew(&mut self) {
        self.releases_keys.1 = self.releases_keys.0;
    }

    pub(super) fn withdraw_module(&mut self, path: &str) {
        self.releases.remove(path);
    }

    /// Adds a deployment of one module for all devices.
    pub(super) fn deploy(&mut self, name: &str, module: &str) {
        self.deploy_document(name, &document(name, module, json!({})));
    }

    pub(super) fn deploy_document(&mut self, name: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let custom = json!({ "sanderling": { "kind": "deployment", "percent": 100, "salt": "s" } });
        self.deployments.clear();
        self.deployments.insert(format!("deployments/{name}.json"), target(&bytes, Some(custom)));
        self.blob(&bytes);
        Digest::of(&bytes)
    }

    pub(super) fn withdraw_deployments(&mut self) {
        self.deployments.clear();
    }

    /// Signs all and publishes it under the next version.
    pub(super) fn publish(&mut self) {
        self.version += 1;
        let version = self.version;
        let role = |name: &str, of, pattern: &[&str]| Delegate {
            name: name.into(),
            keys: keys(of),
            paths: pattern.iter().map(|pattern| (*pattern).to_owned()).collect(),
            terminating: true,
        };
        let delegated = delegations(vec![
            role("releases", self.releases_keys.0, &["modules/*", "modules/*/*", "models/*", "models/*/*"]),
            role("deployments", DEPLOYMENTS, &["deployments/*"]),
        ]);
        let top = targets(self.sealed(version), BTreeMap::new(), Some(delegated.unwrap()));
        let releases = targets(self.sealed(version), self.releases.clone(), None);
        let deployments = targets(self.sealed(version), self.deployments.clone(), None);
        let files = [
            ("targets", ROOT, top),
            ("releases", self.releases_keys.1, releases),
            ("deployments", DEPLOYMENTS, deployments),
        ];
        let mut listed = BTreeMap::new();
        for (name, of, metadata) in files {
            let bytes = sign(&metadata, &[&KEYS[of]]).unwrap();
            listed.insert(name.to_owned(), MetaFile::of(NonZeroU64::new(version).unwrap(), &bytes));
            self.retained.insert(meta(version, name), bytes);
        }
        let snapshot = sign(&snapshot(self.sealed(version), listed), &[&KEYS[ROOT]]).unwrap();
        let listed = MetaFile::of(NonZeroU64::new(version).unwrap(), &snapshot);
        self.retained.insert(meta(version, "snapshot"), snapshot);
        let timestamp = sign(&timestamp(self.sealed(version), listed), &[&KEYS[ROOT]]).unwrap();
        self.retained.insert(Published::Timestamp, timestamp);
        self.signed.extend(self.releases.values().chain(self.deployments.values()).filter_map(TargetFile::sha256));
    }

    fn sealed(&self, version: u64) -> Sealed {
        Sealed { version: NonZeroU64::new(version).unwrap(), expires: self.expires }
    }
}

pub(super) fn meta(version: u64, role: &str) -> Published {
    Published::Metadata { version, role: role.into() }
}

/// A deployment of these modules, each under a name of its own.
pub(super) fn modules(name: &str, modules: &[(String, String)], config: Value) -> Value {
    let module = |(name, path): &(String, String)| {
        json!({ "name": name, "module": path, "input": [ { "sensor": "cam0" } ], "config": config,
            "probation": { "frames": 20, "seconds": 10 } })
    };
    json!({ "schema": "sanderling.deployment/1", "name": name, "modules": modules.iter().map(module).collect::<Vec<_>>() })
}

pub(super) fn document(name: &str, module: &str, config: Value) -> Value {
    json!({ "schema": "sanderling.deployment/1", "name": name, "modules": [ {
        "name": "m", "module": module, "input": [ { "sensor": "cam0" } ], "config": config,
        "probation": { "frames": 20, "seconds": 10 } } ] })
}

/// Content that is not compressed away.
pub(super) fn content(seed: u8, length: usize) -> Vec<u8> {
    let blocks = (0_u32..).flat_map(|at| *Digest::of(&[&[seed][..], &at.to_be_bytes()].concat()).as_bytes());
    blocks.take(length).collect()
}
