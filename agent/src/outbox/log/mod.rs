//! The log: records of all channels in segments, files that are only appended to.
//!
//! Purpose: a batch of records and of what is gone costs one write and one sync, and little more than its own bytes
//! (docs/decisions/0031-segment-log.md has the figures). What a commit changes beside the log, in the database, is stored with it.
//!
//! # Layout
//!
//! `outbox/{number}.log`. A segment begins with a checkpoint, all that is known of the segments before it; commits follow, each one
//! frame (`frame.rs`). The newest segment alone is read at the start, however much waits in the others. A segment whose records are
//! all gone is removed. Where segments are sparse, because a channel keeps the newest and others wait, what is left of a few is moved to one
//! (`compact.rs`), when the next segment begins: its checkpoint is the list of those that count.
//!
//! Invariants:
//! - Nothing is ever written over. After an append that failed, or a tail that a power cut tore, the next segment is begun, and its
//!   checkpoint says where the one before ends; so a commit of which it is not known whether it is there counts until then as a
//!   whole or not at all, and never after.
//! - A commit with a number counts once the database has this number, or a later one ([`Log::resolve`]). It is appended and synced first, then
//!   the database's transaction makes it count, together with what that changes. Until that is known nothing is appended.
//! - Segments stand in the order of their records: in each channel, ids rise from one to the next.
//!
//! Failure modes: what a medium gives back otherwise than it was written is found by the seals, left out, and told by
//! [`Log::take_lost`]. A damaged checkpoint has all segments read; what was gone may come back then.
//!
//! Limits: [`SEGMENT`] bytes a segment, and one commit beyond; the files take at most about twice what waits and [`SLACK`]; in memory each segment
//! takes a bit for each record, and a little for each channel.

mod compact;
mod content;
mod frame;
mod open;
mod read;
mod segment;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) use self::{
    content::Counts,
    open::Found,
    read::Cursor,
    segment::{Part, Parts, Place},
};
use self::{
    content::{Checkpoint, Gone, Parcel},
    segment::Segment,
};
use super::queue::Held;
use crate::{
    atomic_file,
    store::disk::{Access, Disk, DiskFile, make_folder, parent},
};

/// A segment of this many bytes is followed by the next.
pub(super) const SEGMENT: u64 = 256 * 1024;
/// Beside twice what waits, the files may take this much.
pub(super) const SLACK: u64 = 4 * SEGMENT;

/// What the next commit is to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append<'a> {
    /// Whether it counts only when [`Log::resolve`] says so.
    pub(super) confirmed: bool,
    pub(super) counts: Counts,
    /// Records, each with its channel; in each channel by id.
    pub(super) records: &'a [(&'a String, &'a Held)],
    /// Records that are gone, each with its channel and what it counts.
    pub(super) gone: &'a BTreeMap<Place, (String, u64)>,
}

/// What a commit has stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Records: channel, id, what it counts, and where it lies now.
    pub(super) records: Vec<(String, u64, u64, Place)>,
    /// Records that are gone.
    pub(super) gone: Vec<Place>,
}

/// A commit that was appended.
#[derive(Debug, Default)]
struct Appended {
    end: u64,
    records: Vec<(String, u64, u64)>,
    gone: BTreeMap<u64, Gone>,
}

/// The segments.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// By order. The last may be the one that is appended to.
    segments: Vec<Segment>,
    /// The file of the last segment, where it may be appended to.
    active: Option<Box<dyn DiskFile>>,
    /// The last segment may be appended to, but is not open for it.
    is_whole: bool,
    /// Those of the last commit or checkpoint.
    counts: Counts,
    next_number: u64,
    next_order: u64,
    /// The last number that a commit was to be confirmed by.
    confirm: u64,
    /// It waits for the database.
    waiting: Option<Appended>,
    /// Files that do not count any more.
    obsolete: Vec<u64>,
    lost: Vec<(String, Part)>,
    moved: BTreeMap<Place, Place>,
    /// Something was written since the end was noted.
    changed: bool,
    /// The name of the folder is on disk.
    placed: bool,
}

