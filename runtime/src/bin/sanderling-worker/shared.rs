//! What the worker inherits: file descriptors, and the memory that it shares with the supervisor.

#![allow(unsafe_code)]

use std::{
    os::fd::{AsFd, FromRawFd, OwnedFd, RawFd},
    ptr::{NonNull, null_mut},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fd::BorrowedFd,
    fs::fstat,
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap},
};
use sanderling_guest::frame::{FrameHeader, HEADER};
use sanderling_protocol::worker::{
    Fault,
    ring::{Capture, Consumer, Refused, RingError, StopFlag},
};
use sanderling_runtime::{FrameBytes, Guest, Outcome};
use thiserror::Error;

use crate::allocator;

/// Why inherited memory or a descriptor cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SharedError {
    /// The descriptor is not open.
    #[error("descriptor {0} is not open; sanderling-worker is started by sanderling-agent, not by hand")]
    NotOpen(RawFd),
    /// A descriptor is taken a second time, or not in ascending order.
    #[error("descriptor {0} was taken before")]
    Taken(RawFd),
    /// The shared memory cannot be mapped.
    #[error("the frame ring cannot be mapped: {0}")]
    Map(Errno),
    /// The flight recorder's memory cannot be mapped.
    #[error("the flight recorder's memory cannot be mapped: {0}")]
    Flight(Errno),
    /// What is mapped is not a ring.
    #[error("the frame ring is broken: {0}")]
    Ring(#[from] RingError),
}

/// The lowest descriptor that was not taken yet.
static NEXT: AtomicU64 = AtomicU64::new(3);

/// Takes an inherited descriptor over; each only once, in ascending order.
pub(crate) fn inherited(fd: RawFd) -> Result<OwnedFd, SharedError> {
    let number = u64::try_from(fd).map_err(|_| SharedError::NotOpen(fd))?;
    if NEXT.fetch_max(number + 1, Ordering::Relaxed) > number {
        return Err(SharedError::Taken(fd));
    }
    // SAFETY: borrowed for one `fstat`, which says whether it is open.
    fstat(unsafe { BorrowedFd::borrow_raw(fd) }).map_err(|_| SharedError::NotOpen(fd))?;
    // SAFETY: it is open, and nobody else in this process owns it: all descriptors below `NEXT` were taken through
    // here, and the descriptors that this process opens itself are opened after the inherited ones were taken.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Maps the memory that the flight recorder writes to. It stays mapped until the process ends.
pub(crate) fn map_flight(fd: &OwnedFd) -> Result<&'static mut [u8], SharedError> {
    let length = fstat(fd.as_fd()).map_err(SharedError::Flight)?.st_size;
    let length = usize::try_from(length).ok().filter(|length| *length > 0).ok_or(SharedError::Flight(Errno::INVAL))?;
    // SAFETY: a new mapping at a place that the kernel chooses; it is never unmapped.
    let base = unsafe { mmap(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd.as_fd(), 0) }
        .map_err(SharedError::Flight)?;
    let base = NonNull::new(base.cast::<u8>()).ok_or(SharedError::Flight(Errno::INVAL))?;
    // SAFETY: `length` bytes are mapped there for reading and writing until the process ends, the descriptor was taken once, so
    // that there is no other mapping in this process, and no other process maps it: the supervisor reads it when this one is gone.
    Ok(unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), length) })
}

/// The consumer's end of the frame ring. The memory stays mapped until the process ends.
pub(crate) struct Ring {
    consumer: Consumer,
    length: usize,
}

/// What became of the oldest record.
pub(crate) struct Handed {
    /// The frame's sequence number.
    pub(crate) seq: u64,
    /// What the guest made of it.
    pub(crate) outcome: Result<Outcome, Fault>,
}

impl Ring {
    /// Maps the ring that `fd` holds.
    pub(crate) fn map(fd: &OwnedFd) -> Result<Self, SharedError> {
        let length = fstat(fd.as_fd()).map_err(SharedError::Map)?.st_size;
        let length = usize::try_from(length).map_err(|_| RingError::Memory { length: 0 })?;
        if length == 0 {
            return Err(RingError::Memory { length }.into());
        }
        // SAFETY: a new mapping at a place that the kernel chooses; it is never unmapped.
        let base =
            unsafe { mmap(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd.as_fd(), 0) }
                .map_err(SharedError::Map)?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(SharedError::Map(Errno::INVAL))?;
        // SAFETY: `length` bytes are mapped there for reading and writing until the process ends, and this is the only consumer.
        let consumer = unsafe { Consumer::attach(base, length)? };
        Ok(Self { consumer, length })
    }

    /// The length of the mapping, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length as u64
    }

    /// Whether the supervisor wants the worker to leave at once.
    pub(crate) fn stop_flag(&self) -> StopFlag {
        // SAFETY: the memory is mapped until the process ends.
        unsafe { self.consumer.stop_flag() }
    }

    /// Where the allocator tells of what it refused.
    pub(crate) fn refused(&self) -> Refused {
        // SAFETY: the memory is mapped until the process ends.
        unsafe { self.consumer.refused() }
    }

    /// As [`Consumer::announce_sleep`].
    pub(crate) fn announce_sleep(&self) -> bool {
        self.consumer.announce_sleep()
    }

    /// Hands the oldest frame to the guest, in place, and gives its room back. `None` where there is none.
    pub(crate) fn hand_to(&mut self, guest: &mut Guest) -> Result<Option<Handed>, RingError> {
        // SAFETY: the memory is mapped until the process ends.
        let capture = unsafe { self.consumer.capture() };
        let Some(record) = self.consumer.front()? else { return Ok(None) };
        // SAFETY: the memory is mapped until the process ends, and the supervisor does not write to the record before it is
        // released below; by then `Guest::frame` has let go of it, as it promises, and it keeps no copy of the slice.
        let record: &'static [u8] = unsafe { &*std::ptr::from_ref(record) };
        allocator::forget();
        let handed = hand(record, guest, &capture);
        self.consumer.release();
        Ok(Some(handed))
    }
}

fn hand(record: &'static [u8], guest: &mut Guest, capture: &Capture) -> Handed {
    let Some((header, content)) = record.split_first_chunk::<HEADER>() else {
        return Handed {
            seq: 0,
            outcome: Ok(Outcome::Refused("the record is shorter than a frame header".to_owned())),
        };
    };
    match FrameHeader::from_bytes(header) {
        Some(header) => {
            let wanted = capture.is_wanted();
            if wanted {
                guest.want_record();
            } else if !capture.is_held() {
                guest.release_record();
            }
            let outcome = guest.frame(&header, FrameBytes::Static(content));
            if wanted && matches!(outcome, Ok(Outcome::Done(_) | Outcome::Refused(_))) {
                guest.hold_record(&header, content);
                capture.hold();
            }
            Handed { seq: header.seq, outcome }
        }
        None => {
            let seq = header.first_chunk().map_or(0, |seq| u64::from_le_bytes(*seq));
            let why = "the frame's kind or format is not known to this worker; agent and worker must be of one version";
            Handed { seq, outcome: Ok(Outcome::Refused(why.to_owned())) }
        }
    }
}
