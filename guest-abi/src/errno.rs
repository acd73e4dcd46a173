//! Error numbers that host functions return, negated. The values are those of Linux, so that a log is readable.

/// No such thing: an unknown execution context, index or key.
pub const ENOENT: i32 = 2;
/// Too long: a record, a name or a key.
pub const E2BIG: i32 = 7;
/// Try again later: above a rate.
pub const EAGAIN: i32 = 11;
/// The deployment does not grant this.
pub const EACCES: i32 = 13;
/// A pointer or a length reaches outside of memory.
pub const EFAULT: i32 = 14;
/// An argument is not valid.
pub const EINVAL: i32 = 22;
/// There is no room left.
pub const ENOSPC: i32 = 28;
/// There is no current frame, or it is not of the kind that is needed; the state is not known before the start functions.
pub const ENODATA: i32 = 61;
