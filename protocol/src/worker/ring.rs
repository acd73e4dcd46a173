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

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use thiserror::Error;

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
const WANTED: u32 = 1;
const HELD: u32 = 2;

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

/// Whether the producer asked the consumer to leave; see [`Consumer::stop_flag`].
pub struct StopFlag(NonNull<AtomicU32>);

// SAFETY: it points to an atomic in memory that stays mapped, as the caller of `stop_flag` promised.
unsafe impl Send for StopFlag {}

impl StopFlag {
    /// Cheap: one load.
    pub fn is_set(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire) == 1
    }
}

/// The size of the last allocation that was refused; see [`Consumer::refused`].
pub struct Refused(NonNull<AtomicU64>);

// SAFETY: it points to an atomic in memory that stays mapped, as the caller who made it promised.
unsafe impl Send for Refused {}
// SAFETY: as above.
unsafe impl Sync for Refused {}

impl Refused {
    /// An allocation of so many bytes was refused.
    pub fn note(&self, bytes: u64) {
        self.counter().store(bytes, Ordering::Release);
    }

    /// What was refused before counts no longer.
    pub fn forget(&self) {
        self.counter().store(0, Ordering::Relaxed);
    }

    /// The size of the last that was refused, in bytes; `None` where none was.
    pub fn last(&self) -> Option<u64> {
        Some(self.counter().load(Ordering::Acquire)).filter(|bytes| *bytes > 0)
    }

    fn counter(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }
    }
}

/// Whether the next frame is to be on record, and whether that record stands still; see [`Producer::capture`].
///
/// The producer wants it; the consumer records a frame and holds the record, so that it can be read while frames go on; the
/// producer reads it and lets go.
pub struct Capture(NonNull<AtomicU32>);

impl Capture {
    /// The producer wants a record of the next frame.
    pub fn want(&self) {
        self.state().store(WANTED, Ordering::Release);
    }

    /// Whether the producer wants one.
    pub fn is_wanted(&self) -> bool {
        self.state().load(Ordering::Acquire) == WANTED
    }

