//! The messages on the socket between supervisor and worker, as bytes.
//!
//! A message is `length: u32 LE | tag: u8 | body`, where the length counts tag and body and is at most
//! [`MAX_MESSAGE`]. Rare messages carry JSON, those of the frame path a fixed little-endian layout.

mod down;
mod fields;
mod inbox;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod up;

use thiserror::Error;

pub use down::ToWorker;
pub use inbox::Inbox;
pub use up::FromWorker;

/// The longest message, tag and body, in bytes. A [`Start`](super::Start) with the largest deployment fits, and so does a record.
pub const MAX_MESSAGE: usize = 256 * 1024;

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

/// The tags of both directions, no two the same, so that a message in the wrong direction is none.
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
