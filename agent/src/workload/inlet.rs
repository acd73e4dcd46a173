//! The entrance of a module: what is handed to its worker, what waits, what is dropped.
//!
//! Each input of the module is a lane with a policy. A lane hands a bounded number of frames to the worker through its
//! ring; the rest waits here, and when too much waits, the oldest is dropped and counted. `latest`: one frame at work and one
//! waiting, which a newer one replaces. `queue` of n: one at work and n waiting, about half of them in the ring; all of them here
//! while there is no worker. `sample` lets some frames by, of which the newest waits; `window` makes frames of its own, which wait as in a queue
//! (`sieve`).
//!
//! Invariants: a frame is taken or dropped at once; nobody waits. Frames of a lane stay in order. The worker answers the
//! frames in the order in which it got them; anything else is [`Broken`]. A worker that is being restarted loses what it was handed,
//! which counts as dropped; what waits here waits on. Each frame is in one entrance at a time.
//!
//! Limits: frames that wait hold at most [`MOST_WAITING`] bytes for each lane, one frame apart.

mod lane;
mod sieve;
mod takeover;

use std::{borrow::Cow, cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use sanderling_guest::frame::HEADER;
use sanderling_protocol::{deployment::Policy, reported::Drops, worker::ring::RingError};
use thiserror::Error;
use tokio::sync::Notify;

use self::{
    lane::Lane,
    sieve::{Loss, Sieve, Verdict},
};
use crate::{
    clock::Clock,
    frames::{Frame, Pool},
};

/// Memory that the waiting frames of one lane hold, in bytes.
pub const MOST_WAITING: usize = 16 << 20;

/// The way into a worker: its ring. Tests have a fake.
pub trait Feed {
    /// Hands a frame over. `true` where the worker sleeps: it must be woken, once for many frames.
    ///
    /// # Errors
    /// As [`sanderling_protocol::worker::ring::Producer::push`].
    fn push(&mut self, header: &[u8; HEADER], content: &[u8]) -> Result<bool, RingError>;

    /// Wakes the worker.
    fn wake(&mut self);

    /// Asks the worker to leave, even out of a running guest.
    fn interrupt(&mut self);
}

/// The worker breaks the contract: it is defective or hostile, and must be ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    /// It answered a frame that it was not given, or not in order.
    #[error("the worker answered frame {seq}, which is not the one that it was given next")]
    Answer {
        /// The frame that it names.
        seq: u64,
    },
    /// The counters of its ring contradict each other.
    #[error("the worker wrote counters into its ring that contradict each other")]
    Ring,
}

/// What is counted at the entrance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that the module was not given though its policy would have had it, by cause.
    pub drops: Drops,
    /// Frames that its policy leaves out.
    pub skipped: u64,
}

/// The entrance of one module.
pub struct Inlet {
    module: Rc<str>,
    sources: Vec<String>,
    state: RefCell<State>,
    pool: Pool,
    clock: Arc<dyn Clock>,
    /// Told when frames are outstanding and nobody watches over them, and when the ring turns out to be broken.
    pub(super) unwatched: Notify,
}

struct State {
    lanes: Vec<Lane>,
    feed: Option<Box<dyn Feed>>,
    outstanding: VecDeque<Outstanding>,
    progress: Duration,
    counts: Counts,
    watched: bool,
    wake: bool,
    broken: bool,
    closed: bool,
    heir: Option<Rc<Inlet>>,
}

struct Outstanding {
    seq: u64,
    lane: usize,
    since: Duration,
    captured_ns: u64,
}

enum Handed {
    Taken,
    Later,
    Never,
}

impl Inlet {
    /// The entrance of `module`, with one lane for each input. Nothing gets in before [`Inlet::open`].
    pub fn new<'a>(
        module: Rc<str>,
        inputs: impl IntoIterator<Item = (Cow<'a, str>, Policy)>,
        pool: Pool,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (sources, lanes): (Vec<_>, Vec<_>) =
            inputs.into_iter().map(|(source, policy)| (source.into_owned(), Lane::new(policy))).unzip();
        let most = lanes.iter().map(|lane: &Lane| lane.most_in_ring).sum();
        let state = State {
            lanes,
            feed: None,
            outstanding: VecDeque::with_capacity(most),
            progress: Duration::ZERO,
            counts: Counts::default(),
            watched: false,
            wake: false,
            broken: false,
            closed: false,
            heir: None,
        };
        let state = RefCell::new(state);
        Self { module, sources, state, pool, clock, unwatched: Notify::new() }
    }

