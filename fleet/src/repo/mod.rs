//! The repository: what may run, who runs what, and the signed metadata that says so.
//!
//! Changes are staged in `repo/state.json` and blobs in `repo/blobs/`; [`sign()`] turns what is staged into new metadata. Staging
//! needs no key, so that who prepares a release need not be who signs it.

mod messages;
mod sign;
mod stage;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use sanderling_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::home::{self, Home};
pub(crate) use messages::{Message, messages};
pub(crate) use sign::{Expiry, init, sign};
pub(crate) use stage::{ModuleOptions, RolloutOptions, add_model, add_module, deploy, remove};

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

    fn save(&self, home: &Home) -> Result<()> {
        home::write(&home.path(STATE), &serde_json::to_vec_pretty(self)?)
    }

    fn version(&self, role: &str) -> u64 {
        self.signed.get(role).map_or(0, |signed| signed.version)
    }
}

/// The version of the signed deployments.
pub(crate) fn deployments_version(home: &Home) -> Result<u64> {
    Ok(State::load(home)?.version("deployments"))
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
