//! What must be the same on every processor, held to what is written in `expected/`: the arithmetic of guests, images, decoders, and the replay
//! of capsules that were recorded on others; and what need not be the same, inference, held to a bound. `docs/decisions/0037-architectures.md`
//! says what that means.
//!
//! The host runs these tests in `cargo xtask test`, 64- and 32-bit ARM in `cargo xtask emulate`. With `SANDERLING_WRITE_EXPECTED=1` they
//! write what they find: on x86-64 all of it, elsewhere the architecture's own capsule alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod capsules;
mod expected;
mod floats;
mod guest;
mod images;
mod inference;
