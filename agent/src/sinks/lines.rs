//! A record as text and bytes, as files and sockets give it.
//!
//! As a line: one JSON object that says when, by whom and in which frame it was emitted, then what: a payload of JSON under
//! `payload`, as it is; other text under `text`; anything else under `base64`. Line breaks between the tokens of a payload
//! become blanks, so that a record is one line whatever a module emits.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::IgnoredAny;

use super::Record;

/// Every line begins so: what a power cut left of one is recognised by it.
pub(super) const BEGINNING: &[u8] = b"{\"at_ms\":";

/// Appends a record as a line.
pub(super) fn put_line(record: &Record, to: &mut Vec<u8>) {
    put_head(record, to);
    let text = std::str::from_utf8(&record.payload);
    match text {
        Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            to.extend_from_slice(b",\"payload\":");
            // Within a JSON string no line break can stand.
            to.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        Ok(text) => {
            to.extend_from_slice(b",\"text\":");
            to.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        }
        Err(_) => {
            to.extend_from_slice(b",\"base64\":\"");
            to.extend_from_slice(STANDARD.encode(&record.payload).as_bytes());
            to.push(b'"');
        }
    }
    to.extend_from_slice(b"}\n");
}

/// Appends a record as a frame: the length of what follows (u32, little-endian), the length of a head (u16), the head (the JSON
/// object of a line, without the payload), the payload.
pub(super) fn put_frame(record: &Record, to: &mut Vec<u8>) {
    let mut head = Vec::new();
    put_head(record, &mut head);
    head.push(b'}');
    let length = 2_usize.saturating_add(head.len()).saturating_add(record.payload.len());
    // A head has at most 200 bytes, a payload what a message to the worker carries.
    let (Ok(length), Ok(head_length)) = (u32::try_from(length), u16::try_from(head.len())) else { return };
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&head_length.to_le_bytes());
    to.extend_from_slice(&head);
    to.extend_from_slice(&record.payload);
}

fn put_head(record: &Record, to: &mut Vec<u8>) {
    let (at, seq) = (record.at_ms, record.seq);
    // Names of modules and channels have no character that JSON escapes.
    let (module, channel) = (&record.origin.module, &record.origin.channel);
    to.extend_from_slice(BEGINNING);
    to.extend_from_slice(format!("{at},\"module\":\"{module}\",\"channel\":\"{channel}\",\"seq\":{seq}").as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sinks::fake::record;

    fn line(payload: &[u8]) -> Value {
        let mut bytes = Vec::new();
        put_line(&record("m", "c", payload), &mut bytes);
        assert!(bytes.starts_with(BEGINNING));
        assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(bytes.len() - 1), "one line");
        assert!(!bytes.contains(&b'\r'));
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_it_is() {
        let found = line(b"{\r\n  \"a\": [1,\n 2.50, \"x\\ny\"]\n}");
        assert_eq!(found["payload"], json!({ "a": [1, 2.5, "x\ny"] }));
        assert_eq!((&found["module"], &found["channel"]), (&json!("m"), &json!("c")));
        assert_eq!((&found["at_ms"], &found["seq"]), (&json!(1_000), &json!(7)));
        assert_eq!(line(b"null")["payload"], Value::Null);
        assert_eq!(line(b"too hot\n\"now\"")["text"], json!("too hot\n\"now\""));
        assert_eq!(line(b"")["text"], json!(""));
        assert_eq!(line(b"\xff\xd8\x00")["base64"], json!("/9gA"));
        assert_eq!(line(b"\"\xff\"")["base64"], json!("Iv8i"), "JSON is UTF-8");
    }

    #[test]
    fn numbers_are_passed_on_digit_by_digit() {
        let mut bytes = Vec::new();
        put_line(&record("m", "c", b"[1e400,12345678901234567890123]"), &mut bytes);
        assert!(String::from_utf8(bytes).unwrap().ends_with(",\"payload\":[1e400,12345678901234567890123]}\n"));
    }

    #[test]
    fn a_frame_says_its_length_and_carries_any_payload() {
        let mut bytes = Vec::new();
        put_frame(&record("m", "c", b"\x00\n\xff"), &mut bytes);
        let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*length) as usize, rest.len());
        let (head, rest) = rest.split_first_chunk::<2>().unwrap();
        let (head, payload) = rest.split_at(usize::from(u16::from_le_bytes(*head)));
        let head: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head, json!({ "at_ms": 1000, "module": "m", "channel": "c", "seq": 7 }));
        assert_eq!(payload, b"\x00\n\xff");
    }
}
