//! The parts of WASI preview 1 that make sense for a guest: time, randomness, empty arguments and environment, and
//! standard output and error, which go to the log. Everything else is in [`wasi_refused`](super::wasi_refused).
//!
//! Results are WASI's own error numbers, which are not Linux's. Nothing here traps; `proc_exit` ends the guest.

use wasmi::{Caller, Error, Linker, errors::LinkerError};

use super::{
    Errno, HostState, charge_copy,
    output::{Stream, write_stream},
};
use crate::GuestMemory;

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// The functions linked here.
pub(crate) const NAMES: [&str; 13] = [
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "random_get",
    "fd_write",
    "fd_close",
    "fd_fdstat_get",
    "fd_seek",
    "sched_yield",
    "proc_exit",
];

/// WASI's `errno`.
pub(super) mod wasi_errno {
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const BADF: i32 = 8;
    pub(crate) const FAULT: i32 = 21;
    pub(crate) const INVAL: i32 = 28;
    pub(crate) const NOSYS: i32 = 52;
    pub(crate) const SPIPE: i32 = 70;
}
use wasi_errno::{BADF, FAULT, INVAL, SPIPE, SUCCESS};

const REALTIME: i32 = 0;
const MONOTONIC: i32 = 1;
/// `filetype`: a character device, so that C libraries write each line at once.
const CHARACTER_DEVICE: u8 = 2;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;
/// One call writes at most this many buffers and bytes; the rest is for the next call, as WASI allows.
const MAX_BUFFERS: i32 = 64;
const MAX_WRITE: usize = 64 * 1024;

type Host<'a> = Caller<'a, HostState>;

pub(super) fn register(linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "args_get", |_: Host<'_>, _: i32, _: i32| -> i32 { SUCCESS })?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Host<'_>, count: i32, size: i32| -> i32 {
        no_strings(&mut caller, count, size)
    })?;
    linker.func_wrap(MODULE, "environ_get", |_: Host<'_>, _: i32, _: i32| -> i32 { SUCCESS })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Host<'_>, count: i32, size: i32| -> i32 {
        no_strings(&mut caller, count, size)
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Host<'_>, id: i32, out: i32| -> i32 {
        clock(&mut caller, id, out, |_, _| 1)
    })?;
    linker.func_wrap(MODULE, "clock_time_get", |mut caller: Host<'_>, id: i32, _precision: i64, out: i32| -> i32 {
        clock(&mut caller, id, out, read_clock)
    })?;
    linker.func_wrap(MODULE, "random_get", |mut caller: Host<'_>, ptr: i32, len: i32| -> i32 {
        let drawn = random(&mut caller, ptr, len);
        charge_copy(&mut caller, drawn.unwrap_or(0));
        code(drawn.map(|_| ()))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, out: i32| -> i32 {
            write(&mut caller, fd, vectors, count, out)
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |_: Host<'_>, fd: i32| -> i32 {
        if is_standard(fd) { SUCCESS } else { BADF }
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        if is_standard(fd) { code(fdstat(&mut caller, fd, out)) } else { BADF }
    })?;
    linker.func_wrap(MODULE, "fd_seek", |_: Host<'_>, fd: i32, _: i64, _: i32, _: i32| -> i32 {
        if is_standard(fd) { SPIPE } else { BADF }
    })?;
    linker.func_wrap(MODULE, "sched_yield", |_: Host<'_>| -> i32 { SUCCESS })?;
    linker.func_wrap(MODULE, "proc_exit", |_: Host<'_>, status: i32| -> Result<(), Error> {
        Err(Error::i32_exit(status))
    })?;
    Ok(())
}

fn is_standard(fd: i32) -> bool {
    (0..=2).contains(&fd)
}

fn code(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => SUCCESS,
        Err(Errno::FAULT) => FAULT,
        Err(_) => INVAL,
    }
}

fn no_strings(caller: &mut Host<'_>, count: i32, size: i32) -> i32 {
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| {
        memory.write(count, &[0; 4])?;
        memory.write(size, &[0; 4])
    }))
}

fn clock(caller: &mut Host<'_>, id: i32, out: i32, value: fn(&HostState, i32) -> u64) -> i32 {
    charge_copy(caller, 0);
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

fn random(caller: &mut Host<'_>, ptr: i32, len: i32) -> Result<usize, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    let bytes = memory.slice_mut(ptr, len)?;
    state.random.fill(bytes);
    Ok(bytes.len())
}

fn fdstat(caller: &mut Host<'_>, fd: i32, out: i32) -> Result<(), Errno> {
    let (mut memory, _) = GuestMemory::split(caller)?;
    let rights = if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
    let mut stat = [0; 24];
    let [filetype, _, _, _, _, _, _, _, base @ ..] = &mut stat;
    *filetype = CHARACTER_DEVICE;
    for (to, from) in base.iter_mut().zip(rights.to_le_bytes()) {
        *to = from;
    }
    memory.write(out, &stat)
}

fn write(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    let stream = match fd {
        1 => Stream::Output,
        2 => Stream::Error,
        _ => return BADF,
    };
    if count < 0 {
        return INVAL;
    }
    let written = gather(caller, stream, vectors, count.min(MAX_BUFFERS));
    charge_copy(caller, written.unwrap_or(0));
    code(written.and_then(|written| {
        let written = u32::try_from(written).map_err(|_| Errno::INVAL)?;
        let (mut memory, _) = GuestMemory::split(caller)?;
        memory.write(out, &written.to_le_bytes())
    }))
}

fn gather(caller: &mut Host<'_>, stream: Stream, vectors: i32, count: i32) -> Result<usize, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let mut written = 0;
    for index in 0..count {
        let vector = vectors.wrapping_add(index.wrapping_mul(8));
        let ptr = memory.read_u32(vector)?.cast_signed();
        let len = memory.read_u32(vector.wrapping_add(4))?.cast_signed();
        let bytes = memory.read(ptr, len)?;
        let taken = bytes.get(..MAX_WRITE - written).unwrap_or(bytes);
        write_stream(state, stream, taken);
        written += taken.len();
        if taken.len() < bytes.len() {
            break;
        }
    }
    Ok(written)
}
