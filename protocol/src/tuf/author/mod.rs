//! The operator's side: keys that sign, and metadata that is built and signed. Bytes in, bytes out.
//!
//! What is written here is what python-tuf reads, and the other way round; `testdata/python-tuf` holds the proof of that.
//! Metadata longer than a client reads is refused here already.

mod build;
mod keys;

pub use build::{Delegate, RoleKeys, RootKeys, Sealed, delegations, root, snapshot, target, targets, timestamp};
pub use keys::{KeyKind, KeyPair, Signer, key_id};

use serde_json::{Value, json};

use super::canonical;
use super::error::TrustError;
use super::schema::Signed;
use super::verify::{Envelope, check_size};
use super::{Key, MAX_METADATA_LEN};

/// Why something could not be made or signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The key is not one that can sign here.
    #[error("not a PKCS#8 private key, ed25519 or ECDSA on P-256, in PEM: {0}")]
    BadKey(String),
    /// The random number generator or the signature failed.
    #[error("the cryptography library could not {0}")]
    Crypto(&'static str),
    /// The metadata has no JSON form: a time outside of the years 0 to 9999, or a number that is not a 64-bit integer in `custom`.
    #[error("the metadata cannot be written: {0}")]
    Unwritable(String),
    /// A rule between fields is broken, so that no client would take it.
    #[error("no client would take this metadata: {0}")]
    Unsound(String),
    /// Existing metadata cannot be read, or has become too long.
    #[error(transparent)]
    Metadata(#[from] TrustError),
}

/// Signs metadata with each of the keys. A threshold is met only if enough of them are given here or added later.
pub fn sign<T: Signed>(metadata: &T, signers: &[&dyn Signer]) -> Result<Vec<u8>, AuthorError> {
    metadata.check().map_err(AuthorError::Unsound)?;
    let signed = serde_json::to_value(metadata).map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
    seal(T::TYPE, signed, Vec::new(), signers)
}

/// Adds signatures to metadata that others have signed. What is signed stays as it is; a signature that one of the keys gave
/// before is replaced.
pub fn add_signatures(metadata: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>, AuthorError> {
    let envelope = Envelope::parse("metadata", metadata)?;
    let (signed, signatures) = envelope.into_parts();
    seal("metadata", signed, signatures, signers)
}

/// Reads metadata that is to be changed and signed again. Signatures are not looked at: this is for files that are the
/// operator's own.
pub fn read<T: Signed>(metadata: &[u8]) -> Result<T, AuthorError> {
    Ok(Envelope::parse(T::TYPE, metadata)?.decode(T::TYPE)?)
}

fn seal(
    role: &str,
    signed: Value,
    mut signatures: Vec<(String, String)>,
    signers: &[&dyn Signer],
) -> Result<Vec<u8>, AuthorError> {
    let unwritable = || AuthorError::Unwritable("a number is not a 64-bit integer".into());
    let message = canonical::encode(&signed).ok_or_else(unwritable)?;
    for signer in signers {
        let id = key_id(&signer.key())?;
        let signature = hex(&signer.sign(&message)?);
        signatures.retain(|(known, _)| *known != id);
        signatures.push((id, signature));
    }
    let listed: Vec<Value> = signatures.into_iter().map(|(keyid, sig)| json!({ "keyid": keyid, "sig": sig })).collect();
    let bytes = serde_json::to_vec(&json!({ "signatures": listed, "signed": signed }))
        .map_err(|cause| AuthorError::Unwritable(cause.to_string()))?;
    check_size(role, &bytes, MAX_METADATA_LEN)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
