//! A ring of byte records in memory that two processes share: one producer, one consumer, no locks, no system calls.
//!
//! Layout, offsets in bytes: a page of counters, each on a cache line of its own, then the data.
//!
//! | offset | counter | written by |
//! |---|---|---|
//! | 0 | `head`: bytes ever pushed (u64) | producer |
//! | 64 | `tail`: bytes ever released (u64) | consumer |
//! | 128 | `sleeping`: 1 while the consumer waits to be woken (u32) | both |
//! | 192 | `stop`: 1 when the consumer should leave (u32) | producer |
//! | 256 | `refused`: the size of the last allocation that was refused, 0 where none was (u64) | consumer |
//! | 320 | `capture`: 1 when the next frame is to be on record, 2 while the record stands still to be read (u32) | both |
//! | 4096 | data | producer |
//!
//! A record is a 32-byte prefix, whose first u32 is the length, then the content; records start on 64-byte
//! boundaries and are never split: one that does not fit before the end is preceded by a skip mark.
//!
//! The producer (the supervisor) trusts nothing that the consumer (a worker) can write: it keeps `head` itself and refuses
//! a `tail` that cannot be. The consumer trusts the producer, which has verified whatever it runs.

#![allow(unsafe_code)]

mod signs;
#[cfg(test)]
mod tests;

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use thiserror::Error;

pub use signs::{Capture, Refused, StopFlag};

const HEAD: usize = 0;
const TAIL: usize = 64;
const SLEEPING: usize = 128;
const STOP: usize = 192;
const REFUSED: usize = 256;
const CAPTURE: usize = 320;
const DATA: usize = 4096;
const ALIGN: usize = 64;
const PREFIX: usize = 32;
const SKIP: u32 = u32::MAX;

/// Why the ring did not take or give a record.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// The consumer has not made room yet.
    #[error("the ring is full")]
    Full,
    /// The record is larger than half of the ring, so that it might never fit.
    #[error("a record of {length} bytes does not fit a ring of {capacity} bytes; at most half of it can be one record")]
    TooLarge {
        /// The record's length.
        length: usize,
        /// The ring's capacity.
        capacity: usize,
    },
    /// The counters contradict each other: the other side is broken or hostile.
    #[error("the counters of the ring contradict each other")]
    Corrupt,
    /// The memory is too small, or not a whole number of 64-byte lines.
    #[error("{length} bytes of memory cannot hold a ring")]
    Memory {
        /// The region's length.
        length: usize,
    },
}

/// The memory that a ring with room for `records` records of `largest` bytes needs, in bytes.
pub const fn region_len(largest: usize, records: usize) -> usize {
    let record = spread(largest);
    let wanted = record * if records < 2 { 2 } else { records };
    // One more record, since a record is never split over the end.
    DATA + wanted + record
}

const fn spread(length: usize) -> usize {
    (PREFIX + length).next_multiple_of(ALIGN)
}

struct Region {
    base: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the region is plain memory; each end touches the data only between the counters that it owns.
unsafe impl Send for Region {}

impl Region {
    /// # Safety
    /// `base` points to `length` bytes, aligned to a page, mapped for reading and writing for as long as the region lives.
    unsafe fn new(base: NonNull<u8>, length: usize) -> Result<Self, RingError> {
        let capacity = length.checked_sub(DATA).ok_or(RingError::Memory { length })?;
        if capacity < 2 * ALIGN || !capacity.is_multiple_of(ALIGN) {
            return Err(RingError::Memory { length });
        }
        Ok(Self { base, capacity })
    }

    fn counter64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offset lies in the counter page and is 64-byte aligned; both processes access it as an atomic.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    fn counter32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// Where in the data the running count `position` lies.
    fn offset(&self, position: u64) -> usize {
        (position % self.capacity as u64) as usize
    }

    fn data(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.capacity);
        // SAFETY: callers give offsets below the capacity.
        unsafe { self.base.add(DATA + offset) }
    }
}

/// The end that writes records.
pub struct Producer {
    region: Region,
    head: u64,
}

