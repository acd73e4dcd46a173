//! Public keys that can be checked against: the three kinds that the specification defines, ed25519, ECDSA on P-256 with
//! SHA-256, and RSASSA-PSS with SHA-256.
//!
//! A key of any other type, or one that does not parse, is no error: it never counts towards a threshold, and the
//! other keys of its role still may. Invariant: two spellings of one key are equal, so that a threshold counts it once.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use super::rsa::RsaKey;
use super::schema::Key;

/// A `SubjectPublicKeyInfo` of P-256 up to its point: the algorithm id-ecPublicKey, the curve prime256v1, a bit string (RFC 5480).
pub(crate) const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: 4, x, y.
const P256_POINT_LEN: usize = 65;

/// A public key of a known type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PublicKey {
    Ed25519([u8; 32]),
    P256(Vec<u8>),
    Rsa(RsaKey),
}

impl PublicKey {
    /// The key, or `None` if its type is not known or its value is none of that type.
    pub(crate) fn of(key: &Key) -> Option<Self> {
        let public = key.keyval.get("public")?.as_str()?;
        match (key.keytype.as_str(), key.scheme.as_str()) {
            ("ed25519", "ed25519") => Some(Self::Ed25519(unhex(public)?.try_into().ok()?)),
            // python-tuf wrote the scheme as the key type until 2023.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => p256(public).map(Self::P256),
            ("rsa", "rsassa-pss-sha256") => RsaKey::from_pem(public).map(Self::Rsa),
            _ => None,
        }
    }

    /// Whether `signature` (hexadecimal) is this key's over `message`.
    pub(crate) fn signed(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok(),
            Self::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, &signature).is_ok(),
            Self::Rsa(key) => key.signed(message, &signature),
        }
    }
}

fn p256(pem: &str) -> Option<Vec<u8>> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let point = info.as_ref().strip_prefix(&P256_SPKI)?;
    (point.len() == P256_POINT_LEN && point.first() == Some(&4)).then(|| point.to_vec())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// RFC 8032, test 2.
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn key(keytype: &str, scheme: &str, public: &str) -> Key {
        let (keytype, scheme) = (keytype.to_owned(), scheme.to_owned());
        Key { keytype, scheme, keyval: json!({ "public": public }), other: Map::new() }
    }

    #[test]
    fn checks_the_vector_of_rfc_8032() {
        let public = PublicKey::of(&key("ed25519", "ed25519", PUBLIC)).unwrap();
        assert!(public.signed(&[0x72], SIGNATURE));
        assert!(!public.signed(&[0x73], SIGNATURE));
        assert!(!public.signed(&[0x72], ""));
        assert!(!public.signed(&[0x72], &SIGNATURE[1..]));
        assert!(!public.signed(&[0x72], &SIGNATURE.replace('9', "g")));
    }

    #[test]
    fn one_key_in_two_spellings_is_one_key() {
        let upper = key("ed25519", "ed25519", &PUBLIC.to_uppercase());
        assert_eq!(PublicKey::of(&upper), PublicKey::of(&key("ed25519", "ed25519", PUBLIC)));
    }

    #[test]
    fn knows_no_other_key() {
        for (keytype, scheme, public) in [
            ("rsa", "rsassa-pss-sha256", PUBLIC),
            ("rsa", "rsa-pkcs1v15-sha256", PUBLIC),
            ("sphincs-shake-128s", "sphincs-shake-128s", PUBLIC),
            ("ed25519", "ecdsa-sha2-nistp256", PUBLIC),
            ("ed25519", "ed25519", &PUBLIC[2..]),
            ("ed25519", "ed25519", "zz"),
            ("ecdsa", "ecdsa-sha2-nistp256", PUBLIC),
            ("ecdsa", "ecdsa-sha2-nistp384", PUBLIC),
        ] {
            assert_eq!(PublicKey::of(&key(keytype, scheme, public)), None, "{keytype} {scheme}");
        }
        let mut shapeless = key("ed25519", "ed25519", PUBLIC);
        shapeless.keyval = json!(["public"]);
        assert_eq!(PublicKey::of(&shapeless), None);
    }

    proptest! {
        #[test]
        fn never_panics(public: String, signature: String) {
            for (keytype, scheme) in
                [("ed25519", "ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "rsassa-pss-sha256")]
            {
                prop_assert_eq!(PublicKey::of(&key(keytype, scheme, &public)), None);
            }
            let public = PublicKey::of(&key("ed25519", "ed25519", PUBLIC)).unwrap();
            prop_assert!(!public.signed(b"message", &signature));
        }
    }
}
