//! One channel's queue: what is on disk as figures, what is not yet as records.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use sanderling_protocol::deployment::Channel;

use super::log::{Cursor, Part, Place};
use crate::clock::Now;

/// A record, in memory or as read from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: u64,
    /// What it counts, in bytes.
    pub(super) size: u64,
    /// The run of the agent that made it.
    pub(super) run: u32,
    /// When, Unix milliseconds.
    pub(super) wall_ms: i64,
    /// When, on the monotonic clock of its run.
    pub(super) mono: Duration,
    pub(super) payload: Bytes,
    /// Where it lies on disk, if it does.
    pub(super) place: Option<Place>,
}

impl Held {
    /// Its age, by the monotonic clock if it is of this run.
    pub(super) fn age(&self, run: u32, now: Now) -> Duration {
        if self.run == run {
            return now.mono.saturating_sub(self.mono);
        }
        Duration::from_millis(u64::try_from(now.wall_ms.saturating_sub(self.wall_ms)).unwrap_or(0))
    }
}

/// A channel's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) policy: Channel,
    /// Records that wait, on disk and in memory, those with the link included.
    pub(super) records: u64,
    /// What they count, in bytes.
    pub(super) bytes: u64,
    /// How many of them are on disk.
    pub(super) stored: u64,
    /// Some of those on disk, read ahead.
    pub(super) ahead: VecDeque<Held>,
    /// From where on more of those on disk are read.
    pub(super) read_to: Cursor,
    /// Those that are not on disk, oldest first.
    pub(super) held: VecDeque<Held>,
    /// What those count, in bytes.
    pub(super) held_bytes: u64,
    /// Records in memory below this id are with the link or gone.
    pub(super) cursor: u64,
}

impl Queue {
    pub(super) fn new(policy: Channel) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Records of it are on disk that were not known of.
    pub(super) fn add_stored(&mut self, part: Part) {
        self.records += part.records;
        self.bytes += part.bytes;
        self.stored += part.records;
    }

    pub(super) fn push(&mut self, held: Held) {
        self.records += 1;
        self.bytes += held.size;
        self.held_bytes += held.size;
        self.held.push_back(held);
    }

    /// The first record in memory from the cursor on that is not with the link.
    pub(super) fn first_held(&self, with_link: impl Fn(u64) -> bool) -> Option<&Held> {
        let start = self.held.partition_point(|held| held.id < self.cursor);
        self.held.range(start..).find(|held| !with_link(held.id))
    }

    /// What is on disk is read from its start again.
    pub(super) fn read_again(&mut self) {
        self.ahead.clear();
        self.read_to = Cursor::default();
    }

    /// Takes a record out of the figures, and out of memory where it is not on disk.
    pub(super) fn remove(&mut self, id: u64, size: u64, is_stored: bool) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        if is_stored {
            self.stored = self.stored.saturating_sub(1);
            self.ahead.pop_front_if(|first| first.id == id);
        } else {
            drop(self.take(id));
        }
    }

    /// A record in memory is on disk now; false where it is not in memory any more.
    pub(super) fn mark_stored(&mut self, id: u64) -> bool {
        let is_held = self.take(id).is_some();
        self.stored += u64::from(is_held);
        is_held
    }

    fn take(&mut self, id: u64) -> Option<Held> {
        let at = self.held.binary_search_by_key(&id, |held| held.id).ok()?;
        let held = self.held.remove(at)?;
        self.held_bytes = self.held_bytes.saturating_sub(held.size);
        Some(held)
    }

    /// Records on disk are lost.
    pub(super) fn lose(&mut self, part: Part) {
        self.records = self.records.saturating_sub(part.records);
        self.bytes = self.bytes.saturating_sub(part.bytes);
        self.stored = self.stored.saturating_sub(part.records);
    }
}
