//! A loaded guest and its life: start, one call for each frame, stop. What is called, and of which instance, is in `body`.
//!
//! After a fault, or after a call was interrupted, the guest is over: its memory may be in any state, so nothing of it is
//! called again. A frame that cannot be given to the guest is refused and harms nothing.

use std::{collections::BTreeMap, sync::Arc};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{
    deployment::{Decode, Limits},
    digest::Digest,
    worker::{Fault, FaultCode, InputDecode, State},
};

use crate::{
    Clock,
    host::{
        Counters, CurrentFrame, FrameBytes,
        metrics::Metrics,
        state::{Keep, ModuleState},
    },
    image::{self, DecodeLimits},
    limits::Budget,
    load::Loaded,
    record::{Flight, Tape},
};
pub(crate) use body::Body;
use calls::Failed;

mod body;
mod calls;

/// A guest that is loaded.
///
/// ```
/// use std::sync::Arc;
/// use sanderling_guest::frame::FrameHeader;
/// use sanderling_runtime::{FakeClock, FrameBytes, Guest, LoadSpec, Outcome, Ports, Recorder, Said, SeededRandom};
///
/// // A guest that emits the first four bytes of each frame.
/// let module = wat::parse_str(r#"(module
///     (import "sanderling_v1" "frame_read" (func $read (param i32 i32 i32) (result i32)))
///     (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
///     (memory (export "memory") 1)
///     (data (i32.const 0) "echo")
///     (func (export "sanderling_abi") (result i32) (i32.const 1))
///     (func (export "sanderling_frame") (result i32)
///         (drop (call $read (i32.const 0) (i32.const 16) (i32.const 4)))
///         (call $emit (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 4))))"#)?;
/// let said = Recorder::default();
/// let ports = Ports {
///     clock: Arc::new(FakeClock::default()),
///     output: Box::new(said.clone()),
///     random: Box::new(SeededRandom::new(1)),
///     stop: Box::new(|| false),
/// };
/// let spec = LoadSpec { module: &module, grants: vec!["emit:echo".parse()?], ..LoadSpec::default() };
/// let mut guest = Guest::load(spec, ports).map_err(|fault| fault.to_string())?;
/// guest.start().map_err(|fault| fault.to_string())?;
/// let outcome = guest.frame(&FrameHeader::new("cam0", 5), FrameBytes::Static(b"12345"));
/// assert!(matches!(outcome, Ok(Outcome::Done(_))));
/// assert_eq!(said.take(), [Said::Emit { seq: 0, channel: "echo".into(), payload: b"1234".into() }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Guest {
    body: Body,
    clock: Arc<dyn Clock>,
    limits: Limits,
    inputs: Vec<InputDecode>,
    loaded: Loaded,
    decode_limits: DecodeLimits,
    /// A buffer to decode into, kept from frame to frame.
    spare: Vec<u8>,
    /// The frame at hand as it came, once the guest is done with it.
    given: Option<FrameBytes>,
    /// The most fuel for the next call, where it is not what the limits say: in a replay that ends where time had run out.
    pub(crate) fuel: Option<u64>,
    over: Option<Fault>,
    interrupted: bool,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest handled it.
    Done(FrameReport),
    /// It could not be given to the guest, for the reason said; the guest goes on.
    Refused(String),
    /// The call was interrupted by the stop request; the guest is over.
    Stopped,
}

/// What a handled frame took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameReport {
    /// Fuel, native work included.
    pub fuel: u64,
    /// From the call of [`Guest::frame`] to the guest's return, decoding included, in nanoseconds.
    pub took_ns: u64,
    /// Monotonic time of the guest's return, in nanoseconds.
    pub ended_ns: u64,
    /// Linear memory after the frame, in bytes.
    pub memory_bytes: u64,
}

impl Guest {
    pub(crate) fn new(
        body: Body,
        clock: Arc<dyn Clock>,
        limits: &Limits,
        inputs: Vec<InputDecode>,
        loaded: Loaded,
    ) -> Self {
        Self {
            body,
            clock,
            limits: *limits,
            inputs,
            loaded,
            decode_limits: DecodeLimits::of(limits),
            spare: Vec::new(),
            given: None,
            fuel: None,
            over: None,
            interrupted: false,
        }
    }

    /// How long loading took.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Whether a call was interrupted by the stop request, so that the guest is over without a fault.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Linear memory, all memories together, in bytes; of the last instance where each frame has its own.
    pub fn memory_bytes(&self) -> u64 {
        self.body.memory_bytes()
    }

    /// What the guest did so far.
    pub fn counters(&self) -> Counters {
        self.body.counters()
    }

