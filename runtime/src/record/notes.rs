//! Which ranges of a guest's memory a host call has written.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// So many ranges are told apart; further ones widen the last.
const RANGES: usize = 16;

/// The ranges of the host call that is under way. Shared by the memory that is handed out and the recorder, on one thread.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    count: AtomicU32,
    ranges: [AtomicU64; RANGES],
    /// The offset into the frame that the first range was copied from, plus one; 0 where it was not.
    frame: AtomicU64,
}

impl Notes {
    /// Forgets what the call before wrote.
    pub(crate) fn clear(&self) {
        self.count.store(0, Relaxed);
        self.frame.store(0, Relaxed);
    }

    /// These bytes are written.
    pub(crate) fn wrote(&self, ptr: usize, len: usize) {
        let (Ok(ptr), Ok(len)) = (u32::try_from(ptr), u32::try_from(len)) else { return };
        if len == 0 {
            return;
        }
        let count = self.count.load(Relaxed);
        match self.ranges.get(count as usize) {
            Some(range) => {
                range.store(pack(ptr, len), Relaxed);
                self.count.store(count + 1, Relaxed);
            }
            None => {
                let Some(last) = self.ranges.last() else { return };
                let (from, length) = unpack(last.load(Relaxed));
                let end = from.saturating_add(length).max(ptr.saturating_add(len));
                let from = from.min(ptr);
                last.store(pack(from, end - from), Relaxed);
            }
        }
    }

    /// These bytes are copied from the frame, from `offset` on.
    pub(crate) fn copied(&self, ptr: usize, len: usize, offset: usize) {
        if self.count.load(Relaxed) == 0 && len > 0 {
            self.frame.store((offset as u64).saturating_add(1), Relaxed);
        }
        self.wrote(ptr, len);
    }

    /// What was written: pointer, length, and for a copy of the frame the offset into it.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32, Option<u32>)> + '_ {
        let count = self.count.load(Relaxed) as usize;
        // A copy is all that its call writes, or it is taken as bytes.
        let frame = if count == 1 { self.frame.load(Relaxed).checked_sub(1) } else { None };
        let frame = frame.and_then(|offset| u32::try_from(offset).ok()).filter(|offset| *offset != u32::MAX);
        self.ranges.iter().take(count).map(move |range| {
            let (ptr, len) = unpack(range.load(Relaxed));
            (ptr, len, frame)
        })
    }
}

fn pack(ptr: u32, len: u32) -> u64 {
    u64::from(ptr) << 32 | u64::from(len)
}

fn unpack(range: u64) -> (u32, u32) {
    // The halves of 64 bits.
    ((range >> 32) as u32, range as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_ranges_and_widens_the_last_when_there_are_too_many() {
        let notes = Notes::default();
        notes.wrote(8, 4);
        notes.wrote(0, 0);
        assert_eq!(notes.ranges().collect::<Vec<_>>(), [(8, 4, None)]);
        notes.clear();
        for at in 0..RANGES {
            notes.wrote(at * 10, 1);
        }
        notes.wrote(1000, 10);
        notes.wrote(5, 1);
        let ranges: Vec<_> = notes.ranges().collect();
        assert_eq!((ranges.len(), ranges.last()), (RANGES, Some(&(5, 1005, None))));
    }

    #[test]
    fn a_copy_of_the_frame_is_one_only_where_it_is_alone() {
        let notes = Notes::default();
        notes.copied(64, 10, 3);
        assert_eq!(notes.ranges().collect::<Vec<_>>(), [(64, 10, Some(3))]);
        notes.wrote(0, 1);
        assert!(notes.ranges().all(|(.., frame)| frame.is_none()));
    }
}
