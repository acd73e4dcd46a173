//! The outbox: what guests emit and what happens to the device, until the broker has it.
//!
//! Purpose: a durable, bounded queue for every channel (a topic below `device/{id}/`: `data/{module}/{channel}`, or
//! `event`).
//!
//! # What "stored" means
//!
//! A record is *taken* when [`Outbox::push`] gives [`Pushed::Kept`]; it is *stored*, and stays so through any power cut, from the
//! moment at which a call to [`Outbox::flush`], [`Outbox::tick`] or [`Outbox::push`] has written the batch that it is in:
//! [`Outbox::unstored`] says how many were taken and are not stored. That is at the latest `commit_ms` (100 ms unless set
//! otherwise) after it was taken, or after [`COMMIT_RECORDS`] records or [`COMMIT_BYTES`] bytes more, whichever comes first,
//! provided that the driver calls [`Outbox::tick`] when [`Outbox::due`] says so and that the disk takes writes. A power cut
//! before that may lose it: those of a batch are lost together or are all there. A record that the broker acknowledged before it was
//! due never touches the disk: with the link up, the outbox costs no flash. [`Outbox::flush`] stores all of it at once.
//!
//! What a module changed of its state in a frame ([`Outbox::push_frame`]) is stored in the same transaction as the records of that frame:
//! after a power cut both are there or neither is. A record may be with the broker before its batch is stored; then a power cut
//! takes the change of the state alone, and the guest does that frame's work anew from the state before it.
//!
//! Invariants: a record is removed only by [`Outbox::acked`] or [`Outbox::refused`], or dropped by its channel's policy and then
//! counted. A power cut after an acknowledgement may bring the record back, and so may a commit that failed and was done all
//! the same: QoS 1 means at least once. Records of one channel are sent in the order in which they were pushed; channels
//! take turns, `event` first.
//!
//! Failure modes: on a full or broken disk records wait in memory, [`MEMORY_BYTES`] of them, and then the new ones are dropped
//! and counted; every attempt to commit that fails is an error that the caller reports, and the next is made after a wait that
//! doubles up to [`LONGEST_WAIT`]. Channels of which nothing is on disk are sent meanwhile, and all of them where the disk can be
//! read. A database that was damaged and set aside takes its records with it: they are counted as dropped.
//!
//! Limits: room by channel (`max_bytes`, `max_age_s`) and for all data channels together (`[outbox] max_bytes`); a
//! record counts with [`OVERHEAD`] bytes beside its topic and payload. Age is counted by the monotonic clock for records
//! of this run and by the wall clock for older ones: a clock that is set does not age what was made in this run.

mod queue;
mod sending;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use sanderling_protocol::{
    deployment::{Channel, Keep},
    reported,
};

use self::{
    queue::{Held, Queue},
    sending::Unacked,
    table::{Batch, Table},
};
use crate::{
    clock::Now,
    settings::OutboxSettings,
    state::Rows,
    store::{StoreError, database::Database},
};

/// The channel of `device/{id}/event`.
pub const EVENT: &str = "event";
/// What a record counts beside its topic and payload, in bytes.
pub const OVERHEAD: u64 = 64;
/// This many records that are not on disk are committed at once.
pub const COMMIT_RECORDS: usize = 64;
/// This many bytes that are not on disk are committed at once.
pub const COMMIT_BYTES: u64 = 128 * 1024;
/// While the disk fails, at most this many bytes wait in memory.
pub const MEMORY_BYTES: u64 = 512 * 1024;
/// The longest wait before a commit that failed is tried again.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// At most this many bytes are with the link without their acknowledgement.
pub const UNACKED_BYTES: u64 = 512 * 1024;

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The token to publish it with, and to acknowledge it by.
    pub id: u64,
    /// Its topic below `device/{id}/`.
    pub channel: String,
    /// Its payload.
    pub payload: Bytes,
}

/// What became of a pushed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits; older ones were dropped for it where `dropped` is not 0.
    Kept {
        /// How many.
        dropped: u64,
    },
    /// Its channel keeps the oldest and is full, or it is larger than the channel's room: it is dropped and counted.
    Dropped,
}

/// The queues of all channels.
#[derive(Debug)]
pub struct Outbox {
    table: Table,
    settings: OutboxSettings,
    run: u32,
    next_id: u64,
    queues: BTreeMap<String, Queue>,
    unacked: BTreeMap<u64, Unacked>,
    unacked_bytes: u64,
    /// Records on disk that are to be removed from it.
    removals: BTreeSet<(String, u64)>,
    dropped: u64,
    /// When the oldest change that is not on disk was made, on the monotonic clock.
    dirty_since: Option<Duration>,
    /// When a commit may be tried again after one that failed, and how long the wait for it was.
    retry: Option<(Duration, Duration)>,
    /// Records in memory with a lower id may be on disk too: the commit that failed may have been done.
    uncertain_below: u64,
    /// [`Database::losses`] as they are accounted for.
    losses: u32,
    /// Rows of modules' state that are not stored.
    rows: Rows,
    /// Rows that were stored are lost, and nobody was told.
    rows_lost: bool,
    /// The channel that was served last.
    turn: String,
}

