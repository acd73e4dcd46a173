//! RSA public keys as PEM, and RSASSA-PSS with SHA-256 over them.
//!
//! Invariant: a key is kept as its two numbers, so that one key has one form however its PEM is written.
//! Limits: 2048 to 8192 bits, a salt as long as the digest; what is outside of that never verifies.

use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// The algorithm rsaEncryption with its NULL (RFC 8017, A.1).
const RSA_ENCRYPTION: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// An RSA public key: two numbers, big-endian, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`; `None` for anything but an RSA key.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        Self::from_der(SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?.as_ref())
    }

    fn from_der(info: &[u8]) -> Option<Self> {
        let (algorithm, rest) = element(SEQUENCE, alone(SEQUENCE, info)?)?;
        let bits = alone(BIT_STRING, rest)?;
        // RFC 8017, A.1.1: RSAPublicKey is a sequence of modulus and publicExponent; no bit of its last octet is unused.
        let numbers = alone(SEQUENCE, bits.strip_prefix(&[0])?)?;
        let (modulus, rest) = element(INTEGER, numbers)?;
        let key = Self { modulus: unsigned(modulus)?, exponent: unsigned(alone(INTEGER, rest)?)? };
        (algorithm == RSA_ENCRYPTION).then_some(key)
    }

    /// Whether this is the key's signature over `message`.
    ///
    /// TUF, section 4.2.2: "All RSA keys MUST be at least 2048 bits."
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let components = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        components.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
    }
}

