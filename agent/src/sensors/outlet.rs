//! A sensor's way out: it numbers and stamps frames, and keeps what is reported of the sensor.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use sanderling_guest::frame::{FrameHeader, SENSOR};

use super::Ports;
use crate::{
    clock::Clock,
    frames::{Block, Pool, SensorId},
};

/// How often a sensor looks whether someone wants its frames.
const LOOK: Duration = Duration::from_millis(100);

/// What is reported of a sensor.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Frames that it gave.
    pub(super) frames: u64,
    fault: Option<String>,
    /// Parts of its input that it refused.
    pub(super) refused: u64,
    last_refused: Option<String>,
}

impl State {
    /// What keeps the sensor from giving (all of its) frames.
    pub(super) fn error(&self) -> Option<String> {
        self.fault.clone().or_else(|| self.refusal())
    }

    /// What was refused last, and how often anything was.
    pub(super) fn refusal(&self) -> Option<String> {
        self.last_refused.as_ref().map(|why| format!("{why} ({} refused since the agent started)", self.refused))
    }
}

/// Where a sensor puts its frames.
pub struct Outlet {
    id: SensorId,
    name: [u8; SENSOR],
    ports: Ports,
    state: Rc<RefCell<State>>,
}

impl Outlet {
    pub(super) fn new(name: &str, id: SensorId, ports: Ports) -> Self {
        Self { id, name: FrameHeader::new(name, 0).sensor, ports, state: Rc::default() }
    }

    pub(super) fn state(&self) -> &Rc<RefCell<State>> {
        &self.state
    }

    /// Where blocks for frames come from.
    pub fn pool(&self) -> &Pool {
        &self.ports.pool
    }

    /// Gives a frame of `length` bytes that `fill` writes into a block of the pool, whose content is at first that of some
    /// earlier frame. Nothing is given of a length that no block has.
    pub fn write(&self, header: FrameHeader, length: usize, fill: impl FnOnce(&mut [u8])) {
        let Some(mut block) = self.ports.pool.take(length) else { return };
        if let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..length)) {
            fill(room);
            self.give(header, &block, 0, length);
        }
    }

    /// Gives `length` bytes of `block` from `start` on as a frame. The sensor's name and count are set here; the times
    /// of capture where the header has none, the wall-clock time from the monotonic one where it has that. A range outside of
    /// the block gives nothing.
    pub fn give(&self, mut header: FrameHeader, block: &Block, start: usize, length: usize) {
        let mut state = self.state.borrow_mut();
        header.seq = state.frames + 1;
        header.sensor = self.name;
        header.dropped = 0;
        if header.captured_unix_ns == 0 || header.captured_mono_ns == 0 {
            let captured = self.ports.clock.capture();
            if header.captured_mono_ns == 0 {
                header.captured_mono_ns = captured.mono_ns;
            }
            if header.captured_unix_ns == 0 {
                let since = i128::from(captured.mono_ns) - i128::from(header.captured_mono_ns);
                let unix_ns = i128::from(captured.unix_ns) - since;
                header.captured_unix_ns = i64::try_from(unix_ns).unwrap_or(captured.unix_ns);
            }
        }
        let Some(frame) = block.frame(header, start, length) else { return };
        state.frames += 1;
        drop(state);
        self.ports.sink.frame(self.id, &frame);
    }

    /// Whether anyone takes the frames at the moment. Where making them costs something, it can be left out until then.
    pub fn wanted(&self) -> bool {
        self.ports.sink.wanted(self.id)
    }

    /// Waits until someone takes the frames.
    pub async fn until_wanted(&self) {
        while !self.wanted() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nobody takes the frames.
    pub async fn until_unwanted(&self) {
        while self.wanted() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Nothing more follows at the moment: whoever takes the frames is woken now.
    pub fn flush(&self) {
        self.ports.sink.flush();
    }

    /// The sensor gives nothing, or not all that it is asked for, until what `why` names is put right. Said again, it is
    /// logged once.
    pub fn failed(&self, why: String) {
        if self.state.borrow().fault.as_ref() == Some(&why) {
            return;
        }
        tracing::warn!(sensor = self.name(), "{why}");
        self.state.borrow_mut().fault = Some(why);
    }

    /// What [`Outlet::failed`] said is put right.
    pub fn well(&self) {
        self.state.borrow_mut().fault = None;
    }

    /// A part of the input was refused; the sensor goes on.
    pub fn refused(&self, why: String) {
        let mut state = self.state.borrow_mut();
        state.refused += 1;
        // A writer that errs again and again must not fill the log.
        if state.refused.is_power_of_two() {
            tracing::warn!(sensor = self.name(), refused = state.refused, "{why}");
        }
        state.last_refused = Some(why);
    }

    /// How many frames were given.
    pub(super) fn given(&self) -> u64 {
        self.state.borrow().frames
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.ports.clock
    }

    pub(super) fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(SENSOR);
        self.name.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}
