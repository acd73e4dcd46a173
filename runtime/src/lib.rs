//! Executes one guest: a WebAssembly module in wasmi, with Sanderling's host functions, a WASI subset and inference.
//!
//! The library is pure compute: no network, no files, no clock of its own. Bytes of the module and of its models come in
//! with a [`LoadSpec`], frames come in through [`Guest::frame`], and whatever the guest says goes out through the [`Output`]
//! port; time is read through the [`Clock`] port. This is the part that meets hostile input, so nothing that a guest
//! passes, returns or does can panic the host: it ends in an errno for the guest or in a
//! [`Fault`](sanderling_protocol::worker::Fault).
//!
//! The program `sanderling-worker` wraps one guest in a confined process; `sanderling run` uses the library as it is.

#![deny(missing_docs)]

mod call;
mod clock;
mod exports;
mod fault;
pub mod host;
pub mod image;
pub mod infer;
mod instance;
mod limits;
mod load;
mod memory;
mod module;
mod output;
mod random;
pub mod record;
pub mod replay;
pub mod sections;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod testing;

pub use clock::{Clock, FakeClock};
pub use host::{
    Counters, FrameBytes, Ports,
    state::{Keep, MemoryState},
};
pub use infer::models::NamedModel;
pub use instance::{FrameReport, Guest, Outcome};
pub use limits::{GROW_FUEL, GuestLimiter};
pub use load::{LoadSpec, Loaded};
pub(crate) use memory::GuestMemory;
pub use output::{Output, Recorder, Said};
pub use random::{Random, SeededRandom};
pub use record::{Called, Flight, Observed, Observer, Player, Recorded, Region, Stop};
pub use sanderling_guest::frame::{Format, FrameHeader, Kind};
