//! The parts of WASI preview 1 that make sense for a guest: time, randomness, arguments and environment out of the deployment's
//! `config`, the three standard descriptors, the frame as a file, and sleeping. Everything else is in `refused`. docs/wasi.md says what is there,
//! and what of the public test suite it was held to.
//!
//! Results are WASI's own error numbers, which are not Linux's. Nothing here traps; `proc_exit` ends the guest, and so does sleeping
//! beyond the deadline.

mod descriptors;
mod directory;
pub(crate) mod poll;
mod refused;
mod streams;
mod strings;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use wasmi::{Caller, Error, errors::LinkerError};

pub(crate) use self::{descriptors::Descriptors, strings::Strings};
use super::{Errno, HostState, Linker, charge};
use crate::GuestMemory;

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// The functions linked here, in `descriptors`, in `streams` and in `directory`.
const NAMES: [&str; 22] = [
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "random_get",
    "fd_read",
    "fd_pread",
    "fd_write",
    "fd_close",
    "fd_fdstat_get",
    "fd_filestat_get",
    "fd_seek",
    "fd_tell",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "path_open",
    "path_filestat_get",
    "poll_oneoff",
    "sched_yield",
    "proc_exit",
];

/// WASI's `errno`.
mod wasi_errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const ACCES: i32 = 2;
    pub(super) const BADF: i32 = 8;
    pub(super) const EXIST: i32 = 20;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
    pub(super) const ISDIR: i32 = 31;
    pub(super) const MFILE: i32 = 33;
    pub(super) const NOENT: i32 = 44;
    pub(super) const NOSYS: i32 = 52;
    pub(super) const NOTDIR: i32 = 54;
    pub(super) const NOTSOCK: i32 = 57;
    pub(super) const SPIPE: i32 = 70;
}
use wasi_errno::{FAULT, INVAL, SUCCESS};

/// Randomness is drawn in pieces of this length, in bytes.
const MAX_RANDOM: usize = 256 * 1024;
/// Fuel for a byte of it: the kernel takes one to two nanoseconds.
const FUEL_PER_RANDOM_BYTE: u64 = 2;
const REALTIME: i32 = 0;
const MONOTONIC: i32 = 1;

type Host<'a> = Caller<'a, HostState>;

/// What a module's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    /// There is nothing to read, and output goes to the log.
    Log,
    /// The frame is read, and each line of output is emitted: a command.
    Frame,
}

/// The functions that a guest may import, for error messages.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(refused::names())
}

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "args_get", |mut caller: Host<'_>, pointers: i32, bytes: i32| -> i32 {
        strings::get(&mut caller, |strings| &strings.arguments, pointers, bytes)
    })?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Host<'_>, count: i32, size: i32| -> i32 {
        strings::sizes(&mut caller, |strings| &strings.arguments, count, size)
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Host<'_>, pointers: i32, bytes: i32| -> i32 {
        strings::get(&mut caller, |strings| &strings.environment, pointers, bytes)
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Host<'_>, count: i32, size: i32| -> i32 {
        strings::sizes(&mut caller, |strings| &strings.environment, count, size)
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Host<'_>, id: i32, out: i32| -> i32 {
        clock(&mut caller, id, out, |_, _| 1)
    })?;
    linker.func_wrap(MODULE, "clock_time_get", |mut caller: Host<'_>, id: i32, _precision: i64, out: i32| -> i32 {
        clock(&mut caller, id, out, read_clock)
    })?;
    linker.func_wrap(MODULE, "random_get", |mut caller: Host<'_>, ptr: i32, len: i32| -> Result<i32, Error> {
        let drawn = random(&mut caller, ptr, len)?;
        charge(&mut caller, FUEL_PER_RANDOM_BYTE * drawn.unwrap_or(0) as u64);
        Ok(code(drawn.map(|_| ())))
    })?;
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |mut caller: Host<'_>, subscriptions: i32, events: i32, count: i32, out: i32| -> Result<i32, Error> {
            poll::poll_oneoff(&mut caller, subscriptions, events, count, out)
        },
    )?;
    linker.func_wrap(MODULE, "sched_yield", |_: Host<'_>| -> i32 { SUCCESS })?;
    linker.func_wrap(MODULE, "proc_exit", |_: Host<'_>, status: i32| -> Result<(), Error> {
        Err(Error::i32_exit(status))
    })?;
    descriptors::register(linker)?;
    streams::register(linker)?;
    directory::register(linker)?;
    refused::register(linker)
}

fn code(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => SUCCESS,
        Err(Errno::FAULT) => FAULT,
        Err(_) => INVAL,
    }
}

fn clock(caller: &mut Host<'_>, id: i32, out: i32, value: fn(&HostState, i32) -> u64) -> i32 {
    if !matches!(id, REALTIME | MONOTONIC) {
        return INVAL;
    }
    code(GuestMemory::split(caller).and_then(|(mut memory, state)| memory.write(out, &value(state, id).to_le_bytes())))
}

fn read_clock(state: &HostState, id: i32) -> u64 {
    match id {
        // Before 1970 there is no WASI time.
        REALTIME => u64::try_from(state.clock.wall_ns()).unwrap_or(0),
        _ => state.clock.mono_ns(),
    }
}

/// Looks at the deadline between pieces: a guest may ask for all of its memory at once, which takes seconds.
fn random(caller: &mut Host<'_>, ptr: i32, len: i32) -> Result<Result<usize, Errno>, Error> {
    let (mut memory, state) = match GuestMemory::split(caller) {
        Ok(split) => split,
        Err(errno) => return Ok(Err(errno)),
    };
    let bytes = match memory.slice_mut(ptr, len) {
        Ok(bytes) => bytes,
        Err(errno) => return Ok(Err(errno)),
    };
    for (number, piece) in bytes.chunks_mut(MAX_RANDOM).enumerate() {
        if number > 0 && state.clock.mono_ns() >= state.own.deadline_ns {
            return Err(Error::host(poll::Roused::Deadline));
        }
        state.random.fill(piece);
    }
    Ok(Ok(bytes.len()))
}
