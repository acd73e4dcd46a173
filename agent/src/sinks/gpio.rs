//! A sink that pulses a line: the reject gate of a production line, a lamp, an input of a controller.
//!
//! A thread of its own sleeps until a pulse begins or ends, so that neither the agent's loop nor other records are in its way. When a
//! pulse begins: `delay` after its frame was captured, so that a part that is on its way from the camera meets the gate however long
//! the module took; at once where no frame is known, where `delay` is zero, and where the time is over (that is counted as `late`).
//! Which pulses are given, and how they join: [`super::gate`].
//!
//! Measured: from the record, or from the moment that `delay` names, until the kernel has set the line; and from the capture of a frame to its
//! record, which is what `delay` must allow for.
//!
//! Invariants: the line is inactive except during a pulse, and is left inactive when the agent ends, as far as the kernel and its
//! driver keep what they are asked.
//!
//! Failure modes: a line that cannot be had, or not be set, is asked for again with growing pauses; pulses whose time passes meanwhile are
//! dropped and counted. A record that is no JSON where a value of it is tested gives no pulse and is counted.
//!
//! Limits: the precision is that of a thread that is woken by its timer, some 0.1 ms on an idle machine and without an upper
//! bound on a busy one.

mod line;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use sanderling_protocol::reported::{Pulses, SinkReport};

#[cfg(feature = "gpio")]
pub use self::line::KernelLines;
pub use self::line::{FakeLines, Line, Lines};
use super::{
    Cause, GpioSettings, Guard, Record, Sink, Tally,
    gate::{Asked, Gate, Turn, nanos},
    queue::{Entrance, Exit, queue},
    tally::lock,
};
use crate::{backoff, clock::Clock, workload::stats::FrameTimes};

const IDLE: Duration = Duration::from_secs(3600);

/// The sink.
pub struct GpioSink {
    entrance: Entrance,
    tally: Arc<Tally>,
    measured: Arc<Mutex<Measured>>,
}

/// What was measured of a line.
struct Measured {
    given: u64,
    joined: u64,
    late: u64,
    set: FrameTimes,
    record: FrameTimes,
}

impl Default for Measured {
    fn default() -> Self {
        Self { given: 0, joined: 0, late: 0, set: FrameTimes::new(), record: FrameTimes::new() }
    }
}

impl GpioSink {
    /// Starts the sink's thread, which ends when the sink is dropped, with the line inactive.
    ///
    /// # Errors
    /// What the system says, where it gives no thread.
    pub fn start(
        name: &str,
        settings: GpioSettings,
        lines: Box<dyn Lines>,
        clock: Arc<dyn Clock>,
        guard: Guard,
    ) -> io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let measured = Arc::new(Mutex::new(Measured::default()));
        let (entrance, exit) = queue(tally.clone());
        let (name, tallied, told) = (name.to_owned(), tally.clone(), measured.clone());
        let run = move || {
            Operator::new(name, settings, lines, tallied, told).run(&exit, &*clock);
            drop(guard);
        };
        thread::Builder::new().name("sink-gpio".into()).stack_size(128 * 1024).spawn(run)?;
        Ok(Self { entrance, tally, measured })
    }
}

impl Sink for GpioSink {
    fn take(&self, record: &Record) {
        self.entrance.give(record);
    }

    fn report(&self) -> SinkReport {
        let measured = lock(&self.measured);
        let ((set_us_p50, set_us_p99), (record_us_p50, record_us_p99)) =
            (measured.set.p50_p99(), measured.record.p50_p99());
        let Measured { given, joined, late, .. } = *measured;
        let pulses = Pulses { given, joined, late, set_us_p50, set_us_p99, record_us_p50, record_us_p99 };
        SinkReport { pulses: Some(pulses), ..self.tally.report() }
    }
}

/// The thread, without the thread: it decides by the time that it is told, nanoseconds of the kernel's monotonic clock.
struct Operator {
    name: String,
    settings: GpioSettings,
    lines: Box<dyn Lines>,
    line: Option<Box<dyn Line>>,
    gate: Gate,
    tally: Arc<Tally>,
    measured: Arc<Mutex<Measured>>,
    /// When to ask for the line again, and how long the pause before that was.
    again: Option<(u64, Duration)>,
    /// When the record came whose pulse is the next to begin, where that is at once.
    came: Option<u64>,
}

impl Operator {
    fn new(
        name: String,
        settings: GpioSettings,
        lines: Box<dyn Lines>,
        tally: Arc<Tally>,
        measured: Arc<Mutex<Measured>>,
    ) -> Self {
        let gate = Gate::new(settings.pulse, settings.min_gap);
        Self { name, settings, lines, line: None, gate, tally, measured, again: None, came: None }
    }