    /// The module's name in its deployment.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The names of its lanes' sources, in order.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(String::as_str)
    }

    /// A frame for `lane`. Follow up with [`Inlet::flush`] when there are no more at the moment.
    pub fn offer(&self, lane: usize, frame: &Frame) {
        let now = self.clock.mono();
        let mut state = self.state.borrow_mut();
        if state.closed || state.lanes.get(lane).is_none() {
            return;
        }
        match state.judge(lane, now) {
            Verdict::Passes => self.admit(&mut state, lane, frame, now),
            Verdict::Skipped => state.counts.skipped += 1,
        }
    }

    /// A frame that the policy lets through: it is cut where the policy says so, and handed over or kept.
    fn admit(&self, state: &mut State, lane: usize, frame: &Frame, now: Duration) {
        let Some(mut cutter) = state.lanes.get_mut(lane).and_then(Lane::take_cutter) else {
            return self.give(state, lane, frame, now);
        };
        let loss = cutter.push(frame, &self.pool, |window| self.give(state, lane, window, now));
        state.count_loss(lane, loss);
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.sieve = Sieve::Cut(cutter);
        }
    }

    fn give(&self, state: &mut State, lane: usize, frame: &Frame, now: Duration) {
        match state.hand(lane, frame, now) {
            Handed::Taken => {
                if !state.watched {
                    state.watched = true;
                    self.unwatched.notify_one();
                }
            }
            Handed::Later => {
                state.wait(lane, frame.compact(&self.pool));
                // A worker that spoils its ring and says nothing has no frame that it could be late with.
                if state.broken {
                    self.unwatched.notify_one();
                }
            }
            Handed::Never => {}
        }
    }

    /// Wakes the worker if it sleeps over frames.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        if std::mem::take(&mut state.wake)
            && let Some(feed) = &mut state.feed
        {
            feed.wake();
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.state.borrow().counts
    }

    /// A worker takes frames from now on; those that wait go first.
    pub fn open(&self, feed: Box<dyn Feed>) {
        let now = self.clock.mono();
        {
            let mut state = self.state.borrow_mut();
            state.feed = Some(feed);
            state.progress = now;
            state.broken = false;
        }
        self.pump();
    }

    /// The worker is over. Returns the frame that it had at hand, if any; that one and those behind it are lost.
    pub fn shut(&self) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.feed = None;
        state.wake = false;
        state.lanes.iter_mut().for_each(|lane| lane.in_ring = 0);
        let lost = std::mem::take(&mut state.outstanding);
        // The frame at hand is told of with the fault, which nobody hears of once another generation has taken over.
        for frame in lost.iter().skip(usize::from(state.heir.is_none())) {
            match &state.heir {
                Some(heir) => heir.lost(self.sources.get(frame.lane)),
                None => state.lost(frame.lane),
            }
        }
        lost.front().map(|first| first.seq)
    }

    /// Takes nothing any more, and lets go of what waits: the module is stopped or in quarantine.
    pub fn close(&self) {
        self.shut();
        let mut state = self.state.borrow_mut();
        state.closed = true;
        for lane in &mut state.lanes {
            lane.waiting.clear();
            lane.bytes = 0;
        }
    }

    /// Hands nothing more over, while the worker that has frames goes on; [`Inlet::close`] or [`Inlet::reopen`] follows.
    pub(super) fn hold(&self) {
        self.state.borrow_mut().closed = true;
    }

    /// Asks the worker to leave, even out of a running guest.
    pub(super) fn interrupt(&self) {
        if let Some(feed) = &mut self.state.borrow_mut().feed {
            feed.interrupt();
        }
    }

    /// Takes frames again after [`Inlet::close`].
    pub fn reopen(&self) {
        self.state.borrow_mut().closed = false;
    }

    /// The worker has answered the frame `seq`. Follow up with [`Inlet::pump`] when there are no more answers at the moment.
    ///
    /// # Errors
    /// [`Broken`] where it is not the frame that was to be answered next.
    pub fn answered(&self, seq: u64, now: Duration) -> Result<(), Broken> {
        let mut state = self.state.borrow_mut();
        let Some(first) = state.outstanding.front().filter(|first| first.seq == seq) else {
            return Err(Broken::Answer { seq });
        };
        let lane = first.lane;
        state.outstanding.pop_front();
        state.progress = now;
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.in_ring = lane.in_ring.saturating_sub(1);
        }
        Ok(())
    }

    /// When the frame that the worker has at hand was captured, nanoseconds of the kernel's monotonic clock; `None` where that is
    /// not the frame `seq`.
    pub(super) fn captured(&self, seq: u64) -> Option<u64> {
        let state = self.state.borrow();
        let first = state.outstanding.front().filter(|first| first.seq == seq);
        first.map(|first| first.captured_ns)
    }

    /// Whether the worker has answered all that it was handed.
    pub(super) fn is_drained(&self) -> bool {
        self.state.borrow().outstanding.is_empty()
    }

    /// Hands over what waits, as far as there is room, and wakes the worker.
    pub fn pump(&self) {
        let now = self.clock.mono();
        let mut state = self.state.borrow_mut();
        if state.closed {
            return;
        }
        let mut taken = false;
        for lane in 0..state.lanes.len() {
            while let Some(frame) = state.lanes.get(lane).and_then(|lane| lane.waiting.front()).cloned() {
                match state.hand_next(lane, &frame, now) {
                    Handed::Later => break,
                    Handed::Taken => taken = true,
                    Handed::Never => {}
                }
                if let Some(lane) = state.lanes.get_mut(lane) {
                    lane.pop();
                }
            }
        }
        if taken && !state.watched {
            state.watched = true;
            self.unwatched.notify_one();
        }
        drop(state);
        self.flush();
    }

    /// Since when the worker has made no progress with the frame at hand, and which that is. `None` while it has none; then
    /// `unwatched` tells when that changes.
    pub(super) fn stuck_since(&self) -> Option<(Duration, u64)> {
        let mut state = self.state.borrow_mut();
        let Some(first) = state.outstanding.front() else {
            state.watched = false;
            return None;
        };
        Some((state.progress.max(first.since), first.seq))
    }

    /// Whether the worker has damaged its ring.
    pub(super) fn is_broken(&self) -> bool {
        self.state.borrow().broken
    }
}

