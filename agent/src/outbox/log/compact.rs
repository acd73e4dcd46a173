//! Moves what is left of sparse segments to one.
//!
//! The new segment stands where the first of them stood, so that the order of records stays. It counts when the next checkpoint names it; until
//! then those that it takes the place of do.
//!
//! Limits: [`MOST_RUNS`] moves for each segment that is begun, of [`MOST_SEGMENTS`] segments each, which are read as a whole. No more is moved
//! than is given back.

use std::{
    collections::BTreeMap,
    io,
    ops::{Range, RangeInclusive},
};

use super::{
    Counts, Log, Place, SEGMENT, SLACK,
    content::{Content, Parcel},
    frame,
    segment::Segment,
};
use crate::{outbox::queue::Held, store::disk::Access};

const MOST_RUNS: usize = 4;
const MOST_SEGMENTS: usize = 8;

impl Log {
    /// Moves what is worth it. No segment is appended to now.
    pub(super) fn compact(&mut self) {
        for _ in 0..MOST_RUNS {
            let Some(run) = self.sparsest() else { return };
            if let Err(error) = self.move_together(run) {
                return tracing::warn!(%error, "the outbox takes more room than it needs; check the state directory's disk");
            }
        }
    }

    /// The run of segments whose move gives most, where the files take more than they may.
    fn sparsest(&self) -> Option<RangeInclusive<usize>> {
        let files: u64 = self.segments.iter().map(|segment| segment.length).sum();
        let waits: u64 = self.segments.iter().map(Segment::bytes).sum();
        if files <= waits.saturating_mul(2).saturating_add(SLACK) {
            return None;
        }
        let mut best = None;
        let mut most = 0;
        for start in 0..self.segments.len() {
            let (mut length, mut left) = (0, 0);
            for (at, segment) in self.segments.iter().enumerate().skip(start).take(MOST_SEGMENTS) {
                length += segment.length;
                left += segment.bytes();
                if left > SEGMENT && at > start {
                    break;
                }
                let gain = length.saturating_sub(left);
                if gain >= left && gain > most {
                    (best, most) = (Some(start..=at), gain);
                }
            }
        }
        best
    }

    fn move_together(&mut self, run: RangeInclusive<usize>) -> io::Result<()> {
        let olds: Vec<Segment> = self.segments.get(run.clone()).unwrap_or_default().to_vec();
        let mut records: Vec<(String, Held)> = Vec::new();
        for at in run.clone() {
            records.extend(self.left(at)?);
        }
        let (number, order) = (self.next_number, olds.first().map_or(0, |old| old.order));
        self.next_number += 1;
        let mut new = Segment::new(number, order);
        let listed: Vec<(&String, &Held)> = records.iter().map(|(channel, held)| (channel, held)).collect();
        let counts = Counts::default();
        let parcel = Parcel { confirm: 0, counts, before: 0, records: &listed, gone: &BTreeMap::new() };
        let mut bytes = frame::encode(number, 0, &Content::moved())?;
        bytes.extend(frame::encode(number, bytes.len() as u64, &parcel.encode())?);
        let written = self.disk.open(&self.path(number), Access::Replace).and_then(|file| {
            file.write_at(&bytes, 0)?;
            file.sync()?;
            self.disk.sync_folder(&self.folder)
        });
        if let Err(error) = written {
            self.obsolete.push(number);
            return Err(error);
        }
        new.length = bytes.len() as u64;
        for (channel, held) in &records {
            let place = new.add(channel, held.size);
            if let Some(old) = held.place {
                self.note_move(old, place);
            }
        }
        self.obsolete.extend(olds.iter().map(|old| old.number));
        let run = Range { start: *run.start(), end: run.end() + 1 };
        self.segments.splice(run, [new]);
        Ok(())
    }

    /// A record may have been moved before, and its place then is the one that is known.
    fn note_move(&mut self, from: Place, to: Place) {
        let known = self.moved.iter().find(|(_, now)| **now == from).map(|(known, _)| *known);
        self.moved.insert(known.unwrap_or(from), to);
    }

    /// The records of a segment that are not gone.
    fn left(&mut self, at: usize) -> io::Result<Vec<(String, Held)>> {
        let commits = self.commits(at)?;
        let Some(segment) = self.segments.get(at) else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for commit in commits {
            for ((channel, held), ordinal) in commit.records.into_iter().zip(commit.before..) {
                if !segment.gone.contains(ordinal) {
                    let place = Some(Place { segment: segment.number, ordinal });
                    left.push((channel, Held { place, ..held }));
                }
            }
        }
        Ok(left)
    }
}
