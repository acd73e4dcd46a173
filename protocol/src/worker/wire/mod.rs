//! The messages on the socket between supervisor and worker, as bytes.
//!
//! A message is `length: u32 LE | tag: u8 | body`, where the length counts tag and body and is at most
//! [`MAX_MESSAGE`]. Rare messages carry JSON, those of the frame path a fixed little-endian layout.

use thiserror::Error;

use super::{Fault, FrameDone, MAX_RECORD, Metric, MetricKind, Ready, Start, check_key, check_metric, check_value};

/// The longest message, tag and body, in bytes. A [`Start`] with the largest deployment fits, and so does a record.
pub const MAX_MESSAGE: usize = 256 * 1024;

const LENGTH: usize = 4;

/// Why bytes from the other side are not a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The length prefix is zero or above [`MAX_MESSAGE`].
    #[error("a message of {length} bytes is outside 1..={MAX_MESSAGE}")]
    Length {
        /// What the prefix claims.
        length: usize,
    },
    /// No message has this tag in this direction.
    #[error("unknown message tag {tag}")]
    Tag {
        /// The tag that came.
        tag: u8,
    },
    /// The body ends before its fields do, or goes on after them.
    #[error("the body of message {tag} is {length} bytes long, which does not fit its fields")]
    Body {
        /// The message's tag.
        tag: u8,
        /// The length of its body.
        length: usize,
    },
    /// A text is not UTF-8.
    #[error("a text in message {tag} is not UTF-8")]
    Text {
        /// The message's tag.
        tag: u8,
    },
    /// A JSON body does not have the expected form.
    #[error("message {tag}: {reason}")]
    Json {
        /// The message's tag.
        tag: u8,
        /// What the parser says.
        reason: String,
    },
}

/// From the supervisor to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// Load this guest. Always the first message.
    Start(Box<Start>),
    /// A value that the module has kept; sent before [`ToWorker::Begin`] alone.
    State {
        /// Its key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Run the start function, then take frames.
    Begin,
    /// There are frames in the ring.
    Wake,
    /// Finish the frame at hand, call `sanderling_stop`, leave.
    Stop,
}

/// From a worker to the supervisor. Borrows from the receive buffer: nothing is allocated on the frame path.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker<'a> {
    /// The guest is loaded and instantiated.
    Ready(Ready),
    /// The start function has returned 0.
    Running,
    /// A record on a channel.
    Emit {
        /// The frame during which it was emitted; 0 from the start function.
        seq: u64,
        /// The channel's name.
        channel: &'a str,
        /// The record.
        payload: &'a [u8],
    },
    /// A line for the log.
    Log {
        /// 0 error, 1 warn, 2 info, 3 debug, 4 trace; higher is taken as trace.
        level: u8,
        /// The line.
        text: &'a str,
    },
    /// A frame was handled.
    FrameDone(FrameDone),
    /// A frame could not be given to the guest (an image that does not decode, a frame larger than its memory); the guest goes on.
    FrameRefused {
        /// The frame's sequence number.
        seq: u64,
        /// Why, for people.
        why: &'a str,
    },
    /// The guest called what it was not granted; sent once for each host function.
    Denied {
        /// The host function.
        function: &'a str,
    },
    /// The guest set a value of its durable state. Holds when the call is said to have ended well.
    StateSet {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// The guest deleted a value of its durable state. Holds when the call is said to have ended well.
    StateDelete {
        /// The key.
        key: &'a [u8],
    },
    /// A metric has this value now; a counter as counted by this worker. Sent for those that changed, at most every two seconds.
    Metric {
        /// Its name.
        name: &'a str,
        /// Its kind and value.
        metric: Metric,
    },
    /// The guest is over. The last message.
    Fault(Fault),
    /// The guest has stopped as asked. The last message.
    Stopped,
}

mod tag {
    pub(super) const START: u8 = 1;
    pub(super) const BEGIN: u8 = 2;
    pub(super) const WAKE: u8 = 3;
    pub(super) const STOP: u8 = 4;
    pub(super) const STATE: u8 = 5;
    pub(super) const READY: u8 = 65;
    pub(super) const RUNNING: u8 = 66;
    pub(super) const EMIT: u8 = 67;
    pub(super) const LOG: u8 = 68;
    pub(super) const FRAME_DONE: u8 = 69;
    pub(super) const FRAME_REFUSED: u8 = 70;
    pub(super) const DENIED: u8 = 71;
    pub(super) const FAULT: u8 = 72;
    pub(super) const STOPPED: u8 = 73;
    pub(super) const STATE_SET: u8 = 74;
    pub(super) const STATE_DELETE: u8 = 75;
    pub(super) const METRIC: u8 = 76;
}

