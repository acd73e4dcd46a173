//! The four kinds of TUF metadata as types.
//!
//! Fields that the specification does not name are kept in `other`, so that what an operator edits and signs again
//! loses nothing. What a verifier trusts is never rebuilt from these types: signatures are checked over the value as it came.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};

use ring::digest::{SHA256, SHA512, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::delegations::Delegations;
use super::error::TrustError;
use super::time::UnixTime;
use crate::digest::Digest;

/// The fields that every kind of metadata has.
pub trait Signed: Serialize + for<'de> Deserialize<'de> {
    /// What `_type` says.
    const TYPE: &'static str;

    /// The version, at least 1.
    fn version(&self) -> u64;

    /// When this expires, in unix seconds.
    fn expires(&self) -> i64;

    /// What no type can say: the rules between fields. The error is a sentence about the first that is broken.
    fn check(&self) -> Result<(), String>;
}

macro_rules! signed {
    ($kind:ident, $name:literal) => {
        impl Signed for $kind {
            const TYPE: &'static str = $name;

            fn version(&self) -> u64 {
                self.version.get()
            }

            fn expires(&self) -> i64 {
                self.expires.0
            }

            fn check(&self) -> Result<(), String> {
                self.rules()
            }
        }
    };
}

signed!(Root, "root");
signed!(Timestamp, "timestamp");
signed!(Snapshot, "snapshot");
signed!(Targets, "targets");

/// A public key as metadata carries it. Its id is opaque: the name under which it is listed, nothing more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The family of keys: `ed25519`, `ecdsa`, …
    pub keytype: String,
    /// How it signs: `ed25519`, `ecdsa-sha2-nistp256`, …
    pub scheme: String,
    /// The key itself, for the known types an object with `public`.
    pub keyval: Value,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Which keys sign for a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Ids of the keys, each once.
    pub keyids: Vec<String>,
    /// How many different keys must sign.
    pub threshold: NonZeroU32,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Role {
    pub(crate) fn rules(&self) -> Result<(), String> {
        let unique: BTreeSet<_> = self.keyids.iter().collect();
        if unique.len() == self.keyids.len() { Ok(()) } else { Err("a role names a key id twice".into()) }
    }
}

/// The four top-level roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootRoles {
    /// Who signs root metadata.
    pub root: Role,
    /// Who signs timestamp metadata.
    pub timestamp: Role,
    /// Who signs snapshot metadata.
    pub snapshot: Role,
    /// Who signs the top-level targets metadata.
    pub targets: Role,
    /// Roles that this client has no use for, such as `mirrors`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Root metadata: the keys of the top-level roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Always `root`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification.
    pub spec_version: String,
    /// The version of this metadata.
    pub version: NonZeroU64,
    /// When this expires.
    pub expires: UnixTime,
    /// Whether metadata other than the timestamp is fetched by version.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Keys by key id.
    pub keys: BTreeMap<String, Key>,
    /// The roles.
    pub roles: RootRoles,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Root {
    fn rules(&self) -> Result<(), String> {
        let roles = &self.roles;
        [&roles.root, &roles.timestamp, &roles.snapshot, &roles.targets].into_iter().try_for_each(Role::rules)
    }
}

/// What one role's metadata says of another's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaFile {
    /// The version that is current.
    pub version: NonZeroU64,
    /// Its length in bytes, where it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests, where they are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl MetaFile {
    /// Checks length and digests, as far as they are listed.
    pub fn verify(&self, role: &str, bytes: &[u8]) -> Result<(), TrustError> {
        if let Some(expected) = self.length {
            check_length(role, bytes, expected)?;
        }
        self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.verify(role, bytes))
    }
}

fn check_length(role: &str, bytes: &[u8], expected: u64) -> Result<(), TrustError> {
    let found = bytes.len() as u64;
    if found == expected { Ok(()) } else { Err(TrustError::WrongLength { role: role.into(), expected, found }) }
}

/// Digests by algorithm, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(pub BTreeMap<String, String>);

impl Hashes {
    /// The SHA-256 digest, if it is listed and well-formed.
    pub fn sha256(&self) -> Option<Digest> {
        self.0.get("sha256")?.parse().ok()
    }

    /// Checks every listed digest of a known algorithm, of which there must be one.
    pub fn verify(&self, role: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let mut known = false;
        for (algorithm, expected) in &self.0 {
            let found = match algorithm.as_str() {
                "sha256" => digest(&SHA256, bytes),
                "sha512" => digest(&SHA512, bytes),
                _ => continue,
            };
            known = true;
            let found: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            if found != *expected {
                return Err(TrustError::WrongDigest { role: role.into(), algorithm: algorithm.clone() });
            }
        }
        if known { Ok(()) } else { Err(TrustError::UnknownDigest { role: role.into() }) }
    }
}

/// Timestamp metadata: which snapshot is current.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Always `timestamp`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification.
    pub spec_version: String,
    /// The version of this metadata.
    pub version: NonZeroU64,
    /// When this expires.
    pub expires: UnixTime,
    /// The snapshot.
    pub meta: TimestampMeta,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a timestamp lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimestampMeta {
    /// The current snapshot.
    #[serde(rename = "snapshot.json")]
    pub snapshot: MetaFile,
    /// Files that the specification does not name here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Timestamp {
    fn rules(&self) -> Result<(), String> {
        hashes_not_empty(self.meta.snapshot.hashes.as_ref())
    }
}

fn hashes_not_empty(hashes: Option<&Hashes>) -> Result<(), String> {
    match hashes {
        Some(hashes) if hashes.0.is_empty() => Err("an object of hashes is empty".into()),
        _ => Ok(()),
    }
}

/// Snapshot metadata: the current version of every targets role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always `snapshot`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification.
    pub spec_version: String,
    /// The version of this metadata.
    pub version: NonZeroU64,
    /// When this expires.
    pub expires: UnixTime,
    /// By file name: the role's name and `.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Snapshot {
    fn rules(&self) -> Result<(), String> {
        self.meta.values().try_for_each(|file| hashes_not_empty(file.hashes.as_ref()))
    }

    /// What is listed of this role.
    pub fn role(&self, role: &str) -> Option<&MetaFile> {
        self.meta.get(&format!("{role}.json"))
    }
}

/// What signed metadata says of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests.
    pub hashes: Hashes,
    /// What the application says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl TargetFile {
    /// The SHA-256 digest of the content, if it is listed and well-formed.
    pub fn sha256(&self) -> Option<Digest> {
        self.hashes.sha256()
    }

    /// Checks length and every listed digest of a known algorithm. `path` names the target in errors.
    pub fn verify(&self, path: &str, bytes: &[u8]) -> Result<(), TrustError> {
        check_length(path, bytes, self.length)?;
        self.hashes.verify(path, bytes)
    }
}

/// Targets metadata, top-level or delegated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// Always `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification.
    pub spec_version: String,
    /// The version of this metadata.
    pub version: NonZeroU64,
    /// When this expires.
    pub expires: UnixTime,
    /// Targets by path.
    pub targets: BTreeMap<String, TargetFile>,
    /// The roles that are trusted for part of the paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Targets {
    fn rules(&self) -> Result<(), String> {
        self.targets.values().try_for_each(|target| hashes_not_empty(Some(&target.hashes)))?;
        self.delegations.as_ref().map_or(Ok(()), Delegations::rules)
    }
}
