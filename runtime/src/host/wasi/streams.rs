//! Reading the frame, and writing lines: `fd_read`, `fd_pread`, `fd_write`.

use wasmi::errors::LinkerError;

use super::{
    Host, MODULE, code,
    descriptors::{Node, content, node},
    wasi_errno::{BADF, INVAL, ISDIR, SPIPE},
};
use crate::{
    GuestMemory,
    host::{
        Errno, HostState, Linker, charge_copy,
        lines::{Stream, write_stream},
    },
};

/// One call reads or writes at most this many buffers and bytes; the rest is for the next call, as WASI allows.
const MAX_BUFFERS: i32 = 64;
const MAX_BYTES: usize = 64 * 1024;

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        MODULE,
        "fd_read",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, out: i32| -> i32 {
            read(&mut caller, fd, vectors, count, out)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_pread",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, offset: i64, out: i32| -> i32 {
            read_at(&mut caller, fd, (vectors, count), offset, out)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Host<'_>, fd: i32, vectors: i32, count: i32, out: i32| -> i32 {
            write(&mut caller, fd, vectors, count, out)
        },
    )?;
    Ok(())
}

fn read(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    let position = match node(caller.data(), fd) {
        Some(Node::Input(position) | Node::File(position)) => position,
        Some(Node::Directory) => return ISDIR,
        Some(Node::Nothing | Node::Output(_)) | None => return BADF,
    };
    transfer(caller, count, out, |memory, state, count| {
        let read = scatter(memory, state, position, vectors, count)?;
        state.own.descriptors.move_to(fd, position.saturating_add(read));
        Ok(read)
    })
}

fn read_at(caller: &mut Host<'_>, fd: i32, (vectors, count): (i32, i32), offset: i64, out: i32) -> i32 {
    match node(caller.data(), fd) {
        Some(Node::File(_)) => {}
        Some(Node::Directory) => return ISDIR,
        Some(_) => return SPIPE,
        None => return BADF,
    }
    let Ok(position) = usize::try_from(offset) else { return INVAL };
    transfer(caller, count, out, |memory, state, count| scatter(memory, state, position, vectors, count))
}

fn write(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    let Some(Node::Output(stream)) = node(caller.data(), fd) else { return BADF };
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

fn scatter(
    memory: &mut GuestMemory<'_>,
    state: &HostState,
    position: usize,
    vectors: i32,
    count: i32,
) -> Result<usize, Errno> {
    let mut total = 0;
    for index in 0..count {
        let (ptr, len) = buffer(memory, vectors, index)?;
        let to = memory.slice_mut(ptr, len)?;
        let rest = content(state).get(position.saturating_add(total)..).unwrap_or_default();
        let taken = to.len().min(rest.len()).min(MAX_BYTES - total);
        if let (Some(to), Some(from)) = (to.get_mut(..taken), rest.get(..taken)) {
            to.copy_from_slice(from);
        }
        total += taken;
    }
    Ok(total)
}
