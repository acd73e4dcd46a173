//! From bytes to metadata that a threshold of keys signed.
//!
//! The order is fixed: size, then length and digest where they are listed (by the caller), then signatures, then the
//! content. A signature is checked over the canonical form of the value as it came, so nothing of the content is
//! believed before the threshold is met.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MAX_METADATA_LEN;
use super::canonical::{self, ParseError};
use super::error::TrustError;
use super::key::PublicKey;
use super::schema::{Key, Role, Signed};

/// One signature of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) keyid: String,
    pub(crate) sig: String,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// A message taken apart, of which nothing is believed yet.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// By key id.
    signatures: BTreeMap<String, Signature>,
    signed: Value,
    canonical: Vec<u8>,
    /// What stands beside `signed` and `signatures`. Nobody signed it.
    #[cfg(feature = "author")]
    other: Map<String, Value>,
}

/// What [`Envelope::into_parts`] gives, for signing again.
#[cfg(feature = "author")]
pub(crate) struct Parts {
    pub(crate) signed: Value,
    pub(crate) signatures: Vec<Signature>,
    pub(crate) other: Map<String, Value>,
}

impl Envelope {
    /// Takes a message apart. `role` names it in errors.
    pub(crate) fn parse(role: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        check_size(role, bytes, MAX_METADATA_LEN)?;
        let message = canonical::parse(bytes).map_err(|cause| unread(role, cause))?;
        let malformed = |cause: &str| TrustError::Malformed { role: role.into(), cause: cause.into() };
        let Value::Object(mut fields) = message else { return Err(malformed("metadata is a JSON object")) };
        let signed = fields.remove("signed").ok_or_else(|| malformed("signed is missing"))?;
        let listed = fields.remove("signatures").ok_or_else(|| malformed("signatures is missing"))?;
        let listed: Vec<Signature> = serde_json::from_value(listed).map_err(|cause| malformed(&cause.to_string()))?;
        let mut signatures = BTreeMap::new();
        for signature in listed {
            // Section 4.2.1: "The keyid MUST be unique in the "signatures" array: multiple signatures with the same
            // keyid are not allowed."
            if let Some(first) = signatures.insert(signature.keyid.clone(), signature) {
                return Err(TrustError::DuplicateSignature { role: role.into(), key_id: first.keyid });
            }
        }
        let canonical = canonical::encode(&signed).ok_or_else(|| TrustError::NotCanonical { role: role.into() })?;
        Ok(Self {
            signatures,
            signed,
            canonical,
            #[cfg(feature = "author")]
            other: fields,
        })
    }

    /// Section 5.3.4, 5.4.2, 5.5.3, 5.6.3: "Check for an arbitrary software attack. … MUST have been signed by a
    /// THRESHOLD of keys … When computing the THRESHOLD each KEY MUST only contribute one SIGNATURE. … Even if a KEYID is
    /// listed more than once in the "signatures" list a client MUST NOT count more than one verified SIGNATURE from that
    /// KEYID towards the THRESHOLD."
    ///
    /// Key ids are opaque, so the keys themselves are counted: one key under two ids counts once. A key of a type that is
    /// not known counts for nothing, and takes nothing from the others.
    pub(crate) fn verify(&self, name: &str, role: &Role, keys: &BTreeMap<String, Key>) -> Result<(), TrustError> {
        let mut valid = BTreeSet::new();
        for key_id in &role.keyids {
            let key = keys.get(key_id).and_then(PublicKey::of);
            let (Some(key), Some(signature)) = (key, self.signatures.get(key_id)) else { continue };
            if !valid.contains(&key) && key.signed(&self.canonical, &signature.sig) {
                valid.insert(key);
            }
        }
        let threshold = role.threshold.get();
        if valid.len() as u64 >= u64::from(threshold) {
            return Ok(());
        }
        Err(TrustError::Threshold { role: name.into(), valid: valid.len(), threshold })
    }

    /// The content as the type that the role needs. To be called once the signatures are verified; only a root, which
    /// carries its own keys, is decoded before its second threshold.
    pub(crate) fn decode<T: Signed>(self, role: &str) -> Result<T, TrustError> {
        decode(role, self.signed)
    }

    /// What the signatures are over.
    #[cfg(test)]
    pub(crate) fn canonical_bytes(&self) -> &[u8] {
        &self.canonical
    }

    /// The message in its parts, for adding signatures.
    ///
    /// Section 4: "Implementers who encounter undefined attribute-value pairs in the format … must preserve the data when
    /// re-serializing."
    #[cfg(feature = "author")]
    pub(crate) fn into_parts(self) -> Parts {
        Parts { signed: self.signed, signatures: self.signatures.into_values().collect(), other: self.other }
    }

    /// The same as `decode` without giving the envelope away.
    pub(crate) fn peek<T: Signed>(&self, role: &str) -> Result<T, TrustError> {
        decode(role, self.signed.clone())
    }
}

/// Section 5.3.3, 5.4.1: "up to some W number of bytes (because the size is unknown)"; 5.5.1, 5.6.1: "up to either the number
/// of bytes specified in the timestamp metadata file [5.6.1: snapshot], or some Y number of bytes".
pub(crate) fn check_size(role: &str, bytes: &[u8], limit: u64) -> Result<(), TrustError> {
    let found = bytes.len() as u64;
    if found > limit {
        return Err(TrustError::TooLong { role: role.into(), limit, found });
    }
    Ok(())
}

fn unread(role: &str, cause: ParseError) -> TrustError {
    match cause {
        ParseError::Duplicate(field) => TrustError::DuplicateField { role: role.into(), field },
        ParseError::NotJson(cause) => TrustError::NotJson { role: role.into(), cause },
    }
}

fn decode<T: Signed>(role: &str, signed: Value) -> Result<T, TrustError> {
    let text = |field: &str| signed.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found = text("_type");
    if found != T::TYPE {
        return Err(TrustError::WrongType { role: role.into(), expected: T::TYPE.into(), found });
    }
    // Section 4.3: "clients MUST verify that "spec_version" matches the expected version number."
    let spec_version = text("spec_version");
    if !reads_spec(&spec_version) {
        return Err(TrustError::UnknownSpecVersion { role: role.into(), found: spec_version });
    }
    let malformed = |cause: String| TrustError::Malformed { role: role.into(), cause };
    let metadata: T = serde_json::from_value(signed).map_err(|cause| malformed(cause.to_string()))?;
    metadata.check().map_err(malformed)?;
    Ok(metadata)
}

/// `1.x.y`, and `1.x` as older tools wrote it.
fn reads_spec(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let numeric = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.len(), 2 | 3) && parts.iter().all(numeric) && parts.first() == Some(&"1")
}

/// Section 5.3.10, 5.4.4, 5.5.6, 5.6.5: "Check for a freeze attack. The expiration timestamp … MUST be higher than the
/// fixed update start time."
pub(crate) fn check_expiry<T: Signed>(role: &str, metadata: &T, now: i64) -> Result<(), TrustError> {
    let expires = metadata.expires();
    if expires <= now {
        return Err(TrustError::Expired { role: role.into(), expires, now });
    }
    Ok(())
}
