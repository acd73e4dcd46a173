//! How what was taken gets on disk: the log's next commit, and the database's transaction with what modules changed of their state.
//!
//! Where a frame changed state, its records are appended first and count once the transaction is done that has the state and the
//! commit's number. Where it is not known whether it was done, that is read before anything else is stored.

use std::time::Duration;

use super::{
    COMMIT_BYTES, COMMIT_RECORDS, LONGEST_WAIT, Outbox,
    log::{Append, Counts, Part, Stored},
    queue::Held,
    table::Change,
};
use crate::{clock::Now, state::Rows, store::StoreError};

impl Outbox {
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

    pub(super) fn flush_if_many(&mut self, now: Now) -> Result<(), StoreError> {
        let many = self.unstored() >= COMMIT_RECORDS || self.memory_bytes() >= COMMIT_BYTES;
        if many && self.may_try(now) { self.try_flush(now) } else { Ok(()) }
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

    /// Puts all on disk at once. Call it before the program ends.
    ///
    /// # Errors
    /// [`StoreError`]; then all of it still waits in memory, and is on disk as a whole or not at all.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.dirty_since.is_none() {
            return Ok(());
        }
        self.resolve()?;
        if self.has_old {
            self.take_over_old()?;
        }
        let with_state = !self.rows.is_empty();
        let logs =
            self.doubtful || self.unstored() > 0 || !self.removals.is_empty() || self.dropped != self.dropped_stored;
        if logs {
            self.append(with_state)?;
        }
        if with_state {
            let confirm = logs.then(|| self.log.last_confirm());
            self.table.change(&Change { rows: &self.rows, confirm, old: &[] })?;
            let stored = self.log.resolve(true);
            self.stored(stored);
        }
        self.rows.clear();
        (self.dirty_since, self.retry, self.doubtful, self.dropped_stored) = (None, None, false, self.dropped);
        Ok(())
    }

    /// Appends what is in memory to the log.
    fn append(&mut self, confirmed: bool) -> Result<(), StoreError> {
        self.prepare(confirmed)?;
        let queues = self.queues.iter();
        let mut records: Vec<_> =
            queues.flat_map(|(channel, queue)| queue.held.iter().map(move |held| (channel, held))).collect();
        records.sort_unstable_by_key(|(_, held)| held.id);
        let append = Append { confirmed, counts: self.counts(), records: &records, gone: &self.removals };
        match self.log.append(&append) {
            Ok(stored) => {
                self.stored(stored);
                Ok(())
            }
            Err(error) => Err(self.doubt(error)),
        }
    }

    fn doubt(&mut self, error: std::io::Error) -> StoreError {
        self.doubtful = true;
        StoreError::Disk { doing: "written", cause: error.to_string() }
    }

    fn counts(&self) -> Counts {
        Counts { run: self.run, dropped: self.dropped, next_id: self.next_id }
    }

    /// Makes the log ready for a commit, and the database for the number of one that is to be confirmed.
    fn prepare(&mut self, confirmed: bool) -> Result<(), StoreError> {
        let prepared = self.log.prepare(self.counts());
        self.follow_moves();
        prepared.map_err(|error| self.doubt(error))?;
        if confirmed && !self.has_confirm {
            // Without any number every commit would count.
            let confirm = Some(self.log.last_confirm());
            self.table.change(&Change { rows: &Rows::new(), confirm, old: &[] })?;
            self.has_confirm = true;
        }
        Ok(())
    }

    fn follow_moves(&mut self) {
        let moved = self.log.take_moved();
        if moved.is_empty() {
            return;
        }
        for sent in self.sent.values_mut() {
            sent.place = sent.place.map(|place| moved.get(&place).copied().unwrap_or(place));
        }
        let removals = std::mem::take(&mut self.removals).into_iter();
        self.removals = removals.map(|(place, what)| (moved.get(&place).copied().unwrap_or(place), what)).collect();
        self.queues.values_mut().for_each(super::queue::Queue::read_again);
    }

    /// Finds out whether a transaction was done that failed.
    fn resolve(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.log.waits_for() else { return Ok(()) };
        let done = self.table.values()?.confirmed.is_some_and(|confirmed| confirmed >= number);
        let stored = self.log.resolve(done);
        self.doubtful |= !done;
        if self.old_waits {
            self.adopt(stored);
        } else {
            self.stored(stored);
        }
        self.old_waits = false;
        Ok(())
    }

    /// What a commit stored. What is not in memory any more is to be removed.
    fn stored(&mut self, stored: Stored) {
        for place in &stored.gone {
            self.removals.remove(place);
        }
        for (channel, id, size, place) in stored.records {
            let is_held = self.queues.get_mut(&channel).is_some_and(|queue| queue.mark_stored(id));
            if !is_held {
                self.removals.insert(place, (channel, size));
            } else if let Some(sent) = self.sent.get_mut(&id) {
                sent.place = Some(place);
            }
        }
    }

    /// Takes what a version of the agent before the log has left in the database over into the log.
    pub(super) fn take_over_old(&mut self) -> Result<(), StoreError> {
        self.has_old = true;
        loop {
            let old = self.table.old_records()?;
            if old.is_empty() {
                self.has_old = false;
                return Ok(());
            }
            self.prepare(true)?;
            let mut records: Vec<(&String, &Held)> = old.iter().map(|(channel, held)| (channel, held)).collect();
            records.sort_unstable_by_key(|(_, held)| held.id);
            let gone = Default::default();
            let append = Append { confirmed: true, counts: self.counts(), records: &records, gone: &gone };
            if let Err(error) = self.log.append(&append) {
                return Err(self.doubt(error));
            }
            self.old_waits = true;
            let confirm = Some(self.log.last_confirm());
            self.table.change(&Change { rows: &Rows::new(), confirm, old: &old })?;
            let stored = self.log.resolve(true);
            self.adopt(stored);
            self.old_waits = false;
        }
    }

    /// Records are in the log that were not known of.
    fn adopt(&mut self, stored: Stored) {
        for (channel, _, bytes, _) in stored.records {
            self.queue(&channel).add_stored(Part { records: 1, bytes });
        }
    }

    /// Where the database was set aside, modules' state is gone; where a segment is damaged, its records are.
    pub(super) fn account_for_losses(&mut self, now: Now) {
        let losses = self.table.losses();
        if std::mem::replace(&mut self.losses, losses) != losses {
            (self.rows_lost, self.has_confirm) = (true, false);
        }
        for (channel, mut lost) in self.log.take_lost() {
            let log = &self.log;
            // What was removed before counts no more.
            self.removals.retain(|place, (of, size)| {
                let is_lost = *of == channel && log.is_gone(*place);
                if is_lost {
                    lost.records = lost.records.saturating_sub(1);
                    lost.bytes = lost.bytes.saturating_sub(*size);
                }
                !is_lost
            });
            self.sent.retain(|_, sent| sent.place.is_none_or(|place| !log.is_gone(place)));
            self.queue(&channel).lose(lost);
            self.count_drops(lost.records, now);
        }
    }
}
