//! The thread that keeps the outbox: it commits records to disk while the driver goes on.
//!
//! Purpose: a record that a guest emits on the frame path is handed over here and forgotten; what is to be published
//! comes back in [`Spooled::Records`].
//!
//! Invariants: records of one channel stay in order. What waits to be taken in is at most [`MOST_PENDING`] bytes; beyond
//! that records are dropped and counted, because the disk is slower than the guests.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use sanderling_protocol::{deployment::Channel, reported};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::{
    clock::Clock,
    outbox::{Outbox, Record},
};

/// Bytes of records that wait for the thread to take them in.
pub(super) const MOST_PENDING: usize = 1 << 20;
/// How long the thread sleeps at most when nothing is due, in seconds.
const IDLE_S: u64 = 3600;

enum Order {
    Push(Vec<(String, Bytes)>),
    Next { most: usize, epoch: u64 },
    Acked(u64),
    Refused(u64),
    LinkDown,
    Configure(Vec<(String, Channel)>),
    Flush(oneshot::Sender<()>),
}

/// What the thread says.
#[derive(Debug)]
pub(super) enum Spooled {
    /// The next records to publish, as asked for by [`Spool::next`]; empty where none waits.
    Records {
        /// The connection for which they were asked: those of an older one are handed out again.
        epoch: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// The disk fails.
    Failed(String),
}

/// The driver's end of the thread.
pub(super) struct Spool {
    orders: mpsc::Sender<Order>,
    pending: Arc<AtomicUsize>,
    figures: Arc<std::sync::Mutex<reported::Outbox>>,
    dropped: u64,
}

impl Spool {
    /// Starts the thread.
    pub(super) fn start(
        outbox: Outbox,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, tokio_mpsc::UnboundedReceiver<Spooled>)> {
        let (orders, queue) = mpsc::channel();
        let (out, spooled) = tokio_mpsc::unbounded_channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let figures = Arc::new(std::sync::Mutex::new(outbox.figures()));
        let mut thread = Thread { outbox, clock, out, pending: pending.clone(), figures: figures.clone() };
        thread::Builder::new().name("spool".into()).stack_size(256 * 1024).spawn(move || thread.run(&queue))?;
        Ok((Self { orders, pending, figures, dropped: 0 }, spooled))
    }

    /// Hands records over, each with its channel.
    pub(super) fn push(&mut self, mut records: Vec<(String, Bytes)>) {
        let mut pending = self.pending.load(Ordering::Relaxed);
        records.retain(|(_, payload)| {
            pending += payload.len();
            let fits = pending <= MOST_PENDING;
            if !fits {
                pending -= payload.len();
                self.dropped += 1;
            }
            fits
        });
        let bytes = records.iter().map(|(_, payload)| payload.len()).sum();
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        self.order(Order::Push(records));
    }

    /// Asks for at most so many records to publish on the connection of this number.
    pub(super) fn next(&self, most: usize, epoch: u64) {
        self.order(Order::Next { most, epoch });
    }

    /// The broker has a record.
    pub(super) fn acked(&self, id: u64) {
        self.order(Order::Acked(id));
    }

    /// The broker never takes a record.
    pub(super) fn refused(&self, id: u64) {
        self.order(Order::Refused(id));
    }

    /// What was handed out and is not acknowledged is to be handed out again.
    pub(super) fn link_down(&self) {
        self.order(Order::LinkDown);
    }

    /// Sets the policies of channels.
    pub(super) fn configure(&self, channels: Vec<(String, Channel)>) {
        self.order(Order::Configure(channels));
    }

    /// Puts everything on disk; the receiver says when.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        self.order(Order::Flush(done));
        flushed
    }

    /// The outbox in figures, as of the last order that was carried out.
    pub(super) fn figures(&self) -> reported::Outbox {
        let figures = self.figures.lock().map_or_else(|poisoned| *poisoned.into_inner(), |figures| *figures);
        reported::Outbox { dropped: figures.dropped.saturating_add(self.dropped), ..figures }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that keeps the outbox is gone; restart the agent");
        }
    }
}

struct Thread {
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    out: tokio_mpsc::UnboundedSender<Spooled>,
    pending: Arc<AtomicUsize>,
    figures: Arc<std::sync::Mutex<reported::Outbox>>,
}

