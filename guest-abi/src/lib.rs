//! The contract between Sanderling and its guests.
//!
//! [`frame`], [`image`], [`tensor`] and [`errno`] are the layouts and numbers that host and guests share, in little-endian
//! bytes, whatever the language of the guest; `include/sanderling.h` is the same in C, and `assemblyscript/`, `zig/` and `go/` are bindings
//! for others, each held to this crate by a test.
//!
//! With the feature `sdk`, a guest in Rust is about ten lines:
//!
//! ```
//! use sanderling_guest::sdk::{self, Fault, Frame, Guest};
//!
//! struct Brightness;
//!
//! impl Guest for Brightness {
//!     fn start() -> Result<Self, Fault> {
//!         Ok(Self)
//!     }
//!
//!     fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
//!         let pixels = frame.bytes()?;
//!         let sum: u64 = pixels.iter().map(|pixel| u64::from(*pixel)).sum();
//!         Ok(sdk::emit("brightness", (sum / pixels.len().max(1) as u64).to_string().as_bytes())?)
//!     }
//! }
//!
//! sanderling_guest::guest!(Brightness);
//! # fn main() {}
//! ```

#![no_std]
#![deny(missing_docs)]

#[cfg(feature = "sdk")]
extern crate alloc;
#[cfg(all(feature = "sdk", not(target_family = "wasm")))]
extern crate std;

pub mod errno;
pub mod frame;
pub mod image;
#[cfg(feature = "sdk")]
pub mod sdk;
pub mod state;
pub mod tensor;

/// The version of the contract that `sanderling_abi` returns.
pub const ABI: i32 = 1;
/// The module name of the host's functions.
pub const IMPORTS: &str = "sanderling_v1";
/// The module name of the inference functions.
pub const NN_IMPORTS: &str = "wasi_ephemeral_nn";
