//! The flight recorder of a worker: what a guest was given, so that its last execution can be run again.
//!
//! A region of memory of a fixed size holds a [`Header`], then a snapshot of the guest as it was between two frames, then a
//! log of everything that came to it since: frames, and for each host call its arguments, its result and what it wrote into the
//! guest's memory. The worker writes it while the guest runs; whoever reads it, reads it when the worker is gone, so that
//! nothing has to be asked of a process that aborted or was killed.
//!
//! ```text
//! header | snapshot: state, then memories page by page | log: entries
//! 0      HEADER                             snapshot_end         log_end
//! ```
//!
//! Invariants: a reader takes all of it as hostile: lengths are held to the region, counts to what is there. An entry lies
//! behind the log's end before the end is moved, so that a worker that dies in the middle of one leaves the log whole.
//!
//! Numbers are little-endian. The layout is that of one version of the agent: agent and worker are shipped together, and
//! [`MAGIC`] changes with the layout.

mod entry;
mod header;
mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use thiserror::Error;

pub use entry::{Answer, Begun, Entry, Export, FRAME_HEADER, Return, Source, Write, Writes, kind};
pub use header::{Basis, HEADER, Header, MAGIC, offset};
pub use snapshot::{END_OF_PAGES, Global, GlobalKind, Memory, PAGE, Page, Pages, Snapshot};

/// A region is at most this long, in bytes.
pub const MAX_REGION: usize = 64 << 20;

/// Why bytes are not what a flight recorder wrote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FlightError {
    /// The region is too short for a header, or longer than any.
    #[error("a flight recorder of {length} bytes is outside {HEADER}..={MAX_REGION}")]
    Length {
        /// Its length.
        length: usize,
    },
    /// It does not begin as it should.
    #[error("not a flight recorder of this version")]
    Magic,
    /// A field of the header has a value that it cannot have.
    #[error("the flight recorder's header says {value} for {field}, which cannot be")]
    Field {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Snapshot or log break off in the middle of something.
    #[error("the flight recorder breaks off in the middle of {what}")]
    Short {
        /// What.
        what: &'static str,
    },
    /// An entry of a kind that there is none of.
    #[error("the flight recorder has an entry of kind {kind}, which there is none of")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// An entry's content does not have the form of its kind.
    #[error("the flight recorder has {what} that is not well formed")]
    Form {
        /// What.
        what: &'static str,
    },
}

/// Takes bytes from the front, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], FlightError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FlightError::Short { what })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FlightError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(FlightError::Short { what })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, FlightError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, FlightError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FlightError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, FlightError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn size(&mut self, what: &'static str) -> Result<usize, FlightError> {
        usize::try_from(self.u32(what)?).map_err(|_| FlightError::Short { what })
    }
}