impl ToWorker {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Start(start) => put_json(out, tag::START, start),
            Self::State { key, value } => put_entry(out, tag::STATE, key, value),
            Self::Begin => put(out, tag::BEGIN, &[]),
            Self::Wake => put(out, tag::WAKE, &[]),
            Self::Stop => put(out, tag::STOP, &[]),
        }
    }

    /// Reads a message as [`Inbox::next`] gives it.
    pub fn decode((tag, body): (u8, &[u8])) -> Result<Self, WireError> {
        match tag {
            tag::START => get_json(tag, body).map(|start| Self::Start(Box::new(start))),
            tag::STATE => {
                let (key, value) = take_entry(tag, body)?;
                Ok(Self::State { key: key.to_vec(), value: value.to_vec() })
            }
            tag::BEGIN => empty(tag, body).map(|()| Self::Begin),
            tag::WAKE => empty(tag, body).map(|()| Self::Wake),
            tag::STOP => empty(tag, body).map(|()| Self::Stop),
            tag => Err(WireError::Tag { tag }),
        }
    }
}

impl<'a> FromWorker<'a> {
    /// Appends the message to `out`. Texts and records are the caller's to bound; one that would pass [`MAX_MESSAGE`] is refused by the other side.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready(ready) => put_json(out, tag::READY, ready),
            Self::Running => put(out, tag::RUNNING, &[]),
            Self::Emit { seq, channel, payload } => {
                let channel_length = u16::try_from(channel.len()).unwrap_or(u16::MAX).to_le_bytes();
                put(out, tag::EMIT, &[&seq.to_le_bytes(), &channel_length, channel.as_bytes(), payload]);
            }
            Self::Log { level, text } => put(out, tag::LOG, &[&[*level], text.as_bytes()]),
            Self::FrameDone(done) => put(
                out,
                tag::FRAME_DONE,
                &[
                    &done.seq.to_le_bytes(),
                    &done.took_ns.to_le_bytes(),
                    &done.fuel.to_le_bytes(),
                    &done.memory_bytes.to_le_bytes(),
                ],
            ),
            Self::FrameRefused { seq, why } => put(out, tag::FRAME_REFUSED, &[&seq.to_le_bytes(), why.as_bytes()]),
            Self::Denied { function } => put(out, tag::DENIED, &[function.as_bytes()]),
            Self::StateSet { key, value } => put_entry(out, tag::STATE_SET, key, value),
            Self::StateDelete { key } => put(out, tag::STATE_DELETE, &[key]),
            Self::Metric { name, metric } => {
                let kind = u8::from(metric.kind() == MetricKind::Gauge);
                put(out, tag::METRIC, &[&[kind], &metric.value().to_le_bytes(), name.as_bytes()]);
            }
            Self::Fault(fault) => put_json(out, tag::FAULT, fault),
            Self::Stopped => put(out, tag::STOPPED, &[]),
        }
    }

    /// Reads a message as [`Inbox::next`] gives it.
    pub fn decode((tag, body): (u8, &'a [u8])) -> Result<Self, WireError> {
        let short = || WireError::Body { tag, length: body.len() };
        match tag {
            tag::READY => get_json(tag, body).map(Self::Ready),
            tag::RUNNING => empty(tag, body).map(|()| Self::Running),
            tag::EMIT => {
                let (seq, rest) = take_u64(body).ok_or_else(short)?;
                let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
                let (channel, payload) =
                    rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(short)?;
                if payload.len() > MAX_RECORD {
                    return Err(short());
                }
                Ok(Self::Emit { seq, channel: text(tag, channel)?, payload })
            }
            tag::LOG => {
                let (level, line) = body.split_first().ok_or_else(short)?;
                Ok(Self::Log { level: *level, text: text(tag, line)? })
            }
            tag::FRAME_DONE => {
                let (seq, rest) = take_u64(body).ok_or_else(short)?;
                let (took_ns, rest) = take_u64(rest).ok_or_else(short)?;
                let (fuel, rest) = take_u64(rest).ok_or_else(short)?;
                let (memory_bytes, rest) = take_u64(rest).ok_or_else(short)?;
                empty(tag, rest)?;
                Ok(Self::FrameDone(FrameDone { seq, took_ns, fuel, memory_bytes }))
            }
            tag::FRAME_REFUSED => {
                let (seq, why) = take_u64(body).ok_or_else(short)?;
                Ok(Self::FrameRefused { seq, why: text(tag, why)? })
            }
            tag::DENIED => Ok(Self::Denied { function: text(tag, body)? }),
            tag::STATE_SET => take_entry(tag, body).map(|(key, value)| Self::StateSet { key, value }),
            tag::STATE_DELETE => {
                check_key(body).map_err(|_| short())?;
                Ok(Self::StateDelete { key: body })
            }
            tag::METRIC => {
                let (kind, rest) = body.split_first().ok_or_else(short)?;
                let (value, name) = rest.split_first_chunk().ok_or_else(short)?;
                let kind = match kind {
                    0 => MetricKind::Counter,
                    1 => MetricKind::Gauge,
                    _ => return Err(short()),
                };
                let (name, metric) = (text(tag, name)?, Metric::new(kind, f64::from_le_bytes(*value)));
                if check_metric(name, metric) { Ok(Self::Metric { name, metric }) } else { Err(short()) }
            }
            tag::FAULT => get_json(tag, body).map(Self::Fault),
            tag::STOPPED => empty(tag, body).map(|()| Self::Stopped),
            tag => Err(WireError::Tag { tag }),
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.push(tag);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_entry(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes();
    put(out, tag, &[&length, key, value]);
}

/// A key and a value, held to their lengths.
fn take_entry(tag: u8, body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let wrong = || WireError::Body { tag, length: body.len() };
    let (length, rest) = body.split_first_chunk().ok_or_else(wrong)?;
    let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(wrong)?;
    check_key(key).and_then(|()| check_value(value)).map_err(|_| wrong())?;
    Ok((key, value))
}

fn put_json(out: &mut Vec<u8>, tag: u8, value: &impl serde::Serialize) {
    // Our own types, with string keys throughout: writing them to memory has no way to fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    put(out, tag, &[&body]);
}

fn get_json<T: serde::de::DeserializeOwned>(tag: u8, body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|error| WireError::Json { tag, reason: error.to_string() })
}

fn empty(tag: u8, body: &[u8]) -> Result<(), WireError> {
    if body.is_empty() { Ok(()) } else { Err(WireError::Body { tag, length: body.len() }) }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

fn text(tag: u8, bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Text { tag })
}

/// Cuts a byte stream into messages without allocating per message.
///
/// Read into [`Inbox::space`], say how much with [`Inbox::filled`], then take messages with [`Inbox::next`] until
/// it has none.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    const STEP: usize = 64 * 1024;

    /// Room for the next read; never empty. The buffer grows to at most [`MAX_MESSAGE`] and one step.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < Self::STEP / 2 {
            self.buffer.resize(self.end + Self::STEP, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were read into [`Inbox::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole message as tag and body, `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)] // lends from itself, which an iterator cannot
    pub fn next(&mut self) -> Result<Option<(u8, &[u8])>, WireError> {
        let waiting = &self.buffer[self.start..self.end];
        let Some((prefix, rest)) = waiting.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if !(1..=MAX_MESSAGE).contains(&length) {
            return Err(WireError::Length { length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + LENGTH;
        self.start = from + length;
        Ok(self.buffer[from..self.start].split_first().map(|(tag, body)| (*tag, body)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::worker::{FaultCode, MAX_STATE_KEY, MAX_STATE_VALUE, Measure, Missing};

    fn through(bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut inbox = Inbox::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(step) {
            inbox.space()[..part.len()].copy_from_slice(part);
            inbox.filled(part.len());
            while let Some((tag, body)) = inbox.next().unwrap() {
                seen.push((tag, body.to_vec()));
            }
        }
        seen
    }

    fn samples() -> Vec<FromWorker<'static>> {
        vec![
            FromWorker::Ready(Ready {
                module_us: 1,
                models_us: 2,
                memory_bytes: 3,
                unconfined: vec![Missing { measure: Measure::Files, why: "no landlock".into() }],
            }),
            FromWorker::Running,
            FromWorker::Emit { seq: 9, channel: "defects", payload: b"{}" },
            FromWorker::Log { level: 2, text: "hello" },
            FromWorker::FrameDone(FrameDone { seq: 9, took_ns: 8, fuel: 7, memory_bytes: 6 }),
            FromWorker::FrameRefused { seq: 10, why: "not a PNG" },
            FromWorker::Denied { function: "emit" },
            FromWorker::StateSet { key: b"\0k", value: b"" },
            FromWorker::StateDelete { key: b"k" },
            FromWorker::Metric { name: "seen", metric: Metric::Counter(7.0) },
            FromWorker::Metric { name: "score.last", metric: Metric::Gauge(-0.5) },
            FromWorker::Fault(Fault::new(FaultCode::Trap, "unreachable")),
            FromWorker::Stopped,
        ]
    }

    #[test]
    fn every_message_survives_a_stream_cut_anywhere() {
        let mut bytes = Vec::new();
        for message in samples() {
            message.encode(&mut bytes);
        }
        for step in [1, 2, 7, bytes.len()] {
            let seen = through(&bytes, step);
            let decoded: Vec<_> =
                seen.iter().map(|(tag, body)| FromWorker::decode((*tag, body.as_slice())).unwrap()).collect();
            assert_eq!(decoded, samples());
        }
    }

    #[test]
    fn refuses_a_length_beyond_the_limit_before_waiting_for_it() {
        let mut inbox = Inbox::default();
        inbox.space()[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        inbox.filled(4);
        assert_eq!(inbox.next(), Err(WireError::Length { length: u32::MAX as usize }));
    }

    #[test]
    fn refuses_bodies_that_do_not_fit_their_fields() {
        assert!(matches!(FromWorker::decode((tag::FRAME_DONE, &[0; 31])), Err(WireError::Body { .. })));
        assert!(matches!(FromWorker::decode((tag::FRAME_DONE, &[0; 33])), Err(WireError::Body { .. })));
        assert!(matches!(
            FromWorker::decode((tag::EMIT, &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1])),
            Err(WireError::Body { .. })
        ));
        assert!(matches!(FromWorker::decode((tag::LOG, &[1, 0xff])), Err(WireError::Text { .. })));
        assert!(matches!(FromWorker::decode((tag::START, b"{}")), Err(WireError::Tag { .. })));
        assert!(matches!(ToWorker::decode((tag::START, b"{}")), Err(WireError::Json { .. })));
    }

    #[test]
    fn a_value_of_the_state_reaches_the_worker() {
        let message = ToWorker::State { key: b"k".to_vec(), value: vec![7; MAX_STATE_VALUE] };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let seen = through(&bytes, 10_000);
        let decoded: Vec<_> =
            seen.iter().map(|(tag, body)| ToWorker::decode((*tag, body.as_slice())).unwrap()).collect();
        assert_eq!(decoded, [message]);
    }

    #[test]
    fn refuses_keys_and_values_of_a_state_that_no_state_has() {
        let set = |key: &[u8], value: &[u8]| {
            let mut bytes = Vec::new();
            FromWorker::StateSet { key, value }.encode(&mut bytes);
            FromWorker::decode((bytes[4], &bytes[5..])).map(drop)
        };
        assert_eq!(set(&[1; MAX_STATE_KEY], &[0; MAX_STATE_VALUE]), Ok(()));
        assert!(matches!(set(b"", b"v"), Err(WireError::Body { .. })));
        assert!(matches!(set(&[1; MAX_STATE_KEY + 1], b"v"), Err(WireError::Body { .. })));
        assert!(matches!(set(b"k", &[0; MAX_STATE_VALUE + 1]), Err(WireError::Body { .. })));
        for body in [&b""[..], b"\x01", b"\x02\0k", b"\xff\xffk"] {
            assert!(matches!(FromWorker::decode((tag::STATE_SET, body)), Err(WireError::Body { .. })), "{body:?}");
            assert!(matches!(ToWorker::decode((tag::STATE, body)), Err(WireError::Body { .. })), "{body:?}");
        }
        assert!(matches!(FromWorker::decode((tag::STATE_DELETE, b"")), Err(WireError::Body { .. })));
    }

    #[test]
    fn refuses_metrics_that_no_module_has() {
        let metric = |kind: u8, value: f64, name: &str| {
            let mut body = vec![kind];
            body.extend(value.to_le_bytes());
            body.extend(name.as_bytes());
            FromWorker::decode((tag::METRIC, &body)).map(drop)
        };
        assert_eq!(metric(0, 0.0, "a"), Ok(()));
        for (kind, value, name) in [
            (2, 1.0, "a"),
            (0, -1.0, "a"),
            (0, f64::NAN, "a"),
            (1, f64::INFINITY, "a"),
            (1, 1.0, ""),
            (1, 1.0, "a b"),
            (1, 1.0, &"x".repeat(65)),
        ] {
            assert!(matches!(metric(kind, value, name), Err(WireError::Body { .. })), "{kind} {value} {name}");
        }
        assert!(matches!(FromWorker::decode((tag::METRIC, &[0; 8])), Err(WireError::Body { .. })));
    }

    #[test]
    fn refuses_a_record_above_the_limit() {
        let mut bytes = Vec::new();
        FromWorker::Emit { seq: 1, channel: "c", payload: &vec![0; MAX_RECORD + 1] }.encode(&mut bytes);
        assert!(matches!(FromWorker::decode((bytes[4], &bytes[5..])), Err(WireError::Body { .. })));
    }
}
