//! The memory that a worker's flight recorder writes to.
//!
//! Purpose: an anonymous file in memory, inherited by one worker and mapped there alone. It is read here when the worker is gone, so
//! that it tells of one that aborted or was killed as well, or while the worker leaves it alone.
//!
//! Invariants: the file is sealed against shrinking and growing; it is never mapped in this process, only read at places. What is in
//! it is the worker's word: bounded, and checked where it is looked at.
//!
//! Failure modes: the kernel is out of memory or descriptors.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{MemfdFlags, SealFlags};
use sanderling_protocol::{
    digest::{Digest, Hasher},
    flight::{Basis, HEADER, Header},
};

const KIB: usize = 1024;
/// What is read at a time of content that is only looked at, in bytes.
const PART: usize = 16 * KIB;

/// What a worker recorded.
#[derive(Debug)]
pub struct FlightFile {
    file: File,
    length: usize,
}

/// What is known of a record without taking it apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Whether it lacks the state that the guest was in.
    pub partial: bool,
    /// Host functions that the last call had called.
    pub host_calls: u64,
    /// SHA-256 of the content of the last frame, where that is there.
    pub frame: Option<Digest>,
    /// How long it is, in bytes.
    pub length: usize,
}

/// A record of a frame that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Whether it lacks the state that the guest was in.
    pub partial: bool,
    /// All that was recorded.
    pub record: Vec<u8>,
}

impl FlightFile {
    /// Makes one of this size.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(kib: u32) -> io::Result<Self> {
        let length = usize::try_from(kib).unwrap_or(usize::MAX).saturating_mul(KIB);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file: OwnedFd = rustix::fs::memfd_create("sanderling-flight", flags)?;
        rustix::fs::ftruncate(&file, u64::try_from(length).map_err(io::Error::other)?)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { file: file.into(), length })
    }

    /// The descriptor that the worker inherits.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn header(&self) -> Option<Header> {
        let mut head = [0; HEADER];
        self.file.read_exact_at(&mut head, 0).ok()?;
        match Header::read(&head, self.length) {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(%error, "what a worker recorded is not taken");
                None
            }
        }
    }

    /// Looks at it; `None` where nothing was recorded, or nothing that makes sense.
    pub fn glance(&self) -> Option<Glance> {
        let header = self.header()?;
        let frame = header.frame.and_then(|(at, length)| self.digest(at, length).ok());
        let partial = header.basis == Basis::Nothing;
        Some(Glance { partial, host_calls: header.calls, frame, length: header.log_end })
    }

    /// All that was recorded.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` where there is nothing that makes sense.
    pub fn record(&self) -> io::Result<Vec<u8>> {
        self.captured().map(|captured| captured.record)
    }

    /// As [`FlightFile::record`], while the worker leaves it alone.
    ///
    /// # Errors
    /// As [`FlightFile::record`].
    pub fn captured(&self) -> io::Result<Captured> {
        let header = self.header().ok_or(io::ErrorKind::InvalidData)?;
        let mut record = vec![0; header.log_end];
        self.file.read_exact_at(&mut record, 0)?;
        Ok(Captured { partial: header.basis == Basis::Nothing, record })
    }

    /// SHA-256 of a part that was checked to lie inside, without holding all of it.
    fn digest(&self, at: usize, length: usize) -> io::Result<Digest> {
        let (mut hasher, mut part) = (Hasher::new(), [0; PART]);
        for from in (at..at + length).step_by(PART) {
            let part = part.get_mut(..PART.min(at + length - from)).unwrap_or_default();
            self.file.read_exact_at(part, u64::try_from(from).map_err(io::Error::other)?)?;
            hasher.update(part);
        }
        Ok(hasher.finish())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_protocol::flight::{MAGIC, offset};

    fn write(file: &FlightFile, at: usize, bytes: &[u8]) {
        file.file.write_all_at(bytes, u64::try_from(at).unwrap()).unwrap();
    }

    fn number(file: &FlightFile, at: usize, value: u32) {
        write(file, at, &value.to_le_bytes());
    }

    #[test]
    fn an_untouched_one_tells_nothing_and_its_size_cannot_be_changed() {
        let file = FlightFile::create(64).unwrap();
        assert_eq!(file.glance(), None);
        assert_eq!(file.record().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(rustix::fs::ftruncate(&file.file, 4096).is_err());
        assert!(rustix::fs::ftruncate(&file.file, 1 << 20).is_err());
    }

    #[test]
    fn tells_the_last_frame_and_gives_no_more_than_was_recorded() {
        let file = FlightFile::create(64).unwrap();
        write(&file, offset::MAGIC, &MAGIC);
        number(&file, offset::BASIS, 2);
        number(&file, offset::SNAPSHOT_END, 64);
        number(&file, offset::LOG_END, 80);
        number(&file, offset::FRAME, 70);
        number(&file, offset::FRAME_LEN, 5);
        write(&file, offset::CALLS, &3_u64.to_le_bytes());
        write(&file, 70, b"frame");
        let glance = file.glance().unwrap();
        let frame = Some(Digest::of(b"frame"));
        assert_eq!(glance, Glance { partial: false, host_calls: 3, frame, length: 80 });
        assert_eq!(file.record().unwrap().len(), 80);
    }

    #[test]
    fn tells_a_frame_that_is_read_in_parts() {
        let file = FlightFile::create(256).unwrap();
        let content: Vec<u8> = (0..PART * 2 + 5).map(|at| (at % 251) as u8).collect();
        write(&file, offset::MAGIC, &MAGIC);
        number(&file, offset::SNAPSHOT_END, 64);
        number(&file, offset::LOG_END, u32::try_from(70 + content.len()).unwrap());
        number(&file, offset::FRAME, 70);
        number(&file, offset::FRAME_LEN, u32::try_from(content.len()).unwrap());
        write(&file, 70, &content);
        assert_eq!(file.glance().unwrap().frame, Some(Digest::of(&content)));
        number(&file, offset::FRAME_LEN, 0);
        assert_eq!(file.glance().unwrap().frame, Some(Digest::of(b"")));
    }

    #[test]
    fn lies_about_lengths_give_nothing() {
        let file = FlightFile::create(64).unwrap();
        write(&file, offset::MAGIC, &MAGIC);
        for (end, frame, length) in [(65_537, 64, 0), (80, 64, 17), (80, 63, 1), (80, u32::MAX, 1), (63, 64, 0)] {
            number(&file, offset::SNAPSHOT_END, 64);
            number(&file, offset::LOG_END, end);
            number(&file, offset::FRAME, frame);
            number(&file, offset::FRAME_LEN, length);
            assert_eq!(file.glance(), None, "{end} {frame} {length}");
            assert!(file.record().is_err());
        }
    }
}
