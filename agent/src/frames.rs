//! Frames and the memory they lie in.
//!
//! A sensor reads into a [`Block`] that it takes from the [`Pool`], and hands on [`Frame`]s: a header and a range of
//! that block. Frames share their block, so one frame reaches several modules without a copy, and a block returns to
//! the pool when its last frame is gone. In steady state nothing is allocated.
//!
//! Limits: blocks come in sizes of powers of two from [`SMALLEST`] to [`LARGEST`]; what lies idle in the pool is
//! bounded by the pool's own limit. A frame that waits keeps its whole block, which is why [`Frame::compact`] moves
//! small frames out of large blocks.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
};

use sanderling_guest::frame::FrameHeader;

/// The smallest block, in bytes.
pub const SMALLEST: usize = 1 << 8;
/// The largest block, in bytes; a frame with its header is at most this long.
pub const LARGEST: usize = 1 << 26;

const CLASSES: usize = (LARGEST / SMALLEST).trailing_zeros() as usize + 1;

struct Shelf {
    idle: RefCell<[Vec<Rc<Memory>>; CLASSES]>,
    idle_bytes: Cell<usize>,
    limit: usize,
    made: Cell<usize>,
}

struct Memory {
    bytes: Box<[u8]>,
    class: usize,
    home: Weak<Shelf>,
}

/// Where blocks come from and return to. Clones share one stock.
#[derive(Clone)]
pub struct Pool {
    shelf: Rc<Shelf>,
}

impl Pool {
    /// A pool that keeps at most `limit` bytes of idle blocks; what returns beyond that is freed.
    pub fn new(limit: usize) -> Self {
        let idle = RefCell::new(std::array::from_fn(|_| Vec::new()));
        Self { shelf: Rc::new(Shelf { idle, idle_bytes: Cell::new(0), limit, made: Cell::new(0) }) }
    }

    /// A block of at least `length` bytes, or `None` where that is more than [`LARGEST`]. Its content is whatever an
    /// earlier frame left there.
    pub fn take(&self, length: usize) -> Option<Block> {
        let class = class_of(length)?;
        let idle = self.shelf.idle.borrow_mut().get_mut(class)?.pop();
        let memory = match idle {
            Some(memory) => {
                self.shelf.idle_bytes.set(self.shelf.idle_bytes.get().saturating_sub(memory.bytes.len()));
                memory
            }
            None => {
                self.shelf.made.set(self.shelf.made.get() + 1);
                let bytes = vec![0; SMALLEST << class].into_boxed_slice();
                Rc::new(Memory { bytes, class, home: Rc::downgrade(&self.shelf) })
            }
        };
        Some(Block { memory: Some(memory) })
    }

    /// How many blocks were ever allocated; stands still in steady state.
    pub fn made(&self) -> usize {
        self.shelf.made.get()
    }

    /// Bytes that lie idle.
    pub fn idle_bytes(&self) -> usize {
        self.shelf.idle_bytes.get()
    }
}

fn class_of(length: usize) -> Option<usize> {
    if length > LARGEST {
        return None;
    }
    let size = length.max(SMALLEST).next_power_of_two();
    Some((size / SMALLEST).trailing_zeros() as usize)
}

/// Memory of the pool. Clones share it; it goes back when the last is dropped.
#[derive(Clone)]
pub struct Block {
    memory: Option<Rc<Memory>>,
}

impl Block {
    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.bytes)
    }

    /// Its bytes for writing; `None` while frames still share it.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.memory.as_mut().and_then(Rc::get_mut).map(|memory| &mut *memory.bytes)
    }

    /// A frame that is `length` bytes from `start` on; `None` where the block ends before. The header's `len` is set.
    pub fn frame(&self, header: FrameHeader, start: usize, length: usize) -> Option<Frame> {
        let end = start.checked_add(length)?;
        self.bytes().get(start..end)?;
        let header = FrameHeader { len: u32::try_from(length).ok()?, ..header };
        Some(Frame { header, block: self.clone(), start, length })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        if Rc::strong_count(&memory) > 1 {
            return;
        }
        let Some(shelf) = memory.home.upgrade() else { return };
        let idle = shelf.idle_bytes.get() + memory.bytes.len();
        if idle > shelf.limit {
            return;
        }
        if let Some(stock) = shelf.idle.borrow_mut().get_mut(memory.class) {
            shelf.idle_bytes.set(idle);
            stock.push(memory);
        }
    }
}

/// A frame: its header, and its content in a block that it may share.
#[derive(Clone)]
pub struct Frame {
    /// What the content is, and when it was captured.
    pub header: FrameHeader,
    block: Block,
    start: usize,
    length: usize,
}