fn name(number: u64) -> String {
    format!("{number:010}.log")
}

impl Log {
    /// What waits, by channel.
    pub(super) fn totals(&self) -> Parts {
        let mut totals = Parts::new();
        for (channel, part) in self.segments.iter().flat_map(|segment| &segment.parts) {
            totals.entry(channel.clone()).or_default().add(part.records, part.bytes);
        }
        totals
    }

    /// Whether a commit waits for [`Self::resolve`], and the number that decides.
    pub(super) fn waits_for(&self) -> Option<u64> {
        self.waiting.as_ref().map(|_| self.confirm)
    }

    /// The last number that a commit was to be confirmed by.
    pub(super) fn last_confirm(&self) -> u64 {
        self.confirm
    }

    /// The database has the number of the commit that waits, or has not.
    pub(super) fn resolve(&mut self, confirmed: bool) -> Stored {
        match self.waiting.take() {
            Some(appended) if confirmed => self.take_in(appended),
            Some(_) => {
                self.seal();
                Stored::default()
            }
            None => Stored::default(),
        }
    }

    /// Channels that lost records since the last time this was asked, with what they lost.
    pub(super) fn take_lost(&mut self) -> Vec<(String, Part)> {
        std::mem::take(&mut self.lost)
    }

    /// Whether a record is gone, or lost.
    pub(super) fn is_gone(&self, place: Place) -> bool {
        let segment = self.segments.iter().find(|segment| segment.number == place.segment);
        segment.is_none_or(|segment| segment.gone.contains(place.ordinal))
    }

