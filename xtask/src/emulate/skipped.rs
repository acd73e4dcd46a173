//! The tests that are left out under emulation, each with the reason. An entry that names no test fails the run.

/// Where an entry counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// Under emulation.
    All,
    /// Where 32-bit ARM is emulated.
    Arm32,
    /// Where the kernel starts no programs of the target by itself.
    Unstarted,
}

/// Tests that are left out for one reason.
pub(super) struct Skipped {
    /// Goes on behind "because".
    pub(super) why: &'static str,
    pub(super) on: On,
    /// The program (a crate's name, or that of a file in `tests/`), and the test in it.
    pub(super) tests: &'static [(&'static str, &'static str)],
}

pub(super) const SKIPPED: &[Skipped] = &[];