impl Producer {
    /// Takes the writing end of zeroed shared memory.
    ///
    /// # Safety
    /// `base` points to `length` bytes, aligned to a page, mapped for reading and writing for as long as the producer
    /// lives, and no other producer writes there.
    pub unsafe fn attach(base: NonNull<u8>, length: usize) -> Result<Self, RingError> {
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new(base, length)? };
        Ok(Self { region, head: 0 })
    }

    /// Appends one record made of `parts`, and says whether the consumer sleeps and must be woken.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<bool, RingError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let size = spread(length);
        let capacity = self.region.capacity;
        if size > capacity / 2 {
            return Err(RingError::TooLarge { length, capacity });
        }
        let used = self.used()?;
        let offset = self.region.offset(self.head);
        let skipped = if offset + size > capacity { capacity - offset } else { 0 };
        if used + skipped + size > capacity {
            return Err(RingError::Full);
        }
        if skipped > 0 {
            self.write_prefix(offset, SKIP);
        }
        let start = if skipped > 0 { 0 } else { offset };
        // The length fits: it is below the capacity, and a ring is far below 4 GiB.
        self.write_prefix(start, u32::try_from(length).map_err(|_| RingError::TooLarge { length, capacity })?);
        let mut at = start + PREFIX;
        for part in parts {
            // SAFETY: `at + part.len() <= start + size <= capacity`, checked above; the consumer does not read beyond `head`.
            unsafe {
                self.region.base.add(DATA + at).copy_from_nonoverlapping(NonNull::from(*part).cast(), part.len())
            };
            at += part.len();
        }
        self.head += (skipped + size) as u64;
        self.region.counter64(HEAD).store(self.head, Ordering::Release);
        fence(Ordering::SeqCst);
        let sleeping = self.region.counter32(SLEEPING);
        Ok(sleeping.load(Ordering::Relaxed) == 1 && sleeping.swap(0, Ordering::AcqRel) == 1)
    }

    /// Bytes that the consumer has not released, prefixes and padding included.
    pub fn used(&self) -> Result<usize, RingError> {
        let tail = self.region.counter64(TAIL).load(Ordering::Acquire);
        let used = self.head.checked_sub(tail).ok_or(RingError::Corrupt)?;
        if used > self.region.capacity as u64 { Err(RingError::Corrupt) } else { Ok(used as usize) }
    }

    /// Asks the consumer to leave, even out of a running guest.
    pub fn request_stop(&self) {
        self.region.counter32(STOP).store(1, Ordering::Release);
    }

    /// What the consumer tells of allocations that were refused; it may be hostile, so that this is a hint for people and no more.
    ///
    /// # Safety
    /// The memory stays mapped for as long as what is given lives.
    pub unsafe fn refused(&self) -> Refused {
        Refused(NonNull::from(self.region.counter64(REFUSED)))
    }

    /// Where a record of the next frame is asked for, and where the consumer says that it is there; a hint, as above.
    ///
    /// # Safety
    /// The memory stays mapped for as long as what is given lives.
    pub unsafe fn capture(&self) -> Capture {
        Capture(NonNull::from(self.region.counter32(CAPTURE)))
    }

    fn write_prefix(&self, offset: usize, length: u32) {
        // SAFETY: offsets are multiples of 64 below the capacity, so 4 aligned bytes are there.
        unsafe { self.region.data(offset).cast::<u32>().write(length.to_le()) }
    }
}

/// The end that reads records.
pub struct Consumer {
    region: Region,
    tail: u64,
    front: u64,
}

impl Consumer {
    /// Takes the reading end of shared memory that a producer prepared.
    ///
    /// # Safety
    /// As [`Producer::attach`], with no other consumer.
    pub unsafe fn attach(base: NonNull<u8>, length: usize) -> Result<Self, RingError> {
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new(base, length)? };
        let tail = region.counter64(TAIL).load(Ordering::Acquire);
        Ok(Self { region, tail, front: 0 })
    }

    /// The oldest record, in place, or `None`. It stays until [`Consumer::release`].
    pub fn front(&mut self) -> Result<Option<&[u8]>, RingError> {
        loop {
            let head = self.region.counter64(HEAD).load(Ordering::Acquire);
            if head == self.tail {
                return Ok(None);
            }
            let offset = self.region.offset(self.tail);
            // SAFETY: a record or a skip mark starts at every position between tail and head.
            let length = u32::from_le(unsafe { self.region.data(offset).cast::<u32>().read() });
            if length == SKIP {
                self.tail += (self.region.capacity - offset) as u64;
                continue;
            }
            let length = length as usize;
            if offset + spread(length) > self.region.capacity {
                return Err(RingError::Corrupt);
            }
            self.front = spread(length) as u64;
            // SAFETY: in bounds by the check above; the producer does not write it again before it is released.
            return Ok(Some(unsafe {
                std::slice::from_raw_parts(self.region.data(offset).as_ptr().add(PREFIX), length)
            }));
        }
    }

    /// Gives the room of the record last seen by [`Consumer::front`] back.
    pub fn release(&mut self) {
        self.tail += std::mem::take(&mut self.front);
        self.region.counter64(TAIL).store(self.tail, Ordering::Release);
    }

    /// Announces that the consumer is about to sleep. `true` if it may: nothing is waiting, and the next push wakes it.
    pub fn announce_sleep(&self) -> bool {
        let sleeping = self.region.counter32(SLEEPING);
        sleeping.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.region.counter64(HEAD).load(Ordering::Acquire) != self.tail {
            sleeping.store(0, Ordering::Release);
            return false;
        }
        true
    }

    /// Whether the producer asked the consumer to leave. Cheap: one load.
    pub fn stop_requested(&self) -> bool {
        self.region.counter32(STOP).load(Ordering::Acquire) == 1
    }

    /// Where an allocator tells of what it refused, even when the process ends by that.
    ///
    /// # Safety
    /// The memory stays mapped for as long as what is given lives.
    pub unsafe fn refused(&self) -> Refused {
        Refused(NonNull::from(self.region.counter64(REFUSED)))
    }

    /// As [`Producer::capture`].
    ///
    /// # Safety
    /// The memory stays mapped for as long as what is given lives.
    pub unsafe fn capture(&self) -> Capture {
        Capture(NonNull::from(self.region.counter32(CAPTURE)))
    }

    /// The same question, to be asked while a record is being read.
    ///
    /// # Safety
    /// The memory stays mapped for as long as the flag lives.
    pub unsafe fn stop_flag(&self) -> StopFlag {
        StopFlag(NonNull::from(self.region.counter32(STOP)))
    }
}
