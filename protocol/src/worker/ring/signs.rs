//! What the two ends tell one another beside the records: single counters, which can be held when the ends are gone.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

const WANTED: u32 = 1;
const HELD: u32 = 2;

/// Whether the producer asked the consumer to leave; see [`Consumer::stop_flag`](super::Consumer::stop_flag).
pub struct StopFlag(pub(super) NonNull<AtomicU32>);

// SAFETY: it points to an atomic in memory that stays mapped, as the caller of `stop_flag` promised.
unsafe impl Send for StopFlag {}

impl StopFlag {
    /// Cheap: one load.
    pub fn is_set(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire) == 1
    }
}

/// The size of the last allocation that was refused; see [`Consumer::refused`](super::Consumer::refused).
pub struct Refused(pub(super) NonNull<AtomicU64>);

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

/// Whether the next frame is to be on record, and whether that record stands still; see [`Producer::capture`](super::Producer::capture).
///
/// The producer wants it; the consumer records a frame and holds the record, so that it can be read while frames go on; the
/// producer reads it and lets go.
pub struct Capture(pub(super) NonNull<AtomicU32>);

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