impl State {
    fn judge(&mut self, lane: usize, now: Duration) -> Verdict {
        self.lanes.get_mut(lane).map_or(Verdict::Skipped, |lane| lane.sieve.judge(now))
    }

    fn count_loss(&mut self, lane: usize, loss: Loss) {
        self.counts.drops.unfit += u64::from(loss.unfit);
        self.counts.drops.broken += u64::from(loss.broken);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.dropped = lane.dropped.saturating_add(u32::from(loss.unfit) + u32::from(loss.broken));
        }
    }

    /// Hands over a frame that came just now: not before those that wait.
    fn hand(&mut self, lane: usize, frame: &Frame, now: Duration) -> Handed {
        match self.lanes.get(lane) {
            Some(lane) if !lane.waiting.is_empty() => Handed::Later,
            _ => self.hand_next(lane, frame, now),
        }
    }

    fn hand_next(&mut self, index: usize, frame: &Frame, now: Duration) -> Handed {
        let (Some(lane), Some(feed)) = (self.lanes.get_mut(index), &mut self.feed) else { return Handed::Later };
        if lane.in_ring >= lane.most_in_ring || self.broken {
            return Handed::Later;
        }
        let mut header = frame.header;
        header.dropped = lane.dropped;
        match feed.push(&header.to_bytes(), frame.content()) {
            Ok(wake) => {
                lane.dropped = 0;
                lane.in_ring += 1;
                self.wake |= wake;
                let (seq, captured_ns) = (header.seq, header.captured_mono_ns);
                self.outstanding.push_back(Outstanding { seq, lane: index, since: now, captured_ns });
                Handed::Taken
            }
            Err(RingError::Full) => Handed::Later,
            Err(RingError::TooLarge { .. }) => {
                self.counts.drops.oversize += 1;
                lane.dropped = lane.dropped.saturating_add(1);
                Handed::Never
            }
            Err(RingError::Corrupt | RingError::Memory { .. }) => {
                self.broken = true;
                Handed::Later
            }
        }
    }

    fn lost(&mut self, lane: usize) {
        self.counts.drops.lost += 1;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.dropped = lane.dropped.saturating_add(1);
        }
    }

    fn wait(&mut self, lane: usize, frame: Frame) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let held = frame.held();
        while lane.waiting.len() >= lane.room()
            || (lane.bytes.saturating_add(held) > MOST_WAITING && !lane.waiting.is_empty())
        {
            lane.pop();
            lane.dropped = lane.dropped.saturating_add(1);
            self.counts.drops.overtaken += 1;
        }
        lane.bytes += held;
        lane.waiting.push_back(frame);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
