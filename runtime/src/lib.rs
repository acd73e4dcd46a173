//! Executes one guest: a WebAssembly module in wasmi, with Sanderling's host functions, a WASI subset and inference.
//!
//! The library is pure compute: no network, no files, no clock of its own. Bytes of the module and of its models come in, frames come in, and whatever the
//! guest says goes out through the [`Output`] port; time is read through the [`Clock`] port. This is the part that meets
//! hostile input, so nothing that a guest passes, returns or does can panic the host: it ends in an errno for the
//! guest or in a [`Fault`](sanderling_protocol::worker::Fault).

#![deny(missing_docs)]

mod clock;
pub mod host;
pub mod image;
pub mod infer;
mod memory;
mod output;

pub use clock::{Clock, FakeClock};
pub use memory::GuestMemory;
pub use output::{Output, Recorder, Said};