    /// How often each host function was refused.
    pub fn denied(&self) -> &BTreeMap<&'static str, u64> {
        self.body.denied()
    }

    /// Gives the guest what its module kept before; `port` takes what it changes from now on. Without it, the module keeps nothing
    /// beyond this guest. Call it before [`Guest::start`].
    pub fn restore(&mut self, state: State, port: Box<dyn Keep>) {
        if let Some(own) = self.body.state_mut() {
            *own = ModuleState::new(state, port);
        }
    }

    /// What the module counts and measures. `None` where the host's side was lost.
    pub fn metrics_mut(&mut self) -> Option<&mut Metrics> {
        self.body.host_mut().map(|host| &mut host.metrics)
    }

    /// What the module keeps, as it was when the last call began where that failed. `None` where the host's side was lost.
    pub fn state(&self) -> Option<&ModuleState> {
        self.body.state()
    }

    /// Runs `_initialize` and `sanderling_start`, where exported. They share ten frames' worth of fuel and time, and at
    /// least five seconds. Where each frame has an instance of its own there is nothing to run yet.
    ///
    /// # Errors
    /// The fault that ended the guest: `init` where `sanderling_start` returned a number other than 0.
    pub fn start(&mut self) -> Result<(), Fault> {
        self.check_over()?;
        let mut budget = self.budget(Budget::start);
        if let Some(state) = self.body.state_mut() {
            state.open();
        }
        let result = self.body.start(&mut budget);
        self.end_call(&result);
        self.unless_stopped(result, &budget, None).map(|_| ())
    }

    /// Gives a frame to the guest: decodes it where the deployment says so, and has it handled as the execution wants it: by
    /// `sanderling_frame`, or by a program's run. `bytes` is let go before this returns, whatever the outcome.
    ///
    /// # Errors
    /// The fault that ended the guest.
    pub fn frame(&mut self, header: &FrameHeader, bytes: FrameBytes) -> Result<Outcome, Fault> {
        self.check_over()?;
        let mut budget = self.budget(Budget::frame);
        let began = budget.now_ns;
        self.body.record_frame(header, &bytes, &*self.clock);
        let result = self.run_frame(header, bytes, &mut budget);
        self.end_call(&result);
        let outcome = match result {
            Err(Failed::Refused(why)) => Ok(Outcome::Refused(why)),
            other => self.unless_stopped(other, &budget, Some(header)).map(|done| match done {
                None => Outcome::Stopped,
                Some(()) => Outcome::Done(FrameReport {
                    fuel: budget.used,
                    took_ns: budget.now_ns.saturating_sub(began),
                    ended_ns: budget.now_ns,
                    memory_bytes: self.memory_bytes(),
                }),
            }),
        };
        if let Some(flight) = self.body.tape().and_then(Tape::flight) {
            flight.worked(budget.now_ns.saturating_sub(began));
        }
        if let Some(FrameBytes::Owned(buffer)) = self.given.take() {
            self.spare = buffer;
        }
        outcome
    }

    fn budget(&mut self, of: fn(&Limits, u64) -> Budget) -> Budget {
        if let Some(state) = self.body.host_mut() {
            state.calls = 0;
        }
        let mut budget = of(&self.limits, self.clock.mono_ns());
        budget.fuel = self.fuel.take().unwrap_or(budget.fuel);
        budget
    }

    /// As [`Guest::frame`], for content that the caller keeps; costs one more copy.
    ///
    /// # Errors
    /// As [`Guest::frame`].
    pub fn frame_from(&mut self, header: &FrameHeader, content: &[u8]) -> Result<Outcome, Fault> {
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.extend_from_slice(content);
        self.frame(header, FrameBytes::Owned(buffer))
    }

    /// Runs `sanderling_stop`, where exported, and logs what the guest had not ended with a newline. Where each frame has an instance of
    /// its own there is none to stop.
    ///
    /// # Errors
    /// The fault that ended the guest.
    pub fn stop(&mut self) -> Result<(), Fault> {
        self.check_over()?;
        let mut budget = self.budget(Budget::frame);
        let result = self.body.stop(&mut budget);
        self.end_call(&result);
        self.unless_stopped(result, &budget, None).map(|_| ())
    }

    fn run_frame(&mut self, header: &FrameHeader, bytes: FrameBytes, budget: &mut Budget) -> Result<(), Failed> {
        if bytes.len() != header.len as usize {
            return Err(Failed::Refused(format!(
                "the header says {} bytes, but {} came; the sensor's driver is at fault",
                header.len,
                bytes.len()
            )));
        }
        let (frame, raw) = self.decode(header, bytes)?;
        let (result, frame) = self.body.frame(frame, budget);
        let seen = frame.map(|frame| frame.bytes);
        match (raw, seen) {
            (Some(raw), seen) => {
                if let Some(FrameBytes::Owned(buffer)) = seen {
                    self.spare = buffer;
                }
                self.given = Some(raw);
            }
            (None, seen) => self.given = seen,
        }
        result
    }

    /// The frame as the guest is to see it, and where that is not as it came, what came.
    fn decode(
        &mut self,
        header: &FrameHeader,
        bytes: FrameBytes,
    ) -> Result<(CurrentFrame, Option<FrameBytes>), Failed> {
        let wanted = image::wanted(&self.inputs, header);
        if wanted == Decode::None {
            return Ok((CurrentFrame { header: *header, bytes }, None));
        }
        let mut buffer = std::mem::take(&mut self.spare);
        match image::decode_frame(header, &bytes, wanted, &self.decode_limits, &mut buffer) {
            Ok(Some(header)) => Ok((CurrentFrame { header, bytes: FrameBytes::Owned(buffer) }, Some(bytes))),
            Ok(None) => {
                self.spare = buffer;
                Ok((CurrentFrame { header: *header, bytes }, None))
            }
            Err(error) => {
                self.spare = buffer;
                Err(Failed::Refused(error.to_string()))
            }
        }
    }

    /// What the call changed of the state is kept if it ended well.
    fn end_call(&mut self, result: &Result<(), Failed>) {
        if let Some(state) = self.body.state_mut() {
            state.end_call(result.is_ok());
        }
    }

    /// Completes a fault and remembers it. `None` where the call was interrupted.
    fn unless_stopped(
        &mut self,
        result: Result<(), Failed>,
        budget: &Budget,
        frame: Option<&FrameHeader>,
    ) -> Result<Option<()>, Fault> {
        match result {
            Ok(()) => {
                let memory = self.memory_bytes();
                if let Some(tape) = self.body.tape() {
                    tape.end(budget.used, memory);
                }
                Ok(Some(()))
            }
            Err(Failed::Stopped) => {
                self.interrupted = true;
                self.over =
                    Some(Fault::new(FaultCode::Init, "the guest was interrupted by a stop request and cannot go on"));
                Ok(None)
            }
            Err(Failed::Refused(why)) => Err(Fault::new(FaultCode::Init, why)),
            Err(Failed::Fault(fault)) => {
                let fault = Fault {
                    seq: frame.map(|header| header.seq),
                    fuel_used: budget.used,
                    memory_bytes: self.memory_bytes(),
                    host_calls: self.body.host().map_or(0, |state| state.calls),
                    frame: self.given.as_ref().map(|bytes| Digest::of(bytes)),
                    ..fault
                };
                if let Some(flight) = self.body.tape().and_then(Tape::flight) {
                    let given = frame.zip(self.given.as_deref());
                    flight.fault(&fault, given.map(|(header, bytes)| (header.to_bytes(), bytes)));
                }
                self.over = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// Ends the record with a digest of the state that a fault left. It reads all of the guest's memory, so it comes after the fault was
    /// told.
    pub fn seal(&mut self) {
        let digest = self.digest();
        if let Some(flight) = self.body.tape().and_then(Tape::flight)
            && let Some(digest) = digest
        {
            flight.state(digest);
        }
    }

    /// The next frame is to be on record, whatever that costs.
    pub fn want_record(&mut self) {
        if let Some(flight) = self.flight() {
            flight.want();
        }
    }

    /// Leaves the record alone, so that it can be read, until [`Guest::release_record`]. The frame is the one that was given last.
    pub fn hold_record(&mut self, header: &FrameHeader, content: &[u8]) {
        let digest = self.digest();
        if let Some(flight) = self.flight() {
            flight.hold((header.to_bytes(), content), digest);
        }
    }

    /// Goes on recording after [`Guest::hold_record`].
    pub fn release_record(&mut self) {
        if let Some(flight) = self.flight() {
            flight.release();
        }
    }

    /// Begins the record anew, with a snapshot of the guest as it is. The frame that comes next stands alone in it.
    pub fn record_anew(&mut self) {
        self.body.record_anew(&*self.clock);
    }

    /// What the flight recorder holds, where there is one.
    pub fn flight(&mut self) -> Option<&mut Flight> {
        self.body.tape().and_then(Tape::flight)
    }

    /// A digest of memories and globals as they are, or as the last instance left them in a fault; `None` where nobody looks on.
    pub(crate) fn digest(&self) -> Option<u64> {
        self.body.digest()
    }

    pub(crate) fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    fn check_over(&self) -> Result<(), Fault> {
        self.over.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
