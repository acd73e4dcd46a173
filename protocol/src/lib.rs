//! What crosses a network or a process boundary in Sanderling, and what has to mean the same on both sides of one.
//!
//! Pure: no I/O, no clock, no runtime, no MQTT. Bytes come in and are checked in one order: size, digest, signature,
//! version floor, and only then parsed for use. Whatever is refused has an error variant of its own.

#![deny(missing_docs)]

pub mod batch;
pub mod blob;
pub mod capsule;
pub mod command;
pub mod deployment;
pub mod digest;
pub mod flight;
pub mod release;
pub mod reported;
pub mod series;
pub mod topics;
pub mod tuf;
pub mod worker;
