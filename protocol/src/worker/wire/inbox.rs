//! From a stream of bytes to messages.

use super::{MAX_MESSAGE, WireError};

/// Bytes of a message's length.
const LENGTH: usize = 4;

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
