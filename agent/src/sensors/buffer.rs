//! What was read of a stream and is not given yet, in blocks that its frames share.
//!
//! A stream is read into [`Buffer::room`]; what came is told to [`Buffer::filled`], looked at with [`Buffer::held`], given as frames that are
//! ranges of the block, and passed over with [`Buffer::pass`]. Nothing is copied but the beginning of a frame whose rest does not fit behind it,
//! and nothing is allocated in steady state.
//!
//! Limits: a block of at least [`STEP`] bytes, or of the frame at hand.

use std::io;

use sanderling_guest::frame::FrameHeader;

use super::Outlet;
use crate::frames::{Block, Pool};

/// What a block has room for at least, so that one read brings many small frames.
pub(super) const STEP: usize = 64 * 1024;

/// The bytes of one stream.
#[derive(Default)]
pub(super) struct Buffer {
    block: Option<Block>,
    start: usize,
    end: usize,
    // Bytes of the frame at hand, as far as is known.
    wanted: usize,
}

impl Buffer {
    /// What is held and not passed over yet.
    pub(super) fn held(&self) -> &[u8] {
        self.block.as_ref().and_then(|block| block.bytes().get(self.start..self.end)).unwrap_or(&[])
    }

    /// `count` bytes more were read to [`Buffer::room`].
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Gives `length` of the held bytes from `start` on as a frame.
    pub(super) fn give(&self, outlet: &Outlet, header: FrameHeader, start: usize, length: usize) {
        if let Some(block) = &self.block {
            outlet.give(header, block, self.start + start, length);
        }
    }

    /// Passes over the first `count` bytes held.
    pub(super) fn pass(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        self.wanted = 0;
    }

    /// What is held is the beginning of something that takes `wanted` bytes in all.
    pub(super) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// Where to read to: room for the rest of what is at hand, and never none.
    pub(super) fn room(&mut self, pool: &Pool) -> io::Result<&mut [u8]> {
        let held = self.end - self.start;
        let needed = self.wanted.max(held + 1);
        let free = self.block.as_mut().and_then(|block| block.bytes_mut().map(|bytes| bytes.len()));
        if held == 0 && free.is_some() {
            (self.start, self.end) = (0, 0);
        }
        // Frames that others still hold keep the block from being written.
        if free.is_none_or(|size| size - self.start < needed) {
            self.block = Some(self.moved(pool, held)?);
            (self.start, self.end) = (0, held);
        }
        let end = self.end;
        self.block
            .as_mut()
            .and_then(|block| block.bytes_mut()?.get_mut(end..))
            .ok_or_else(|| io::Error::other("the buffer of a stream is lost"))
    }

    /// A block with what is held at its start, and room for the frame at hand.
    fn moved(&self, pool: &Pool, held: usize) -> io::Result<Block> {
        let room = self.wanted.max(held + 1).max(STEP);
        let mut block = pool.take(room).ok_or_else(|| io::Error::other("a frame larger than any block"))?;
        if let Some(to) = block.bytes_mut().and_then(|to| to.get_mut(..held)) {
            to.copy_from_slice(self.held());
        }
        Ok(block)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(buffer: &mut Buffer, pool: &Pool, bytes: &[u8]) {
        buffer.room(pool).unwrap()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn what_is_held_stays_whole_when_it_moves_to_a_larger_block() {
        let pool = Pool::new(1 << 20);
        let mut buffer = Buffer::default();
        read(&mut buffer, &pool, b"passed over, held");
        buffer.pass(13);
        buffer.want(3 * STEP);
        assert!(buffer.room(&pool).unwrap().len() >= 3 * STEP - 4);
        assert_eq!(buffer.held(), b"held");
    }

    #[test]
    fn there_is_always_room() {
        let pool = Pool::new(1 << 20);
        let mut buffer = Buffer::default();
        let size = buffer.room(&pool).unwrap().len();
        for round in 1..5 {
            let room = buffer.room(&pool).unwrap().len();
            assert!(room > 0, "{round}");
            buffer.filled(room);
        }
        assert!(buffer.held().len() > size);
        buffer.pass(usize::MAX / 2);
        assert_eq!(buffer.held(), b"");
        assert_eq!(pool.made(), 4);
    }

    #[test]
    fn the_same_block_is_read_to_again_once_all_of_it_was_taken() {
        let pool = Pool::new(1 << 20);
        let mut buffer = Buffer::default();
        for _ in 0..100 {
            read(&mut buffer, &pool, &[1; STEP]);
            buffer.pass(STEP);
        }
        assert_eq!(pool.made(), 1);
    }
}
