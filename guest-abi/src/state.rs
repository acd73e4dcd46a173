//! The bounds of a module's durable state.

/// A key has at most this many bytes, and at least one.
pub const MAX_KEY: usize = 256;
/// A value has at most this many bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// A module keeps at most this many keys.
pub const MAX_KEYS: usize = 4096;