    /// The consumer has it and leaves it alone, unless the producer has let go meanwhile.
    pub fn hold(&self) {
        // An error means that nothing is wanted any more.
        let _ = self.state().compare_exchange(WANTED, HELD, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether the consumer leaves it alone.
    pub fn is_held(&self) -> bool {
        self.state().load(Ordering::Acquire) == HELD
    }

    /// The producer wants nothing, or nothing more.
    pub fn let_go(&self) {
        self.state().store(0, Ordering::Release);
    }

    fn state(&self) -> &AtomicU32 {
        // SAFETY: it points to an atomic in memory that stays mapped, as the caller who made it promised.
        unsafe { self.0.as_ref() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_wanted_held_and_let_go_and_not_held_where_nobody_wants_it() {
        let mut memory = Memory::new(2);
        let (producer, consumer) = memory.ends();
        // SAFETY: the memory outlives both.
        let (ours, theirs) = unsafe { (producer.capture(), consumer.capture()) };
        theirs.hold();
        assert!(!ours.is_held() && !theirs.is_wanted());
        ours.want();
        assert!(theirs.is_wanted() && !ours.is_held());
        theirs.hold();
        assert!(!theirs.is_wanted() && ours.is_held());
        ours.let_go();
        assert!(!theirs.is_wanted() && !theirs.is_held());
    }

    #[repr(C, align(4096))]
    struct Page([u8; 4096]);

    struct Memory(Vec<Page>);

    impl Memory {
        fn new(pages: usize) -> Self {
            Self((0..pages).map(|_| Page([0; 4096])).collect())
        }

        fn ends(&mut self) -> (Producer, Consumer) {
            let base = NonNull::new(self.0.as_mut_ptr().cast::<u8>()).unwrap();
            let length = self.0.len() * 4096;
            // SAFETY: the pages outlive both ends in each test, and there is one of each.
            unsafe { (Producer::attach(base, length).unwrap(), Consumer::attach(base, length).unwrap()) }
        }
    }

    #[test]
    fn gives_records_in_order_across_the_end() {
        let mut memory = Memory::new(2);
        let (mut producer, mut consumer) = memory.ends();
        for i in 0..1000u32 {
            let content = vec![i as u8; (i as usize * 37) % 1900];
            producer.push(&[&i.to_le_bytes(), &content]).unwrap();
            let seen = consumer.front().unwrap().unwrap();
            assert_eq!(seen[..4], i.to_le_bytes());
            assert_eq!(seen[4..], content);
            consumer.release();
            assert_eq!(consumer.front().unwrap(), None);
        }
    }

    #[test]
    fn says_full_until_room_is_released() {
        let mut memory = Memory::new(2);
        let (mut producer, mut consumer) = memory.ends();
        let mut pushed = 0;
        while producer.push(&[&[7; 1000]]).is_ok() {
            pushed += 1;
        }
        assert_eq!(pushed, 3);
        assert_eq!(producer.push(&[&[7; 1000]]), Err(RingError::Full));
        consumer.front().unwrap().unwrap();
        consumer.release();
        producer.push(&[&[7; 900]]).unwrap();
    }

    #[test]
    fn refuses_a_record_above_half_of_the_ring() {
        let mut memory = Memory::new(2);
        let (mut producer, _consumer) = memory.ends();
        assert!(matches!(producer.push(&[&[0; 2048]]), Err(RingError::TooLarge { .. })));
    }

    #[test]
    fn refuses_a_tail_that_cannot_be() {
        let mut memory = Memory::new(2);
        let (mut producer, consumer) = memory.ends();
        consumer.region.counter64(TAIL).store(u64::MAX, Ordering::Release);
        assert_eq!(producer.push(&[b"x"]), Err(RingError::Corrupt));
    }

    #[test]
    fn wakes_a_sleeper_once_and_never_sleeps_over_a_record() {
        let mut memory = Memory::new(2);
        let (mut producer, mut consumer) = memory.ends();
        assert!(consumer.announce_sleep());
        assert!(producer.push(&[b"a"]).unwrap());
        assert!(!producer.push(&[b"b"]).unwrap());
        assert!(!consumer.announce_sleep());
        consumer.front().unwrap().unwrap();
        consumer.release();
    }

    #[test]
    fn carries_records_between_threads() {
        let mut memory = Memory::new(5);
        let (mut producer, mut consumer) = memory.ends();
        let writer = std::thread::spawn(move || {
            for i in 0..100_000u64 {
                while producer.push(&[&i.to_le_bytes()]) == Err(RingError::Full) {
                    std::thread::yield_now();
                }
            }
        });
        for i in 0..100_000u64 {
            let seen = loop {
                if let Some(seen) = consumer.front().unwrap() {
                    break u64::from_le_bytes(seen.try_into().unwrap());
                }
                std::thread::yield_now();
            };
            assert_eq!(seen, i);
            consumer.release();
        }
        writer.join().unwrap();
    }

    #[test]
    fn tells_the_consumer_to_leave_while_it_reads() {
        let mut memory = Memory::new(2);
        let (mut producer, mut consumer) = memory.ends();
        // SAFETY: the pages outlive the flag.
        let flag = unsafe { consumer.stop_flag() };
        producer.push(&[b"frame"]).unwrap();
        let record = consumer.front().unwrap().unwrap();
        assert!(!flag.is_set());
        producer.request_stop();
        assert!(flag.is_set());
        assert_eq!(record, b"frame");
    }

    #[test]
    fn tells_the_producer_of_a_refused_allocation() {
        let mut memory = Memory::new(2);
        let (producer, consumer) = memory.ends();
        // SAFETY: the pages outlive both.
        let (seen, told) = unsafe { (producer.refused(), consumer.refused()) };
        assert_eq!(seen.last(), None);
        told.note(4096);
        assert_eq!(seen.last(), Some(4096));
        told.forget();
        assert_eq!(seen.last(), None);
    }

    #[test]
    fn a_region_of_the_computed_length_takes_that_many_records() {
        let length = region_len(1000, 3).next_multiple_of(4096);
        let mut memory = Memory::new(length / 4096);
        let (mut producer, mut consumer) = memory.ends();
        for _ in 0..50 {
            for _ in 0..3 {
                producer.push(&[&[1; 1000]]).unwrap();
            }
            for _ in 0..3 {
                consumer.front().unwrap().unwrap();
                consumer.release();
            }
        }
    }
}
