//! Reads a channel's records in order, piece by piece.

use std::io;

use super::{
    Log, Part, Parts,
    content::{Commit, Content},
    frame::{self, Frames},
    segment::{Place, Segment},
};
use crate::{outbox::queue::Held, store::disk::Access};

/// At most this many records are read ahead.
const MOST: usize = 64;
/// With this many bytes of payload no more is read ahead.
const MOST_BYTES: usize = 32 * 1024;

/// How far a channel was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::outbox) struct Cursor {
    /// The segment, by its order.
    order: u64,
    /// The frame in it.
    offset: u64,
    /// The record, by its segment's numbers.
    ordinal: u32,
}

impl Log {
    /// The next records of a channel from the cursor on which are not gone and not to be passed over. None where there are none.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::outbox) fn read(
        &mut self,
        channel: &str,
        cursor: &mut Cursor,
        pass: impl Fn(Place) -> bool,
    ) -> io::Result<Vec<Held>> {
        let mut found = Vec::new();
        for at in 0..self.segments.len() {
            let Some(segment) = self.segments.get(at).filter(|segment| segment.order >= cursor.order) else { continue };
            if segment.order > cursor.order {
                *cursor = Cursor { order: segment.order, ..Cursor::default() };
            }
            if segment.has(channel) {
                if self.read_segment(at, channel, cursor, &pass, &mut found)? {
                    break;
                }
            } else {
                // What is appended to it later is read from here on.
                cursor.offset = cursor.offset.max(segment.length);
            }
        }
        Ok(found)
    }

    /// True where enough was found.
    fn read_segment(
        &mut self,
        at: usize,
        channel: &str,
        cursor: &mut Cursor,
        pass: &impl Fn(Place) -> bool,
        found: &mut Vec<Held>,
    ) -> io::Result<bool> {
        let mut bytes = 0;
        loop {
            let Some(segment) = self.segments.get(at).filter(|segment| cursor.offset < segment.length) else {
                return Ok(false);
            };
            let (number, length) = (segment.number, segment.length);
            let content = match self.disk.open(&self.path(number), Access::Read) {
                Ok(file) => frame::read(&*file, number, cursor.offset, length)?,
                Err(error) if is_missing(&error) => None,
                Err(error) => return Err(error),
            };
            let Some(content) = content else {
                cursor.offset = self.repair(at, cursor.offset)?;
                continue;
            };
            let next = cursor.offset + (frame::HEADER + content.len()) as u64;
            let Some(segment) = self.segments.get(at) else { return Ok(false) };
            if let Some(Content::Commit(commit)) = Content::decode(&content) {
                for held in commit.records_of(number, channel) {
                    let Some(place) = held.place.filter(|place| place.ordinal >= cursor.ordinal) else { continue };
                    if segment.gone.contains(place.ordinal) || pass(place) {
                        continue;
                    }
                    bytes += held.payload.len();
                    found.push(held);
                    if found.len() >= MOST || bytes >= MOST_BYTES {
                        cursor.ordinal = place.ordinal.saturating_add(1);
                        return Ok(true);
                    }
                }
            }
            cursor.offset = next;
        }
    }

    /// The commits of a segment. What of it is damaged is taken out and told.
    pub(super) fn commits(&mut self, at: usize) -> io::Result<Vec<Commit>> {
        let Some(segment) = self.segments.get(at) else { return Ok(Vec::new()) };
        let bytes = self.bytes(segment)?;
        let commits = commits(segment, &bytes);
        self.correct(at, &commits);
        Ok(commits)
    }

    /// Takes out what of a segment is damaged, and tells it. Gives where the first whole frame behind an offset begins.
    pub(super) fn repair(&mut self, at: usize, offset: u64) -> io::Result<u64> {
        let Some(segment) = self.segments.get(at) else { return Ok(u64::MAX) };
        tracing::error!(segment = segment.number, offset, "a segment of the outbox is damaged; records are lost");
        let bytes = self.bytes(segment)?;
        let length = segment.length;
        let next = Frames::new(segment.number, &bytes).map(|(range, _)| range.start).find(|start| *start > offset);
        let commits = commits(segment, &bytes);
        self.correct(at, &commits);
        Ok(next.unwrap_or(length))
    }

    fn bytes(&self, segment: &Segment) -> io::Result<Vec<u8>> {
        match self.disk.open(&self.path(segment.number), Access::Read) {
            Ok(file) => frame::read_all(&*file, segment.length),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Holds what is known of a segment to what is there.
    fn correct(&mut self, at: usize, commits: &[Commit]) {
        let Some(segment) = self.segments.get_mut(at) else { return };
        let (mut parts, mut next, mut missing) = (Parts::new(), 0_u32, Vec::new());
        for commit in commits {
            missing.extend(next..commit.before);
            next = next.max(commit.before);
            for (channel, held) in &commit.records {
                if !segment.gone.contains(next) {
                    parts.entry(channel.clone()).or_default().add(1, held.size);
                }
                next += 1;
            }
        }
        missing.extend(next..segment.total);
        let before = std::mem::replace(&mut segment.parts, parts);
        missing.into_iter().for_each(|ordinal| segment.gone.insert(ordinal));
        for (channel, had) in before {
            let has = segment.parts.get(&channel).copied().unwrap_or_default();
            let lost =
                Part { records: had.records.saturating_sub(has.records), bytes: had.bytes.saturating_sub(has.bytes) };
            if lost.records > 0 {
                self.lost.push((channel, lost));
            }
        }
    }
}

fn commits(segment: &Segment, bytes: &[u8]) -> Vec<Commit> {
    let decoded = Frames::new(segment.number, bytes).filter_map(|(_, content)| Content::decode(content));
    let commits = decoded.filter_map(|content| if let Content::Commit(commit) = content { Some(commit) } else { None });
    // A commit that does not count, at the end, lies behind what counts of the file.
    commits.collect()
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}
