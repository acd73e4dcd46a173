//! Guests as they are built, those in languages other than Rust above all, and the bindings that they are written with, on the real runtime.

#![allow(clippy::unwrap_used, clippy::panic)]

mod aggregate;
mod bindings;
mod deadband;
mod fraud_rule;
mod motion;
mod support;
mod text_match;
