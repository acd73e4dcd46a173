//! Mutations that know nothing of what the bytes mean.

use crate::random::Random;

/// What stands for itself in JSON, and what numbers like to be mistaken for.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"0",
    b"1",
    b"9",
    b"-",
    b".0",
    b"e0",
    b"null",
    b"true",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\u0061",
    b"\x28\xb5\x2f\xfd",
];

/// Changes `bytes` in one way; `other` is a message from which a part may be taken.
pub(crate) fn mutate_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.few(32)).min(bytes.len());
    match random.below(12) {
        0..=2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => {
            let value = random.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        // One digit is another: versions, lengths, digests and signatures.
        4 | 5 => {
            let digit = random.of(b"0123456789abcdef").copied().unwrap_or(b'0');
            let found = bytes.get_mut(at..).into_iter().flatten().find(|byte| byte.is_ascii_hexdigit());
            if let Some(found) = found {
                *found = digit;
            }
        }
        6 => drop(bytes.drain(at.min(end)..end)),
        7 => drop(bytes.splice(at..at, random.of(TOKENS).copied().unwrap_or_default().to_vec())),
        8 => {
            let part = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        9 => {
            let from = random.below(other.len() + 1);
            let to = (from + random.few(200)).min(other.len());
            let part = other.get(from..to).unwrap_or_default().to_vec();
            bytes.splice(at..end.max(at), part);
        }
        10 => bytes.truncate(at),
        _ => {
            let length = random.few(16);
            bytes.extend((0..length).map(|_| random.byte()));
        }
    }
}
