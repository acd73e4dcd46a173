//! The contract between Sanderling and its guests.
//!
//! [`frame`], [`image`], [`tensor`] and [`errno`] are the layouts and numbers that host and guests share, in little-endian
//! bytes, whatever the language of the guest; `include/sanderling.h` is the same in C, held to this crate by a test.

#![no_std]
#![deny(missing_docs)]

pub mod errno;
pub mod frame;
pub mod image;
pub mod tensor;

/// The version of the contract that `sanderling_abi` returns.
pub const ABI: i32 = 1;
/// The module name of the host's functions.
pub const IMPORTS: &str = "sanderling_v1";
