//! Capsules: a fault with what is needed to run it again, as a tar file.
//!
//! A capsule holds [`MANIFEST`], JSON, and [`RECORD`], what the flight recorder of the worker held
//! ([`crate::flight`]). The module and its models are not in it: they are named by their digests, and were released.
//!
//! Invariant: whoever reads a capsule takes it as hostile; the manifest refuses unknown fields of its own version, and the archive is
//! held to its own lengths.

mod piece;
pub mod tar;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use piece::{PIECE, Piece};

use crate::{
    deployment::{Execution, Grant, Limits},
    digest::Digest,
    topics::DeviceId,
    worker::{Blob, Fault, InputDecode, Model},
};

/// The schema of [`Manifest`].
pub const SCHEMA: &str = "sanderling.capsule/1";
/// The name of the manifest in the archive.
pub const MANIFEST: &str = "manifest.json";
/// The name of the record in the archive.
pub const RECORD: &str = "record.bin";
/// A capsule is at most this long, in bytes.
pub const MAX_CAPSULE: usize = crate::flight::MAX_REGION + 1024 * 1024;

/// The name of a capsule: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CapsuleId(String);

/// Why a text is not the name of a capsule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the id of a capsule, which has 16 hexadecimal digits")]
pub struct CapsuleIdError(String);

