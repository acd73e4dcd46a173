//! A sensor's way out: it numbers and stamps frames, and keeps what is reported of the sensor.

use std::{cell::RefCell, rc::Rc};

use sanderling_guest::frame::{FrameHeader, SENSOR};

use super::Ports;
use crate::frames::{Block, Pool, SensorId};

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
        self.fault.clone().or_else(|| {
            self.last_refused.as_ref().map(|why| format!("{why} ({} refused since the agent started)", self.refused))
        })
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

    /// Gives `length` bytes of `block` from `start` on as a frame. The sensor's name and count are set here; the times
    /// of capture where the header has none. A range outside of the block gives nothing.
    pub fn give(&self, mut header: FrameHeader, block: &Block, start: usize, length: usize) {
        let mut state = self.state.borrow_mut();
        header.seq = state.frames + 1;
        header.sensor = self.name;
        header.dropped = 0;
        if header.captured_unix_ns == 0 || header.captured_mono_ns == 0 {
            let captured = self.ports.clock.capture();
            if header.captured_unix_ns == 0 {
                header.captured_unix_ns = captured.unix_ns;
            }
            if header.captured_mono_ns == 0 {
                header.captured_mono_ns = captured.mono_ns;
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

    /// Nothing more follows at the moment: whoever takes the frames is woken now.
    pub fn flush(&self) {
        self.ports.sink.flush();
    }

    /// The sensor gives nothing until what `why` names is put right.
    pub fn failed(&self, why: String) {
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

    fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(SENSOR);
        self.name.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}
