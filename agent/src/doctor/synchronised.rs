//! Whether the kernel's clock is kept by somebody: adjtimex(2), which no safe crate here has.
//!
//! Invariant: the call only reads; it is made with no mode set.

#![allow(unsafe_code)]

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronised {
    /// An NTP client keeps the clock.
    Yes,
    /// Nobody does, or not for long enough.
    No,
    /// The kernel does not say, as in some containers.
    Unknown,
}

/// Asks the kernel.
pub(super) fn ask() -> Synchronised {
    // SAFETY: `timex` is a plain structure of integers, for which zeros are values; `modes` 0 changes nothing.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that lives through the call.
    match unsafe { libc::adjtimex(&mut asked) } {
        -1 => Synchronised::Unknown,
        libc::TIME_ERROR => Synchronised::No,
        _ => Synchronised::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_says_the_same_twice_and_changes_nothing() {
        assert_eq!(ask(), ask());
    }
}
