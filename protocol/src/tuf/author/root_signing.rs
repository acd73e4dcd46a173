//! A root that waits for its signatures, as one file that travels to those who hold the keys.
//!
//! The file holds the root that is in force, the root to be signed, the canonical bytes that are signed, a summary for people,
//! and the signatures so far. Whoever signs needs this file and a key, nothing else.
//!
//! Invariants: summary and canonical bytes are what the content gives, or the file is refused; a signature in it is valid and of
//! a key that the old or the new root lists for root; what is signed never changes while signatures are gathered.
//! Limit: files of [`MAX_FILE_LEN`] bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::summary::{Shortfall, changes, describe, shortfall};
use super::{AuthorError, Signer, canonical, hex, key_id, read, seal};
use crate::digest::Digest;
use crate::tuf::key::PublicKey;
use crate::tuf::schema::{Key, Root, Signed as _};
use crate::tuf::verify::{Parts, Signature};
use crate::tuf::{TrustError, Trusted};

/// What `schema` says.
pub const ROOT_SIGNING_SCHEMA: &str = "sanderling.root-signing/1";
/// The longest file that is read, in bytes: two roots, one of them twice.
pub const MAX_FILE_LEN: usize = 1024 * 1024;

/// Why a file of a signing ceremony is refused.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The file is too long, not JSON, or lacks fields.
    #[error("not a file of `sanderling repo root-sign export`: {0}")]
    NotAnExport(String),
    /// The canonical bytes or the summary are not those of the content.
    #[error("the file was changed: its {0} is not that of the root in it; export it again")]
    Changed(&'static str),
    /// The root that it would replace is another one.
    #[error(
        "the export is stale: it would replace root {found_version} ({found}), but root {version} ({current}) is in force; export again"
    )]
    Stale {
        /// The version in force.
        version: u64,
        /// The digest of the file in force.
        current: Digest,
        /// The version that the export starts from.
        found_version: u64,
        /// The digest of the file that the export starts from.
        found: Digest,
    },
    /// Another root is signed in it than the one that waits.
    #[error(
        "what is signed in it is not the root that waits for signatures (SHA-256 {found}, expected {expected}); export again"
    )]
    OtherContent {
        /// The digest of the canonical bytes that wait.
        expected: Digest,
        /// The digest of those in the file.
        found: Digest,
    },
    /// A key that may not sign this.
    #[error("key {id} is not one of the root keys; {keys} may sign this")]
    WrongKey {
        /// The key's id.
        id: String,
        /// The ids that may sign.
        keys: String,
    },
    /// A signature that does not verify.
    #[error("the signature of key {0} is not over this root")]
    BadSignature(String),
    /// Signatures are missing.
    #[error("not enough signatures: {0}")]
    Incomplete(Shortfall),
    /// The current or the new root cannot be read or written.
    #[error(transparent)]
    Author(#[from] AuthorError),
    /// No client would follow from the one root to the other.
    #[error("no device would take this root: {0}")]
    Refused(#[from] TrustError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    summary: Vec<String>,
    current: String,
    canonical: String,
    signed: Value,
    signatures: BTreeMap<String, String>,
}

/// A root that waits for signatures.
#[derive(Debug, Clone)]
pub struct RootSigning {
    current: Vec<u8>,
    current_root: Root,
    signed: Value,
    next: Root,
    canonical: Vec<u8>,
    signatures: BTreeMap<String, String>,
}

impl RootSigning {
    /// Begins: `next` is to replace the root in the file `current`.
    ///
    /// # Errors
    /// Where either cannot be read or written, or `next` is not the version after the current one.
    pub fn new(current: &[u8], next: &Root) -> Result<Self, CeremonyError> {
        next.check().map_err(AuthorError::Unsound)?;
        let signed = serde_json::to_value(next).map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
        Self::of(current, signed)
    }

    fn of(current: &[u8], signed: Value) -> Result<Self, CeremonyError> {
        // Whoever signs elsewhere has nothing but this file to compare with: the current root must at least hold by itself.
        Trusted::from_root(current)?;
        let current_root: Root = read(current)?;
        let next: Root = read(&sealed(&signed, Vec::new())?)?;
        let expected = current_root.version().saturating_add(1);
        if next.version() != expected {
            return Err(TrustError::NotNextRoot { expected, found: next.version() }.into());
        }
        let unwritable = || AuthorError::Unwritable("a number is not a 64-bit integer".into());
        let canonical = canonical::encode(&signed).ok_or_else(unwritable)?;
        Ok(Self { current: current.to_vec(), current_root, signed, next, canonical, signatures: BTreeMap::new() })
    }

    /// Reads a file that [`RootSigning::to_file`] wrote, here or elsewhere.
    ///
    /// # Errors
    /// Where it is no such file, was changed, or holds a signature that is not valid or of a key that may not sign.
    pub fn parse(file: &[u8]) -> Result<Self, CeremonyError> {
        let not = |cause: String| CeremonyError::NotAnExport(cause);
        if file.len() > MAX_FILE_LEN {
            return Err(not(format!("{} bytes, at most {MAX_FILE_LEN} are read", file.len())));
        }
        let file: File = serde_json::from_slice(file).map_err(|cause| not(cause.to_string()))?;
        if file.schema != ROOT_SIGNING_SCHEMA {
            return Err(not(format!("schema {:?}, this program reads {ROOT_SIGNING_SCHEMA:?}", file.schema)));
        }
        let mut signing = Self::of(file.current.as_bytes(), file.signed)?;
        if signing.canonical != file.canonical.as_bytes() {
            return Err(CeremonyError::Changed("canonical form"));
        }
        if signing.summary() != file.summary {
            return Err(CeremonyError::Changed("summary"));
        }
        for (id, signature) in file.signatures {
            signing.accept(&id, signature)?;
        }
        Ok(signing)
    }

    /// The file.
    ///
    /// # Errors
    /// None in practice: where JSON cannot be written.
    pub fn to_file(&self) -> Result<Vec<u8>, CeremonyError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let file = File {
            schema: ROOT_SIGNING_SCHEMA.into(),
            summary: self.summary(),
            current: text(&self.current),
            canonical: text(&self.canonical),
            signed: self.signed.clone(),
            signatures: self.signatures.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The root to be signed.
    pub fn next(&self) -> &Root {
        &self.next
    }

    /// The digest of the bytes that are signed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical)
    }

    /// What the signer should know, line by line: versions, digests, expiry, keys, thresholds, and what changes.
    pub fn summary(&self) -> Vec<String> {
        let (old, new) = (&self.current_root, &self.next);
        let mut lines = vec![
            format!(
                "root version {}, to replace version {} (SHA-256 of its file {})",
                new.version(),
                old.version(),
                Digest::of(&self.current)
            ),
            format!("SHA-256 of what is signed: {}", self.digest()),
        ];
        lines.extend(describe(new));
        lines.extend(changes(old, new));
        lines
    }

    /// Ids of the keys that have signed.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.keys().map(String::as_str)
    }

    /// Signs; gives the key's id.
    ///
    /// # Errors
    /// [`CeremonyError::WrongKey`] for a key that neither root lists for root.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<String, CeremonyError> {
        let key = signer.key();
        let id = self.id_of(&key)?;
        let signature = hex(&signer.sign(&self.canonical)?);
        self.accept(&id, signature)?;
        Ok(id)
    }

    /// Whether this key may sign.
    ///
    /// # Errors
    /// As [`RootSigning::sign`].
    pub fn may_sign(&self, key: &Key) -> Result<(), CeremonyError> {
        self.id_of(key).map(|_| ())
    }

    /// Takes over the signatures of another copy; gives the ids of the keys that are new.
    ///
    /// # Errors
    /// Where the copy starts from another root, or signs another one.
    pub fn merge(&mut self, other: &Self) -> Result<Vec<String>, CeremonyError> {
        self.same_start(&other.current, other.current_root.version())?;
        if self.canonical != other.canonical {
            return Err(CeremonyError::OtherContent { expected: self.digest(), found: other.digest() });
        }
        let mut new = Vec::new();
        for (id, signature) in &other.signatures {
            if !self.signatures.contains_key(id) {
                self.accept(id, signature.clone())?;
                new.push(id.clone());
            }
        }
        Ok(new)
    }

    /// Whether this replaces the root in the file `current`.
    ///
    /// # Errors
    /// [`CeremonyError::Stale`] where it does not.
    pub fn replaces(&self, current: &[u8]) -> Result<(), CeremonyError> {
        let root: Root = read(current)?;
        let this = (self.current_root.version(), Digest::of(&self.current));
        stale_unless_same((root.version(), Digest::of(current)), this)
    }

    fn same_start(&self, other: &[u8], version: u64) -> Result<(), CeremonyError> {
        stale_unless_same((self.current_root.version(), Digest::of(&self.current)), (version, Digest::of(other)))
    }

    /// How many signatures are missing, and of which keys they may be; `None` where enough are there.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let signed: BTreeSet<&str> = self.signers().collect();
        shortfall(&self.current_root, &self.next, &signed)
    }

    /// The signed root, as it is published: one that every device takes that trusts the current one.
    ///
    /// # Errors
    /// [`CeremonyError::Incomplete`] while signatures are missing.
    pub fn finish(&self) -> Result<Vec<u8>, CeremonyError> {
        if let Some(missing) = self.shortfall() {
            return Err(CeremonyError::Incomplete(missing));
        }
        let signature =
            |(keyid, sig): (&String, &String)| Signature { keyid: keyid.clone(), sig: sig.clone(), other: Map::new() };
        let bytes = sealed(&self.signed, self.signatures.iter().map(signature).collect())?;
        Trusted::from_root(&self.current)?.update_root(&bytes)?;
        Ok(bytes)
    }

    /// The id under which the old or the new root lists this key for root.
    fn id_of(&self, key: &Key) -> Result<String, CeremonyError> {
        let public = PublicKey::of(key);
        let found = self.root_keys().find(|(_, known)| public.is_some() && PublicKey::of(known) == public);
        if let Some((id, _)) = found {
            return Ok(id.clone());
        }
        Err(self.wrong_key(key_id(key)?))
    }

    fn wrong_key(&self, id: String) -> CeremonyError {
        let keys: BTreeSet<&str> = self.root_keys().map(|(id, _)| id.as_str()).collect();
        CeremonyError::WrongKey { id, keys: keys.into_iter().collect::<Vec<_>>().join(", ") }
    }

    fn root_keys(&self) -> impl Iterator<Item = (&String, &Key)> {
        [&self.current_root, &self.next]
            .into_iter()
            .flat_map(|root| root.roles.root.keyids.iter().filter_map(|id| root.keys.get_key_value(id)))
    }

    fn accept(&mut self, id: &str, signature: String) -> Result<(), CeremonyError> {
        let Some((_, key)) = self.root_keys().find(|(known, _)| *known == id) else {
            return Err(self.wrong_key(id.to_owned()));
        };
        let valid = PublicKey::of(key).is_some_and(|key| key.signed(&self.canonical, &signature));
        if !valid {
            return Err(CeremonyError::BadSignature(id.to_owned()));
        }
        self.signatures.insert(id.to_owned(), signature);
        Ok(())
    }
}

fn sealed(signed: &Value, signatures: Vec<Signature>) -> Result<Vec<u8>, AuthorError> {
    seal("root", Parts { signed: signed.clone(), signatures, other: Map::new() }, &[])
}

fn stale_unless_same(in_force: (u64, Digest), found: (u64, Digest)) -> Result<(), CeremonyError> {
    if in_force == found {
        return Ok(());
    }
    let ((version, current), (found_version, found)) = (in_force, found);
    Err(CeremonyError::Stale { version, current, found_version, found })
}
