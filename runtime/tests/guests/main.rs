//! The guests in languages other than Rust, and the bindings that they are written with, on the real runtime.

#![allow(clippy::unwrap_used, clippy::panic)]

mod aggregate;
mod bindings;
mod deadband;
mod motion;
mod support;
mod text_match;
