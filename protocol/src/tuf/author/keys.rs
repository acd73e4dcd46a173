//! Private keys in PKCS#8 PEM, as OpenSSL writes and reads them.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, json};

use super::{AuthorError, Key, canonical, hex};
use crate::digest::Digest;
use crate::tuf::key::P256_SPKI;

/// Something that signs: a key in memory, or one that a token or a service keeps.
pub trait Signer {
    /// The public key, as metadata carries it.
    fn key(&self) -> Key;

    /// The signature over `message`, as the key's scheme encodes it.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorError>;
}

/// The id under which a key is listed: SHA-256 over the canonical form of the key, in hexadecimal digits, as python-tuf makes it.
pub fn key_id(key: &Key) -> Result<String, AuthorError> {
    let value = json!({ "keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval });
    let unwritable = || AuthorError::Unwritable("a key holds a number that is not a 64-bit integer".into());
    Ok(Digest::of(&canonical::encode(&value).ok_or_else(unwritable)?).to_string())
}

/// The kinds of keys that can be made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
}

/// A private key in memory.
pub struct KeyPair {
    pair: Pair,
    pkcs8: Vec<u8>,
    random: SystemRandom,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// Makes a new key.
    pub fn generate(kind: KeyKind, random: &SystemRandom) -> Result<Self, AuthorError> {
        let made = match kind {
            KeyKind::Ed25519 => ed25519_pkcs8(random)?,
            KeyKind::EcdsaP256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)
                .map_err(|_| AuthorError::Crypto("make a key"))?
                .as_ref()
                .to_vec(),
        };
        Self::from_pkcs8(&made, random)
    }

    /// Reads `-----BEGIN PRIVATE KEY-----`.
    pub fn from_pem(pem: &str, random: &SystemRandom) -> Result<Self, AuthorError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|cause| AuthorError::BadKey(cause.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der(), random)
    }

    fn from_pkcs8(der: &[u8], random: &SystemRandom) -> Result<Self, AuthorError> {
        // OpenSSL writes ed25519 keys without the public half; it is computed then.
        let pair = match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => Pair::Ed25519(pair),
            Err(_) => Pair::EcdsaP256(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, random)
                    .map_err(|cause| AuthorError::BadKey(cause.to_string()))?,
            ),
        };
        Ok(Self { pair, pkcs8: der.to_vec(), random: random.clone() })
    }

    /// The private key as `-----BEGIN PRIVATE KEY-----`. Whoever has this text can sign.
    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Which kind of key this is.
    pub fn kind(&self) -> KeyKind {
        match self.pair {
            Pair::Ed25519(_) => KeyKind::Ed25519,
            Pair::EcdsaP256(_) => KeyKind::EcdsaP256,
        }
    }

    /// The id under which metadata lists the public key.
    pub fn key_id(&self) -> Result<String, AuthorError> {
        key_id(&self.key())
    }
}

impl Signer for KeyPair {
    fn key(&self) -> Key {
        let (keytype, scheme, public) = match &self.pair {
            Pair::Ed25519(pair) => ("ed25519", "ed25519", hex(pair.public_key().as_ref())),
            Pair::EcdsaP256(pair) => {
                let info = [&P256_SPKI, pair.public_key().as_ref()].concat();
                ("ecdsa", "ecdsa-sha2-nistp256", pem("PUBLIC KEY", &info))
            }
        };
        Key { keytype: keytype.into(), scheme: scheme.into(), keyval: json!({ "public": public }), other: Map::new() }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::EcdsaP256(pair) => match pair.sign(&self.random, message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(AuthorError::Crypto("sign")),
            },
        }
    }
}

/// A new key as PKCS#8 version 1 (RFC 8410): OpenSSL does not read the version 2 that ring writes.
fn ed25519_pkcs8(random: &SystemRandom) -> Result<Vec<u8>, AuthorError> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let seed: [u8; 32] = ring::rand::generate(random).map_err(|_| AuthorError::Crypto("make a key"))?.expose();
    Ok([&HEAD[..], &seed].concat())
}

/// RFC 7468: base64 in lines of 64 characters between two labels.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        text.extend(line.chunks(3).flat_map(base64));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// RFC 4648, section 4: up to three bytes as four characters.
fn base64(bytes: &[u8]) -> [char; 4] {
    let at = |index: usize| u32::from(bytes.get(index).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    let character = |index: usize| match (bits >> (18 - 6 * index)) & 63 {
        _ if index > bytes.len() => '=',
        value @ 0..26 => digit(b'A', value),
        value @ 26..52 => digit(b'a', value - 26),
        value @ 52..62 => digit(b'0', value - 52),
        62 => '+',
        _ => '/',
    };
    [character(0), character(1), character(2), character(3)]
}

fn digit(first: u8, offset: u32) -> char {
    char::from_u32(u32::from(first) + offset).unwrap_or('=')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::tuf::key::PublicKey;

    #[test]
    fn keys_survive_their_pem_and_sign_what_verifies() {
        let random = SystemRandom::new();
        for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
            let made = KeyPair::generate(kind, &random).unwrap();
            let read = KeyPair::from_pem(&made.to_pem(), &random).unwrap();
            assert_eq!(read.kind(), kind);
            assert_eq!(read.key_id().unwrap(), made.key_id().unwrap());
            let public = PublicKey::of(&made.key()).unwrap();
            let signature = hex(&read.sign(b"message").unwrap());
            assert!(public.signed(b"message", &signature));
            assert!(!public.signed(b"massage", &signature));
        }
    }

    #[test]
    fn reads_a_key_of_openssl_without_its_public_half() {
        // `openssl genpkey -algorithm ed25519` of the secret key of RFC 8032, test 2.
        let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----\n";
        let key = KeyPair::from_pem(text, &SystemRandom::new()).unwrap().key();
        assert_eq!(key.keyval["public"], "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    }

    #[test]
    fn refuses_what_is_no_private_key() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(KeyPair::from_pem(text, &SystemRandom::new()), Err(AuthorError::BadKey(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn pem_round_trips(der in proptest::collection::vec(any::<u8>(), 1..200)) {
            let read = PrivatePkcs8KeyDer::from_pem_slice(pem("PRIVATE KEY", &der).as_bytes()).unwrap();
            prop_assert_eq!(read.secret_pkcs8_der(), der);
        }
    }
}
