//! The host's side of a guest: the state behind the host functions, and what they have in common.
//!
//! Every host function answers bad arguments with a negative errno; none traps, none panics. A function that needs a
//! grant asks [`HostState::allow`] first: without it the answer is `-EACCES`, counted, and reported once.

pub(crate) mod evidence;
pub(crate) mod frame;
pub(crate) mod lines;
mod linker;
pub mod metrics;
pub mod nn;
pub(crate) mod output;
pub mod state;
pub mod vision;
pub(crate) mod wasi;

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

pub use linker::{HostArgument, HostFunction, HostResult, HostValue, Linker};
use sanderling_guest::{errno, frame::FrameHeader};
use sanderling_protocol::deployment::{Grant, Limits};
use wasmi::{Caller, Memory, errors::LinkerError};

use crate::{
    Clock, Output, Random,
    limits::{GuestLimiter, TokenBucket},
    record::Tape,
};

/// An errno as guests get it: positive here, negated at the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No such thing.
    pub const NOENT: Self = Self(errno::ENOENT);
    /// Too long.
    pub const TOO_BIG: Self = Self(errno::E2BIG);
    /// Above a rate.
    pub const AGAIN: Self = Self(errno::EAGAIN);
    /// Not granted.
    pub const ACCES: Self = Self(errno::EACCES);
    /// Outside of memory.
    pub const FAULT: Self = Self(errno::EFAULT);
    /// Not a valid argument.
    pub const INVAL: Self = Self(errno::EINVAL);
    /// No room.
    pub const NOSPC: Self = Self(errno::ENOSPC);
    /// No frame, or not of the kind that is needed.
    pub const NODATA: Self = Self(errno::ENODATA);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

/// What a host function returns to the guest: the value, or the errno negated.
pub fn answer(result: Result<i32, Errno>) -> i32 {
    result.unwrap_or_else(|error| -error.0)
}

/// A frame's content: owned, shared, or lent for as long as the process lives.
#[derive(Clone, Debug)]
pub enum FrameBytes {
    /// Owned by the frame.
    Owned(Vec<u8>),
    /// Shared with others.
    Shared(Arc<[u8]>),
    /// In memory that is never unmapped.
    Static(&'static [u8]),
}

impl Deref for FrameBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

/// The frame that the guest is looking at.
#[derive(Clone, Debug)]
pub struct CurrentFrame {
    /// Its header, as the guest sees it: after decoding.
    pub header: FrameHeader,
    /// Its content, `header.len` bytes.
    pub bytes: FrameBytes,
}

/// What a guest may do.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Inference with the models bound in the deployment.
    pub infer: bool,
    /// Inference with models that it brings itself.
    pub infer_load: bool,
    /// The channels on which it may emit.
    pub emit: Vec<String>,
    /// How many bytes of keys and values it may keep.
    pub state: Option<u64>,
    /// Parts of images as records.
    pub evidence: bool,
}

impl Grants {
    /// Sorts the deployment's grants by what they are asked for.
    pub fn new(grants: &[Grant]) -> Self {
        let mut sorted = Self::default();
        for grant in grants {
            match grant {
                Grant::Infer => sorted.infer = true,
                Grant::InferLoad => sorted.infer_load = true,
                Grant::Emit(channel) => sorted.emit.push(channel.clone()),
                Grant::State(bytes) => sorted.state = Some(*bytes),
                Grant::Evidence => sorted.evidence = true,
                // The supervisor's to heed.
                Grant::Capture => {}
            }
        }
        sorted
    }
}

/// What a guest did, counted since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records emitted.
    pub emitted: u64,
    /// Records refused above the rate.
    pub emit_refused: u64,
    /// Log lines written.
    pub logged: u64,
    /// Log lines dropped above the rate.
    pub log_dropped: u64,
}

