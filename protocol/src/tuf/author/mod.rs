//! The operator's side: keys that sign, and metadata that is built and signed. Bytes in, bytes out.
//!
//! What is written here is what python-tuf reads, and the other way round; `testdata/python-tuf` holds the proof of that.
//! Metadata longer than a client reads is refused here already.

mod build;
#[cfg(test)]
mod ceremony_tests;
mod edit;
mod keys;
mod public;
mod root_signing;
mod summary;

pub use build::{Delegate, RoleKeys, RootKeys, Sealed, delegations, root, snapshot, target, targets, timestamp};
pub use edit::{EditError, KeyChange, change_delegation, change_root};
pub use keys::{KeyKind, KeyPair, Signer, key_id};
pub use public::read_public_key;
pub use root_signing::{CeremonyError, MAX_FILE_LEN, ROOT_SIGNING_SCHEMA, RootSigning};
pub use summary::{Missing, Shortfall};

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::canonical;
use super::error::TrustError;
use super::schema::{Role, Signed};
use super::verify::{Envelope, Parts, Signature, check_size};
use super::{Key, MAX_METADATA_LEN};

/// Why something could not be made or signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The key is not one that can sign here.
    #[error("not a PKCS#8 private key, ed25519 or ECDSA on P-256, in PEM: {0}")]
    BadKey(String),
    /// The public key is not one that devices check.
    #[error("not a public key, ed25519 or ECDSA on P-256, as JSON of metadata or in PEM: {0}")]
    BadPublicKey(String),
    /// The random number generator or the signature failed.
    #[error("the cryptography library could not {0}")]
    Crypto(&'static str),
    /// The metadata has no JSON form: a time outside of the years 0 to 9999, or a number that is not a 64-bit integer in `custom`.
    #[error("the metadata cannot be written: {0}")]
    Unwritable(String),
    /// A rule between fields is broken, so that no client would take it.
    #[error("no client would take this metadata: {0}")]
    Unsound(String),
    /// Keys or threshold of a role cannot be changed so.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Existing metadata cannot be read, or has become too long.
    #[error(transparent)]
    Metadata(#[from] TrustError),
}

/// Signs metadata with each of the keys. A threshold is met only if enough of them are given here or added later.
pub fn sign<T: Signed>(metadata: &T, signers: &[&dyn Signer]) -> Result<Vec<u8>, AuthorError> {
    metadata.check().map_err(AuthorError::Unsound)?;
    let signed = serde_json::to_value(metadata).map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
    seal(T::TYPE, Parts { signed, signatures: Vec::new(), other: Map::new() }, signers)
}

/// Adds signatures to metadata that others have signed. What is signed stays as it is; a signature that one of the keys gave
/// before is replaced.
pub fn add_signatures(metadata: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>, AuthorError> {
    seal("metadata", Envelope::parse("metadata", metadata)?.into_parts(), signers)
}

/// Reads metadata that is to be changed and signed again. Signatures are not looked at: this is for files that are the
/// operator's own.
pub fn read<T: Signed>(metadata: &[u8]) -> Result<T, AuthorError> {
    Ok(Envelope::parse(T::TYPE, metadata)?.decode(T::TYPE)?)
}

/// Whether a threshold of the role's keys signed this metadata, as a client would check it. `name` names it in errors.
///
/// # Errors
/// [`TrustError::Threshold`] where too few did, and others where it cannot be read.
pub fn check_signatures(
    metadata: &[u8],
    name: &str,
    role: &Role,
    keys: &BTreeMap<String, Key>,
) -> Result<(), TrustError> {
    Envelope::parse(name, metadata)?.verify(name, role, keys)
}

fn seal(role: &str, parts: Parts, signers: &[&dyn Signer]) -> Result<Vec<u8>, AuthorError> {
    let Parts { signed, mut signatures, other } = parts;
    let unwritable = || AuthorError::Unwritable("a number is not a 64-bit integer".into());
    let message = canonical::encode(&signed).ok_or_else(unwritable)?;
    for signer in signers {
        let keyid = key_id(&signer.key())?;
        let sig = hex(&signer.sign(&message)?);
        signatures.retain(|known| known.keyid != keyid);
        signatures.push(Signature { keyid, sig, other: Map::new() });
    }
    let mut envelope = other;
    envelope.insert("signatures".into(), json!(signatures));
    envelope.insert("signed".into(), signed);
    let bytes = serde_json::to_vec(&envelope).map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
    check_size(role, &bytes, MAX_METADATA_LEN)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
