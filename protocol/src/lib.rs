//! Sanderling.
pub mod digest;
