//! The system calls that a worker may make once it is confined: memory, its socket, the clock, and its own end.
//!
//! A filter in classic BPF (linux/Documentation/userspace-api/seccomp_filter.rst): any other call, a call by another
//! architecture's numbers, memory that is to be executed and a signal to another process end the process with `SIGSYS`,
//! which its supervisor reports as a crash that names the cause.
//!
//! The list was read off workers that load, run, infer, fault, abort and want for memory (`strace -ff`, on ARM under `qemu-user`), and each entry
//! says what calls it; those of them that some machine or C library alone makes are named. There is one thread,
//! and nothing is opened, so that there is nothing to seek, to poll or to look at. The crate `seccompiler` does not know 32-bit ARM.

#![allow(unsafe_code)]

use std::{io, mem::offset_of};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, seccomp_data, sock_filter, sock_fprog,
};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const ARCHITECTURE: u32 = 0x4000_0028;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm", target_arch = "riscv64")))]
compile_error!("add the architecture's AUDIT_ARCH number (linux/audit.h) and try the list of calls there");

/// What every architecture has, each with who calls it.
const CALLS: &[c_long] = &[
    // A blob that is read; what is said to and by the supervisor; last words on standard error, those of the C library in parts.
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    // The allocator.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // What the C library does once wakes those who waited for it, whether somebody did or not; unwinding a panic begins so.
    libc::SYS_futex,
    // The clock, on machines where it is not read without a call; a guest that sleeps, and its sleep after it was stopped by a signal; chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    // The end. An abort asks who it is, sets and unblocks the signal, and sends it; a fault in native code comes through a handler on a stack of
    // its own, which returns to the fault.
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
];

/// What is called differently on 32-bit ARM: the socket has calls of its own, and so has time of 64 bits. Those have the same numbers on
/// every 32-bit architecture (linux/include/uapi/asm-generic/unistd.h).
#[cfg(target_arch = "arm")]
const OWN_CALLS: &[c_long] = &[libc::SYS_recv, libc::SYS_send, CLOCK_GETTIME64, CLOCK_NANOSLEEP_TIME64];
#[cfg(not(target_arch = "arm"))]
const OWN_CALLS: &[c_long] = &[];

#[cfg(target_arch = "arm")]
const CLOCK_GETTIME64: c_long = 403;
#[cfg(target_arch = "arm")]
const CLOCK_NANOSLEEP_TIME64: c_long = 407;

#[cfg(target_arch = "arm")]
const MAP: c_long = libc::SYS_mmap2;
#[cfg(not(target_arch = "arm"))]
const MAP: c_long = libc::SYS_mmap;

#[cfg(target_arch = "arm")]
const FCNTL: c_long = libc::SYS_fcntl64;
#[cfg(not(target_arch = "arm"))]
const FCNTL: c_long = libc::SYS_fcntl;

/// With which calls memory is made or changed, which must not be executable. Where its heap cannot grow in place, the allocator of musl sets pages
/// aside without access, and gives itself access as it needs them.
#[cfg(not(target_env = "musl"))]
const PROTECTING: &[c_long] = &[MAP];
#[cfg(target_env = "musl")]
const PROTECTING: &[c_long] = &[MAP, libc::SYS_mprotect];

/// How the C library's abort sends the signal to itself: by process and thread, or by thread alone, of which there is one.
#[cfg(not(target_env = "musl"))]
const KILL: c_long = libc::SYS_tgkill;
#[cfg(target_env = "musl")]
const KILL: c_long = libc::SYS_tkill;

/// The argument of `fcntl` that says what is to be done.
const COMMAND: usize = 1;
/// The argument of `mmap` and `mprotect` that says how the memory may be used.
const PROTECTION: usize = 2;
/// The argument of `tgkill` and `tkill` that names whom it is for.
const TARGET: usize = 0;

