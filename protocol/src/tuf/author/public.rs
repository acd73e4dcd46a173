//! Public keys as operators hand them over: as metadata carries them, or in the PEM that OpenSSL and key services write.

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, json};

use super::{AuthorError, Key, hex};
use crate::tuf::key::PublicKey;

/// A `SubjectPublicKeyInfo` of ed25519 up to its 32 bytes (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads a public key: the JSON object of TUF metadata, or `-----BEGIN PUBLIC KEY-----`, ed25519 or ECDSA on P-256.
///
/// # Errors
/// [`AuthorError::BadPublicKey`] for anything else, a private key among it.
pub fn read_public_key(text: &str) -> Result<Key, AuthorError> {
    let bad = |cause: String| AuthorError::BadPublicKey(cause);
    let key = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|cause| bad(cause.to_string()))?
    } else {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|cause| bad(cause.to_string()))?;
        let (keytype, scheme, public) = match info.as_ref().strip_prefix(&ED25519_SPKI) {
            Some(public) => ("ed25519", "ed25519", hex(public)),
            None => ("ecdsa", "ecdsa-sha2-nistp256", text.trim().to_owned() + "\n"),
        };
        Key { keytype: keytype.into(), scheme: scheme.into(), keyval: json!({ "public": public }), other: Map::new() }
    };
    match PublicKey::of(&key) {
        Some(_) => Ok(key),
        None => Err(bad(format!("{} {} is not a key that devices check", key.keytype, key.scheme))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ring::rand::SystemRandom;

    use super::*;
    use crate::tuf::author::{KeyKind, KeyPair, Signer as _, key_id};

    #[test]
    fn reads_what_metadata_and_what_openssl_write() {
        for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
            let key = KeyPair::generate(kind, &SystemRandom::new()).unwrap().key();
            let read = read_public_key(&serde_json::to_string(&key).unwrap()).unwrap();
            assert_eq!(read, key);
        }
        // `openssl pkey -pubout` of the key of RFC 8032, test 2.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n-----END PUBLIC KEY-----\n";
        let key = read_public_key(pem).unwrap();
        assert_eq!(key.keyval["public"], "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let p256 = KeyPair::generate(KeyKind::EcdsaP256, &SystemRandom::new()).unwrap().key();
        let read = read_public_key(p256.keyval["public"].as_str().unwrap()).unwrap();
        assert_eq!(key_id(&read).unwrap(), key_id(&p256).unwrap());
    }

    #[test]
    fn a_private_key_is_not_taken_for_a_public_one() {
        let private = KeyPair::generate(KeyKind::Ed25519, &SystemRandom::new()).unwrap().to_pem();
        for text in [private.as_str(), "", "{}", "{\"keytype\":\"rsa\",\"scheme\":\"rsassa\",\"keyval\":{}}"] {
            assert!(matches!(read_public_key(text), Err(AuthorError::BadPublicKey(_))), "{text}");
        }
    }
}
