//! What of the outbox is with the link: which record is the next, and what became of those that were given out.

use std::time::Duration;

use super::{EVENT, Outbox, Record, UNACKED_BYTES, queue::Held};
use crate::{clock::Now, store::StoreError};

/// Where the record with an id is, while it is with the link.
#[derive(Clone, Debug)]
pub(super) struct Unacked {
    channel: String,
    size: u64,
}

impl Outbox {
    /// The next records to publish, at most `most`; they are with the link until they are [acknowledged](Self::acked) or
    /// the link goes [down](Self::link_down). Drops what is too old.
    ///
    /// # Errors
    /// [`StoreError`] where there is none to give and the disk cannot be read.
    pub fn next_unsent(&mut self, most: usize, now: Now) -> Result<Vec<Record>, StoreError> {
        self.account_for_losses(now);
        let mut records = Vec::new();
        while records.len() < most && self.unacked_bytes < UNACKED_BYTES {
            match self.next_record(now) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(records)
    }

    /// The broker has the record: it is removed. An unknown id is ignored.
    pub fn acked(&mut self, id: u64, now: Now) {
        let Some(Unacked { channel, size }) = self.unacked.remove(&id) else { return };
        self.unacked_bytes = self.unacked_bytes.saturating_sub(size);
        self.remove(&channel, id, size, now);
    }

    /// The broker will never take the record: it is removed and counted as dropped. An unknown id is ignored.
    pub fn refused(&mut self, id: u64, now: Now) {
        if self.unacked.contains_key(&id) {
            self.acked(id, now);
            self.count_drops(1, now);
        }
    }

    /// The link is down: every record without its acknowledgement is to be sent again.
    pub fn link_down(&mut self) {
        for (id, unacked) in std::mem::take(&mut self.unacked) {
            if let Some(queue) = self.queues.get_mut(&unacked.channel) {
                queue.cursor = queue.cursor.min(id);
            }
        }
        self.unacked_bytes = 0;
    }

    /// The first record of a channel that is not with the link: those on disk are older than those in memory.
    pub(super) fn first_unsent(&self, channel: &str) -> Result<Option<Held>, StoreError> {
        let Some(queue) = self.queues.get(channel) else { return Ok(None) };
        if queue.stored > 0 {
            let gone = |id: u64| self.removals.contains(&(channel.to_owned(), id)) || self.unacked.contains_key(&id);
            if let Some(found) = self.table.first(channel, queue.cursor, gone)? {
                return Ok(Some(found));
            }
        }
        Ok(queue.first_held(|id| self.unacked.contains_key(&id)).cloned())
    }

    fn next_record(&mut self, now: Now) -> Result<Option<Record>, StoreError> {
        let mut unread = None;
        for channel in self.turns() {
            match self.next_of(&channel, now) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => unread = Some(error),
            }
        }
        unread.map_or(Ok(None), Err)
    }

    fn next_of(&mut self, channel: &str, now: Now) -> Result<Option<Record>, StoreError> {
        while let Some(first) = self.first_unsent(channel)? {
            let max_age = self.queue(channel).policy.max_age_s;
            if first.age(self.run, now) > Duration::from_secs(max_age) {
                self.remove(channel, first.id, first.size, now);
                self.count_drops(1, now);
                continue;
            }
            self.queue(channel).cursor = first.id + 1;
            self.unacked_bytes += first.size;
            self.unacked.insert(first.id, Unacked { channel: channel.to_owned(), size: first.size });
            channel.clone_into(&mut self.turn);
            return Ok(Some(Record { id: first.id, channel: channel.to_owned(), payload: first.payload }));
        }
        Ok(None)
    }

    /// The channels that have records, `event` first, then those after the one that was served last.
    fn turns(&self) -> Vec<String> {
        let waiting = |name: &&String| *name != EVENT && self.queues.get(*name).is_some_and(|queue| queue.records > 0);
        let (before, after): (Vec<&String>, Vec<&String>) =
            self.queues.keys().filter(waiting).partition(|name| **name <= self.turn);
        let event = self.queues.contains_key(EVENT).then(|| EVENT.to_owned());
        event.into_iter().chain(after.into_iter().chain(before).cloned()).collect()
    }
}
