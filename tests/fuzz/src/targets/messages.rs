//! Topics, commands, and what supervisor and worker say to each other.

use sanderling_protocol::{
    command::{Command, CommandError, MAX_REQUEST},
    topics::Topics,
    worker::{FromWorker, Inbox, MAX_MESSAGE, MAX_RECORD, MAX_STATE_KEY, MAX_STATE_VALUE, ToWorker},
};

/// The name of a command, a line feed, and the request.
pub fn command(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let request = parts.next().unwrap_or_default();
    match Command::parse(&name, request) {
        Ok(_) => assert!(request.len() <= MAX_REQUEST),
        Err(CommandError::TooLong(length)) => assert_eq!(length, request.len()),
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

/// A topic. One that is ours is written as it was read.
pub fn topic(bytes: &[u8]) {
    let Ok(topic) = std::str::from_utf8(bytes) else { return };
    let topics = Topics::default();
    if let Some(what) = topics.parse_published(topic) {
        assert_eq!(topics.published(&what), topic);
    }
    if let Some((device, rest)) = topics.parse_device(topic) {
        assert_eq!(topics.device(&device, rest), topic);
    }
    if let Ok(topics) = Topics::new(topic) {
        assert!(!topic.contains(['+', '#']) && topics.prefix() == topic);
    }
}

/// How many bytes come at a time, then a stream of messages.
///
/// The stream is cut into the same messages however it comes, what waits is bounded, what is understood is written as it was read, and what is
/// not is not quoted at length.
pub fn worker(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step).max(1);
    let whole = cut(stream, stream.len().max(1));
    assert_eq!(cut(stream, step), whole);
    for (tag, body) in whole {
        let read = FromWorker::decode((tag, &body));
        if let Err(error) = &read {
            assert!(error.to_string().len() < 1024, "{error}");
        }
        if let Ok(message) = read {
            match message {
                FromWorker::Emit { payload, .. } => assert!(payload.len() <= MAX_RECORD),
                FromWorker::StateSet { key, value } => {
                    assert!((1..=MAX_STATE_KEY).contains(&key.len()) && value.len() <= MAX_STATE_VALUE);
                }
                _ => {}
            }
            let mut out = Vec::new();
            message.encode(&mut out);
            let again = FromWorker::decode((out[4], &out[5..])).expect("what was written");
            assert_eq!(again, message);
        }
        if let Ok(message) = ToWorker::decode((tag, &body)) {
            let mut out = Vec::new();
            message.encode(&mut out);
            assert_eq!(ToWorker::decode((out[4], &out[5..])).expect("what was written"), message);
        }
    }
}

fn cut(stream: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
    let mut inbox = Inbox::default();
    let mut messages = Vec::new();
    for part in stream.chunks(step) {
        let mut part = part;
        while !part.is_empty() {
            let space = inbox.space();
            let length = part.len().min(space.len());
            space[..length].copy_from_slice(&part[..length]);
            inbox.filled(length);
            part = &part[length..];
            loop {
                match inbox.next() {
                    Ok(Some((tag, body))) => {
                        assert!(body.len() < MAX_MESSAGE);
                        messages.push((tag, body.to_vec()));
                    }
                    Ok(None) => break,
                    Err(_) => return messages,
                }
            }
        }
    }
    messages
}
