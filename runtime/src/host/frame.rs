//! `frame_info` and `frame_read`: the frame at hand.

use sanderling_guest::IMPORTS;
use wasmi::{Caller, errors::LinkerError};

use super::{Errno, HostState, Linker, answer, charge_copy};
use crate::GuestMemory;

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(IMPORTS, "frame_info", |mut caller: Caller<'_, HostState>, out: i32| -> i32 {
        answer(info(&mut caller, out))
    })?;
    linker.func_wrap(
        IMPORTS,
        "frame_read",
        |mut caller: Caller<'_, HostState>, offset: i32, ptr: i32, len: i32| -> i32 {
            let copied = read(&mut caller, offset, ptr, len);
            charge_copy(&mut caller, copied.unwrap_or(0).unsigned_abs() as usize);
            answer(copied)
        },
    )?;
    Ok(())
}

/// Writes the header of the frame.
fn info(caller: &mut Caller<'_, HostState>, out: i32) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    let frame = state.frame.as_ref().ok_or(Errno::NODATA)?;
    memory.write(out, &frame.header.to_bytes())?;
    Ok(0)
}

/// Copies at most `len` bytes from `offset` on and returns how many; 0 at the frame's end and beyond.
fn read(caller: &mut Caller<'_, HostState>, offset: i32, ptr: i32, len: i32) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    let frame = state.frame.as_ref().ok_or(Errno::NODATA)?;
    let offset = usize::try_from(offset.cast_unsigned()).map_err(|_| Errno::INVAL)?;
    let count = memory.fill_from_frame(ptr, len, &frame.bytes, offset)?;
    i32::try_from(count).map_err(|_| Errno::INVAL)
}
