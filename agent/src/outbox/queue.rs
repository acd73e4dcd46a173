//! One channel's queue: what is on disk as figures, what is not yet as records.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use sanderling_protocol::deployment::Channel;

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
    /// Those that are not on disk, oldest first.
    pub(super) held: VecDeque<Held>,
    /// What those count, in bytes.
    pub(super) held_bytes: u64,
    /// Records below this id are with the link or gone.
    pub(super) cursor: u64,
}

impl Queue {
    pub(super) fn new(policy: Channel) -> Self {
        Self::on_disk(policy, 0, 0)
    }

    /// A queue that an earlier run left.
    pub(super) fn on_disk(policy: Channel, records: u64, bytes: u64) -> Self {
        Self { policy, records, bytes, stored: records, held: VecDeque::new(), held_bytes: 0, cursor: 0 }
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

    /// Takes a record out of the figures; true where it is on disk and must be removed there.
    pub(super) fn remove(&mut self, id: u64, size: u64) -> bool {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        match self.held.binary_search_by_key(&id, |held| held.id) {
            Ok(at) => {
                self.held.remove(at);
                self.held_bytes = self.held_bytes.saturating_sub(size);
                false
            }
            Err(_) => {
                self.stored = self.stored.saturating_sub(1);
                true
            }
        }
    }

    /// What was on disk is gone; gives how many records that were.
    pub(super) fn lose_stored(&mut self) -> u64 {
        self.records = u64::try_from(self.held.len()).unwrap_or(0);
        self.bytes = self.held_bytes;
        std::mem::take(&mut self.stored)
    }

    /// What was in memory is on disk.
    pub(super) fn mark_stored(&mut self) {
        self.stored += u64::try_from(self.held.len()).unwrap_or(0);
        self.held.clear();
        self.held_bytes = 0;
    }
}
