//! What of the outbox is with the link: which record is the next, and what became of those that were given out.
//!
//! Events go first, then channels of high priority, then those of normal priority in turn, then those of low priority. What waited on disk when the link
//! came up, the backlog, goes no faster than [`super::drain`] lets it; while it waits for that, records of other channels pass it, and events always.

use std::{collections::BTreeSet, time::Duration};

use sanderling_protocol::{
    batch::{self, BatchBuilder},
    deployment::{Batch, Priority},
};

use super::{EVENT, Outbox, Record, UNACKED_BYTES, log::Place, queue::Held, size};
use crate::{clock::Now, store::StoreError};

/// A record while it is with the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    size: u64,
    /// Where it lies on disk, if it does.
    pub(super) place: Option<Place>,
}

/// A message while it is with the link.
#[derive(Clone, Debug)]
pub(super) struct Message {
    channel: String,
    records: Vec<u64>,
}

/// How many messages the link takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub most: usize,
    /// Of these, so many may be of the backlog: what is left is for what comes fresh.
    pub backlog: usize,
}

impl Outbox {
    /// The link is up: what is on disk now is the backlog.
    pub fn link_up(&mut self) {
        self.backlog_below = self.next_id;
    }

    /// The next records to publish, at most `most`; they are with the link until they are [acknowledged](Self::acked) or
    /// the link goes [down](Self::link_down). Drops what is too old.
    ///
    /// # Errors
    /// [`StoreError`] where there is none to give and the disk cannot be read.
    pub fn next_unsent(&mut self, most: usize, now: Now) -> Result<Vec<Record>, StoreError> {
        self.next_in(Room { most, backlog: most }, now)
    }

    /// As [`Self::next_unsent`], with so much room.
    ///
    /// # Errors
    /// [`StoreError`] where there is none to give and the disk cannot be read.
    pub fn next_in(&mut self, mut room: Room, now: Now) -> Result<Vec<Record>, StoreError> {
        self.account_for_losses(now);
        self.resumes_at = None;
        let mut records = Vec::new();
        while records.len() < room.most && self.unacked_bytes < UNACKED_BYTES {
            match self.next_record(&mut room, now) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(records)
    }

    /// How long until some of the backlog may go that the last call held up; `None` where it held up nothing.
    pub fn resumes_in(&self, now: Now) -> Option<Duration> {
        Some(self.resumes_at?.saturating_sub(now.mono))
    }

    /// The broker has a message: its records are removed. An unknown id is ignored.
    pub fn acked(&mut self, id: u64, now: Now) {
        self.settle(id, now);
    }

    /// The broker will never take a message: its records are removed and counted as dropped. An unknown id is ignored.
    pub fn refused(&mut self, id: u64, now: Now) {
        let records = self.settle(id, now);
        if records > 0 {
            self.count_drops(records, now);
        }
    }

    fn settle(&mut self, id: u64, now: Now) -> u64 {
        let Some(Message { channel, records }) = self.unacked.remove(&id) else { return 0 };
        let mut settled = 0;
        for id in records {
            // One that was lost meanwhile with its segment is counted already.
            let Some(Sent { size, place, .. }) = self.sent.remove(&id) else { continue };
            self.unacked_bytes = self.unacked_bytes.saturating_sub(size);
            self.remove(&channel, id, size, place, now);
            settled += 1;
        }
        settled
    }

    /// The link is down: every record without its acknowledgement is to be sent again.
    pub fn link_down(&mut self) {
        self.unacked.clear();
        self.unacked_bytes = 0;
        self.resumes_at = None;
        if let Some((first, _)) = std::mem::take(&mut self.sent).first_key_value() {
            for queue in self.queues.values_mut() {
                queue.cursor = queue.cursor.min(*first);
                queue.read_again();
            }
        }
    }

    /// The first record of a channel that is not with the link: those on disk are older than those in memory.
    pub(super) fn first_unsent(&mut self, channel: &str) -> Result<Option<Held>, StoreError> {
        let Some(queue) = self.queues.get_mut(channel) else { return Ok(None) };
        while queue.stored > 0 {
            let (sent, removals) = (&self.sent, &self.removals);
            let passed = |held: &Held| {
                sent.contains_key(&held.id) || held.place.is_some_and(|place| removals.contains_key(&place))
            };
            while queue.ahead.pop_front_if(|held| passed(held)).is_some() {}
            if let Some(first) = queue.ahead.front() {
                return Ok(Some(first.clone()));
            }
            let with_link: BTreeSet<Place> = sent.values().filter_map(|sent| sent.place).collect();
            let mut read_to = queue.read_to;
            let read = self
                .log
                .read(channel, &mut read_to, |place| with_link.contains(&place) || removals.contains_key(&place));
            let found = read.map_err(|error| StoreError::Disk { doing: "read", cause: error.to_string() })?;
            let is_end = found.is_empty();
            queue.ahead.extend(found);
            queue.read_to = read_to;
            if is_end {
                break;
            }
        }
        Ok(queue.first_held(|id| self.sent.contains_key(&id)).cloned())
    }

    fn next_record(&mut self, room: &mut Room, now: Now) -> Result<Option<Record>, StoreError> {
        let mut unread = None;
        for channel in self.order() {
            match self.next_of(&channel, room, now) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => unread = Some(error),
            }
        }
        unread.map_or(Ok(None), Err)
    }

