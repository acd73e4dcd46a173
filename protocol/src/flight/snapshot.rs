//! A guest between two frames.
//!
//! `place: u8 | length: u64 | pointer: u64`, the place where the guest wants frames of a length, then
//! `globals: u32`, each `index: u32 | kind: u8 | bits: 16 bytes`, then `memories: u32`, each `size: u64` and runs of pages that
//! are not all zeros, `first: u32 | count: u32 | content`, up to [`END_OF_PAGES`].

use super::{Cursor, FlightError};

/// Memories are kept in pages of this size, in bytes; wasm's own are multiples of it.
pub const PAGE: usize = 4096;
/// In the place of a run's first page: there is none any more.
pub const END_OF_PAGES: u32 = u32::MAX;
/// Bytes of a global.
const GLOBAL: usize = 4 + 1 + 16;

/// A snapshot, its structure checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<'a> {
    /// For frames of which length the guest has named a place, and where.
    pub place: Option<(u64, u64)>,
    /// Globals that can change.
    pub globals: Vec<Global>,
    /// All memories.
    pub memories: Vec<Memory<'a>>,
}

/// A global's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its index in the module.
    pub index: u32,
    /// Its type.
    pub kind: GlobalKind,
    /// Its bits.
    pub bits: u128,
}

/// The types of globals that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GlobalKind {
    /// `i32`
    I32 = 1,
    /// `i64`
    I64 = 2,
    /// `f32`
    F32 = 3,
    /// `f64`
    F64 = 4,
    /// `v128`
    V128 = 5,
}

impl GlobalKind {
    const ALL: [Self; 5] = [Self::I32, Self::I64, Self::F32, Self::F64, Self::V128];
}

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory<'a> {
    /// Its size, in bytes.
    pub size: u64,
    /// What of it is not zero.
    pub pages: Pages<'a>,
}

impl Memory<'_> {
    /// Writes it over `bytes`; what is not kept of it becomes zero.
    ///
    /// # Errors
    /// [`FlightError::Form`] where `bytes` are fewer than it has.
    pub fn write_to(&self, bytes: &mut [u8]) -> Result<(), FlightError> {
        bytes.fill(0);
        for page in self.pages {
            let at = usize::try_from(page.at).unwrap_or(usize::MAX);
            let place = at.checked_add(page.content.len()).and_then(|end| bytes.get_mut(at..end));
            place.ok_or(FlightError::Form { what: "a page outside of its memory" })?.copy_from_slice(page.content);
        }
        Ok(())
    }
}

/// The pages of a memory that are not all zeros, as an iterator over runs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages<'a>(&'a [u8]);

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where it lies in the memory, in bytes.
    pub at: u64,
    /// Its content.
    pub content: &'a [u8],
}

impl<'a> Iterator for Pages<'a> {
    type Item = Page<'a>;

    fn next(&mut self) -> Option<Page<'a>> {
        // The structure was checked when the snapshot was read.
        let mut cursor = Cursor(self.0);
        let run = run(&mut cursor).ok().flatten();
        self.0 = cursor.0;
        run
    }
}

fn run<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Page<'a>>, FlightError> {
    let what = "a memory";
    let first = cursor.u32(what)?;
    if first == END_OF_PAGES {
        cursor.0 = &[];
        return Ok(None);
    }
    let length = cursor.size(what)?.checked_mul(PAGE).ok_or(FlightError::Short { what })?;
    let content = cursor.bytes(length, what)?;
    if content.is_empty() {
        return Err(FlightError::Form { what });
    }
    Ok(Some(Page { at: u64::from(first).saturating_mul(PAGE as u64), content }))
}

impl<'a> Snapshot<'a> {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`FlightError`] where it breaks off, or says what cannot be.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlightError> {
        let what = "its snapshot";
        let mut cursor = Cursor(bytes);
        let (placed, length, pointer) = (cursor.u8(what)?, cursor.u64(what)?, cursor.u64(what)?);
        let place = (placed != 0).then_some((length, pointer));
        let globals = globals(&mut cursor)?;
        let count = cursor.u32(what)?;
        let mut memories = Vec::new();
        for _ in 0..count {
            memories.push(memory(&mut cursor)?);
        }
        if cursor.0.is_empty() { Ok(Self { place, globals, memories }) } else { Err(FlightError::Form { what }) }
    }
}

fn globals(cursor: &mut Cursor<'_>) -> Result<Vec<Global>, FlightError> {
    let what = "its globals";
    let length = cursor.size(what)?.checked_mul(GLOBAL).ok_or(FlightError::Short { what })?;
    let (globals, _) = cursor.bytes(length, what)?.as_chunks::<GLOBAL>();
    globals.iter().map(|bytes| global(Cursor(bytes))).collect()
}

fn global(mut cursor: Cursor<'_>) -> Result<Global, FlightError> {
    let what = "a global";
    let (index, number) = (cursor.u32(what)?, cursor.u8(what)?);
    let kind = GlobalKind::ALL.into_iter().find(|kind| *kind as u8 == number);
    let kind = kind.ok_or(FlightError::Form { what })?;
    Ok(Global { index, kind, bits: u128::from_le_bytes(cursor.array(what)?) })
}

fn memory<'a>(cursor: &mut Cursor<'a>) -> Result<Memory<'a>, FlightError> {
    let what = "a memory";
    let size = cursor.u64(what)?;
    let from = cursor.0;
    loop {
        let before = cursor.0;
        if cursor.u32(what)? == END_OF_PAGES {
            break;
        }
        cursor.0 = before;
        let run = run(cursor)?.ok_or(FlightError::Short { what })?;
        if run.at.checked_add(run.content.len() as u64).is_none_or(|end| end > size) {
            return Err(FlightError::Form { what });
        }
    }
    let used = from.len() - cursor.0.len();
    let pages = Pages(from.get(..used).unwrap_or_default());
    Ok(Memory { size, pages })
}
