//! Keys that are the same in every run. They are for tests: everybody knows them.

use std::sync::LazyLock;

use ring::rand::SystemRandom;
use sanderling_protocol::tuf::author::{KeyPair, Signer};

/// Who holds which key.
pub(crate) mod holder {
    pub(crate) const ROOT: [usize; 3] = [0, 1, 2];
    pub(crate) const TIMESTAMP: [usize; 1] = [3];
    pub(crate) const SNAPSHOT: [usize; 1] = [4];
    pub(crate) const TARGETS: [usize; 2] = [5, 6];
    pub(crate) const RELEASES: [usize; 3] = [7, 8, 9];
    pub(crate) const DEPLOYMENTS: [usize; 1] = [10];
    /// No role trusts these.
    pub(crate) const NOBODY: [usize; 2] = [11, 12];

    /// The keys of a role.
    pub(crate) fn of(role: &str) -> &'static [usize] {
        match role {
            "root" => &ROOT,
            "timestamp" => &TIMESTAMP,
            "snapshot" => &SNAPSHOT,
            "targets" => &TARGETS,
            "releases" => &RELEASES,
            _ => &DEPLOYMENTS,
        }
    }
}

static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| (1..=13).map(ed25519).collect());

/// The keys, by the numbers in [`holder`].
pub(crate) fn signers(numbers: &[usize]) -> Vec<&'static dyn Signer> {
    numbers.iter().map(|number| &KEYS[*number] as &dyn Signer).collect()
}

/// RFC 8410: a private key of 32 times the byte `seed`.
fn ed25519(seed: u8) -> KeyPair {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let der = [&HEAD[..], &[seed; 32]].concat();
    // 48 bytes: base64 without padding.
    let text: String = der
        .chunks(3)
        .flat_map(|three| {
            let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift) & 63]))
        })
        .collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    KeyPair::from_pem(&pem, &SystemRandom::new()).unwrap()
}
