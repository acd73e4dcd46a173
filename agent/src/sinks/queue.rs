//! The way from the frame path into a sink's thread: bounded in records and bytes, and never waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender, TryRecvError},
    },
    time::Duration,
};

use super::{Cause, Record, Tally};

/// At most this many records wait for a sink's thread.
pub const MOST_WAITING: usize = 1024;
/// Payloads of at most this many bytes wait for a sink's thread.
pub const MOST_WAITING_BYTES: usize = 1 << 20;

/// The frame path's end.
pub(super) struct Entrance {
    queue: SyncSender<Record>,
    bytes: Arc<AtomicUsize>,
    tally: Arc<Tally>,
}

/// The thread's end.
pub(super) struct Exit {
    queue: mpsc::Receiver<Record>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn queue(tally: Arc<Tally>) -> (Entrance, Exit) {
    let (sender, receiver) = mpsc::sync_channel(MOST_WAITING);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Entrance { queue: sender, bytes: bytes.clone(), tally }, Exit { queue: receiver, bytes })
}

impl Entrance {
    /// Gives a record to the thread, or drops and counts it.
    pub(super) fn give(&self, record: &Record) {
        self.tally.came();
        let length = record.payload.len();
        // Only this side adds: what is there can only become less meanwhile.
        if self.bytes.load(Ordering::Relaxed).saturating_add(length) > MOST_WAITING_BYTES {
            return self.tally.dropped(Cause::Full);
        }
        self.bytes.fetch_add(length, Ordering::Relaxed);
        if self.queue.try_send(record.clone()).is_err() {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.tally.dropped(Cause::Full);
        }
    }
}

impl Exit {
    /// The next record, once it is there; at the latest after `time`.
    pub(super) fn next(&self, time: Duration) -> Result<Record, RecvTimeoutError> {
        self.queue.recv_timeout(time).inspect(|record| self.took(record))
    }

    /// The next record, if it is there already.
    pub(super) fn try_next(&self) -> Result<Record, TryRecvError> {
        self.queue.try_recv().inspect(|record| self.took(record))
    }

    fn took(&self, record: &Record) {
        self.bytes.fetch_sub(record.payload.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sinks::fake::record;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_room_comes_back() {
        let tally = Arc::new(Tally::default());
        let (entrance, exit) = queue(tally.clone());
        let large = record("m", "c", &vec![0; MOST_WAITING_BYTES / 2]);
        for _ in 0..3 {
            entrance.give(&large);
        }
        assert_eq!(tally.report().dropped["full"], 1, "by bytes");
        while exit.try_next().is_ok() {}
        for _ in 0..=MOST_WAITING {
            entrance.give(&record("m", "c", b""));
        }
        assert_eq!(tally.report().dropped["full"], 2, "by records");
        assert_eq!(tally.report().records, 3 + MOST_WAITING as u64 + 1);
        while exit.try_next().is_ok() {}
        assert_eq!(entrance.bytes.load(Ordering::Relaxed), 0, "what was dropped holds no room");
        drop(exit);
        entrance.give(&large);
        assert_eq!(tally.report().dropped["full"], 3, "a thread that is gone takes nothing");
        assert_eq!(entrance.bytes.load(Ordering::Relaxed), 0);
    }
}
