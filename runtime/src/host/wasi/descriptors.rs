//! The three standard descriptors: what is read from them, written to them and said of them. There are no others.
//!
//! A command reads its frame from descriptor 0, and each line that it writes to descriptor 1 is a record; elsewhere there is nothing to
//! read, and output goes to the log. A descriptor that the guest closed stays closed for the life of its instance.

use wasmi::{Linker, errors::LinkerError};

use super::{
    Host, MODULE, Standard, code,
    wasi_errno::{BADF, INVAL, SPIPE, SUCCESS},
};
use crate::{
    GuestMemory,
    host::{
        Errno, HostState, charge_copy,
        lines::{Stream, write_stream},
    },
};

/// `filetype`: a character device, so that C libraries write each line at once.
const CHARACTER_DEVICE: u8 = 2;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;
const RIGHT_POLL: u64 = 1 << 27;
/// One call reads or writes at most this many buffers and bytes; the rest is for the next call, as WASI allows.
const MAX_BUFFERS: i32 = 64;
const MAX_BYTES: usize = 64 * 1024;

/// The state of the standard descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Descriptors {
    closed: [bool; 3],
    /// How much of the frame was read.
    read: usize,
}

impl Descriptors {
    /// Whether `fd` can be used at all.
    pub(super) fn is_open(&self, fd: i32) -> bool {
        usize::try_from(fd).ok().and_then(|fd| self.closed.get(fd)) == Some(&false)
    }
}

/// What is left to read for descriptor 0, where there is anything to read from.
pub(super) fn readable(state: &HostState, fd: i32) -> Option<&[u8]> {
    let descriptors = &state.own.descriptors;
    if fd != 0 || state.standard != Standard::Frame || !descriptors.is_open(fd) {
        return None;
    }
    let content: &[u8] = state.frame.as_ref().map_or(&[], |frame| &*frame.bytes);
    Some(content.get(descriptors.read..).unwrap_or_default())
}

/// The stream behind `fd`, where it can be written to.
pub(super) fn writable(state: &HostState, fd: i32) -> Option<Stream> {
    match fd {
        1 if state.own.descriptors.is_open(fd) => Some(Stream::Output),
        2 if state.own.descriptors.is_open(fd) => Some(Stream::Error),
        _ => None,
    }
}

pub(super) fn register(linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    linker.func_wrap(
        MODULE,
        "fd_read",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, out: i32| -> i32 {
            read(&mut caller, fd, vectors, count, out)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, out: i32| -> i32 {
            write(&mut caller, fd, vectors, count, out)
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |mut caller: Host<'_>, fd: i32| -> i32 { close(&mut caller, fd) })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        describe(&mut caller, fd, out, &fdstat(fd))
    })?;
    linker.func_wrap(MODULE, "fd_filestat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        describe(&mut caller, fd, out, &filestat())
    })?;
    linker.func_wrap(MODULE, "fd_seek", |caller: Host<'_>, fd: i32, _: i64, _: i32, _: i32| -> i32 {
        if caller.data().own.descriptors.is_open(fd) { SPIPE } else { BADF }
    })?;
    linker.func_wrap(MODULE, "fd_tell", |caller: Host<'_>, fd: i32, _: i32| -> i32 {
        if caller.data().own.descriptors.is_open(fd) { SPIPE } else { BADF }
    })?;
    Ok(())
}

fn close(caller: &mut Host<'_>, fd: i32) -> i32 {
    let closed = usize::try_from(fd).ok().and_then(|fd| caller.data_mut().own.descriptors.closed.get_mut(fd));
    match closed {
        Some(closed) if !*closed => {
            *closed = true;
            SUCCESS
        }
        _ => BADF,
    }
}

fn describe(caller: &mut Host<'_>, fd: i32, out: i32, record: &[u8]) -> i32 {
    charge_copy(caller, record.len());
    if !caller.data().own.descriptors.is_open(fd) {
        return BADF;
    }
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| memory.write(out, record)))
}

/// `fdstat`: type, flags, rights.
fn fdstat(fd: i32) -> [u8; 24] {
    let rights = RIGHT_POLL | if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
    let mut stat = [0; 24];
    let [filetype, _, _, _, _, _, _, _, base @ ..] = &mut stat;
    *filetype = CHARACTER_DEVICE;
    for (to, from) in base.iter_mut().zip(rights.to_le_bytes()) {
        *to = from;
    }
    stat
}

/// `filestat`: nothing but the type.
fn filestat() -> [u8; 64] {
    let mut stat = [0; 64];
    stat[16] = CHARACTER_DEVICE;
    stat
}

fn read(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    if readable(caller.data(), fd).is_none() {
        return BADF;
    }
    transfer(caller, count, out, |memory, state, count| scatter(memory, state, vectors, count))
}

fn write(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    let Some(stream) = writable(caller.data(), fd) else { return BADF };
    transfer(caller, count, out, |memory, state, count| gather(memory, state, stream, vectors, count))
}

/// Moves bytes, charges for them and says how many they were.
fn transfer(
    caller: &mut Host<'_>,
    count: i32,
    out: i32,
    moved: impl FnOnce(&mut GuestMemory<'_>, &mut HostState, i32) -> Result<usize, Errno>,
) -> i32 {
    if count < 0 {
        return INVAL;
    }
    let moved = GuestMemory::split(caller).and_then(|(mut memory, state)| {
        // Before anything happens that the guest would not hear of.
        memory.read_array::<4>(out)?;
        moved(&mut memory, state, count.min(MAX_BUFFERS))
    });
    charge_copy(caller, moved.unwrap_or(0));
    code(moved.and_then(|moved| {
        let moved = u32::try_from(moved).map_err(|_| Errno::INVAL)?;
        let (mut memory, _) = GuestMemory::split(caller)?;
        memory.write(out, &moved.to_le_bytes())
    }))
}

/// Pointer and length of one buffer.
fn buffer(memory: &GuestMemory<'_>, vectors: i32, index: i32) -> Result<(i32, i32), Errno> {
    let vector = vectors.wrapping_add(index.wrapping_mul(8));
    Ok((memory.read_u32(vector)?.cast_signed(), memory.read_u32(vector.wrapping_add(4))?.cast_signed()))
}

fn gather(
    memory: &GuestMemory<'_>,
    state: &mut HostState,
    stream: Stream,
    vectors: i32,
    count: i32,
) -> Result<usize, Errno> {
    let mut written = 0;
    for index in 0..count {
        let (ptr, len) = buffer(memory, vectors, index)?;
        let bytes = memory.read(ptr, len)?;
        let taken = bytes.get(..MAX_BYTES - written).unwrap_or(bytes);
        write_stream(state, stream, taken);
        written += taken.len();
        if taken.len() < bytes.len() {
            break;
        }
    }
    Ok(written)
}

fn scatter(memory: &mut GuestMemory<'_>, state: &mut HostState, vectors: i32, count: i32) -> Result<usize, Errno> {
    let mut total = 0;
    for index in 0..count {
        let (ptr, len) = buffer(memory, vectors, index)?;
        let to = memory.slice_mut(ptr, len)?;
        let rest = readable(state, 0).unwrap_or_default();
        let taken = to.len().min(rest.len()).min(MAX_BYTES - total);
        if let (Some(to), Some(from)) = (to.get_mut(..taken), rest.get(..taken)) {
            to.copy_from_slice(from);
        }
        state.own.descriptors.read += taken;
        total += taken;
    }
    Ok(total)
}