/// The ports through which a guest meets the world.
pub struct Ports {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where records, lines and refusals go.
    pub output: Box<dyn Output>,
    /// Randomness for WASI.
    pub random: Box<dyn Random>,
    /// Asked between slices, and while the guest sleeps: whether to leave even out of a running guest.
    pub stop: Box<dyn Fn() -> bool + Send>,
}

/// What the host state is made of besides its ports.
pub(crate) struct Settings {
    pub(crate) nn: nn::NnState,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) config: Arc<str>,
    pub(crate) strings: wasi::Strings,
    pub(crate) standard: wasi::Standard,
}

/// What belongs to one instance and ends with it, but for its execution contexts and the frame.
pub(crate) struct OfInstance {
    /// The guest's memory, known once it is instantiated.
    pub(crate) memory: Option<Memory>,
    /// Holds memories and tables to their limit.
    pub(crate) limiter: GuestLimiter,
    /// Lines begun on WASI's standard output and error.
    pub(crate) lines: lines::Lines,
    /// WASI's descriptors.
    pub(crate) descriptors: wasi::Descriptors,
    /// Native work that the present slice of fuel could not pay for, in fuel.
    pub(crate) owed: u64,
    /// Monotonic time at which the present call must have ended.
    pub(crate) deadline_ns: u64,
}

impl OfInstance {
    fn new(limits: &Limits) -> Self {
        Self {
            memory: None,
            limiter: GuestLimiter::new(limits),
            lines: lines::Lines::default(),
            descriptors: wasi::Descriptors::default(),
            owed: 0,
            deadline_ns: 0,
        }
    }
}

/// Everything that host functions see besides the guest's memory. What an instance must not leave to the next one is in `own`, in
/// `frame` and behind `NnState::forget`; the rest belongs to the module and goes on: models, rates, counters, refusals.
pub struct HostState {
    /// What ends with the instance.
    pub(crate) own: OfInstance,
    /// The frame at hand, during `sanderling_frame`.
    pub frame: Option<CurrentFrame>,
    /// Models, execution contexts, tensors.
    pub nn: nn::NnState,
    /// What the module keeps.
    pub state: state::ModuleState,
    /// What the module counts and measures.
    pub metrics: metrics::Metrics,
    /// What the guest may do.
    pub grants: Grants,
    /// What the guest may use.
    pub limits: Limits,
    /// The deployment's `config` as JSON text.
    pub config: Arc<str>,
    /// Where the guest's records and lines go.
    pub out: Box<dyn Output>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for WASI.
    pub(crate) random: Box<dyn Random>,
    /// Whether to leave even out of a running guest.
    pub(crate) stop: Box<dyn Fn() -> bool + Send>,
    /// WASI's arguments and environment.
    pub(crate) strings: wasi::Strings,
    /// What WASI's standard streams are.
    pub(crate) standard: wasi::Standard,
    /// Holds records to their rate.
    pub(crate) emit_rate: TokenBucket,
    /// Holds log lines to their rate.
    pub(crate) log_rate: TokenBucket,
    /// Log lines that were dropped since the log last took one.
    pub(crate) lines_dropped: u64,
    /// What was counted so far.
    pub(crate) counters: Counters,
    /// Who looks on.
    pub(crate) tape: Tape,
    /// Host functions called since the call into the guest began, or the frame.
    pub(crate) calls: u64,
    /// Refused calls by host function.
    denied: BTreeMap<&'static str, u64>,
}

impl HostState {
    pub(crate) fn new(settings: Settings, ports: Ports) -> Self {
        let now = ports.clock.mono_ns();
        Self {
            own: OfInstance::new(&settings.limits),
            frame: None,
            nn: settings.nn,
            state: state::ModuleState::default(),
            metrics: metrics::Metrics::default(),
            grants: settings.grants,
            limits: settings.limits,
            config: settings.config,
            strings: settings.strings,
            standard: settings.standard,
            emit_rate: TokenBucket::new(settings.limits.emit_per_s, now),
            log_rate: TokenBucket::new(output::LOG_PER_S, now),
            lines_dropped: 0,
            counters: Counters::default(),
            out: ports.output,
            clock: ports.clock,
            random: ports.random,
            stop: ports.stop,
            tape: Tape::Off,
            calls: 0,
            denied: BTreeMap::new(),
        }
    }

