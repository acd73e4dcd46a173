//! The part of targets metadata that names other roles: by name with paths, or as hash bins.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema::{Key, Role};
use crate::digest::Digest;

/// To whom a targets role delegates: to named roles, or to hash bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delegations {
    /// Keys by key id.
    pub keys: BTreeMap<String, Key>,
    /// Named roles, in the order in which they are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<DelegatedRole>>,
    /// Hash bins that share their keys (TAP 15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succinct_roles: Option<SuccinctRoles>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Delegations {
    pub(crate) fn rules(&self) -> Result<(), String> {
        match (&self.roles, &self.succinct_roles) {
            (Some(roles), None) => roles_are_sound(roles),
            (None, Some(bins)) => bins.rules(),
            _ => Err("delegations have either roles or succinct_roles".into()),
        }
    }
}

fn roles_are_sound(roles: &[DelegatedRole]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for role in roles {
        role.rules()?;
        if !names.insert(&role.name) {
            return Err(format!("the role {:?} is delegated to twice", role.name));
        }
    }
    Ok(())
}

/// One named role to which paths are delegated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name: any text but that of a top-level role.
    pub name: String,
    /// Ids of its keys, each once.
    pub keyids: Vec<String>,
    /// How many different keys must sign.
    pub threshold: NonZeroU32,
    /// Whether a search that comes here looks at no role after it.
    pub terminating: bool,
    /// Shell patterns of the paths it is trusted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Or: how the hexadecimal SHA-256 of the paths begins that it is trusted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl DelegatedRole {
    fn rules(&self) -> Result<(), String> {
        if self.name.is_empty() || matches!(self.name.as_str(), "root" | "timestamp" | "snapshot" | "targets") {
            return Err(format!("a delegated role may not be named {:?}", self.name));
        }
        if self.paths.is_some() == self.path_hash_prefixes.is_some() {
            return Err(format!("the role {:?} has either paths or path_hash_prefixes", self.name));
        }
        self.role().rules()
    }

    /// Its keys and threshold.
    pub fn role(&self) -> Role {
        Role { keyids: self.keyids.clone(), threshold: self.threshold, other: Map::new() }
    }
}

/// Hash bins that share keys: 2 to the power of `bit_length` roles, each terminating.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuccinctRoles {
    /// Ids of the bins' keys, each once.
    pub keyids: Vec<String>,
    /// How many different keys must sign.
    pub threshold: NonZeroU32,
    /// How many leading bits of a path's SHA-256 choose its bin, 1 to 32.
    pub bit_length: u32,
    /// How the bins' names begin.
    pub name_prefix: String,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl SuccinctRoles {
    fn rules(&self) -> Result<(), String> {
        if !(1..=32).contains(&self.bit_length) {
            return Err(format!("succinct_roles have a bit_length of 1 to 32, not {}", self.bit_length));
        }
        self.role().rules()
    }

    /// The bins' keys and threshold.
    pub fn role(&self) -> Role {
        Role { keyids: self.keyids.clone(), threshold: self.threshold, other: Map::new() }
    }

    /// The bin of a path.
    pub fn bin(&self, path: &str) -> String {
        let [a, b, c, d, ..] = *Digest::of(path.as_bytes()).as_bytes();
        let leading = u32::from_be_bytes([a, b, c, d]);
        let number = leading.checked_shr(32_u32.saturating_sub(self.bit_length)).unwrap_or(0);
        format!("{}-{number:0width$x}", self.name_prefix, width = self.suffix_len())
    }

    /// Whether this is the name of a bin.
    pub fn has_bin(&self, role: &str) -> bool {
        let suffix = role.strip_prefix(&self.name_prefix).and_then(|rest| rest.strip_prefix('-'));
        suffix.is_some_and(|suffix| {
            let digits = suffix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let number = u64::from_str_radix(suffix, 16).ok();
            digits && suffix.len() == self.suffix_len() && number.is_some_and(|number| number < 1 << self.bit_length)
        })
    }

    fn suffix_len(&self) -> usize {
        self.bit_length.div_ceil(4) as usize
    }
}
