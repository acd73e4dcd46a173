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
pub(crate) struct GuestMemory<'a> {
    bytes: &'a mut [u8],
    /// Where a recorder looks for what was written.
    notes: Option<Arc<Notes>>,
}

impl<'a> GuestMemory<'a> {
    /// Splits a caller into its memory and the host's state, so that both can be used at once.
    ///
    /// # Errors
    /// [`Errno::FAULT`] where the guest has no memory.
    pub(crate) fn split<'c>(caller: &'a mut Caller<'c, HostState>) -> Result<(Self, &'a mut HostState), Errno> {
        let memory = Self::find(caller)?;
        let (bytes, state) = memory.data_and_store_mut(caller.as_context_mut());
        let notes = state.tape.notes();
        Ok((Self { bytes, notes }, state))
    }

    /// Looks at bytes as memory.
    #[cfg(test)]
    fn over(bytes: &'a mut [u8]) -> Self {
        Self { bytes, notes: None }
    }

    /// The bytes at `ptr`.
    ///
    /// # Errors
    /// [`Errno::FAULT`] where they do not all lie in memory.
    pub(crate) fn read(&self, ptr: i32, len: i32) -> Result<&[u8], Errno> {
        let (from, to) = range(ptr, len)?;
        self.bytes.get(from..to).ok_or(Errno::FAULT)
    }

    /// The `N` bytes at `ptr`.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub(crate) fn read_array<const N: usize>(&self, ptr: i32) -> Result<&[u8; N], Errno> {
        let from = address(ptr)?;
        self.bytes.get(from..).and_then(|rest| rest.first_chunk()).ok_or(Errno::FAULT)
    }

    /// The bytes at `ptr`, to be written.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub(crate) fn slice_mut(&mut self, ptr: i32, len: i32) -> Result<&mut [u8], Errno> {
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
    pub(crate) fn write(&mut self, ptr: i32, bytes: &[u8]) -> Result<(), Errno> {
        let from = address(ptr)?;
        let to = from.checked_add(bytes.len()).ok_or(Errno::FAULT)?;
        self.bytes.get_mut(from..to).ok_or(Errno::FAULT)?.copy_from_slice(bytes);
        if let Some(notes) = &self.notes {
            notes.wrote(from, bytes.len());
        }
        Ok(())
    }

    /// Copies as much of `content` to `ptr` as `len` bytes have room for, and says how much that is.
    ///
    /// # Errors
    /// As [`GuestMemory::read`], for all of `len`.
    pub(crate) fn fill(&mut self, ptr: i32, len: i32, content: &[u8]) -> Result<usize, Errno> {
        let (from, count) = self.copy(ptr, len, content)?;
        if let Some(notes) = &self.notes {
            notes.wrote(from, count);
        }
        Ok(count)
    }

    /// As [`GuestMemory::fill`], for what the frame has from `offset` on; nothing at its end and beyond.
    ///
    /// # Errors
    /// As [`GuestMemory::fill`].
    pub(crate) fn fill_from_frame(&mut self, ptr: i32, len: i32, frame: &[u8], offset: usize) -> Result<usize, Errno> {
        let (from, count) = self.copy(ptr, len, frame.get(offset..).unwrap_or_default())?;
        if let Some(notes) = &self.notes {
            notes.copied(from, count, offset);
        }
        Ok(count)
    }

    /// Copies what fits, and says where it is and how much.
    fn copy(&mut self, ptr: i32, len: i32, content: &[u8]) -> Result<(usize, usize), Errno> {
        let (from, to) = range(ptr, len)?;
        let room = self.bytes.get_mut(from..to).ok_or(Errno::FAULT)?;
        let count = content.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), content.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok((from, count))
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
        assert_eq!(memory.read_array::<4>(-4), Err(Errno::FAULT));
        assert_eq!(memory.write(13, &[1; 4]), Err(Errno::FAULT));
        assert_eq!(memory.read(0, 16).unwrap(), [7; 16], "a refused write writes nothing");
    }

    #[test]
    fn reaches_the_edges() {
        let mut bytes = [0; 16];
        let mut memory = GuestMemory::over(&mut bytes);
        memory.write(12, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.read_array(12), Ok(&[1, 2, 3, 4]));
        assert!(memory.read(16, 0).unwrap().is_empty());
    }

    #[test]
    fn copies_what_fits_and_nothing_where_not_all_of_the_place_is_inside() {
        let mut bytes = [7; 8];
        let mut memory = GuestMemory::over(&mut bytes);
        assert_eq!((memory.fill(6, 2, b"abc"), memory.fill(0, 3, b"d")), (Ok(2), Ok(1)));
        assert_eq!((memory.fill(7, 2, b"x"), memory.fill(-1, 1, b"x")), (Err(Errno::FAULT), Err(Errno::FAULT)));
        assert_eq!((memory.fill_from_frame(2, 4, b"efg", 1), memory.fill_from_frame(4, 1, b"efg", 9)), (Ok(2), Ok(0)));
        assert_eq!(&bytes, b"d\x07fg\x07\x07ab");
    }
}