impl Thread {
    fn run(&mut self, queue: &mpsc::Receiver<Order>) {
        loop {
            let due = self.outbox.due(self.clock.now()).unwrap_or(Duration::from_secs(IDLE_S));
            match queue.recv_timeout(due) {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {
                    let ticked = self.outbox.tick(self.clock.now()).map_err(|error| error.to_string());
                    self.check(ticked);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let flushed = self.outbox.flush().map_err(|error| error.to_string());
                    self.check(flushed);
                    return;
                }
            }
            if let Ok(mut figures) = self.figures.lock() {
                *figures = self.outbox.figures();
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = self.clock.now();
        match order {
            Order::Push(records) => {
                for (channel, payload) in records {
                    self.pending.fetch_sub(payload.len(), Ordering::Relaxed);
                    let pushed = self.outbox.push(&channel, payload, now).map(drop).map_err(|error| error.to_string());
                    self.check(pushed);
                }
            }
            Order::Next { most, epoch } => {
                let records = self.outbox.next_unsent(most, now).unwrap_or_else(|error| {
                    self.check(Err(error.to_string()));
                    Vec::new()
                });
                // The driver is gone only when the agent ends.
                let _ = self.out.send(Spooled::Records { epoch, records });
            }
            Order::Acked(id) => self.outbox.acked(id, now),
            Order::Refused(id) => self.outbox.refused(id, now),
            Order::LinkDown => self.outbox.link_down(),
            Order::Configure(channels) => self.outbox.configure(channels),
            Order::Flush(done) => {
                let flushed = self.outbox.flush().map_err(|error| error.to_string());
                self.check(flushed);
                let _ = done.send(());
            }
        }
        // A steady stream of orders must not keep what is due from the disk.
        let ticked = self.outbox.tick(self.clock.now()).map_err(|error| error.to_string());
        self.check(ticked);
    }

    fn check(&self, result: Result<(), String>) {
        if let Err(why) = result {
            let _ = self.out.send(Spooled::Failed(why));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{clock::FakeClock, outbox::EVENT, settings::OutboxSettings, store::database::Database};

    fn spool() -> (Spool, tokio_mpsc::UnboundedReceiver<Spooled>) {
        let commit_interval = Duration::from_millis(100);
        let settings = OutboxSettings { max_bytes: 64 << 20, event_max_bytes: 1 << 20, commit_interval };
        let outbox = Outbox::open(Database::in_memory().unwrap(), settings).unwrap();
        Spool::start(outbox, Arc::new(FakeClock::at(0))).unwrap()
    }

    async fn next(spool: &Spool, spooled: &mut tokio_mpsc::UnboundedReceiver<Spooled>, epoch: u64) -> Vec<Record> {
        spool.next(10, epoch);
        let Some(Spooled::Records { epoch: of, records }) = spooled.recv().await else { unreachable!() };
        assert_eq!(of, epoch);
        records
    }

    #[tokio::test]
    async fn records_come_back_in_order_until_they_are_acknowledged() {
        let (mut spool, mut spooled) = spool();
        let record = |text: &'static str| (EVENT.to_owned(), Bytes::from_static(text.as_bytes()));
        spool.push(vec![record("1"), record("2")]);
        let first = next(&spool, &mut spooled, 1).await;
        assert_eq!(first.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(next(&spool, &mut spooled, 1).await, [], "they are with the link");
        spool.acked(first[0].id);
        spool.link_down();
        let again = next(&spool, &mut spooled, 2).await;
        assert_eq!(again, first[1..], "what was not acknowledged is sent again");
        spool.acked(again[0].id);
        spool.flush().await.unwrap();
        spool.link_down();
        assert_eq!(next(&spool, &mut spooled, 3).await, []);
        assert_eq!(spool.figures().records, 0);
    }

    #[tokio::test]
    async fn what_the_disk_is_too_slow_for_is_dropped_and_counted() {
        let (mut spool, _spooled) = spool();
        let record = || (EVENT.to_owned(), Bytes::from(vec![0; MOST_PENDING / 4]));
        spool.push((0..9).map(|_| record()).collect());
        assert!(spool.figures().dropped >= 5, "{:?}", spool.figures());
        spool.flush().await.unwrap();
        assert_eq!(spool.pending.load(Ordering::Relaxed), 0);
    }
}