    /// Makes sure that there is a segment to append to. Records may have another place then: [`Self::take_moved`] tells, after an
    /// error too.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn prepare(&mut self, counts: Counts) -> io::Result<()> {
        let has_room = self.segments.last().is_some_and(|last| last.length < SEGMENT);
        if has_room && self.active.is_some() {
            return Ok(());
        }
        if let Some(last) = self.segments.last().filter(|_| has_room && self.is_whole) {
            self.active = Some(self.disk.open(&self.path(last.number), Access::Change)?);
            self.sweep();
            return Ok(());
        }
        self.seal();
        self.compact();
        self.begin(counts)?;
        self.sweep();
        Ok(())
    }

    /// The new places of records that were moved since the last time this was asked, by the old ones.
    pub(super) fn take_moved(&mut self) -> BTreeMap<Place, Place> {
        std::mem::take(&mut self.moved)
    }

    /// Appends a commit, after [`Self::prepare`]. It is on disk when this returns; one that is to be confirmed counts from
    /// [`Self::resolve`] on.
    ///
    /// # Errors
    /// What the system says; then it is there as a whole or not at all, and is not there after the next one.
    pub(super) fn append(&mut self, commit: &Append<'_>) -> io::Result<Stored> {
        let mut gone: BTreeMap<u64, Gone> = BTreeMap::new();
        for (place, (channel, size)) in commit.gone {
            let of = gone.entry(place.segment).or_default();
            of.ordinals.insert(place.ordinal);
            of.parts.entry(channel.clone()).or_default().add(1, *size);
        }
        let confirm = if commit.confirmed { self.confirm + 1 } else { 0 };
        let (Some(last), Some(file)) = (self.segments.last(), &self.active) else {
            return Err(io::Error::other("no segment is open"));
        };
        let parcel =
            Parcel { confirm, counts: commit.counts, before: last.total, records: commit.records, gone: &gone };
        let frame = frame::encode(last.number, last.length, &parcel.encode())?;
        let end = last.length.saturating_add(frame.len() as u64);
        let written = file.write_at(&frame, last.length).and_then(|()| file.sync());
        (self.changed, self.counts) = (true, commit.counts);
        self.confirm = self.confirm.max(confirm);
        if let Err(error) = written {
            self.seal();
            return Err(error);
        }
        let records = commit.records.iter().map(|(channel, held)| ((*channel).clone(), held.id, held.size));
        let appended = Appended { end, records: records.collect(), gone };
        if commit.confirmed {
            self.waiting = Some(appended);
            return Ok(Stored::default());
        }
        Ok(self.take_in(appended))
    }

    /// A commit counts.
    fn take_in(&mut self, appended: Appended) -> Stored {
        let mut stored = Stored::default();
        if let Some(last) = self.segments.last_mut() {
            last.length = appended.end;
            let place = |(channel, id, size): (String, u64, u64)| {
                let place = last.add(&channel, size);
                (channel, id, size, place)
            };
            stored.records = appended.records.into_iter().map(place).collect();
        }
        for (segment, gone) in appended.gone {
            stored.gone.extend(gone.ordinals.iter().map(|ordinal| Place { segment, ordinal }));
            if let Some(segment) = self.segments.iter_mut().find(|known| known.number == segment) {
                segment.remove(&gone.ordinals, &gone.parts);
            }
        }
        self.drop_empty();
        self.sweep();
        stored
    }

    /// What was appended to is not any more.
    fn seal(&mut self) {
        (self.active, self.is_whole) = (None, false);
    }

    /// Segments of which nothing is left do not count, but for the one that is appended to.
    fn drop_empty(&mut self) {
        let last =
            if self.active.is_some() || self.is_whole { self.segments.last().map(|last| last.number) } else { None };
        let obsolete = &mut self.obsolete;
        self.segments.retain(|segment| {
            let keep = !segment.is_empty() || Some(segment.number) == last;
            if !keep {
                obsolete.push(segment.number);
            }
            keep
        });
    }

    /// Begins the next segment.
    fn begin(&mut self, counts: Counts) -> io::Result<()> {
        make_folder(&*self.disk, &self.folder)?;
        if !self.placed {
            // Where the folder was there already, too: it may be there and its name not on disk, if that failed when it was made.
            self.disk.sync_folder(&parent(&self.folder))?;
            self.placed = true;
        }
        self.drop_empty();
        let number = self.next_number;
        self.next_number += 1;
        let checkpoint = Checkpoint { counts, confirm: self.confirm, segments: self.segments.clone() };
        let frame = frame::encode(number, 0, &checkpoint.encode())?;
        let path = self.path(number);
        let begun = self.write_new(&path, &frame);
        if begun.is_err() {
            // Whether it has its name is not known.
            self.obsolete.push(number);
        }
        let mut segment = Segment::new(number, self.next_order);
        segment.length = frame.len() as u64;
        self.active = Some(begun?);
        (self.is_whole, self.changed, self.counts) = (true, true, counts);
        self.segments.push(segment);
        self.next_order += 1;
        Ok(())
    }

    fn write_new(&self, path: &Path, frame: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        // One name for all: what a power cut leaves is overwritten.
        let temporary = atomic_file::temporary(&self.folder.join("next"))?;
        let made = (|| {
            let file = self.disk.open(&temporary, Access::Replace)?;
            file.write_at(frame, 0)?;
            file.sync()?;
            atomic_file::rename(&*self.disk, &temporary, path)?;
            Ok(file)
        })();
        if made.is_err() {
            // The first error is the one that tells.
            let _ = self.disk.remove(&temporary);
        }
        made
    }

    /// Removes files that do not count, once the newest checkpoint does not name them or what follows it says that nothing is left.
    fn sweep(&mut self) {
        for number in std::mem::take(&mut self.obsolete) {
            if let Err(error) = self.disk.remove(&self.path(number)) {
                tracing::warn!(%error, number, "a segment of the outbox that is not needed stays; it is removed at the next start");
            }
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(name(number))
    }
}

impl Drop for Log {
    /// Notes where the log ends, so that a tail that goes missing before the next start is told.
    fn drop(&mut self) {
        if let (true, None, Some(last)) = (self.changed, &self.waiting, self.segments.last())
            && self.active.is_some()
            && let Err(error) = open::note_end(&*self.disk, &self.folder, last, self.counts)
        {
            tracing::debug!(%error, "the end of the outbox was not noted");
        }
    }
}
