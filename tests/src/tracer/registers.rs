//! The registers of a stopped thread, as far as a system call uses them.

use nix::{errno::Errno, libc::user_regs_struct, sys::ptrace, unistd::Pid};

/// How many arguments a system call has at most.
const ARGUMENTS: usize = 6;

/// The registers of a thread that is stopped where a system call begins or ends.
#[derive(Clone, Copy)]
pub(super) struct Registers(user_regs_struct);

impl Registers {
    /// Reads them.
    pub(super) fn of(thread: Pid) -> nix::Result<Self> {
        ptrace::getregs(thread).map(Self)
    }

    /// The same with arguments that no system call takes: descriptor -1 and addresses that are not mapped. So it fails
    /// before it does anything.
    pub(super) fn unusable(mut self) -> Self {
        (0..ARGUMENTS).for_each(|at| *self.place(at) = u64::MAX);
        self
    }

    /// These, which were read where a call ended, with the arguments of `before`, which were read where it began, and as
    /// if the call had failed with this error.
    pub(super) fn failed_with(mut self, mut before: Self, errno: Errno) -> Self {
        (0..ARGUMENTS).for_each(|at| *self.place(at) = *before.place(at));
        self.set_result(-i64::from(errno as i32));
        self
    }

    /// Writes them back.
    pub(super) fn put(self, thread: Pid) -> nix::Result<()> {
        ptrace::setregs(thread, self.0)
    }
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// The system call's number.
    pub(super) fn number(&self) -> i64 {
        self.0.orig_rax.cast_signed()
    }

    /// The argument at this place, counted from 0.
    pub(super) fn argument(&self, at: usize) -> u64 {
        [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9][at]
    }

    fn place(&mut self, at: usize) -> &mut u64 {
        let registers = &mut self.0;
        match at {
            0 => &mut registers.rdi,
            1 => &mut registers.rsi,
            2 => &mut registers.rdx,
            3 => &mut registers.r10,
            4 => &mut registers.r8,
            _ => &mut registers.r9,
        }
    }

    fn set_result(&mut self, result: i64) {
        self.0.rax = result.cast_unsigned();
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// The system call's number.
    pub(super) fn number(&self) -> i64 {
        self.0.regs[8].cast_signed()
    }

    /// The argument at this place, counted from 0.
    pub(super) fn argument(&self, at: usize) -> u64 {
        self.0.regs[at]
    }

    fn place(&mut self, at: usize) -> &mut u64 {
        &mut self.0.regs[at]
    }

    /// The register of the result is that of the first argument, too.
    fn set_result(&mut self, result: i64) {
        self.0.regs[0] = result.cast_unsigned();
    }
}
