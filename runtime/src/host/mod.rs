//! The host's side of a guest: the state behind the host functions, and what they have in common.
//!
//! Every host function answers bad arguments with a negative errno; none traps, none panics. A function that needs a
//! grant asks [`HostState::allow`] first: without it the answer is `-EACCES`, counted, and reported once.

pub mod nn;
pub mod vision;

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use sanderling_guest::{errno, frame::FrameHeader};
use sanderling_protocol::deployment::{Grant, Limits};
use wasmi::{Caller, Memory};

use crate::{Clock, Output};

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
    /// The channels on which it may emit.
    pub emit: Vec<String>,
}

impl Grants {
    /// Sorts the deployment's grants by what they are asked for.
    pub fn new(grants: &[Grant]) -> Self {
        let mut sorted = Self::default();
        for grant in grants {
            match grant {
                Grant::Infer => sorted.infer = true,
                Grant::Emit(channel) => sorted.emit.push(channel.clone()),
            }
        }
        sorted
    }
}

/// Everything that host functions see besides the guest's memory.
pub struct HostState {
    /// The guest's memory, known once it is instantiated.
    pub(crate) memory: Option<Memory>,
    /// The frame at hand, during `sanderling_frame`.
    pub frame: Option<CurrentFrame>,
    /// Models, execution contexts, tensors.
    pub nn: nn::NnState,
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
    /// Native work that the present slice of fuel could not pay for, in fuel.
    pub(crate) owed: u64,
    /// Refused calls by host function.
    denied: BTreeMap<&'static str, u64>,
}

impl HostState {
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

/// Fuel for one nanosecond of native work: the interpreter executes about one unit in that time.
pub const FUEL_PER_NATIVE_NS: u64 = 1;

/// Charges native work as fuel, so that a guest cannot hide work in the host. What the present slice cannot pay is
/// remembered and paid between slices.
pub fn charge(caller: &mut Caller<'_, HostState>, native_ns: u64) {
    let cost = native_ns.saturating_mul(FUEL_PER_NATIVE_NS);
    let left = caller.get_fuel().unwrap_or(0);
    let paid = cost.min(left);
    if caller.set_fuel(left - paid).is_ok() {
        let state = caller.data_mut();
        state.owed = state.owed.saturating_add(cost - paid);
    }
}

/// Runs native work, measures it and charges it.
pub fn native<R>(caller: &mut Caller<'_, HostState>, work: impl FnOnce(&mut Caller<'_, HostState>) -> R) -> R {
    let before = caller.data().clock.mono_ns();
    let result = work(caller);
    let took = caller.data().clock.mono_ns().saturating_sub(before);
    charge(caller, took);
    result
}