    fn run(&mut self, exit: &Exit, clock: &dyn Clock) {
        let now = || clock.capture().mono_ns;
        self.turn(&now);
        loop {
            match exit.next(self.due(now())) {
                Ok(record) => {
                    self.take(&record, now());
                    self.turn(&now);
                }
                Err(RecvTimeoutError::Timeout) => self.turn(&now),
                Err(RecvTimeoutError::Disconnected) => return self.last(),
            }
        }
    }

    /// Plans the pulse of a record that fits.
    fn take(&mut self, record: &Record, now: u64) {
        match self.settings.when.as_ref().map_or(Some(true), |when| when.fits(&record.payload)) {
            Some(true) => {}
            Some(false) => return,
            None => return self.tally.dropped(Cause::NotJson),
        }
        let mut measured = lock(&self.measured);
        // What a sensor says of the future, or of a time long ago, is no time of capture.
        let sane = |captured: &u64| *captured > 0 && *captured <= record.came_ns;
        let captured = record.captured_ns.filter(sane);
        if let Some(captured) = captured {
            measured.record.add(record.came_ns - captured);
        }
        let delay = nanos(self.settings.delay);
        let wanted = match captured {
            _ if delay == 0 => record.came_ns,
            Some(captured) => captured.saturating_add(delay),
            None => record.came_ns.saturating_add(delay),
        };
        let late = delay > 0 && wanted < record.came_ns;
        let at_once = wanted <= now;
        match self.gate.ask(wanted.max(now)) {
            Asked::Planned => {
                measured.late += u64::from(late);
                if at_once {
                    self.came = Some(record.came_ns);
                }
            }
            Asked::Joined => measured.joined += 1,
            Asked::TooSoon => self.tally.dropped(Cause::TooSoon),
            Asked::TooMany => self.tally.dropped(Cause::Full),
        }
    }

    /// How long until [`Operator::turn`] has something to do.
    fn due(&self, now: u64) -> Duration {
        let at = if self.line.is_some() { self.gate.due() } else { self.again.map(|(at, _)| at) };
        at.map_or(IDLE, |at| Duration::from_nanos(at.saturating_sub(now)))
    }

    /// Does what is due.
    fn turn(&mut self, clock: &dyn Fn() -> u64) {
        if self.line.is_none() && !self.have_line(clock()) {
            return;
        }
        while let Some(turn) = self.gate.turn(clock()) {
            let Some(line) = &mut self.line else { return };
            if let Err(error) = line.set(matches!(turn, Turn::Set(_))) {
                self.line = None;
                self.count_lost(u64::from(matches!(turn, Turn::Set(_))), clock());
                return self.failed(&error, clock());
            }
            if let Turn::Set(planned) = turn {
                let since = self.came.take().unwrap_or(planned);
                let mut measured = lock(&self.measured);
                measured.given += 1;
                measured.set.add(clock().saturating_sub(since));
            }
        }
    }

    /// Asks for the line, unless it is too early for that.
    fn have_line(&mut self, now: u64) -> bool {
        if self.again.is_some_and(|(at, _)| at > now) {
            self.count_lost(0, now);
            return false;
        }
        match self.lines.request(&self.settings.at, self.settings.active_low) {
            Ok(line) => {
                self.line = Some(line);
                self.again = None;
                if self.tally.well() {
                    tracing::info!(sink = self.name, "the line is there");
                }
                self.count_lost(0, now);
                true
            }
            Err(error) => {
                self.count_lost(0, now);
                self.failed(&error, now);
                false
            }
        }
    }

    /// Pulses that are over, or had begun, on a line that is not there.
    fn count_lost(&mut self, begun: u64, now: u64) {
        self.came = None;
        self.tally.dropped_many(Cause::Line, begun + self.gate.lose(now));
    }

    fn failed(&mut self, error: &io::Error, now: u64) {
        let pause = backoff::after(self.again.map(|(_, pause)| pause));
        self.again = Some((now.saturating_add(nanos(pause)), pause));
        let why = format!("{}: {error}", self.settings.at);
        if self.tally.failed(&why) {
            tracing::warn!(sink = self.name, "{why}");
        }
    }

    /// The end: the line is left inactive.
    fn last(&mut self) {
        if let Some(line) = &mut self.line
            && let Err(error) = line.set(false)
        {
            tracing::warn!(sink = self.name, %error, "the line was not released");
        }
    }
}
