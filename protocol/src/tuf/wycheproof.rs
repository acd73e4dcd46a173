//! The signatures of project Wycheproof, through the keys of TUF: public key as metadata carries it, signature in hexadecimal digits.
//!
//! Ours, by the specification (section 4.2): ed25519; ECDSA on P-256 with SHA-256, the signature in DER; RSASSA-PSS with SHA-256 and a salt
//! of 32 bytes. A vector is valid or invalid; none of these sets calls one merely acceptable, and one that did would be refused: who signs
//! metadata can sign it properly, and a second spelling of a signature is of no use to anyone honest.

use serde_json::{Map, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pss_verify as rsa};

use super::key::PublicKey;
use super::schema::Key;

fn key(keytype: &str, scheme: &str, public: &str) -> Key {
    Key { keytype: keytype.into(), scheme: scheme.into(), keyval: json!({ "public": public }), other: Map::new() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Valid vectors that were accepted, and others that were refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tally {
    fn put(&mut self, key: Option<&PublicKey>, case: (usize, &str, TestResult), message: &[u8], signature: &[u8]) {
        let (number, comment, expected) = case;
        let accepted = key.is_some_and(|key| key.signed(message, &hex(signature)));
        let should = expected == TestResult::Valid;
        assert_eq!(accepted, should, "vector {number}, which is {expected:?}: {comment}");
        if accepted { self.accepted += 1 } else { self.refused += 1 }
    }
}

#[test]
fn ed25519_is_checked_as_wycheproof_wants_it() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut tally = Tally::default();
    for group in &set.test_groups {
        let public = PublicKey::of(&key("ed25519", "ed25519", &hex(&group.key.pk)));
        for test in &group.tests {
            tally.put(public.as_ref(), (test.tc_id, &test.comment, test.result), &test.msg, &test.sig);
        }
    }
    assert_eq!(tally.accepted + tally.refused, set.number_of_tests);
    assert!(tally.accepted > 80 && tally.refused > 50, "{tally:?}");
}

fn p256(name: ecdsa::TestName, judge: impl Fn(TestResult) -> TestResult) -> Tally {
    let set = ecdsa::TestSet::load(name).unwrap();
    let mut tally = Tally::default();
    for group in &set.test_groups {
        let public = PublicKey::of(&key("ecdsa", "ecdsa-sha2-nistp256", &group.pem));
        for test in &group.tests {
            tally.put(public.as_ref(), (test.tc_id, &test.comment, judge(test.result)), &test.msg, &test.sig);
        }
    }
    assert_eq!(tally.accepted + tally.refused, set.number_of_tests);
    tally
}

#[test]
fn ecdsa_on_p256_is_checked_as_wycheproof_wants_it() {
    let tally = p256(ecdsa::TestName::EcdsaSecp256r1Sha256, |expected| expected);
    assert!(tally.accepted > 150 && tally.refused > 200, "{tally:?}");
}

#[test]
fn ecdsa_of_another_spelling_digest_or_curve_is_refused() {
    use ecdsa::TestName as Set;
    // As two plain numbers (IEEE P1363), which is not how TUF writes them.
    for name in [Set::EcdsaSecp256r1Sha256P1363, Set::EcdsaSecp256r1Sha512, Set::EcdsaSecp256r1Sha3_256] {
        assert!(p256(name, |_| TestResult::Invalid).refused > 200);
    }
    for name in [Set::EcdsaSecp256k1Sha256, Set::EcdsaSecp384r1Sha256] {
        for group in &ecdsa::TestSet::load(name).unwrap().test_groups {
            assert_eq!(PublicKey::of(&key("ecdsa", "ecdsa-sha2-nistp256", &group.pem)), None);
        }
    }
}

#[test]
fn rsa_pss_is_checked_as_wycheproof_wants_it() {
    use rsa::TestName as Set;
    let sets =
        [Set::RsaPss2048Sha256Mgf1SaltLen32, Set::RsaPss3072Sha256Mgf1SaltLen32, Set::RsaPss4096Sha256Mgf1SaltLen32];
    for name in sets {
        let set = rsa::TestSet::load(name).unwrap();
        let mut tally = Tally::default();
        for group in &set.test_groups {
            let public = PublicKey::of(&key("rsa", "rsassa-pss-sha256", &group.pem));
            for test in &group.tests {
                tally.put(public.as_ref(), (test.tc_id, &test.comment, test.result), &test.msg, &test.sig);
            }
        }
        assert_eq!(tally.accepted + tally.refused, set.number_of_tests);
        assert!(tally.accepted > 0 && tally.refused > 0, "{name:?}: {tally:?}");
    }
}
