//! Bad input, made on purpose: mutations of signed metadata, and the bodies of the fuzz targets.
//!
//! Purpose: what an attacker could send is made here from what is valid, deterministically by seed. [`targets`] feeds bytes to the
//! decoders of `sanderling-protocol` and checks what must hold for whatever they accept; libFuzzer calls it through the
//! programs in `fuzz_targets/`, and `cargo test` replays seeds and mutations of them on stable Rust. A [`Walk`] brings a client to
//! each message of a refresh, so that a mutated one can be put in its place.
//!
//! Failure modes: a broken promise is a panic that says which.

#![deny(missing_docs)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a harness: whatever is not as it should be fails the test")]

mod attack;
mod insider;
mod keys;
mod mutate;
mod random;
mod repository;
mod seeds;
pub mod targets;
mod walk;

pub use attack::{Mutant, Verdict, judge, mutant};
pub use insider::{insider, judge_insider};
pub use mutate::mutate;
pub use random::Random;
pub use repository::{NOW, stored, walks};
pub use seeds::seeds;
pub use walk::{Files, Place, Walk};