impl Frame {
    /// The content.
    pub fn content(&self) -> &[u8] {
        self.block.bytes().get(self.start..self.start + self.length).unwrap_or(&[])
    }

    /// The bytes of memory that this frame keeps from being used again.
    pub fn held(&self) -> usize {
        self.block.bytes().len()
    }

    /// The frame to keep for a while: itself where it fills its block well, else a copy in a block of its own size.
    pub fn compact(&self, pool: &Pool) -> Self {
        if self.length.max(SMALLEST).saturating_mul(4) > self.held() {
            return self.clone();
        }
        let Some(mut block) = pool.take(self.length) else { return self.clone() };
        let copied = block.bytes_mut().and_then(|bytes| bytes.get_mut(..self.length));
        let Some(room) = copied else { return self.clone() };
        room.copy_from_slice(self.content());
        Self { header: self.header, block, start: 0, length: self.length }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("header", &self.header).field("length", &self.length).finish_non_exhaustive()
    }
}

/// How large the frames of a source are at most, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// One frame.
    pub frame: usize,
    /// One sample of all channels, where the frames are of a series.
    pub sample: usize,
}

/// A sensor's place among the sensors of this agent, given by the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SensorId(pub u16);

/// Where sensors put their frames. The router is one; tests have others.
pub trait FrameSink {
    /// A frame of `sensor`. Takes what it needs by cloning; never waits.
    fn frame(&self, sensor: SensorId, frame: &Frame);

    /// Whether anyone takes the frames of `sensor` at the moment.
    fn wanted(&self, sensor: SensorId) -> bool;

    /// The sensor has no more frames at the moment: whoever must be woken is woken now, once for all of them.
    fn flush(&self);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(pool: &Pool, content: &[u8], room: usize) -> Frame {
        let mut block = pool.take(room).unwrap();
        block.bytes_mut().unwrap()[..content.len()].copy_from_slice(content);
        block.frame(FrameHeader::new("cam0", 0), 0, content.len()).unwrap()
    }

    #[test]
    fn a_block_returns_when_its_last_frame_is_gone() {
        let pool = Pool::new(1 << 20);
        let first = frame(&pool, b"abc", 1000);
        let second = first.clone();
        drop(first);
        assert_eq!(pool.idle_bytes(), 0);
        drop(second);
        assert_eq!(pool.idle_bytes(), 1024);
        let again = pool.take(1024).unwrap();
        assert_eq!(again.bytes().len(), 1024);
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn a_shared_block_cannot_be_written() {
        let pool = Pool::new(1 << 20);
        let mut block = pool.take(10).unwrap();
        let held = block.frame(FrameHeader::new("cam0", 0), 2, 3).unwrap();
        assert!(block.bytes_mut().is_none());
        drop(held);
        assert!(block.bytes_mut().is_some());
    }

    #[test]
    fn keeps_no_more_than_its_limit() {
        let pool = Pool::new(2048);
        let blocks: Vec<_> = (0..5).map(|_| pool.take(1024).unwrap()).collect();
        drop(blocks);
        assert_eq!(pool.idle_bytes(), 2048);
    }

    #[test]
    fn refuses_ranges_and_sizes_that_do_not_fit() {
        let pool = Pool::new(2048);
        assert!(pool.take(LARGEST + 1).is_none());
        assert_eq!(pool.take(LARGEST).unwrap().bytes().len(), LARGEST);
        let block = pool.take(256).unwrap();
        assert!(block.frame(FrameHeader::new("s", 0), 250, 7).is_none());
        assert!(block.frame(FrameHeader::new("s", 0), usize::MAX, 2).is_none());
        assert_eq!(block.frame(FrameHeader::new("s", 0), 250, 6).unwrap().header.len, 6);
    }

    #[test]
    fn a_small_frame_leaves_a_large_block() {
        let pool = Pool::new(1 << 20);
        let small = frame(&pool, b"abc", 1 << 16);
        let kept = small.compact(&pool);
        assert_eq!((kept.held(), kept.content()), (SMALLEST, b"abc".as_slice()));
        let large = frame(&pool, &[1; 900], 1024);
        assert_eq!(large.compact(&pool).held(), 1024);
    }

    #[test]
    fn takes_from_the_stock_without_allocating_anew() {
        let pool = Pool::new(1 << 20);
        let first = pool.take(300).unwrap();
        let address = first.bytes().as_ptr();
        drop(first);
        assert_eq!(pool.take(500).unwrap().bytes().as_ptr(), address);
    }
}
