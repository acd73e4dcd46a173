//! What a worker says to its supervisor, who takes all of it as hostile.

use super::{
    super::{Fault, FrameDone, MAX_RECORD, Metric, MetricKind, Ready, check_key, check_metric},
    WireError,
    fields::{empty, get_json, put, put_entry, put_json, take_entry, take_prefixed, take_u64, text},
    tag,
};

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

impl<'a> FromWorker<'a> {
    /// Appends the message to `out`. Texts and records are the caller's to bound; one that would pass [`MAX_MESSAGE`](super::MAX_MESSAGE) is refused by the other side.
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

    /// Reads a message as [`Inbox::next`](super::Inbox::next) gives it.
    pub fn decode((tag, body): (u8, &'a [u8])) -> Result<Self, WireError> {
        let short = || WireError::Body { tag, length: body.len() };
        match tag {
            tag::READY => get_json(tag, body).map(Self::Ready),
            tag::RUNNING => empty(tag, body).map(|()| Self::Running),
            tag::EMIT => {
                let (seq, rest) = take_u64(body).ok_or_else(short)?;
                let (channel, payload) = take_prefixed(rest).ok_or_else(short)?;
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
