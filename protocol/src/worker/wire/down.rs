//! What the supervisor says to a worker.

use super::{
    super::Start,
    WireError,
    fields::{empty, get_json, put, put_entry, put_json, take_entry},
    tag,
};

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

    /// Reads a message as [`Inbox::next`](super::Inbox::next) gives it.
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