    /// The first record of a channel that is not too old; those that are, are dropped.
    fn first_fresh_enough(&mut self, channel: &str, now: Now) -> Result<Option<Held>, StoreError> {
        while let Some(first) = self.first_unsent(channel)? {
            let max_age = self.queue(channel).policy.max_age_s;
            if first.age(self.run, now) <= Duration::from_secs(max_age) {
                return Ok(Some(first));
            }
            self.remove(channel, first.id, first.size, first.place, now);
            self.count_drops(1, now);
        }
        Ok(None)
    }

    fn next_of(&mut self, channel: &str, room: &mut Room, now: Now) -> Result<Option<Record>, StoreError> {
        let first = self.first_fresh_enough(channel, now)?;
        // Losses that were found on the way are told before anything else.
        self.account_for_losses(now);
        let Some(first) = first else { return Ok(None) };
        let is_backlog = channel != EVENT && first.place.is_some() && first.id < self.backlog_below;
        if is_backlog && !self.backlog_may_go(room, now) {
            return Ok(None);
        }
        let id = first.id;
        self.give(channel, id, &first);
        let record = self.with_those_behind(channel, first, now);
        if is_backlog {
            room.backlog -= 1;
            self.drain.take(size(&record.channel, &record.payload));
        }
        if channel != EVENT {
            let priority = self.queue(channel).policy.priority;
            self.turns.insert(priority, channel.to_owned());
        }
        Ok(Some(record))
    }

    fn backlog_may_go(&mut self, room: &Room, now: Now) -> bool {
        let wait = self.drain.wait(now.mono);
        if !wait.is_zero() {
            self.resumes_at = Some(now.mono + wait);
        }
        wait.is_zero() && room.backlog > 0
    }

    /// A record is with the link, in the message of this id.
    fn give(&mut self, channel: &str, message: u64, held: &Held) {
        let queue = self.queue(channel);
        queue.cursor = held.id + 1;
        queue.ahead.pop_front_if(|first| first.id == held.id);
        self.unacked_bytes += held.size;
        self.sent.insert(held.id, Sent { size: held.size, place: held.place });
        let of = self.unacked.entry(message);
        of.or_insert_with(|| Message { channel: channel.to_owned(), records: Vec::new() }).records.push(held.id);
    }

    /// The message of a record, with those that wait behind it where its channel says so.
    fn with_those_behind(&mut self, channel: &str, first: Held, now: Now) -> Record {
        let id = first.id;
        let alone = |held: Held| Record { id, channel: channel.to_owned(), payload: held.payload };
        let name = channel.strip_prefix("data/").filter(|_| self.queue(channel).policy.batch == Batch::Zstd);
        let Some(name) = name.map(|rest| format!("{}/{rest}", batch::TOPIC)) else { return alone(first) };
        let mut builder = BatchBuilder::default();
        if !builder.push(first.id, first.wall_ms, &first.payload) {
            return alone(first);
        }
        // What cannot be read now is told when it is the first.
        while let Ok(Some(next)) = self.first_fresh_enough(channel, now) {
            if !builder.push(next.id, next.wall_ms, &next.payload) {
                break;
            }
            self.give(channel, id, &next);
        }
        if builder.records() < 2 {
            return alone(first);
        }
        Record { id, channel: name, payload: builder.finish().into() }
    }

    /// The channels that have records, in the order in which they are asked.
    fn order(&self) -> Vec<String> {
        let mut order: Vec<String> = self.queues.contains_key(EVENT).then(|| EVENT.to_owned()).into_iter().collect();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            let last = self.turns.get(&priority).map_or("", String::as_str);
            let waiting = self
                .queues
                .iter()
                .filter(|(name, queue)| *name != EVENT && queue.records > 0 && queue.policy.priority == priority);
            let (before, after): (Vec<_>, Vec<_>) =
                waiting.map(|(name, _)| name).partition(|name| name.as_str() <= last);
            order.extend(after.into_iter().chain(before).cloned());
        }
        order
    }
}