    /// Forgets all that an instance left, so that the next one finds nothing of it.
    pub(crate) fn renew(&mut self) {
        self.own = OfInstance::new(&self.limits);
        self.nn.forget();
        self.frame = None;
    }

    /// Passes when `granted`; otherwise counts the refusal of `function` and reports its first time.
    ///
    /// # Errors
    /// [`Errno::ACCES`].
    pub fn allow(&mut self, granted: bool, function: &'static str) -> Result<(), Errno> {
        if granted {
            return Ok(());
        }
        let count = self.denied.entry(function).or_insert(0);
        if *count == 0 {
            self.out.denied(function);
        }
        *count = count.saturating_add(1);
        Err(Errno::ACCES)
    }

    /// How often each host function was refused.
    pub fn denied(&self) -> &BTreeMap<&'static str, u64> {
        &self.denied
    }
}

/// Fuel for a host call besides what it does: a call that does nothing takes about so many nanoseconds, in each of which the
/// interpreter executes about one unit. The linker charges it, so that no function is free.
pub(crate) const FUEL_PER_HOST_CALL: u64 = 40;
/// Bytes copied by the host for one unit of fuel.
const COPIED_PER_FUEL: u64 = 8;

/// Charges native work as fuel, so that a guest cannot hide work in the host. What the present slice cannot pay is
/// remembered and paid between slices.
pub(crate) fn charge(caller: &mut Caller<'_, HostState>, cost: u64) {
    let left = caller.get_fuel().unwrap_or(0);
    let paid = cost.min(left);
    if caller.set_fuel(left - paid).is_ok() {
        let state = caller.data_mut();
        state.own.owed = state.own.owed.saturating_add(cost - paid);
    }
}

/// Charges for `bytes` that are copied, without reading the clock: a guest that only asks the host to copy still runs out of its slice.
pub(crate) fn charge_copy(caller: &mut Caller<'_, HostState>, bytes: usize) {
    charge(caller, bytes as u64 / COPIED_PER_FUEL);
}

/// Runs native work, measures it and charges a unit for each nanosecond.
pub(crate) fn native<R>(caller: &mut Caller<'_, HostState>, work: impl FnOnce(&mut Caller<'_, HostState>) -> R) -> R {
    let before = caller.data().clock.mono_ns();
    let result = work(caller);
    let took = caller.data().clock.mono_ns().saturating_sub(before);
    charge(caller, took);
    result
}

/// What a guest asks to be copied, of which there is at most so much.
pub(crate) fn at_most(len: i32, most: usize) -> usize {
    (len.cast_unsigned() as usize).min(most)
}

/// Links every host function there is.
pub(crate) fn register(linker: &mut wasmi::Linker<HostState>) -> Result<(), LinkerError> {
    let mut linker = Linker::new(linker);
    frame::register(&mut linker)?;
    output::register(&mut linker)?;
    evidence::register(&mut linker)?;
    state::register(&mut linker)?;
    metrics::register(&mut linker)?;
    nn::register(&mut linker)?;
    vision::register(&mut linker)?;
    wasi::register(&mut linker)
}

/// The functions that a guest may import from `module`, for error messages; a test holds the list to the linker.
pub fn known_imports(module: &str) -> Vec<&'static str> {
    match module {
        sanderling_guest::IMPORTS => vec![
            "frame_info",
            "frame_read",
            "emit",
            "emit_evidence",
            "log",
            "config",
            "now",
            "state_get",
            "state_set",
            "state_delete",
            "metric_add",
            "metric_set",
            "image_tensor",
            "nn_input_image",
            "nn_output_info",
        ],
        "wasi_ephemeral_nn" => {
            vec!["load", "load_by_name", "init_execution_context", "set_input", "compute", "get_output"]
        }
        wasi::MODULE => wasi::names().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