impl CapsuleId {
    /// The id of a capsule with this content.
    pub fn of(content: &Digest) -> Self {
        Self(content.to_string().chars().take(16).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CapsuleId {
    type Err = CapsuleIdError;

    fn from_str(text: &str) -> Result<Self, CapsuleIdError> {
        let fits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if fits { Ok(Self(text.to_owned())) } else { Err(CapsuleIdError(text.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for CapsuleId {
    type Error = CapsuleIdError;

    fn try_from(text: String) -> Result<Self, CapsuleIdError> {
        text.parse()
    }
}

impl From<CapsuleId> for String {
    fn from(id: CapsuleId) -> Self {
        id.0
    }
}

impl fmt::Display for CapsuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a capsule says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The device; absent in a capsule of a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// When it was kept, Unix milliseconds by the device's clock.
    pub at_ms: i64,
    /// The version of the agent, or of the tool.
    pub agent: String,
    /// The processor's architecture, as Rust names it, for people: a replay does not depend on it.
    pub arch: String,
    /// The deployment; absent in a capsule of a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployed>,
    /// The module's name in its deployment.
    pub name: String,
    /// The target path of the module, or its file.
    pub path: String,
    /// The module.
    pub module: Blob,
    /// Its models. A replay does not need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
    /// How it was run.
    pub execution: Execution,
    /// To what frames were decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputDecode>,
    /// The deployment's `config`.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
    /// What it could do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// What it could use.
    pub limits: Limits,
    /// Why the capsule was kept; absent where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Whether the record lacks the state that the guest was in, so that it cannot be run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// A deployment in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    /// Its name.
    pub name: String,
    /// The version of the metadata that it came with.
    pub version: u64,
    /// SHA-256 of its document.
    pub digest: Digest,
}

/// A capsule that a device has, in a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its id.
    pub id: CapsuleId,
    /// Its length in bytes.
    pub length: u64,
}

/// Why bytes are not a capsule.
#[derive(Debug, Error)]
pub enum CapsuleError {
    /// The archive.
    #[error("this is not a capsule: {0}")]
    Archive(#[from] tar::TarError),
    /// A part is not there.
    #[error("the capsule has no {0}; fetch it again")]
    Missing(&'static str),
    /// The manifest.
    #[error("the capsule's manifest is not understood: {0}; a newer version of the tool may understand it")]
    Manifest(serde_json::Error),
    /// Another schema.
    #[error("the capsule has schema {0:?}; this version understands {SCHEMA}")]
    Schema(String),
}

/// A capsule, taken apart.
#[derive(Debug)]
pub struct Capsule<'a> {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What the flight recorder held.
    pub record: &'a [u8],
}

impl<'a> Capsule<'a> {
    /// Reads a capsule.
    ///
    /// # Errors
    /// [`CapsuleError`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, CapsuleError> {
        let (mut manifest, mut record) = (None, None);
        for file in tar::Files::new(bytes) {
            match file? {
                (MANIFEST, content) => manifest = Some(content),
                (RECORD, content) => record = Some(content),
                _ => {}
            }
        }
        let manifest = manifest.ok_or(CapsuleError::Missing(MANIFEST))?;
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(CapsuleError::Manifest)?;
        if manifest.schema != SCHEMA {
            return Err(CapsuleError::Schema(manifest.schema));
        }
        Ok(Self { manifest, record: record.ok_or(CapsuleError::Missing(RECORD))? })
    }
}

impl Manifest {
    /// Names the capsule by what it says of itself, and of several at one moment by their number; its fault carries the name.
    pub fn name(&mut self, number: u64) -> CapsuleId {
        let mut hasher = crate::digest::Hasher::new();
        hasher.update(&self.json());
        hasher.update(&number.to_le_bytes());
        let id = CapsuleId::of(&hasher.finish());
        if let Some(fault) = &mut self.fault {
            fault.capsule = Some(id.clone());
        }
        id
    }

    /// Packs it with its record.
    pub fn pack(&self, record: &[u8]) -> Vec<u8> {
        let manifest = self.json();
        let mut archive = Vec::with_capacity(manifest.len() + record.len() + 6 * tar::BLOCK);
        let seconds = u64::try_from(self.at_ms / 1000).unwrap_or(0);
        for (name, content) in [(MANIFEST, &*manifest), (RECORD, record)] {
            tar::put(&mut archive, name, content, seconds);
        }
        tar::end(&mut archive);
        archive
    }

    fn json(&self) -> Vec<u8> {
        // Our own type, with string keys throughout: writing it to memory has no way to fail.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::worker::FaultCode;

    fn manifest() -> Manifest {
        Manifest {
            schema: SCHEMA.to_owned(),
            device: Some("gw-1".parse().unwrap()),
            at_ms: 1_795_000_000_123,
            agent: "0.1.0".into(),
            arch: "x86_64".into(),
            deployment: Some(Deployed { name: "line".into(), version: 3, digest: Digest::of(b"d") }),
            name: "scratch".into(),
            path: "modules/a/1.wasm".into(),
            module: Blob { sha256: Digest::of(b"m"), length: 1 },
            models: Vec::new(),
            execution: Execution::Reactor,
            inputs: Vec::new(),
            config: serde_json::json!({ "a": 1 }),
            grants: Vec::new(),
            limits: Limits::default(),
            fault: Some(Fault::new(FaultCode::Trap, "unreachable")),
            partial: false,
        }
    }

    #[test]
    fn a_capsule_is_read_as_it_was_packed_and_knows_its_name() {
        let record = [7; 1000];
        let mut named = manifest();
        let id = named.name(1);
        let bytes = named.pack(&record);
        let capsule = Capsule::read(&bytes).unwrap();
        assert_eq!(capsule.record, record);
        assert_eq!(capsule.manifest.fault.as_ref().unwrap().capsule, Some(id.clone()));
        let named = Fault { capsule: None, ..capsule.manifest.fault.clone().unwrap() };
        assert_eq!(Manifest { fault: Some(named), ..capsule.manifest }, manifest());
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_ne!(manifest().name(2), id);
    }

    #[test]
    fn what_is_no_capsule_is_refused_and_nothing_panics() {
        let bytes = manifest().pack(&[7; 600]);
        assert!(matches!(Capsule::read(b""), Err(CapsuleError::Missing(MANIFEST))));
        for end in (0..bytes.len()).step_by(13) {
            let _ = Capsule::read(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            let _ = Capsule::read(&changed);
        }
        let other = Manifest { schema: "sanderling.capsule/2".into(), ..manifest() };
        assert!(matches!(Capsule::read(&other.pack(b"")), Err(CapsuleError::Schema(_))));
    }

    #[test]
    fn an_id_is_sixteen_digits_and_no_path() {
        for text in ["", "..", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0", "../../etc/passwd"] {
            assert!(text.parse::<CapsuleId>().is_err(), "{text}");
        }
    }
}
