//! What messages are made of: a frame around parts, and the parts, checked when they are read.

use super::{
    super::{check_key, check_value},
    WireError,
};

/// A parser quotes what it does not understand, which may be as long as a message: so many characters are kept.
const MAX_REASON: usize = 200;

pub(super) fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.push(tag);
    for part in parts {
        out.extend_from_slice(part);
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes();
    put(out, tag, &[&length, key, value]);
}

/// A key and a value, held to their lengths.
pub(super) fn take_entry(tag: u8, body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let wrong = || WireError::Body { tag, length: body.len() };
    let (key, value) = take_prefixed(body).ok_or_else(wrong)?;
    check_key(key).and_then(|()| check_value(value)).map_err(|_| wrong())?;
    Ok((key, value))
}

/// What a length of two bytes stands before, and the rest.
pub(super) fn take_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

pub(super) fn put_json(out: &mut Vec<u8>, tag: u8, value: &impl serde::Serialize) {
    // Our own types, with string keys throughout: writing them to memory has no way to fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    put(out, tag, &[&body]);
}

pub(super) fn get_json<T: serde::de::DeserializeOwned>(tag: u8, body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|error| {
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        WireError::Json { tag, reason: error.to_string().chars().map(shown).take(MAX_REASON).collect() }
    })
}

pub(super) fn empty(tag: u8, body: &[u8]) -> Result<(), WireError> {
    if body.is_empty() { Ok(()) } else { Err(WireError::Body { tag, length: body.len() }) }
}

pub(super) fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

pub(super) fn text(tag: u8, bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Text { tag })
}