/// Puts the filter in force, for good.
///
/// # Errors
/// Of a kernel without seccomp filters.
pub(crate) fn confine() -> io::Result<()> {
    let mut program = filter(own_number());
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose length is right, and keeps no pointer to it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number by which [`KILL`] names this process.
fn own_number() -> u32 {
    let number = if cfg!(target_env = "musl") { rustix::thread::gettid() } else { rustix::process::getpid() };
    number.as_raw_nonzero().get().cast_unsigned()
}

/// The filter of a process, or of its only thread.
fn filter(own: u32) -> Vec<sock_filter> {
    let allow = || instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0);
    let kill = || instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0);
    let mut program = vec![load(offset_of!(seccomp_data, arch)), equal(ARCHITECTURE, 1, 0), kill()];
    program.push(load(offset_of!(seccomp_data, nr)));
    for call in CALLS.iter().chain(OWN_CALLS) {
        program.extend([equal(number(*call), 0, 1), allow()]);
    }
    let executable = instruction(BPF_JMP | BPF_JSET | BPF_K, libc::PROT_EXEC.cast_unsigned(), 0, 1);
    for call in PROTECTING {
        program.extend([equal(number(*call), 0, 4), load(argument(PROTECTION)), executable, kill(), allow()]);
    }
    // Where it checks itself, as in a debug build, the standard library asks of each descriptor that it closes whether it is open.
    let asks = equal(libc::F_GETFD.cast_unsigned(), 0, 1);
    program.extend([equal(number(FCNTL), 0, 4), load(argument(COMMAND)), asks, allow(), kill()]);
    program.extend([equal(number(KILL), 0, 3), load(argument(TARGET)), equal(own, 0, 1), allow()]);
    program.push(kill());
    program
}

/// Loads 32 bits of what the kernel says of the call.
fn load(offset: usize) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, u32::try_from(offset).unwrap_or(u32::MAX), 0, 0)
}

/// Skips so many instructions if what was loaded is `value`, or if it is not.
fn equal(value: u32, if_so: u8, if_not: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, if_so, if_not)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k }
}

/// Where the low half of an argument is.
fn argument(index: usize) -> usize {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    offset_of!(seccomp_data, args) + index * size_of::<u64>() + low
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::unix::process::ExitStatusExt,
        process::{Command, ExitStatus, Stdio},
    };

    use super::*;

    /// Which trespass a process of this test program is to try; without it, the test starts one for each.
    const TRESPASS: &str = "SANDERLING_TEST_TRESPASS";

    /// Confines this process and trespasses. Returns if it was let.
    fn trespass(what: &str) {
        let open = File::open("/dev/null").unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        confine().unwrap();
        match what {
            "nothing" => {}
            "close" => drop(open),
            "duplicate" => drop(open.try_clone()),
            "abort" => std::process::abort(),
            "file" => drop(File::open("/dev/null")),
            "process" => drop(Command::new("/bin/true").spawn()),
            "socket" => drop(std::os::unix::net::UnixStream::pair()),
            // SAFETY: new memory that nothing else uses, and a signal that does nothing.
            "code" => unsafe {
                let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
            },
            // SAFETY: new memory that nothing else uses.
            "memory into code" => unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
                libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC);
            },
            // SAFETY: signal 0 only asks whether the process exists; `tkill` does not look at the third argument.
            "signal" => unsafe {
                match KILL {
                    libc::SYS_tgkill => libc::syscall(KILL, libc::getppid(), libc::getppid(), 0),
                    _ => libc::syscall(KILL, libc::getppid(), 0),
                };
            },
            other => panic!("unknown trespass {other}"),
        }
    }

    fn ends(what: &str) -> ExitStatus {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program);
        child.args(["--exact", "seccomp::tests::what_is_not_allowed_ends_the_process", "--test-threads=1"]);
        child.env(TRESPASS, what).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
    }

    #[test]
    fn what_is_not_allowed_ends_the_process() {
        if let Ok(what) = std::env::var(TRESPASS) {
            trespass(&what);
            // Without the test runner, which would look at files.
            std::process::exit(0);
        }
        for what in ["file", "process", "socket", "code", "memory into code", "signal", "duplicate"] {
            assert_eq!(ends(what).signal(), Some(libc::SIGSYS), "{what}");
        }
        assert_eq!(ends("abort").signal(), Some(libc::SIGABRT));
        for what in ["nothing", "close"] {
            assert_eq!(ends(what).code(), Some(0), "{what}");
        }
    }
}
