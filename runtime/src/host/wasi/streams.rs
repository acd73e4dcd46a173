//! Reading the frame, and writing lines: `fd_read`, `fd_pread`, `fd_write`.

use std::{array, iter};

use wasmi::errors::LinkerError;

use super::{
    Host, MODULE, code,
    descriptors::{Node, content, node},
    wasi_errno::{BADF, INVAL, ISDIR, SPIPE},
};
use crate::{
    GuestMemory,
    host::{Errno, HostState, Linker, charge, charge_copy, lines::write_stream},
};

/// One call reads or writes at most this many buffers and bytes; the rest is for the next call, as WASI allows.
const MAX_BUFFERS: usize = 64;
const MAX_BYTES: usize = 64 * 1024;
/// Bytes of a pointer and a length.
const VECTOR: usize = 8;
/// Fuel for a line, or a piece of one, besides its bytes: it is held to a rate, for which the clock is read.
const FUEL_PER_PIECE: u64 = 50;

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
    transfer(caller, (vectors, count), out, |memory, state, buffers| {
        let read = scatter(memory, state, position, buffers)?;
        state.own.descriptors.move_to(fd, position.saturating_add(read));
        Ok(read)
    })
}

fn read_at(caller: &mut Host<'_>, fd: i32, vectors: (i32, i32), offset: i64, out: i32) -> i32 {
    match node(caller.data(), fd) {
        Some(Node::File(_)) => {}
        Some(Node::Directory) => return ISDIR,
        Some(_) => return SPIPE,
        None => return BADF,
    }
    let Ok(position) = usize::try_from(offset) else { return INVAL };
    transfer(caller, vectors, out, |memory, state, buffers| scatter(memory, state, position, buffers))
}

fn write(caller: &mut Host<'_>, fd: i32, vectors: i32, count: i32, out: i32) -> i32 {
    let Some(Node::Output(stream)) = node(caller.data(), fd) else { return BADF };
    let mut pieces = 0;
    let answer = transfer(caller, (vectors, count), out, |memory, state, buffers| {
        let mut written = 0;
        for [ptr, len] in buffers {
            let bytes = memory.read(ptr, len)?;
            let taken = bytes.get(..MAX_BYTES - written).unwrap_or(bytes);
            pieces += write_stream(state, stream, taken);
            written += taken.len();
        }
        Ok(written)
    });
    charge(caller, FUEL_PER_PIECE * pieces as u64);
    answer
}

/// Pointer and length of buffers that all lie in memory.
type Buffers = iter::Take<array::IntoIter<[i32; 2], MAX_BUFFERS>>;

/// Moves bytes, charges for them and says how many they were.
fn transfer(
    caller: &mut Host<'_>,
    (vectors, count): (i32, i32),
    out: i32,
    moved: impl FnOnce(&mut GuestMemory<'_>, &mut HostState, Buffers) -> Result<usize, Errno>,
) -> i32 {
    let Ok(count) = usize::try_from(count) else { return INVAL };
    let count = count.min(MAX_BUFFERS);
    let moved = GuestMemory::split(caller).and_then(|(mut memory, state)| {
        // Before anything happens that the guest would not hear of.
        memory.read_array::<4>(out)?;
        let buffers = buffers(&memory, vectors, count)?;
        moved(&mut memory, state, buffers)
    });
    charge_copy(caller, moved.unwrap_or(0) + count * VECTOR);
    code(moved.and_then(|moved| {
        let moved = u32::try_from(moved).map_err(|_| Errno::INVAL)?;
        let (mut memory, _) = GuestMemory::split(caller)?;
        memory.write(out, &moved.to_le_bytes())
    }))
}

fn buffers(memory: &GuestMemory<'_>, vectors: i32, count: usize) -> Result<Buffers, Errno> {
    let length = i32::try_from(count * VECTOR).map_err(|_| Errno::INVAL)?;
    let words = memory.read(vectors, length)?.as_chunks::<4>().0;
    let mut buffers = [[0; 2]; MAX_BUFFERS];
    for (buffer, words) in buffers.iter_mut().zip(words.as_chunks::<2>().0) {
        *buffer = words.map(i32::from_le_bytes);
        let [ptr, len] = *buffer;
        memory.read(ptr, len)?;
    }
    Ok(buffers.into_iter().take(count))
}

fn scatter(memory: &mut GuestMemory<'_>, state: &HostState, position: usize, buffers: Buffers) -> Result<usize, Errno> {
    let rest = content(state).get(position..).unwrap_or_default();
    let rest = rest.get(..MAX_BYTES).unwrap_or(rest);
    let mut total = 0;
    for [ptr, len] in buffers {
        total += memory.fill(ptr, len, rest.get(total..).unwrap_or_default())?;
    }
    Ok(total)
}
