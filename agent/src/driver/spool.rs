//! The thread that keeps the outbox: it commits records to disk while the driver goes on.
//!
//! Purpose: a record that a guest emits on the frame path is handed over here and forgotten; what is to be published
//! comes back in [`Spooled::Records`].
//!
//! Invariants: records of one channel stay in order. What waits to be taken in is at most [`MOST_PENDING`] bytes; beyond
//! that records are dropped and counted, because the disk is slower than the guests. What modules change of their state is never
//! dropped: beyond that it is kept back, the newest of each value, and stored when there is room, apart from the records of
//! its frame.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
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
    health::progress::{Jobs, Mark},
    outbox::{self, Outbox, Record, Room},
    state::{self, Rows},
};

/// Bytes of records that wait for the thread to take them in.
pub(super) const MOST_PENDING: usize = 1 << 20;
/// How long the thread sleeps at most when nothing is due, in seconds.
const IDLE_S: u64 = 3600;

/// Something to be stored.
#[derive(Debug)]
pub(super) enum Said {
    /// A record, with its channel.
    Record(String, Bytes),
    /// What belongs together: the records of a frame, and what it changed of its module's state.
    Frame {
        /// The records, each with its channel.
        records: Vec<(String, Bytes)>,
        /// The changes.
        rows: Rows,
    },
}

impl Said {
    fn bytes(&self) -> usize {
        match self {
            Self::Record(channel, payload) => held(channel, payload),
            Self::Frame { records, rows } => {
                records.iter().map(|(channel, payload)| held(channel, payload)).sum::<usize>() + state::bytes(rows)
            }
        }
    }
}

/// What a record takes here, as in the outbox: one without a payload takes memory too.
fn held(channel: &str, payload: &[u8]) -> usize {
    usize::try_from(outbox::size(channel, payload)).unwrap_or(usize::MAX)
}

enum Order {
    Push(Vec<Said>),
    Next(Ask),
    LinkUp,
    Acked(u64),
    Refused(u64),
    LinkDown,
    Configure(Vec<(String, Channel)>),
    Flush(oneshot::Sender<()>),
}

/// A question for records to publish. It stays open while some of the backlog is held up and nothing else is there to go.
#[derive(Clone, Copy, Debug)]
struct Ask {
    room: Room,
    epoch: u64,
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
    /// There is room again for what was kept back.
    Room,
    /// The state of modules was lost with a damaged database: all of it is to be stored again.
    RowsLost,
    /// The disk fails.
    Failed(String),
}

