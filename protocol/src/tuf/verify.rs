//! From bytes to metadata that a threshold of keys signed.
//!
//! The order is fixed: size, then length and digest where they are listed (by the caller), then signatures, then the
//! content. A signature is checked over the canonical form of the value as it came, so nothing of the content is
//! believed before the threshold is met.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::MAX_METADATA_LEN;
use super::canonical::{self, ParseError};
use super::error::TrustError;
use super::key::PublicKey;
use super::schema::{Key, Role, Signed};

/// One signature of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// A message taken apart, of which nothing is believed yet.
#[derive(Debug)]
pub(crate) struct Envelope {
    signatures: BTreeMap<String, String>,
    signed: Value,
    canonical: Vec<u8>,
}

impl Envelope {
    /// Takes a message apart. `role` names it in errors.
    pub(crate) fn parse(role: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        check_size(role, bytes, MAX_METADATA_LEN)?;
        let mut message = canonical::parse(bytes).map_err(|cause| unread(role, cause))?;
        let malformed = |cause: &str| TrustError::Malformed { role: role.into(), cause: cause.into() };
        let fields = message.as_object_mut().ok_or_else(|| malformed("metadata is a JSON object"))?;
        let signed = fields.remove("signed").ok_or_else(|| malformed("signed is missing"))?;
        let listed = fields.remove("signatures").ok_or_else(|| malformed("signatures is missing"))?;
        let listed: Vec<Signature> = serde_json::from_value(listed).map_err(|cause| malformed(&cause.to_string()))?;
        let mut signatures = BTreeMap::new();
        for signature in listed {
            // Section 4.2.1: "The keyid MUST be unique in the "signatures" array: multiple signatures with the same
            // keyid are not allowed."
            if signatures.insert(signature.keyid.clone(), signature.sig).is_some() {
                return Err(TrustError::DuplicateSignature { role: role.into(), key_id: signature.keyid });
            }
        }
        let canonical = canonical::encode(&signed).ok_or_else(|| TrustError::NotCanonical { role: role.into() })?;
        Ok(Self { signatures, signed, canonical })
    }

    /// Section 5.3.4, 5.4.2, 5.5.3, 5.6.3: "Check for an arbitrary software attack. … MUST have been signed by a
    /// THRESHOLD of keys … When computing the THRESHOLD each KEY MUST only contribute one SIGNATURE."
    ///
    /// Key ids are opaque, so the keys themselves are counted: one key under two ids counts once.
    pub(crate) fn verify(&self, name: &str, role: &Role, keys: &BTreeMap<String, Key>) -> Result<(), TrustError> {
        let mut valid = BTreeSet::new();
        for key_id in &role.keyids {
            let key = keys.get(key_id).and_then(PublicKey::of);
            let (Some(key), Some(signature)) = (key, self.signatures.get(key_id)) else { continue };
            if !valid.contains(&key) && key.signed(&self.canonical, signature) {
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

    /// The signed value and the signatures, for adding to them.
    #[cfg(feature = "author")]
    pub(crate) fn into_parts(self) -> (Value, Vec<(String, String)>) {
        (self.signed, self.signatures.into_iter().collect())
    }

    /// The same as `decode` without giving the envelope away.
    pub(crate) fn peek<T: Signed>(&self, role: &str) -> Result<T, TrustError> {
        decode(role, self.signed.clone())
    }
}

/// Section 5.3.3, 5.4.1, 5.5.1, 5.6.1: "Download … up to some number of bytes".
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
