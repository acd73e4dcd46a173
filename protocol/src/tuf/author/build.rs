//! Metadata from what an operator knows: versions, expiries, keys, content.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use serde_json::{Map, Value};

use super::{AuthorError, key_id};
use crate::digest::Digest;
use crate::tuf::delegations::{DelegatedRole, Delegations};
use crate::tuf::schema::{
    Hashes, Key, MetaFile, Role, Root, RootRoles, Snapshot, TargetFile, Targets, Timestamp, TimestampMeta,
};
use crate::tuf::time::UnixTime;

/// The version of the specification that is written.
const SPEC_VERSION: &str = "1.0.31";

/// Version and expiry of the metadata to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The version, one more than that of the metadata it replaces.
    pub version: NonZeroU64,
    /// When it expires, in unix seconds.
    pub expires: i64,
}

/// Who signs for a role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleKeys {
    /// The public keys.
    pub keys: Vec<Key>,
    /// How many of them must sign.
    pub threshold: NonZeroU32,
}

/// Who signs for the top-level roles.
#[derive(Debug, Clone, PartialEq)]
pub struct RootKeys {
    /// Root metadata.
    pub root: RoleKeys,
    /// Timestamp metadata.
    pub timestamp: RoleKeys,
    /// Snapshot metadata.
    pub snapshot: RoleKeys,
    /// Top-level targets metadata.
    pub targets: RoleKeys,
}

/// A role to delegate to.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Who signs for it.
    pub keys: RoleKeys,
    /// Patterns of the paths it is trusted for.
    pub paths: Vec<String>,
    /// Whether a search that comes to it looks no further.
    pub terminating: bool,
}

fn role(keys: RoleKeys, known: &mut BTreeMap<String, Key>) -> Result<Role, AuthorError> {
    let mut keyids = Vec::new();
    for key in keys.keys {
        let id = key_id(&key)?;
        known.insert(id.clone(), key);
        keyids.push(id);
    }
    if (keyids.len() as u64) < u64::from(keys.threshold.get()) {
        let (listed, threshold) = (keyids.len(), keys.threshold);
        return Err(AuthorError::Unsound(format!("a role with {listed} keys never meets a threshold of {threshold}")));
    }
    Ok(Role { keyids, threshold: keys.threshold, other: Map::new() })
}

/// Root metadata.
pub fn root(sealed: Sealed, trusted: RootKeys) -> Result<Root, AuthorError> {
    let mut keys = BTreeMap::new();
    let roles = RootRoles {
        root: role(trusted.root, &mut keys)?,
        timestamp: role(trusted.timestamp, &mut keys)?,
        snapshot: role(trusted.snapshot, &mut keys)?,
        targets: role(trusted.targets, &mut keys)?,
        other: Map::new(),
    };
    Ok(Root {
        kind: "root".into(),
        spec_version: SPEC_VERSION.into(),
        version: sealed.version,
        expires: UnixTime(sealed.expires),
        consistent_snapshot: true,
        keys,
        roles,
        other: Map::new(),
    })
}

/// Timestamp metadata that lists this snapshot message.
pub fn timestamp(sealed: Sealed, snapshot: MetaFile) -> Timestamp {
    Timestamp {
        kind: "timestamp".into(),
        spec_version: SPEC_VERSION.into(),
        version: sealed.version,
        expires: UnixTime(sealed.expires),
        meta: TimestampMeta { snapshot, other: Map::new() },
        other: Map::new(),
    }
}

/// Snapshot metadata that lists these targets roles, `targets` among them, by role name.
pub fn snapshot(sealed: Sealed, roles: BTreeMap<String, MetaFile>) -> Snapshot {
    Snapshot {
        kind: "snapshot".into(),
        spec_version: SPEC_VERSION.into(),
        version: sealed.version,
        expires: UnixTime(sealed.expires),
        meta: roles.into_iter().map(|(role, file)| (format!("{role}.json"), file)).collect(),
        other: Map::new(),
    }
}

/// Targets metadata, top-level or delegated.
pub fn targets(sealed: Sealed, targets: BTreeMap<String, TargetFile>, delegations: Option<Delegations>) -> Targets {
    Targets {
        kind: "targets".into(),
        spec_version: SPEC_VERSION.into(),
        version: sealed.version,
        expires: UnixTime(sealed.expires),
        targets,
        delegations,
        other: Map::new(),
    }
}

/// Delegations, in the order in which they are asked.
pub fn delegations(delegates: Vec<Delegate>) -> Result<Delegations, AuthorError> {
    let mut keys = BTreeMap::new();
    let mut roles = Vec::new();
    for Delegate { name, keys: trusted, paths, terminating } in delegates {
        let Role { keyids, threshold, other } = role(trusted, &mut keys)?;
        roles.push(DelegatedRole {
            name,
            keyids,
            threshold,
            terminating,
            paths: Some(paths),
            path_hash_prefixes: None,
            other,
        });
    }
    Ok(Delegations { keys, roles: Some(roles), succinct_roles: None, other: Map::new() })
}

/// What is signed of a target with this content.
pub fn target(content: &[u8], custom: Option<Value>) -> TargetFile {
    TargetFile { length: content.len() as u64, hashes: hashes(content), custom, other: Map::new() }
}

fn hashes(content: &[u8]) -> Hashes {
    Hashes(BTreeMap::from([("sha256".to_owned(), Digest::of(content).to_string())]))
}

impl MetaFile {
    /// What is listed of this message: version, length and digest.
    pub fn of(version: NonZeroU64, message: &[u8]) -> Self {
        Self { version, length: Some(message.len() as u64), hashes: Some(hashes(message)), other: Map::new() }
    }
}