/// The driver's end of the thread.
pub(super) struct Spool {
    orders: mpsc::Sender<Order>,
    pending: Arc<AtomicUsize>,
    /// The thread is to say when there is room.
    waits: Arc<AtomicBool>,
    counted: Arc<Jobs>,
    figures: Arc<std::sync::Mutex<reported::Outbox>>,
    dropped: u64,
    /// Changes of state for which there was no room.
    kept_back: Rows,
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
        let waits = Arc::new(AtomicBool::new(false));
        let counted = Arc::new(Jobs::default());
        let mut thread = Thread {
            outbox,
            clock,
            out,
            pending: pending.clone(),
            waits: waits.clone(),
            counted: counted.clone(),
            figures: figures.clone(),
            asked: None,
        };
        thread::Builder::new().name("spool".into()).stack_size(256 * 1024).spawn(move || thread.run(&queue))?;
        Ok((Self { orders, pending, waits, counted, figures, dropped: 0, kept_back: Rows::new() }, spooled))
    }

    /// Hands over what there is to store, and what was kept back before.
    pub(super) fn push(&mut self, said: Vec<Said>) {
        self.waits.store(false, Ordering::Relaxed);
        let before = self.pending.load(Ordering::Relaxed);
        let mut taken = Vec::with_capacity(said.len());
        let mut pending = before;
        for said in said {
            pending += self.take(said, pending, &mut taken);
        }
        if !self.kept_back.is_empty() {
            pending += self.take(Said::Frame { records: Vec::new(), rows: Rows::new() }, pending, &mut taken);
        }
        self.pending.fetch_add(pending - before, Ordering::Relaxed);
        self.order(Order::Push(taken));
        // After the order, so that the thread sees it at the latest when it has carried that out.
        self.waits.store(!self.kept_back.is_empty(), Ordering::Relaxed);
    }

    /// Takes what there is room for beside `pending` bytes; gives how many bytes that is.
    fn take(&mut self, said: Said, pending: usize, taken: &mut Vec<Said>) -> usize {
        let said = match said {
            Said::Frame { records, rows } if !self.kept_back.is_empty() => {
                // A value that was kept back is older than the same one here.
                let mut all = std::mem::take(&mut self.kept_back);
                all.extend(rows);
                Said::Frame { records, rows: all }
            }
            said => said,
        };
        let bytes = said.bytes();
        let is_state = matches!(said, Said::Frame { .. });
        // What is larger than all the room there is has to get through at some time.
        if pending + bytes <= MOST_PENDING || (is_state && pending == 0) {
            taken.push(said);
            return bytes;
        }
        match said {
            Said::Record(..) => self.dropped += 1,
            Said::Frame { records, rows } => {
                self.dropped += u64::try_from(records.len()).unwrap_or(u64::MAX);
                self.kept_back = rows;
            }
        }
        0
    }

    /// Asks for records to publish on the connection of this number, as many as there is room for.
    pub(super) fn next(&self, room: Room, epoch: u64) {
        self.order(Order::Next(Ask { room, epoch }));
    }

    /// There is a connection: what is on disk now is the backlog.
    pub(super) fn link_up(&self) {
        self.order(Order::LinkUp);
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
    pub(super) fn flush(&mut self) -> oneshot::Receiver<()> {
        let rows = std::mem::take(&mut self.kept_back);
        if !rows.is_empty() {
            let said = Said::Frame { records: Vec::new(), rows };
            self.pending.fetch_add(said.bytes(), Ordering::Relaxed);
            self.order(Order::Push(vec![said]));
        }
        let (done, flushed) = oneshot::channel();
        self.order(Order::Flush(done));
        flushed
    }

    /// The outbox in figures, as of the last order that was carried out.
    pub(super) fn figures(&self) -> reported::Outbox {
        let figures = self.figures.lock().map_or_else(|poisoned| *poisoned.into_inner(), |figures| *figures);
        reported::Outbox { dropped: figures.dropped.saturating_add(self.dropped), ..figures }
    }

    /// How far the thread is, where each order is carried out within `patience`.
    pub(super) fn mark(&self, patience: Duration) -> Mark {
        self.counted.mark(patience)
    }

    fn order(&self, order: Order) {
        self.counted.give();
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
    waits: Arc<AtomicBool>,
    counted: Arc<Jobs>,
    figures: Arc<std::sync::Mutex<reported::Outbox>>,
    /// What was asked and is not answered.
    asked: Option<Ask>,
}

impl Thread {
    fn run(&mut self, queue: &mpsc::Receiver<Order>) {
        loop {
            let now = self.clock.now();
            let resumes = self.asked.and_then(|_| self.outbox.resumes_in(now));
            let due = [self.outbox.due(now), resumes].into_iter().flatten().min();
            match queue.recv_timeout(due.unwrap_or(Duration::from_secs(IDLE_S))) {
                Ok(order) => {
                    self.carry_out(order);
                    self.counted.done();
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Nobody gave it, and it may hang all the same.
                    self.counted.give();
                    let ticked = self.outbox.tick(self.clock.now()).map_err(|error| error.to_string());
                    self.check(ticked);
                    self.answer();
                    self.counted.done();
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
            Order::Push(all) => {
                for said in all {
                    self.pending.fetch_sub(said.bytes(), Ordering::Relaxed);
                    let pushed = match said {
                        Said::Record(channel, payload) => self.outbox.push(&channel, payload, now).map(drop),
                        Said::Frame { records, rows } => self.outbox.push_frame(records, rows, now),
                    };
                    self.check(pushed.map_err(|error| error.to_string()));
                }
            }
            Order::Next(ask) => self.asked = Some(ask),
            Order::LinkUp => self.outbox.link_up(),
            Order::Acked(id) => self.outbox.acked(id, now),
            Order::Refused(id) => self.outbox.refused(id, now),
            Order::LinkDown => {
                self.asked = None;
                self.outbox.link_down();
            }
            Order::Configure(channels) => self.outbox.configure(channels),
            Order::Flush(done) => {
                let flushed = self.outbox.flush().map_err(|error| error.to_string());
                self.check(flushed);
                let _ = done.send(());
            }
        }
        self.answer();
        // A steady stream of orders must not keep what is due from the disk.
        let ticked = self.outbox.tick(self.clock.now()).map_err(|error| error.to_string());
        self.check(ticked);
        if self.outbox.rows_lost() {
            let _ = self.out.send(Spooled::RowsLost);
        }
        if self.pending.load(Ordering::Relaxed) <= MOST_PENDING / 2 && self.waits.swap(false, Ordering::Relaxed) {
            let _ = self.out.send(Spooled::Room);
        }
    }

    /// Answers what was asked, unless nothing may go but in a while.
    fn answer(&mut self) {
        let Some(Ask { room, epoch }) = self.asked else { return };
        let now = self.clock.now();
        let records = self.outbox.next_in(room, now).unwrap_or_else(|error| {
            self.check(Err(error.to_string()));
            Vec::new()
        });
        if records.is_empty() && self.outbox.resumes_in(now).is_some() {
            return;
        }
        self.asked = None;
        // The driver is gone only when the agent ends.
        let _ = self.out.send(Spooled::Records { epoch, records });
    }

    fn check(&self, result: Result<(), String>) {
        if let Err(why) = result {
            let _ = self.out.send(Spooled::Failed(why));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
