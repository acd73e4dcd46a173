//! The head of the region: what there is, and where.

use super::{Cursor, FlightError, MAX_REGION};

/// How a region begins.
pub const MAGIC: [u8; 8] = *b"sdflight";
/// The length of the header, in bytes.
pub const HEADER: usize = 64;

/// Where the header's fields lie: the recorder moves them one by one.
pub mod offset {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::Basis`], as a `u32`.
    pub const BASIS: usize = 8;
    /// Where the snapshot ends, as a `u32`.
    pub const SNAPSHOT_END: usize = 12;
    /// Where the log ends, as a `u32`.
    pub const LOG_END: usize = 16;
    /// Where the content of the frame at hand lies, as a `u32`.
    pub const FRAME: usize = 20;
    /// Its length, as a `u32`; `u32::MAX` where there is none.
    pub const FRAME_LEN: usize = 24;
    /// The region that would have held all of it, as a `u32`; 0 where it did.
    pub const WANTED: usize = 28;
    /// Host calls of the call into the guest that is under way, as a `u64`.
    pub const CALLS: usize = 32;
}

/// What the log goes on from, and with that how much of an execution can be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Basis {
    /// Nothing that is known: the log has at most the frame at hand.
    Nothing = 0,
    /// The log begins with the instance.
    Instance = 1,
    /// The log goes on from the snapshot.
    Snapshot = 2,
}

/// The header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the log goes on from.
    pub basis: Basis,
    /// Where the snapshot ends.
    pub snapshot_end: usize,
    /// Where the log ends.
    pub log_end: usize,
    /// Where the content of the frame at hand lies, and how long it is; none where it is not in the log.
    pub frame: Option<(usize, usize)>,
    /// The region that would have held what this one had no room for, in bytes; 0 where nothing is missing.
    pub wanted: u64,
    /// Host calls of the call into the guest that was under way.
    pub calls: u64,
}

impl Header {
    /// Reads the header of a region of `length` bytes. `None` where nothing was recorded yet.
    ///
    /// # Errors
    /// [`FlightError`] where it contradicts itself or the length.
    pub fn read(bytes: &[u8], length: usize) -> Result<Option<Self>, FlightError> {
        let head: &[u8; HEADER] = bytes.first_chunk().ok_or(FlightError::Length { length: bytes.len() })?;
        if !(HEADER..=MAX_REGION).contains(&length) {
            return Err(FlightError::Length { length });
        }
        if head.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut cursor = Cursor(head);
        if cursor.array("its header")? != MAGIC {
            return Err(FlightError::Magic);
        }
        let basis = match cursor.u32("its header")? {
            0 => Basis::Nothing,
            1 => Basis::Instance,
            2 => Basis::Snapshot,
            other => return Err(FlightError::Field { field: "basis", value: other.into() }),
        };
        let within = |field, value: usize, least: usize, most: usize| {
            let fits = (least..=most).contains(&value);
            if fits { Ok(value) } else { Err(FlightError::Field { field, value: value as u64 }) }
        };
        let snapshot_end = within("the snapshot's end", cursor.size("its header")?, HEADER, length)?;
        let log_end = within("the log's end", cursor.size("its header")?, snapshot_end, length)?;
        let (at, frame_len) = (cursor.size("its header")?, cursor.u32("its header")?);
        let frame = if frame_len == u32::MAX {
            None
        } else {
            let at = within("the frame", at, snapshot_end, log_end)?;
            let frame_len = usize::try_from(frame_len).unwrap_or(usize::MAX);
            Some((at, within("the frame's length", frame_len, 0, log_end - at)?))
        };
        let wanted = cursor.u32("its header")?.into();
        let calls = cursor.u64("its header")?;
        Ok(Some(Self { basis, snapshot_end, log_end, frame, wanted, calls }))
    }
}
