//! The supervisor's end of the memory that frames travel through.
//!
//! Purpose: an anonymous file in memory, mapped here and inherited by one worker, with a
//! [`ring`](sanderling_protocol::worker::ring) in it.
//!
//! Invariants: the file is sealed against shrinking and growing before the worker gets it, so a hostile worker cannot take
//! pages away under the supervisor's mapping. The mapping lives as long as the ring's producer.
//!
//! Failure modes: the kernel is out of memory or descriptors; the size is no ring.

#![allow(unsafe_code)]

use std::{ffi::c_void, io, os::fd::OwnedFd, ptr::NonNull, rc::Rc};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    mm::{MapFlags, ProtFlags},
};
use sanderling_protocol::worker::ring::{Capture, Producer, Refused, RingError};

/// The writing end of a ring, with the memory that it lies in.
pub(super) struct FrameRing {
    // Before the mapping, so that it is dropped first.
    producer: Producer,
    map: Rc<Map>,
}

/// What worker and supervisor tell one another in the ring besides frames; it can be read when the worker has ended.
pub(super) struct Signs {
    // Before the mapping, so that they are dropped first.
    refused: Refused,
    capture: Capture,
    _map: Rc<Map>,
}

impl Signs {
    /// Whether a record of the next frame is wanted, and there.
    pub(super) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// The size of an allocation that was refused to the worker in its last call, in bytes. It says so itself.
    pub(super) fn refused(&self) -> Option<u64> {
        self.refused.last()
    }
}

impl FrameRing {
    /// Makes a ring in `bytes` of new shared memory, and the descriptor that the worker inherits.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` where `bytes` cannot hold a ring.
    pub(super) fn create(bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let file = memory()?;
        rustix::fs::ftruncate(&file, u64::try_from(bytes).map_err(io::Error::other)?)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = Map::new(&file, bytes)?;
        // SAFETY: the map is `bytes` long, page-aligned, readable and writable, and lives as long as the producer does;
        // the file is new, so there is no other producer.
        let producer = unsafe { Producer::attach(map.base.cast(), map.length) }
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok((Self { producer, map: Rc::new(map) }, file))
    }

    /// What can be asked beside this end, and when the worker is gone.
    pub(super) fn signs(&self) -> Signs {
        // SAFETY: the mapping is held beside them.
        let (refused, capture) = unsafe { (self.producer.refused(), self.producer.capture()) };
        Signs { refused, capture, _map: self.map.clone() }
    }

    /// Appends one record made of `parts`, and says whether the worker sleeps and must be woken.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Result<bool, RingError> {
        self.producer.push(parts)
    }

    /// Asks the worker to leave, even out of a running guest.
    pub(super) fn request_stop(&self) {
        self.producer.request_stop();
    }
}

/// An empty file in memory that can be sealed and, where the kernel knows that (since 6.3), not be executed: some demand it
/// (`vm.memfd_noexec`).
fn memory() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let create = |flags| rustix::fs::memfd_create("sanderling-frames", flags);
    Ok(create(flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| create(flags))?)
}

struct Map {
    base: NonNull<c_void>,
    length: usize,
}

impl Map {
    fn new(file: &OwnedFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choosing touches no memory that is in use.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let base = NonNull::new(base).ok_or_else(|| io::Error::other("the kernel mapped a ring at address 0"))?;
        Ok(Self { base, length })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this base and length, and nothing refers to it any more: the
        // producer is dropped before its map.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_protocol::worker::ring::Consumer;

    #[test]
    fn a_worker_that_maps_the_file_reads_what_was_pushed() {
        let (mut ring, file) = FrameRing::create(64 * 1024).unwrap();
        let theirs = Map::new(&file, 64 * 1024).unwrap();
        // SAFETY: mapped above, used only below, one consumer.
        let mut consumer = unsafe { Consumer::attach(theirs.base.cast(), theirs.length) }.unwrap();
        ring.push(&[b"head", b"body"]).unwrap();
        assert_eq!(consumer.front().unwrap().unwrap(), b"headbody");
        consumer.release();
        assert!(consumer.announce_sleep());
        assert!(ring.push(&[b"x"]).unwrap(), "a sleeping worker must be woken");
        assert!(!consumer.stop_requested());
        ring.request_stop();
        assert!(consumer.stop_requested());
        let sign = ring.signs();
        drop(ring);
        assert_eq!(sign.refused(), None);
        // SAFETY: mapped as long as `theirs` is.
        unsafe { consumer.refused() }.note(77);
        assert_eq!(sign.refused(), Some(77), "it can be read when the ring's own end is gone");
    }

    #[test]
    fn the_size_of_the_memory_cannot_be_changed() {
        let (_ring, file) = FrameRing::create(64 * 1024).unwrap();
        assert!(rustix::fs::ftruncate(&file, 4096).is_err());
        assert!(rustix::fs::ftruncate(&file, 1 << 20).is_err());
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).is_err());
    }

    #[test]
    fn refuses_memory_that_cannot_hold_a_ring() {
        assert_eq!(FrameRing::create(4096).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        assert!(FrameRing::create(0).is_err());
    }
}
