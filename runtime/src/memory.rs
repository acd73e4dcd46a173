//! The only way into a guest's memory.
//!
//! Pointers and lengths come from the guest as `i32` and are read as unsigned, as wasm does; every access is checked
//! against the memory's present size in 64-bit arithmetic, so nothing overflows and nothing reaches outside. A bad
//! pointer is [`Errno::FAULT`] for the guest, never a trap and never a panic. What is written is noted for the flight recorder.

use std::sync::Arc;

use wasmi::{AsContextMut, Caller, Extern, Memory};

use crate::{
    host::{Errno, HostState},
    record::Notes,
};

/// A guest's linear memory for the duration of one host call.
pub struct GuestMemory<'a> {
    bytes: &'a mut [u8],
    /// Where a recorder looks for what was written.
    notes: Option<Arc<Notes>>,
}

impl<'a> GuestMemory<'a> {
    /// Splits a caller into its memory and the host's state, so that both can be used at once.
    ///
    /// # Errors
    /// [`Errno::FAULT`] where the guest has no memory.
    pub fn split<'c>(caller: &'a mut Caller<'c, HostState>) -> Result<(Self, &'a mut HostState), Errno> {
        let memory = Self::find(caller)?;
        let (bytes, state) = memory.data_and_store_mut(caller.as_context_mut());
        let notes = state.tape.notes();
        Ok((Self { bytes, notes }, state))
    }

    /// Looks at bytes as memory; for the host's own writes and for tests.
    pub fn over(bytes: &'a mut [u8]) -> Self {
        Self { bytes, notes: None }
    }

    /// The bytes at `ptr`.
    ///
    /// # Errors
    /// [`Errno::FAULT`] where they do not all lie in memory.
    pub fn read(&self, ptr: i32, len: i32) -> Result<&[u8], Errno> {
        let (from, to) = range(ptr, len)?;
        self.bytes.get(from..to).ok_or(Errno::FAULT)
    }

    /// The `N` bytes at `ptr`.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub fn read_array<const N: usize>(&self, ptr: i32) -> Result<&[u8; N], Errno> {
        let from = address(ptr)?;
        self.bytes.get(from..).and_then(|rest| rest.first_chunk()).ok_or(Errno::FAULT)
    }

    /// The little-endian `u32` at `ptr`.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub fn read_u32(&self, ptr: i32) -> Result<u32, Errno> {
        self.read_array(ptr).map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The UTF-8 text at `ptr`.
    ///
    /// # Errors
    /// As [`GuestMemory::read`], and [`Errno::INVAL`] where it is not UTF-8.
    pub fn read_str(&self, ptr: i32, len: i32) -> Result<&str, Errno> {
        std::str::from_utf8(self.read(ptr, len)?).map_err(|_| Errno::INVAL)
    }

    /// The bytes at `ptr`, to be written.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub fn slice_mut(&mut self, ptr: i32, len: i32) -> Result<&mut [u8], Errno> {
        let (from, to) = range(ptr, len)?;
        let place = self.bytes.get_mut(from..to).ok_or(Errno::FAULT)?;
        if let Some(notes) = &self.notes {
            notes.wrote(from, place.len());
        }
        Ok(place)
    }

    /// Writes `bytes` at `ptr`, all or nothing.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub fn write(&mut self, ptr: i32, bytes: &[u8]) -> Result<(), Errno> {
        let from = address(ptr)?;
        let to = from.checked_add(bytes.len()).ok_or(Errno::FAULT)?;
        self.bytes.get_mut(from..to).ok_or(Errno::FAULT)?.copy_from_slice(bytes);
        if let Some(notes) = &self.notes {
            notes.wrote(from, bytes.len());
        }
        Ok(())
    }

    /// Copies the frame's bytes from `offset` on to `ptr`, at most `len` of them, and says how many; 0 at the frame's end and
    /// beyond.
    ///
    /// # Errors
    /// As [`GuestMemory::read`], for all of `len`.
    pub fn copy_frame(&mut self, ptr: i32, len: i32, frame: &[u8], offset: usize) -> Result<usize, Errno> {
        let (from, to) = range(ptr, len)?;
        let room = self.bytes.get_mut(from..to).ok_or(Errno::FAULT)?;
        let rest = frame.get(offset..).unwrap_or_default();
        let count = rest.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        if let Some(notes) = &self.notes {
            notes.copied(from, count, offset);
        }
        Ok(count)
    }

    /// The memory's size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The handle is kept after instantiation; only a start section runs before that.
    fn find(caller: &Caller<'_, HostState>) -> Result<Memory, Errno> {
        caller
            .data()
            .own
            .memory
            .or_else(|| caller.get_export("memory").and_then(Extern::into_memory))
            .ok_or(Errno::FAULT)
    }
}

fn address(ptr: i32) -> Result<usize, Errno> {
    usize::try_from(ptr.cast_unsigned()).map_err(|_| Errno::FAULT)
}

fn range(ptr: i32, len: i32) -> Result<(usize, usize), Errno> {
    let from = address(ptr)?;
    let to = from.checked_add(address(len)?).ok_or(Errno::FAULT)?;
    Ok((from, to))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_access_that_is_not_wholly_inside() {
        let mut bytes = [7; 16];
        let mut memory = GuestMemory::over(&mut bytes);
        for (ptr, len) in
            [(0, 17), (16, 1), (17, 0), (-1, 0), (-1, 1), (0, -1), (-1, -1), (i32::MAX, i32::MAX), (8, -8)]
        {
            assert_eq!(memory.read(ptr, len), Err(Errno::FAULT), "{ptr} {len}");
            assert_eq!(memory.slice_mut(ptr, len), Err(Errno::FAULT), "{ptr} {len}");
        }
        assert_eq!(memory.read_array::<8>(9), Err(Errno::FAULT));
        assert_eq!(memory.read_u32(-4), Err(Errno::FAULT));
        assert_eq!(memory.write(13, &[1; 4]), Err(Errno::FAULT));
        assert_eq!(memory.read(0, 16).unwrap(), [7; 16], "a refused write writes nothing");
    }

    #[test]
    fn reaches_the_edges() {
        let mut bytes = [0; 16];
        let mut memory = GuestMemory::over(&mut bytes);
        memory.write(12, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.read_u32(12).unwrap(), 0x0403_0201);
        assert!(memory.read(16, 0).unwrap().is_empty());
        memory.write(0, b"ab").unwrap();
        assert_eq!(memory.read_str(0, 2).unwrap(), "ab");
        memory.write(0, &[0xff]).unwrap();
        assert_eq!(memory.read_str(0, 1), Err(Errno::INVAL));
    }
}
