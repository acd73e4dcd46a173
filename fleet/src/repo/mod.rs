//! The repository: what may run, who runs what, and the signed metadata that says so.
//!
//! Changes are staged in `repo/state.json` and blobs in `repo/blobs/`; [`sign()`] turns what is staged into new metadata. Staging
//! needs no key, so that who prepares a release need not be who signs it. All versions of metadata stay in `repo/metadata/`: they
//! say what was ever published.
//!
//! Invariant: `repo/state.json` is written last. A command that is cut off before leaves files of versions that it does not name;
//! they are overwritten by the next.

mod audit;
mod ceremony;
mod content;
mod init;
mod plan;
mod refresh;
mod remove;
mod roles;
mod sign;
mod stage;
mod trust;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use sanderling_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::home::{self, Home};
pub(crate) use audit::{newer_timestamp, snapshot_of};
pub(crate) use ceremony::{Ceremony, cancel, complete, export, import, show, sign_elsewhere, status};
pub(crate) use content::{History, Ledger, Referenced};
pub(crate) use init::{Threshold, init};
#[cfg(test)]
pub(crate) use plan::ChunkPlace;
pub(crate) use plan::{Message, Payload, Phase, Plan, plan};
pub(crate) use refresh::{RefreshOptions, expiring, refresh};
pub(crate) use remove::remove;
pub(crate) use roles::{Change, Changed, RoleKeysReport, change, keys_report};
pub(crate) use sign::{Expiry, sign};
pub(crate) use stage::{ModuleOptions, RolloutOptions, add_model, add_module, deploy};

const STATE: &str = "repo/state.json";

/// A target that is staged: its bytes are the blob of that digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    sha256: Digest,
    length: u64,
    custom: Value,
}

/// A version of signed metadata, and the digest of what it says, so that unchanged roles are not signed anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SignedRole {
    version: u64,
    content: Digest,
}

/// What `repo/state.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Modules and models by target path.
    releases: BTreeMap<String, Staged>,
    /// Deployments by target path.
    deployments: BTreeMap<String, Staged>,
    /// What was signed last, by role.
    signed: BTreeMap<String, SignedRole>,
}

impl State {
    fn load(home: &Home) -> Result<Self> {
        let path = home.path(STATE);
        if !path.exists() {
            bail!("there is no repository at {}: make one with `sanderling repo init`", home.path("repo").display());
        }
        serde_json::from_slice(&home::read(&path)?).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Loads it for a change, and keeps others from changing it meanwhile.
    fn open(home: &Home) -> Result<(std::fs::File, Self)> {
        Self::load(home)?;
        let lock = home.lock()?;
        Ok((lock, Self::load(home)?))
    }

    fn save(&self, home: &Home) -> Result<()> {
        home::write(&home.path(STATE), &serde_json::to_vec_pretty(self)?)
    }

    fn version(&self, role: &str) -> u64 {
        self.signed.get(role).map_or(0, |signed| signed.version)
    }

    /// The metadata of a role that was signed last.
    fn read_signed(&self, home: &Home, role: &str) -> Result<Vec<u8>> {
        home::read(&home.path(metadata_file(self.version(role), role)))
    }
}

/// The version of the signed deployments.
pub(crate) fn deployments_version(home: &Home) -> Result<u64> {
    Ok(State::load(home)?.version("deployments"))
}

/// The root that is in force: what a new device is given.
pub(crate) fn root_file(home: &Home) -> Result<std::path::PathBuf> {
    Ok(home.path(metadata_file(State::load(home)?.version("root"), "root")))
}

/// The version of the signed timestamp.
pub(crate) fn timestamp_version(home: &Home) -> Result<u64> {
    Ok(State::load(home)?.version("timestamp"))
}

/// Where the content of a module, model or deployment lies.
pub(crate) fn blob_path(home: &Home, digest: &Digest) -> std::path::PathBuf {
    home.path(blob_file(digest))
}

fn metadata_file(version: u64, role: &str) -> String {
    match role {
        "timestamp" => "repo/metadata/timestamp.json".to_owned(),
        role => format!("repo/metadata/{version}.{role}.json"),
    }
}

fn blob_file(digest: &Digest) -> String {
    format!("repo/blobs/{digest}")
}