/// The content of the one element that `input` is.
fn alone(tag: u8, input: &[u8]) -> Option<&[u8]> {
    element(tag, input).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// The content of the first element in `input`, and what follows it. Lengths up to 65535, in their shortest form (X.690).
fn element(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match input.strip_prefix(&[tag])? {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A number above zero without its sign octet; `None` where it is negative, zero, or longer than it need be.
fn unsigned(integer: &[u8]) -> Option<Vec<u8>> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Some(rest.to_vec()),
        [1..=0x7f, ..] => Some(integer.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// Made with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvVJB0vvCMNRqpZpuEgtZ
iaIuAXzSyFC6oe3g2M8SoYrj+H+ZcGe0Hr3FN7D6Yip3NrbrdL749H3f6UsPd5AM
sVJu7D/mQaV/LWR7+lrFoLK6Yt6xrC/7kxHn4LZ3h8bt8G2f4/n9+0WOqgplCl5/
/0ATfovKuf2kawMQqXMr7bOJZoA88Um3Aw0V1Qs49gOdJ/0TdBdbJqImqoIcwC8L
u3OUYL0CGWJb9E+4ukGyijGtfidMSeW9P9SmGrKnVEweutSRlocyXx+DCgDZUzCx
xzxwFED2XoomISMTiteTGZ/ugQudzEHSj+mN0N0e9lHIXgQ/bs3E1x76OuILnPb/
6QIDAQAB
-----END PUBLIC KEY-----
";
    /// `openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32` over `message`.
    const SIGNATURE: &str = "97629745699ea93a14608e1d6de0792e365a2d993dbdc3badc5cda77bbd27513a4cb14c939ad47bfdc1703df774208ed9142c1e2ac251b0c788ec7d338f521b5bd2285f5904cbe1260f47351671ae3e5fa4c401f3ed73841f173a54ba6bf212ec9eb7cff1fb4c05157b5684bdb0b5759cf9f36a32375df5998cc15887bbf98896703dfaba6ac44574815e70e430825bcdd85bfaada3737ff7d1554c7baa62443e5c32f878e59e6bca4ad498fcf4d2f55bbea0aee8a942e37cbcc3c94b9ae0541f4b2e3c6eee62300972298a33b833a342bc62c77b1eb878dd9d04903d379a0ce3d77b2d6a38f2fe0156cc14731f3306948fae94bc5373c21114e733f2e62acdf";
    /// A key of 1024 bits, and its signature over `message`.
    const SHORT: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDM947msV2AIulwfkYJ3g7KR/Ay
EiWLbafR8p+3ymGGITRbWvWy4JxG6zj3mei0fMUC8bFsW9SE2KWo0PJFbB9XP3+E
prJ9HcFWUP//owdjEa//AaFHhdbO2w9iJwDLsc4qqg6FQFG776txowT8MB2P+1B3
IP1IKvMod+pg5FNcMwIDAQAB
-----END PUBLIC KEY-----
";
    const SHORT_SIGNATURE: &str = "c805b264cf15addf32d54fc9e852bee8a24ed8785ca98c7defd8cbd3d8ce446146f99b60e3743d47813a997ef7af7437c00c53299db8c8920aed83f42c6902586224db2d5ae3bc4e5578c0a823f18f8a90a94f6ae4b114eb724b35432e16ec7699b4c725ac3da5951acae109a563b4f09aca7d67682e5deebd30fb7f403ee3df";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn checks_a_signature_of_openssl() {
        let key = RsaKey::from_pem(PUBLIC).unwrap();
        let mut signature = bytes(SIGNATURE);
        assert!(key.signed(b"message", &signature));
        assert!(!key.signed(b"massage", &signature));
        assert!(!key.signed(b"message", &[]));
        signature[9] ^= 1;
        assert!(!key.signed(b"message", &signature));
    }

    #[test]
    fn a_key_of_1024_bits_signs_nothing() {
        let key = RsaKey::from_pem(SHORT).unwrap();
        assert!(!key.signed(b"message", &bytes(SHORT_SIGNATURE)));
    }

    #[test]
    fn one_key_has_one_form_however_its_lines_are_broken() {
        let [head, body @ .., tail] = &PUBLIC.lines().collect::<Vec<_>>()[..] else { panic!() };
        let one_line = format!("{head}\n{}\n{tail}\n", body.concat());
        assert_eq!(RsaKey::from_pem(&one_line), RsaKey::from_pem(PUBLIC));
    }

    #[test]
    fn a_key_of_another_algorithm_is_none() {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(PUBLIC.as_bytes()).unwrap().as_ref().to_vec();
        assert_eq!(RsaKey::from_der(&der), RsaKey::from_pem(PUBLIC));
        // The last number of the algorithm: 1 is rsaEncryption, 10 would be a key for RSASSA-PSS with parameters of its own.
        assert_eq!(der[16], 1);
        let pss = [&der[..16], &[10], &der[17..]].concat();
        assert_eq!(RsaKey::from_der(&pss), None);
        assert_eq!(RsaKey::from_der(&[&der[..], &[0]].concat()), None, "nothing may follow");
    }

    #[test]
    fn numbers_are_read_in_their_shortest_form_alone() {
        assert_eq!(unsigned(&[1, 0, 1]), Some(vec![1, 0, 1]));
        assert_eq!(unsigned(&[0, 0x80]), Some(vec![0x80]));
        for wrong in [&[][..], &[0], &[0, 1], &[0, 0, 0x80], &[0x80, 1]] {
            assert_eq!(unsigned(wrong), None, "{wrong:?}");
        }
        assert_eq!(element(INTEGER, &[2, 1, 7, 9]), Some((&[7][..], &[9][..])));
        for wrong in [&[][..], &[2], &[2, 2, 7], &[3, 1, 7], &[2, 0x81, 1, 7], &[2, 0x82, 0, 1, 7], &[2, 0x80, 0, 0]] {
            assert_eq!(element(INTEGER, wrong), None, "{wrong:?}");
        }
        assert_eq!(alone(INTEGER, &[2, 1, 7, 9]), None);
    }

    proptest! {
        #[test]
        fn never_panics(der in proptest::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, flip in 1..=255_u8) {
            alone(SEQUENCE, &der);
            let mut pem = PUBLIC.as_bytes().to_vec();
            let at = at.index(pem.len());
            pem[at] ^= flip;
            if let Some(key) = RsaKey::from_pem(&String::from_utf8_lossy(&pem)) {
                prop_assert!(!key.signed(b"massage", &bytes(SIGNATURE)));
            }
        }
    }
}
