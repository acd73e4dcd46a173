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
//! What a module changed of its state in a frame ([`Outbox::push_frame`]) is stored with the records of that frame (`storing.rs`):
//! after a power cut both are there or neither is. A record may be with the broker before its batch is stored; then a power cut
//! takes the change of the state alone, and the guest does that frame's work anew from the state before it.
//!
//! Invariants: a record is removed only by [`Outbox::acked`] or [`Outbox::refused`], or dropped by its channel's policy and then
//! counted. A power cut after an acknowledgement may bring the record back: QoS 1 means at least once. Records of one channel are
//! sent in the order in which they were pushed; channels take turns by their priority, `event` first, and a backlog holds up neither
//! events nor other channels (`sending.rs`).
//!
//! Failure modes: on a full or broken disk records wait in memory, [`MEMORY_BYTES`] of them, and then the new ones are dropped
//! and counted; every attempt to commit that fails is an error that the caller reports, and the next is made after a wait that
//! doubles up to [`LONGEST_WAIT`]. Channels of which nothing is on disk are sent meanwhile, and all of them where the disk can be
//! read. Records that the medium has lost are counted as dropped. A database that was damaged and set aside takes modules' state with it, and no record.
//!
//! Limits: room by channel (`max_bytes`, `max_age_s`) and for all data channels together (`[outbox] max_bytes`); a
//! record counts with [`OVERHEAD`] bytes beside its topic and payload. Age is counted by the monotonic clock for records
//! of this run and by the wall clock for older ones: a clock that is set does not age what was made in this run.

pub mod cost;
mod drain;
mod log;
mod queue;
mod sending;
mod storing;
mod table;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use sanderling_protocol::{
    deployment::{Channel, Keep, Priority},
    reported,
};

use self::{
    drain::Drain,
    log::{Found, Log, Place},
    queue::{Held, Queue},
    sending::{Message, Sent},
    table::Table,
};
pub use self::{drain::DrainSettings, sending::Room};
use crate::{
    clock::Now,
    settings::OutboxSettings,
    state::Rows,
    store::{StoreError, database::Database, disk::parent},
};

/// The folder of the log, in the state directory.
pub const FOLDER: &str = "outbox";

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
    log: Log,
    settings: OutboxSettings,
    run: u32,
    next_id: u64,
    queues: BTreeMap<String, Queue>,
    /// Messages with the link, by the id of their first record.
    unacked: BTreeMap<u64, Message>,
    /// The records in them, by id.
    sent: BTreeMap<u64, Sent>,
    unacked_bytes: u64,
    /// Records on disk that are to be removed from it, with their channels and what they count.
    removals: BTreeMap<Place, (String, u64)>,
    dropped: u64,
    /// What of it is on disk.
    dropped_stored: u64,
    /// When the oldest change that is not on disk was made, on the monotonic clock.
    dirty_since: Option<Duration>,
    /// When a commit may be tried again after one that failed, and how long the wait for it was.
    retry: Option<(Duration, Duration)>,
    /// The log's last commit failed and may be there all the same; the next one ends that.
    doubtful: bool,
    /// The database has a number that makes commits count.
    has_confirm: bool,
    /// A version of the agent before the log has left records in the database.
    has_old: bool,
    /// The log's commit that waits for the database holds such records.
    old_waits: bool,
    /// [`Database::losses`] as they are accounted for.
    losses: u32,
    /// Rows of modules' state that are not stored.
    rows: Rows,
    /// Rows that were stored are lost, and nobody was told.
    rows_lost: bool,
    /// The channel of each priority that was served last.
    turns: BTreeMap<Priority, String>,
    drain: Drain,
    /// Records on disk below this id are the backlog.
    backlog_below: u64,
    /// When some of the backlog may go that was held up, on the monotonic clock.
    resumes_at: Option<Duration>,
}

impl Outbox {
    /// Opens the outbox in the store's folder and finds what an earlier run left, without reading all of it. Nothing is written, but for
    /// what a version of the agent before the log has left in the database: that is taken over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(database: Database, settings: OutboxSettings) -> Result<Self, StoreError> {
        let folder = parent(database.path()).join(FOLDER);
        let disk = database.disk();
        let table = Table::new(database);
        let values = table.values()?;
        let found = Found::open(disk, folder, values.confirmed);
        let Found { log, counts, lost } =
            found.map_err(|error| StoreError::Disk { doing: "read", cause: error.to_string() })?;
        let dropped = counts.dropped.max(values.dropped);
        let next_id = counts.next_id.max(table.last_old_id()?.saturating_add(1));
        let mut outbox = Self {
            table,
            log,
            settings,
            run: counts.run.max(values.run).wrapping_add(1),
            next_id,
            queues: BTreeMap::new(),
            unacked: BTreeMap::new(),
            sent: BTreeMap::new(),
            unacked_bytes: 0,
            removals: BTreeMap::new(),
            dropped: dropped.saturating_add(lost),
            dropped_stored: dropped,
            dirty_since: (lost > 0).then_some(Duration::ZERO),
            retry: None,
            doubtful: false,
            has_confirm: values.confirmed.is_some(),
            has_old: false,
            old_waits: false,
            losses: 0,
            rows: Rows::new(),
            rows_lost: false,
            turns: BTreeMap::new(),
            drain: Drain::new(settings.drain),
            backlog_below: next_id,
            resumes_at: None,
        };
        for (channel, part) in outbox.log.totals() {
            outbox.queue(&channel).add_stored(part);
        }
        if let Err(error) = outbox.take_over_old() {
            tracing::warn!(%error, "records of an earlier version of the agent wait for the disk to take writes");
            outbox.dirty_since = Some(Duration::ZERO);
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
        let Now { wall_ms, mono } = now;
        let held = Held { id, size, run: self.run, wall_ms, mono, payload, place: None };
        self.queue(channel).push(held);
        self.dirty_since.get_or_insert(now.mono);
        room.map(|(dropped, _)| Pushed::Kept { dropped })
    }

    /// Whether rows of modules' state that were stored are lost with a database that was damaged: all of them must be pushed again.
    /// Says so once.
    pub fn rows_lost(&mut self) -> bool {
        std::mem::take(&mut self.rows_lost)
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
        self.remove(channel, first.id, first.size, first.place, now);
        self.count_drops(1, now);
        Ok(true)
    }

    fn remove(&mut self, channel: &str, id: u64, size: u64, place: Option<Place>, now: Now) {
        let Some(queue) = self.queues.get_mut(channel) else { return };
        queue.remove(id, size, place.is_some());
        if let Some(place) = place {
            self.removals.insert(place, (channel.to_owned(), size));
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