impl Outbox {
    /// Opens the outbox in the store's database and counts what an earlier run left. Nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(database: Database, settings: OutboxSettings) -> Result<Self, StoreError> {
        let table = Table::new(database);
        let found = table.load()?;
        let mut outbox = Self {
            table,
            settings,
            run: found.run,
            next_id: found.next_id,
            queues: BTreeMap::new(),
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            removals: BTreeSet::new(),
            dropped: found.dropped,
            dirty_since: None,
            retry: None,
            uncertain_below: 0,
            losses: 0,
            rows: Rows::new(),
            rows_lost: false,
            turn: String::new(),
        };
        for (channel, (records, bytes)) in found.channels {
            let policy = outbox.default_policy(&channel);
            outbox.queues.insert(channel, Queue::on_disk(policy, records, bytes));
        }
        Ok(outbox)
    }

    /// Sets the policy of the data channels of the deployment that runs, by `data/{module}/{channel}`. Records of other
    /// channels stay until they are sent or too old.
    pub fn configure(&mut self, channels: impl IntoIterator<Item = (String, Channel)>) {
        for (name, policy) in channels {
            self.queues.entry(name).or_default().policy = policy;
        }
    }

    /// Takes a record of a channel.
    ///
    /// # Errors
    /// [`StoreError`] where records had to be committed and could not be, or an old record that was to make room could not be
    /// read; the record is kept in memory all the same, or dropped and counted where [`MEMORY_BYTES`] wait there.
    pub fn push(&mut self, channel: &str, payload: Bytes, now: Now) -> Result<Pushed, StoreError> {
        let pushed = self.take(channel, payload, now);
        if !matches!(pushed, Ok(Pushed::Dropped)) {
            self.flush_if_many(now)?;
        }
        pushed
    }

    /// Takes the records of a frame and what it changed of its module's state: they are stored together.
    ///
    /// # Errors
    /// As [`Outbox::push`]; the rows wait in memory, whatever the disk does, and the newest of each is what is stored.
    pub fn push_frame(&mut self, records: Vec<(String, Bytes)>, rows: Rows, now: Now) -> Result<(), StoreError> {
        self.account_for_losses(now);
        let mut taken = Ok(());
        for (channel, payload) in records {
            taken = taken.and(self.take(&channel, payload, now).map(drop));
        }
        if !rows.is_empty() {
            self.rows.extend(rows);
            self.dirty_since.get_or_insert(now.mono);
        }
        self.flush_if_many(now)?;
        taken
    }

    fn take(&mut self, channel: &str, payload: Bytes, now: Now) -> Result<Pushed, StoreError> {
        self.account_for_losses(now);
        let size = size(channel, &payload);
        let room = self.make_room(channel, size, now);
        let fits = room.as_ref().map_or(true, |(_, fits)| *fits);
        if !fits || self.memory_bytes().saturating_add(size) > MEMORY_BYTES {
            self.count_drops(1, now);
            return room.map(|_| Pushed::Dropped);
        }
        let id = self.next_id;
        self.next_id += 1;
        let held = Held { id, size, run: self.run, wall_ms: now.wall_ms, mono: now.mono, payload };
        self.queue(channel).push(held);
        self.dirty_since.get_or_insert(now.mono);
        room.map(|(dropped, _)| Pushed::Kept { dropped })
    }

    fn flush_if_many(&mut self, now: Now) -> Result<(), StoreError> {
        let many = self.unstored() >= COMMIT_RECORDS || self.memory_bytes() >= COMMIT_BYTES;
        if many && self.may_try(now) { self.try_flush(now) } else { Ok(()) }
    }

    /// Whether rows of modules' state that were stored are lost with a database that was damaged: all of them must be pushed again.
    /// Says so once.
    pub fn rows_lost(&mut self) -> bool {
        std::mem::take(&mut self.rows_lost)
    }

    /// How many records were taken, wait, and are not stored.
    pub fn unstored(&self) -> usize {
        self.queues.values().map(|queue| queue.held.len()).sum()
    }

    /// How long until [`Self::tick`] has something to write; `None` where all is on disk.
    pub fn due(&self, now: Now) -> Option<Duration> {
        let at = self.dirty_since? + self.settings.commit_interval;
        let at = self.retry.map_or(at, |(retry, _)| at.max(retry));
        Some(at.saturating_sub(now.mono))
    }

    /// Commits what is due.
    ///
    /// # Errors
    /// [`StoreError`]; it is tried again after a wait.
    pub fn tick(&mut self, now: Now) -> Result<(), StoreError> {
        self.account_for_losses(now);
        if self.due(now).is_some_and(|due| due.is_zero()) { self.try_flush(now) } else { Ok(()) }
    }

    /// Puts all on disk in one transaction. Call it before the program ends.
    ///
    /// # Errors
    /// [`StoreError`]; then all of it still waits in memory, and is on disk as a whole or not at all.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.dirty_since.is_none() {
            return Ok(());
        }
        let batch = Batch {
            run: self.run,
            dropped: self.dropped,
            removals: &self.removals,
            queues: &self.queues,
            rows: &self.rows,
        };
        if let Err(error) = self.table.commit(&batch) {
            self.uncertain_below = self.next_id;
            return Err(error);
        }
        self.removals.clear();
        self.rows.clear();
        self.queues.values_mut().for_each(Queue::mark_stored);
        (self.dirty_since, self.retry, self.uncertain_below) = (None, None, 0);
        Ok(())
    }

    fn may_try(&self, now: Now) -> bool {
        self.retry.is_none_or(|(at, _)| at <= now.mono)
    }

    fn try_flush(&mut self, now: Now) -> Result<(), StoreError> {
        let flushed = self.flush();
        if flushed.is_err() {
            let wait = self.retry.map_or(self.settings.commit_interval, |(_, wait)| wait.saturating_mul(2));
            let wait = wait.clamp(Duration::from_millis(1), LONGEST_WAIT);
            self.retry = Some((now.mono + wait, wait));
        }
        flushed
    }

    /// Where the database was set aside, what it held is gone.
    fn account_for_losses(&mut self, now: Now) {
        let losses = self.table.losses();
        if std::mem::replace(&mut self.losses, losses) == losses {
            return;
        }
        let lost = self.queues.values_mut().map(Queue::lose_stored).sum();
        self.removals.clear();
        self.rows_lost = true;
        self.count_drops(lost, now);
    }

    /// The outbox in figures, for reported state.
    pub fn figures(&self) -> reported::Outbox {
        let sum = |of: fn(&Queue) -> u64| self.queues.values().map(of).sum();
        reported::Outbox { records: sum(|queue| queue.records), bytes: sum(|queue| queue.bytes), dropped: self.dropped }
    }

    fn default_policy(&self, channel: &str) -> Channel {
        if channel == EVENT {
            return Channel { max_bytes: self.settings.event_max_bytes, ..Channel::default() };
        }
        Channel::default()
    }

    fn queue(&mut self, channel: &str) -> &mut Queue {
        let policy = self.default_policy(channel);
        self.queues.entry(channel.to_owned()).or_insert_with(|| Queue::new(policy))
    }

    /// Drops old records until `size` bytes fit, where the channel's policy allows it. Returns how many were dropped, and
    /// whether it fits now.
    fn make_room(&mut self, channel: &str, size: u64, now: Now) -> Result<(u64, bool), StoreError> {
        let mut dropped = 0;
        loop {
            let queue = self.queue(channel);
            let (keep, room, bytes) = (queue.policy.keep, queue.policy.max_bytes, queue.bytes);
            let data: u64 = self.queues.iter().filter(|(name, _)| *name != EVENT).map(|(_, queue)| queue.bytes).sum();
            let total_fits = channel == EVENT || data.saturating_add(size) <= self.settings.max_bytes;
            if bytes.saturating_add(size) <= room && total_fits {
                return Ok((dropped, true));
            }
            if keep == Keep::Oldest || size > room || !self.drop_first(channel, now)? {
                return Ok((dropped, false));
            }
            dropped += 1;
        }
    }

    /// Drops the oldest record of a channel that is not with the link.
    fn drop_first(&mut self, channel: &str, now: Now) -> Result<bool, StoreError> {
        let Some(first) = self.first_unsent(channel)? else { return Ok(false) };
        self.remove(channel, first.id, first.size, now);
        self.count_drops(1, now);
        Ok(true)
    }

    fn remove(&mut self, channel: &str, id: u64, size: u64, now: Now) {
        let Some(queue) = self.queues.get_mut(channel) else { return };
        if queue.remove(id, size) || id < self.uncertain_below {
            self.removals.insert((channel.to_owned(), id));
            self.dirty_since.get_or_insert(now.mono);
        }
    }

    fn count_drops(&mut self, records: u64, now: Now) {
        self.dropped = self.dropped.saturating_add(records);
        self.dirty_since.get_or_insert(now.mono);
    }

    fn memory_bytes(&self) -> u64 {
        self.queues.values().map(|queue| queue.held_bytes).sum()
    }
}

/// What a record counts, in bytes.
pub fn size(channel: &str, payload: &[u8]) -> u64 {
    u64::try_from(channel.len().saturating_add(payload.len())).unwrap_or(u64::MAX).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests;
