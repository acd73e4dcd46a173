//! Sanderling.
