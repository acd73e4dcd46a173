//! Pieces of something long, as they travel in answers: base64 in JSON.

use serde::{Deserialize, Serialize};

/// A piece is at most this long, in bytes: its answer stays under the 128 KiB of a message.
pub const PIECE: usize = 60 * 1024;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A piece of something long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where it begins.
    pub offset: u64,
    /// The length of the whole, in bytes.
    pub total: u64,
    /// The bytes, in base64.
    data: String,
}

impl Piece {
    /// The piece of `bytes` that begins at `offset` of `total`.
    pub fn of(bytes: &[u8], offset: u64, total: u64) -> Self {
        Self { offset, total, data: encode(bytes) }
    }

    /// Its bytes; `None` where they are not base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decode(self.data.as_bytes())
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        for (to, from) in three.iter_mut().zip(chunk) {
            *to = *from;
        }
        let [a, b, c] = three.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS.get((bits >> shift & 63) as usize).copied().unwrap_or(b'=');
            text.push(char::from(if place <= chunk.len() { digit } else { b'=' }));
        }
    }
    text
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (chunks, []) = text.as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(chunks.len() * 3);
    for (index, chunk) in chunks.iter().enumerate() {
        let padding = chunk.iter().rev().take_while(|digit| **digit == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 != chunks.len()) {
            return None;
        }
        let mut bits = 0;
        for digit in chunk.iter().take(4 - padding) {
            bits = bits << 6 | u32::try_from(DIGITS.iter().position(|known| known == digit)?).ok()?;
        }
        let [_, three @ ..] = (bits << (6 * padding)).to_be_bytes();
        bytes.extend_from_slice(three.get(..3 - padding)?);
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn is_base64_as_everybody_has_it() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xef, 0xbe], "/+++"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes);
        }
        let all: Vec<u8> = (0..=255).cycle().take(1001).collect();
        assert_eq!(decode(encode(&all).as_bytes()).unwrap(), all);
    }

    #[test]
    fn refuses_what_is_not_base64() {
        for text in ["Z", "Zg=", "Zg==Zg==", "Z===", "====", "Zm9\n", "Zm9v ", "=m9v"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
